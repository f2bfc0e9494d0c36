"""The documents of a corpus, from shards or a dataset."""

import os
import sys

from kerasllm.checks import (
    MissingFileError,
    UserError,
    check_list,
    check_path,
    shown,
)
from kerasllm.files import restore_line


def check_shards(files):
    """Return shard paths as a list of str, after checking that all exist.

    Args:
        files: list of str or paths; a single path counts as a list of one.

    Raises:
        UserError: the list is empty.
        MissingFileError: a shard does not exist, or is a folder.
    """
    if isinstance(files, str | os.PathLike):
        files = [files]
    files = check_list("files", files, "a list of paths")
    files = [str(check_path("files", file)) for file in files]
    if not files:
        raise UserError(
            "`files` must name at least one shard. Received: an empty list. "
            "`kerasllm.corpora.local_docs()` returns the shards of a corpus "
            "that is part of every installation."
        )
    for file in files:
        if not os.path.isfile(file):
            raise MissingFileError(
                f"`files` must be paths of text files. "
                f"Received: {shown(file, 200)}, "
                "which is not a file. `kerasllm.corpora.text_shards(paths)` "
                "makes shards of your own files and folders."
            )
    return files


def check_documents(dataset):
    """Check that a `tf.data.Dataset` holds documents and is finite.

    Args:
        dataset: `tf.data.Dataset` whose elements should be scalar strings.

    Raises:
        UserError: its elements are something else, or it repeats forever.
    """
    import tensorflow as tf

    spec = dataset.element_spec
    if spec != tf.TensorSpec((), tf.string):
        raise UserError(
            "A dataset of documents must have scalar strings as elements. "
            f"Received: {spec}. Extract the text from each element with `map`, "
            "and split batches with `unbatch`."
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise UserError(
            "A dataset of documents must have an end. Received: one that "
            "repeats forever. Leave out `repeat()`."
        )


def is_dataset(files):
    """Return whether a corpus is a `tf.data.Dataset`; imports nothing."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(files, tensorflow.data.Dataset)


def count_bytes(files):
    """Return the number of bytes in the documents of a corpus, an int."""
    if is_dataset(files):
        import tensorflow as tf

        check_documents(files)
        return int(
            files.reduce(
                tf.constant(0, "int64"),
                lambda total, text: (
                    total + tf.cast(tf.strings.length(text), "int64")
                ),
            )
        )
    return sum(os.path.getsize(file) for file in files)


def read_documents(files):
    r"""Yield the documents of a corpus as str, with newlines restored."""
    if is_dataset(files):
        for number, text in enumerate(files.as_numpy_iterator()):
            yield _decode(text, f"document {number} of the dataset")
        return
    for path in files:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                # `tf.data` drops carriage returns, too.
                line = line.rstrip(b"\n").replace(b"\r", b"")
                yield _decode(line, f"{path}, line {number}")


def _decode(text, source):
    try:
        return restore_line(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(
            f"Documents must be UTF-8. Received: {source}, {error}. Convert "
            "them, for example with `iconv -f ENCODING -t UTF-8`."
        ) from error
