"""Requests and answers to learn from (section 16.3.2).

Rows come from a JSONL file, from databricks-dolly-15k or from the small world,
are split before anything is shuffled, and become batches in which only the
answer counts: a model that learns to ask is of no use.
"""

import dataclasses
import hashlib
import json
import pathlib
import warnings

import numpy as np
import tensorflow as tf

from kerasllm.files import cache_dir, download
from kerasllm.prompts import encode_all, get_template
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
SHORTEST_BUCKET = 32


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A request and its answer.

    Attributes:
        instruction: str. What is asked.
        response: str. The answer to learn.
        context: str, a text that the request is about, or `None`.
    """

    instruction: str
    response: str
    context: str | None = None


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
        path: str or path of a UTF-8 file. An object has an `instruction` (or
            `prompt`, `question`), a `response` (or `output`, `solution`,
            `answer`), and may have a `context` (or `input`).

    Returns:
        list of `Instruction`. An empty context is `None`.

    Raises:
        ValueError: a line is no such object, or there is none; says which.
    """
    rows = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                rows.append(_parse(line, f"{path}, line {number}"))
    if not rows:
        raise ValueError(
            "Instruction data must have at least one row. Received: "
            f"{pathlib.Path(path)}, which is empty."
        )
    return rows


def split_rows(rows, validation_fraction=0.1, seed=0):
    """Hold out some of the rows, before anything is shuffled.

    The request itself decides by its hash, so that the same one is never on
    both sides, however often it occurs and in whatever order rows come.

    Args:
        rows: list of `Instruction`.
        validation_fraction: float in `(0, 1)`. About so many are held out.
        seed: int. Another one holds out others.

    Returns:
        Two lists of `Instruction`: to train on, and held out.

    Raises:
        ValueError: the fraction is out of range, or one side would be empty.
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(
            "`validation_fraction` must be between 0 and 1. Received: "
            f"validation_fraction={validation_fraction!r}."
        )

    def is_held_out(row):
        text = f"{seed}\n{row.instruction}".encode()
        digest = hashlib.sha256(text).digest()
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
        pad_id: int. The token that fills rows up.
    """

    token_ids: list
    prompt_lengths: list
    num_too_long: int
    sequence_length: int
    pad_id: int

    @classmethod
    def of(cls, rows, tokenizer, template, sequence_length):
        """Tokenize rows with the marks of a template.

        Args:
            rows: list of `Instruction`.
            tokenizer: a KerasHub tokenizer.
            template: `PromptTemplate` or the name of one.
            sequence_length: int. Longest row, all marks included.

        Raises:
            ValueError: no row is short enough.
        """
        template = get_template(template)
        prompts = encode_all(
            tokenizer,
            [template.prompt_segments(r.instruction, r.context) for r in rows],
        )
        responses = encode_all(
            tokenizer, [template.response_segments(r.response) for r in rows]
        )
        start = getattr(tokenizer, "start_token_id", None)
        end = getattr(tokenizer, "end_token_id", None)
        if end is None:
            end = end_of_text_id(tokenizer)
        if start == end:  # `<|endoftext|>`, which pretraining sets after texts
            start = None
        prefix = [] if start is None else [start]
        token_ids, prompt_lengths = [], []
        for prompt, response in zip(prompts, responses, strict=True):
            row = np.array([*prefix, *prompt, *response, end], "int32")
            # One token more than the inputs: the last is only predicted.
            if len(row) <= sequence_length + 1:
                token_ids.append(row)
                prompt_lengths.append(len(prefix) + len(prompt))
        if not token_ids:
            raise ValueError(
                "At least one row must fit in `sequence_length`. Received: "
                f"{len(rows)} rows, all longer than sequence_length="
                f"{sequence_length} tokens. Raise it."
            )
        return cls(
            token_ids,
            prompt_lengths,
            len(rows) - len(token_ids),
            sequence_length,
            getattr(tokenizer, "pad_token_id", 0) or 0,
        )

    @property
    def num_tokens(self):
        """Tokens of all rows without padding: an int."""
        return sum(map(len, self.token_ids))

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
            all others; each `(batch_size, length)`.
        """
        rows = tf.data.Dataset.from_tensor_slices(
            (tf.ragged.constant(self.token_ids, "int32"), self.prompt_lengths)
        )
        if seed is not None:
            rows = rows.shuffle(len(self.token_ids), seed=seed)
        lengths = [self.sequence_length]
        while buckets and lengths[0] // 2 >= SHORTEST_BUCKET:
            lengths.insert(0, lengths[0] // 2)
        batches = rows.map(self._weigh).bucket_by_sequence_length(
            lambda x, y, weight: tf.shape(y)[0],
            bucket_boundaries=[length + 1 for length in lengths],
            bucket_batch_sizes=[batch_size] * (len(lengths) + 1),
            pad_to_bucket_boundary=True,
            padding_values=(
                {"token_ids": self.pad_id, "padding_mask": False},
                self.pad_id,
                0.0,
            ),
        )

        def fill(*batch):
            return tf.nest.map_structure(_fill_rows(batch_size), batch)

        return batches.map(fill).prefetch(4)

    @staticmethod
    def _weigh(token_ids, prompt_length):
        """Make a row `(x, y, sample_weight)` of its tokens."""
        x = {
            "token_ids": token_ids[:-1],
            "padding_mask": tf.ones_like(token_ids[:-1], "bool"),
        }
        places = tf.range(1, tf.shape(token_ids)[0])
        return x, token_ids[1:], tf.cast(places >= prompt_length, "float32")


def instruction_dataset(
    rows,
    tokenizer,
    template,
    sequence_length=256,
    batch_size=8,
    seed=0,
    buckets=True,
):
    """Turn requests and answers into batches, with a word on long ones.

    Args:
        rows: list of `Instruction`.
        tokenizer: a KerasHub tokenizer.
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
        rows, tokenizer, template, sequence_length
    )
    if tokenized.num_too_long:
        warnings.warn(
            f"{tokenized.num_too_long} of {len(rows)} rows are longer than "
            f"sequence_length={sequence_length} tokens and left out.",
            stacklevel=2,
        )
    return tokenized.dataset(batch_size, seed, buckets)


def _parse(line, place):
    """Return the `Instruction` of a line of JSON."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
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
                f"A row must have a {part}, under one of the keys "
                f"{', '.join(keys)}. Received: {place} with the keys "
                f"{', '.join(map(str, record)) or '(none)'}."
            )
        parts[part] = values[0] if values else None
    return Instruction(**parts)


def _fill_rows(batch_size):
    """Return a function that adds rows of zeros up to `batch_size`."""

    def fill(array):
        missing = batch_size - tf.shape(array)[0]
        array = tf.pad(array, [[0, missing], [0, 0]])
        return tf.ensure_shape(array, [batch_size, None])

    return fill
