"""Texts from TensorFlow datasets, instead of shards."""

import os

from kerasllm.checks import (
    EnvironmentFailure,
    MissingFileError,
    UserError,
    shown,
)


def from_tfds(
    name, split="train", text_key="text", data_dir=None, download=True
):
    """Read the texts of a TensorFlow dataset.

    Args:
        name: str. As in `tfds.load`, for example `"ag_news_subset"`;
            `"local_docs"` is the corpus of the function of that name.
        split: str. As in `tfds.load`, for example `"train[:10%]"`.
        text_key: str. The feature that holds the text.
        data_dir: str or path. The folder of prepared datasets. Defaults to
            TFDS's own.
        download: bool. `False` reads only data that are already prepared.
            `True` may use the network; TFDS tries for minutes before it fails.

    Returns:
        A `tf.data.Dataset` of scalar strings, always in the same order.

    Raises:
        MissingFileError: `download=False`, and the dataset is not prepared.
        EnvironmentFailure: the dataset could not be downloaded.
        UserError: there is no such dataset, split or text feature, or
            `tf.data` cannot read it.
    """
    # Importing the builder registers "local_docs" with TFDS.
    import tensorflow_datasets as tfds

    from kerasllm.corpora import _local_docs_builder  # noqa: F401

    data_dir = None if data_dir is None else os.path.expanduser(data_dir)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except ValueError as error:
        raise UserError(
            "`name` must be a dataset that TFDS knows. Received: "
            f"{name!r} ({_first_line(error)}). See `tfds.list_builders()`."
        ) from error
    _check_text_key(builder.info.features, text_key, name)
    _prepare(builder, download)
    dataset = _read(builder, split, name)
    return dataset.map(lambda example: example[text_key])


def _read(builder, split, name):
    """Return a split of a prepared dataset, in the order of its files."""
    try:
        return builder.as_dataset(split=split, shuffle_files=False)
    except ValueError as error:
        raise UserError(
            f"`split` must be a part of {name!r}. Received: {shown(split)} "
            f"({_first_line(error)}). It has {sorted(builder.info.splits)}."
        ) from error
    except NotImplementedError as error:
        raise UserError(
            "The dataset must be stored in a format that tf.data reads. "
            f"Received: {name!r} in {builder.info.file_format}. Prepare it "
            'with `tfds.builder(..., file_format="tfrecord")`.'
        ) from error


def _check_text_key(features, text_key, name):
    """Check that `text_key` names a feature that is one string."""
    infos = features.get_tensor_info()
    # A dataset with a single unnamed feature has no dict.
    infos = infos if isinstance(infos, dict) else {}
    texts = [
        key
        for key, info in infos.items()
        if getattr(info, "shape", None) == () and info.tf_dtype == "string"
    ]
    if text_key not in texts:
        raise UserError(
            f"`text_key` must be a text feature of {name!r}. Received: "
            f"{shown(text_key)}. It has {texts or 'none'}."
        )


def _prepare(builder, download):
    """Create the files of a TFDS dataset, if they do not exist yet."""
    import tensorflow_datasets as tfds

    if builder.is_prepared():
        return
    if not download:
        raise MissingFileError(
            "With `download=False` the dataset must be prepared. Received: "
            f"{builder.info.full_name}, not found in {builder.data_path}. "
            "Prepare it with `tfds.builder(...).download_and_prepare()`, or "
            "give the `data_dir` that contains it."
        )
    try:
        builder.download_and_prepare(file_format="tfrecord")
    except (OSError, tfds.download.DownloadError) as error:
        raise EnvironmentFailure(
            "The dataset must be reachable, with room on the disk. "
            f"Received: {_first_line(error)} for {builder.info.full_name}. "
            "Check the network and the disk, or prepare it elsewhere and "
            "give `data_dir`."
        ) from error


def _first_line(error):
    return str(error).strip().split("\n")[0]
