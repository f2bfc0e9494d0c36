"""Documents: which ones a host reads, and how they are tokenized."""

import os
import re

import keras

from kerasllm.backend import tf
from kerasllm.checks import UserError, check_choice, check_real
from kerasllm.tokenizers import END_OF_TEXT, end_of_text_id

# Tokenizing many documents per call is much faster than one at a time. Values
# from 8 to 64 are equally fast (tests/benchmarks/pipeline.py).
_DOCUMENTS_PER_CALL = 32
_OPEN_SHARDS = 32
_HASH_BUCKETS = 2**20


def tokenize_step(tokenizer, split, validation_fraction, restore_newlines):
    """Return the function from a batch of documents to a vector of tokens."""
    if split is not None:
        check_choice(
            "split",
            split,
            ("train", "validation"),
            cure="None takes all documents.",
        )
    check_real(
        "validation_fraction",
        validation_fraction,
        lambda fraction: 0 < fraction < 1,
        "between 0 and 1",
        cure="For no validation documents, leave out `split`.",
    )
    _check_tokenizer(tokenizer)
    end = end_of_text_id(tokenizer)
    threshold = max(1, round(validation_fraction * _HASH_BUCKETS))

    def tokenize(documents):
        if restore_newlines:
            # As `files.restore_line` does.
            documents = tf.strings.regex_replace(documents, r"\\n", "\n")
            documents = tf.strings.regex_replace(
                documents, r"(\\\x10*)\x10n", r"\1n"
            )
        if split is not None:
            bucket = tf.strings.to_hash_bucket_fast(documents, _HASH_BUCKETS)
            held_out = bucket < threshold
            chosen = held_out if split == "validation" else ~held_out
            # Copies are on one side, and all blank lines are copies: there
            # would be little else on the smaller side of a text with many.
            chosen &= tf.strings.strip(documents) != ""
            documents = tf.boolean_mask(documents, chosen)
        documents = tf.strings.regex_replace(
            documents,
            re.escape(END_OF_TEXT),
            f"{END_OF_TEXT[0]} {END_OF_TEXT[1:]}",
        )
        tokens = tf.cast(tokenizer(documents), "int32")  # (documents, ragged)
        ends = tf.fill([tf.shape(documents)[0], 1], end)
        return tf.concat([tokens, ends], axis=1).flat_values

    return tokenize


def _check_tokenizer(tokenizer):
    if getattr(tokenizer, "sequence_length", None) is not None:
        raise UserError(
            "`tokenizer` must neither pad nor cut documents. Received: one "
            f"with sequence_length={tokenizer.sequence_length}. Create it "
            "without one, or set its `sequence_length` to None."
        )
    if not keras.backend.is_int_dtype(tokenizer.compute_dtype):
        raise UserError(
            "`tokenizer` must return integers. Received: one with dtype="
            f'{tokenizer.compute_dtype!r}. Create it with dtype="int32".'
        )


def token_vectors(documents, tokenize):
    """Return the tokens of a dataset of documents as a dataset of vectors."""
    return without_autotune(
        documents.batch(_DOCUMENTS_PER_CALL).map(
            tokenize, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
    )


def without_autotune(dataset):
    """Return a dataset that TensorFlow does not tune while it is read.

    What tunes it is a thread that looks at it ever less often, at last once a
    minute. Whoever is done with the dataset waits for that thread, which often
    misses the signal to stop: TensorFlow gives the signal just before it sets
    the state that the thread then checks. So a run could stand still for up to
    a minute after its last step. Without tuning, each core reads.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def share_shards(files, num_hosts):
    """Return the share of each host: lists of `(file, num_parts, part)`."""
    if len(files) % num_hosts == 0:
        return [
            [(file, 1, 0) for file in files[host::num_hosts]]
            for host in range(num_hosts)
        ]
    return [
        [(file, num_hosts, host) for file in files] for host in range(num_hosts)
    ]


def parts_of(share):
    """Return a dataset of `(file, num_parts, part)` for a host's share."""
    files, num_parts, part = zip(*share, strict=True)
    return tf.data.Dataset.from_tensor_slices(
        (
            # As bytes, since a name need not be UTF-8.
            list(map(os.fsencode, files)),
            tf.constant(num_parts, "int64"),
            tf.constant(part, "int64"),
        )
    )


def read_part(file, num_parts, part):
    """Return the documents of a shard, or every `num_parts`-th one of them."""
    return tf.data.TextLineDataset(file).shard(num_parts, part)


def read_in_turns(share):
    """Read one document of each open shard in turn."""
    return parts_of(share).interleave(
        read_part,
        cycle_length=_OPEN_SHARDS,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
