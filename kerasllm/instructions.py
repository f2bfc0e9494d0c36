"""Requests and answers to learn from (section 16.3.2).

Rows come from a JSONL file, from databricks-dolly-15k or from the small world,
are split before anything is shuffled, and become batches in which only the
answer counts: a model that learns to ask is of no use.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import warnings

import numpy as np
import tensorflow as tf

from kerasllm.arguments import check_text
from kerasllm.files import cache_dir, download
from kerasllm.images import (
    digest_of_image,
    is_address,
    keep_image,
    list_images,
    place_images,
    vision_inputs,
)
from kerasllm.prompts import encode_all, get_template, start_tokens
from kerasllm.tokenizers import end_of_text_id

DOLLY_URL = (
    "https://huggingface.co/datasets/databricks/databricks-dolly-15k/"
    "resolve/main/databricks-dolly-15k.jsonl"
)
# The names that published data sets have for the three parts of a row.
KEYS = {
    "instruction": ("instruction", "prompt", "question"),
    "response": ("response", "output", "solution", "answer"),
    "context": ("context", "input"),
}
IMAGE_KEYS = ("image", "images")
SHORTEST_BUCKET = 32


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A request and its answer.

    Attributes:
        instruction: str. What is asked.
        response: str. The answer to learn.
        context: str, a text that the request is about, or `None`.
        images: tuple of images, one for each `<start_of_image>` in the
            request, or one image; see `kerasllm.images.load_image`.

    Raises:
        ValueError: a part is no string, or none that UTF-8 can write.
    """

    instruction: str
    response: str
    context: str | None = None
    images: tuple = dataclasses.field(default=(), compare=False)

    def __post_init__(self):
        for part in KEYS:
            value = getattr(self, part)
            if value is not None or part != "context":
                # What a table lacks is None or a float, NaN.
                check_text(part, value, "Leave out rows that lack it.")
        object.__setattr__(self, "images", tuple(list_images(self.images)))


def dolly(context="drop", directory=None, sha256=None, url=DOLLY_URL):
    """Return databricks-dolly-15k, the chapter's instruction data.

    15,011 requests and answers that Databricks' employees wrote, under the
    licence CC BY-SA 3.0; downloaded once.

    Args:
        context: `"drop"` for the rows without a context only, as the chapter
            does, or `"use"` for all of them.
        directory: str or path. Where to keep the file. Defaults to the cache.
        sha256: str. What the file must hash to, if it must.
        url: str. Where it is published.

    Returns:
        list of `Instruction`.

    Source: chapter 16, "Instruction fine-tuning"; Conover et al., 2023.
    """
    if context not in ("drop", "use"):
        raise ValueError(
            '`context` must be "drop" (leave out rows with a context) or '
            f'"use". Received: context={context!r}.'
        )
    directory = directory or cache_dir("dolly")
    rows = read_jsonl(download(url, directory, sha256))
    if context == "drop":
        rows = [row for row in rows if row.context is None]
    return rows


def read_jsonl(path):
    """Read requests and answers, one JSON object a line.

    Args:
        path: str or path of a UTF-8 file, with a byte order mark or without.
            An object has an `instruction` (or `prompt`, `question`), a
            `response` (or `output`, `solution`, `answer`), and may have a
            `context` (or `input`) and an `image`, a path from the file's
            folder or an address, or `images`, a list of these.

    Returns:
        list of `Instruction`. An empty context is `None`.

    Raises:
        ValueError: a line is no such object or no UTF-8, or there is none;
            says which.
    """
    rows = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            place = f"{path}, line {number}"
            line = _decode(line, place)
            if line.strip():
                rows.append(_parse(line, place, pathlib.Path(path).parent))
    if not rows:
        raise ValueError(
            "Instruction data must have at least one row. Received: "
            f"{pathlib.Path(path)}, which is empty."
        )
    return rows


def split_rows(rows, validation_fraction=0.1, seed=0):
    """Hold out some of the rows, before anything is shuffled.

    The request itself decides by its hash, with its context and images, so
    that the same one is never on both sides, however often it occurs and in
    whatever order rows come.

    Args:
        rows: list of `Instruction`.
        validation_fraction: float in `(0, 1)`. About so many are held out.
        seed: int. Another one holds out others.

    Returns:
        Two lists of `Instruction`: to train on, and held out.

    Raises:
        ValueError: the fraction is out of range, there is something else than
            `Instruction`s, or one side would be empty.
    """
    _check_rows(rows)
    if not 0 < validation_fraction < 1:
        raise ValueError(
            "`validation_fraction` must be between 0 and 1. Received: "
            f"validation_fraction={validation_fraction!r}."
        )

    def is_held_out(row):
        parts = [str(seed), row.instruction]
        if row.context is not None:
            parts.append(row.context)
        parts += map(digest_of_image, row.images)
        digest = hashlib.sha256("\n".join(parts).encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64 < validation_fraction

    held_out = [row for row in rows if is_held_out(row)]
    train = [row for row in rows if not is_held_out(row)]
    if not train or not held_out:
        raise ValueError(
            "Both sides of a split must have rows. Received: "
            f"{len(rows)} rows, {len(train)} to train on and {len(held_out)} "
            "held out. Choose another `validation_fraction` or `seed`, or "
            "bring more rows."
        )
    return train, held_out


@dataclasses.dataclass(frozen=True)
class TokenizedInstructions:
    """Rows as tokens, and what became of those that were too long.

    Attributes:
        token_ids: list of int32 arrays, prompt and response in one.
        prompt_lengths: list of int. Where the response begins.
        num_too_long: int. Rows left out, because with all their tokens they
            are longer than `sequence_length`. Cut, they would teach the model
            to stop in the middle or never.
        sequence_length: int.
        preprocessor: the preprocessor of the model.
        images: list of tuples, the images of each row; of what is at an
            address a copy in the cache.
        name: str. What warnings call the rows.
    """

    token_ids: list
    prompt_lengths: list
    num_too_long: int
    sequence_length: int
    preprocessor: object
    images: list
    name: str = "rows"

    @classmethod
    def of(cls, rows, preprocessor, template, sequence_length, name="rows"):
        """Tokenize rows with the marks of a template.

        Args:
            rows: list of `Instruction`.
            preprocessor: the preprocessor of a KerasHub `CausalLM`.
            template: `PromptTemplate` or the name of one.
            sequence_length: int. Longest row, all marks included.
            name: str. What errors and warnings call the rows.

        Raises:
            ValueError: there is no row, none is short enough, or the images
                of one are none, or do not fit its marks or the model.
            FileNotFoundError: there is no such file of an image.
            OSError: the address of an image does not answer.
        """
        if not rows:
            raise ValueError(
                f"`{name}` must have at least one `Instruction`. Received: "
                f"{name}={rows!r}."
            )
        _check_rows(rows, name)
        kept = _keep_images(rows)  # before hours have been spent on training
        template = get_template(template)
        tokenizer = preprocessor.tokenizer
        prompts = encode_all(
            tokenizer,
            [_prompt_segments(row, template, preprocessor) for row in rows],
        )
        responses = encode_all(
            tokenizer, [template.response_segments(r.response) for r in rows]
        )
        prefix = start_tokens(tokenizer)
        end = getattr(tokenizer, "end_token_id", None)
        if end is None:
            end = end_of_text_id(tokenizer)
        token_ids, prompt_lengths, images = [], [], []
        for prompt, response, row_images in zip(
            prompts, responses, kept, strict=True
        ):
            tokens = np.array([*prefix, *prompt, *response, end], "int32")
            # One token more than the inputs: the last is only predicted.
            if len(tokens) <= sequence_length + 1:
                token_ids.append(tokens)
                prompt_lengths.append(len(prefix) + len(prompt))
                images.append(row_images)
        if not token_ids:
            raise ValueError(
                f"At least one of `{name}` must fit in `sequence_length`. "
                f"Received: {len(rows)} rows, all longer than sequence_length="
                f"{sequence_length} tokens. Raise it."
            )
        return cls(
            token_ids,
            prompt_lengths,
            len(rows) - len(token_ids),
            sequence_length,
            preprocessor,
            images,
            name,
        )

    @property
    def num_tokens(self):
        """Tokens of all rows without padding: an int."""
        return sum(map(len, self.token_ids))

    def warn_of_long_rows(self):
        """Say how many rows were left out, if any was."""
        if self.num_too_long:
            warnings.warn(
                f"{self.num_too_long} of "
                f"{self.num_too_long + len(self.token_ids)} `{self.name}` are "
                f"longer than sequence_length={self.sequence_length} tokens "
                "and left out.",
                stacklevel=3,
            )

    def num_batches(self, batch_size=8, buckets=True):
        """Return the number of batches that `dataset` gives: an int."""
        lengths = [len(tokens) - 1 for tokens in self.token_ids]
        buckets = np.searchsorted(self._bucket_lengths(buckets), lengths)
        _, counts = np.unique(buckets, return_counts=True)
        return int(np.sum(-(-counts // batch_size)))

    def _bucket_lengths(self, buckets):
        lengths = [self.sequence_length]
        while buckets and lengths[0] // 2 >= SHORTEST_BUCKET:
            lengths.insert(0, lengths[0] // 2)
        return lengths

    def dataset(self, batch_size=8, seed=None, buckets=True):
        """Return batches for `fit`.

        Args:
            batch_size: int. Rows in a batch. A batch that cannot be filled
                has rows of padding, which weigh nothing.
            seed: int to shuffle, anew in each epoch, or `None` not to.
            buckets: bool. Whether rows of similar length come together, padded
                to 32, 64, 128, ... tokens instead of `sequence_length`. Short
                rows then cost what short rows should, and each length is
                compiled once.

        Returns:
            `tf.data.Dataset` of `(x, y, sample_weight)`: `x` a dict of int32
            `token_ids` and bool `padding_mask`, `y` the tokens that follow,
            `sample_weight` float32, one for tokens of a response and zero for
            all others; each `(batch_size, length)`. For a model that takes
            images `x` has what `kerasllm.images.vision_inputs` returns, too.
        """
        rows = tf.data.Dataset.range(len(self.token_ids))
        if seed is not None:
            rows = rows.shuffle(len(self.token_ids), seed=seed)
        batches = self._batches(rows, batch_size, buckets)
        # Keras warns of a dataset that ends without having said when.
        count = self.num_batches(batch_size, buckets)
        batches = batches.apply(tf.data.experimental.assert_cardinality(count))
        return batches.prefetch(4)

    def endless(self, batch_size=8, seed=0, buckets=True):
        """Return the batches of one epoch after another, without an end.

        What `Dataset.shuffle` gives depends on how often and how far anybody
        has read it before, and Keras peeks. The order here depends on the
        seed and the number of the epoch alone, so that a run that goes on
        where it was killed sees what it would have seen.

        Args:
            batch_size: int.
            seed: int.
            buckets: bool. See `dataset`.

        Returns:
            `tf.data.Dataset`, see `dataset`.
        """
        last = len(self.token_ids) - 1

        def epoch_batches(epoch):
            key = tf.stack([tf.cast(seed, "int64"), epoch])
            rows = tf.data.Dataset.range(last + 1).map(
                lambda row: tf.random.experimental.index_shuffle(row, key, last)
            )
            return self._batches(rows, batch_size, buckets)

        return tf.data.Dataset.range(2**62).flat_map(epoch_batches).prefetch(4)

    def _batches(self, rows, batch_size, buckets):
        """Return the batches of a dataset of row numbers."""
        token_ids = tf.ragged.constant(self.token_ids, "int32")
        prompt_lengths = tf.constant(self.prompt_lengths)
        lengths = self._bucket_lengths(buckets)
        pad_id = getattr(self.preprocessor.tokenizer, "pad_token_id", 0) or 0
        rows = rows.map(
            lambda row: self._weigh(token_ids[row], prompt_lengths[row], row)
        )
        batches = rows.bucket_by_sequence_length(
            lambda row, x, y, weight: tf.shape(y)[0],
            bucket_boundaries=[length + 1 for length in lengths],
            bucket_batch_sizes=[batch_size] * (len(lengths) + 1),
            pad_to_bucket_boundary=True,
            padding_values=(
                np.int64(-1),
                {"token_ids": pad_id, "padding_mask": False},
                pad_id,
                0.0,
            ),
        )

        def fill(rows, *batch):
            x, y, weight = tf.nest.map_structure(_fill_rows(batch_size), batch)
            if getattr(self.preprocessor, "image_converter", None) is not None:
                x |= self._vision_inputs(rows, x["token_ids"], batch_size)
            return x, y, weight

        return batches.map(fill, tf.data.AUTOTUNE)

    def _vision_inputs(self, rows, token_ids, batch_size):
        """Return the images of a batch, read only when they are needed."""
        num_images = max(map(len, self.images))
        tokens_per_image = self.preprocessor.num_vision_tokens_per_image
        image_size = self.preprocessor.image_converter.image_size

        def read(rows, token_ids):
            images = [self.images[row] for row in rows]
            images += [()] * (batch_size - len(images))
            inputs = vision_inputs(
                token_ids, images, self.preprocessor, num_images
            )
            return [inputs[name] for name in names]

        names = ("images", "vision_mask", "vision_indices")
        images, mask, indices = tf.numpy_function(
            read, [rows, token_ids], ("float32", "bool", "int32")
        )
        shape = batch_size, num_images, *image_size, 3
        return {
            "images": tf.ensure_shape(images, shape),
            "vision_mask": tf.ensure_shape(mask, token_ids.shape),
            "vision_indices": tf.ensure_shape(
                indices, (batch_size, num_images * tokens_per_image)
            ),
        }

    @staticmethod
    def _weigh(token_ids, prompt_length, row):
        """Make `(row, x, y, sample_weight)` of the tokens of a row."""
        x = {
            "token_ids": token_ids[:-1],
            "padding_mask": tf.ones_like(token_ids[:-1], "bool"),
        }
        places = tf.range(1, tf.shape(token_ids)[0])
        weight = tf.cast(places >= prompt_length, "float32")
        return row, x, token_ids[1:], weight


def instruction_dataset(
    rows,
    preprocessor,
    template,
    sequence_length=256,
    batch_size=8,
    seed=0,
    buckets=True,
):
    """Turn requests and answers into batches, with a word on long ones.

    Args:
        rows: list of `Instruction`.
        preprocessor: the preprocessor of a KerasHub `CausalLM`.
        template: `PromptTemplate` or the name of one.
        sequence_length: int. Longest row; longer ones are left out, with a
            warning that counts them.
        batch_size: int.
        seed: int or `None`. See `TokenizedInstructions.dataset`.
        buckets: bool. See there.

    Returns:
        `tf.data.Dataset`, see `TokenizedInstructions.dataset`.
    """
    tokenized = TokenizedInstructions.of(
        rows, preprocessor, template, sequence_length
    )
    tokenized.warn_of_long_rows()
    return tokenized.dataset(batch_size, seed, buckets)


def _check_rows(rows, name="rows"):
    for row in rows:
        if not isinstance(row, Instruction):
            raise ValueError(
                f"Each of `{name}` must be an `Instruction`. Received: "
                f"{row!r:.80}. Make one of it, as `read_jsonl` does of the "
                "lines of a file."
            )


def _keep_images(rows):
    """Return the images of each row, see `keep_image`; a file is read once."""
    keep_file = functools.cache(keep_image)

    def keep(image):
        is_file = isinstance(image, str | os.PathLike)
        return keep_file(image) if is_file else keep_image(image)

    return [tuple(map(keep, row.images)) for row in rows]


def _decode(line, place):
    """Return the text of the bytes of a line, without a byte order mark."""
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Instruction data must be UTF-8. Received: {place}: {error}. "
            "Save the file as UTF-8."
        ) from error


def _prompt_segments(row, template, preprocessor):
    """Return the segments of a row's request, with its images placed."""
    segments = template.prompt_segments(row.instruction, row.context)
    try:
        return place_images(segments, len(row.images), preprocessor)
    except ValueError as error:  # which of thousands?
        raise ValueError(f"{error} The row: {row.instruction!r:.80}.") from None


def _parse(line, place, folder):
    """Return the `Instruction` of a line of JSON in a file of a folder."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits
        raise ValueError(
            f"Each line must be a JSON object. Received: {place}: {error}."
        ) from error
    if not isinstance(record, dict):
        raise ValueError(
            "Each line must be a JSON object. Received: "
            f"{place}: {line.strip()[:80]!r}."
        )
    parts = {}
    for part, keys in KEYS.items():
        values = [record[key] for key in keys if record.get(key)]
        if len(values) > 1 or (values and not isinstance(values[0], str)):
            raise ValueError(
                f"A row must have one {part}, a string, under one of the keys "
                f"{', '.join(keys)}. Received: {place} with {len(values)}: "
                f"{values!r:.80}."
            )
        if not values and part != "context":
            raise ValueError(
                f"A row must have a {part} that is not empty, under one of the "
                f"keys {', '.join(keys)}. Received: {place} with the keys "
                f"{', '.join(map(str, record)) or '(none)'}."
            )
        parts[part] = values[0] if values else None
        try:
            (parts[part] or "").encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                "A row must be text that UTF-8 can write. Received: "
                f"{place} with half of a surrogate pair in its {part} "
                f"({error}). Write the whole character."
            ) from error
    return Instruction(**parts, images=_parse_images(record, place, folder))


def _parse_images(record, place, folder):
    """Return the paths and addresses of the images of a row: a tuple."""
    values = [record[key] for key in IMAGE_KEYS if record.get(key)]
    images = values[0] if values else []
    images = [images] if isinstance(images, str) else images
    is_list = isinstance(images, list)
    if (
        len(values) > 1
        or not is_list
        or not all(isinstance(image, str) for image in images)
    ):
        raise ValueError(
            "The images of a row must be a path or an address, or a list of "
            f"these, under one of the keys {', '.join(IMAGE_KEYS)}. Received: "
            f"{place} with {values!r:.80}."
        )
    return tuple(
        image if is_address(image) else folder / image for image in images
    )


def _fill_rows(batch_size):
    """Return a function that adds rows of zeros up to `batch_size`."""

    def fill(array):
        missing = batch_size - tf.shape(array)[0]
        array = tf.pad(array, [[0, missing], [0, 0]])
        return tf.ensure_shape(array, [batch_size, None])

    return fill
