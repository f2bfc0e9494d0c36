r"""From shard files to the windows that a model trains on.

    documents -> (split) -> tokens + end token -> one long stream
              -> windows of sequence_length + 1 -> (shuffle) -> batches (x, y)

Everything runs inside `tf.data` on every backend: no document passes through
Python, and no more of the corpus is in memory than a few batches of documents
and the shuffle buffer.
"""

import contextlib
import functools
import hashlib
import json
import re

import keras
import tensorflow as tf

from kerasllm.files import cache_dir, sha256_once, whole_file
from kerasllm.tokenizers import (
    END_OF_TEXT,
    check_documents,
    check_shards,
    end_of_text_id,
)

# Tokenizing many documents in one call is what makes this faster than a call
# a document; 8 to 64 measure alike (tests/benchmarks/pipeline.py).
_DOCUMENTS_PER_CALL = 32
_OPEN_SHARDS = 32
_HASH_BUCKETS = 2**20


def pretraining_dataset(
    files,
    tokenizer,
    sequence_length=256,
    batch_size=128,
    *,
    split=None,
    validation_fraction=0.02,
    seed=None,
    shuffle_buffer=8192,
    reshuffle=False,
    host_index=0,
    num_hosts=1,
    drop_remainder=False,
    restore_newlines=True,
    num_batches=None,
    verbose=0,
):
    r"""Make batches of token windows out of a corpus.

    Each document is tokenized and closed by `<|endoftext|>`; the shards are
    read in turns, a document of each; the stream of tokens is cut into windows
    of `sequence_length + 1`, and `y` is `x` shifted by one. With the defaults
    these are exactly the batches of the chapter's pipeline.

    How many batches there are is known beforehand, to `fit` and through
    `dataset.cardinality()`, because the tokens are counted first. That costs
    one pass over the corpus (seconds for 17 MB, minutes for gigabytes). The
    counts of shard files are kept in the cache, by the content of shard and
    vocabulary, so a second call only reads the shards to recognize them.

    A document that contains the text `<|endoftext|>` itself (documents about
    language models do) must not seem to end there: it is read as
    `< |endoftext|>`.

    Args:
        files: list of shard paths, or a `tf.data.Dataset` of documents (scalar
            strings) that gives the same ones each time. A shard is UTF-8, a
            document a line, newlines escaped as `\n`. An empty line is an
            empty document, its end token alone; carriage returns are lost in
            TensorFlow's line reader.
        tokenizer: KerasHub tokenizer with the token `<|endoftext|>` that
            neither pads nor cuts (`sequence_length=None`).
        sequence_length: int, tokens in a row of `x`.
        batch_size: int, rows in a batch. The last batch may have fewer.
        split: `None` for all documents, or `"train"` or `"validation"`. A hash
            of its text puts a document on one side, so no document and no copy
            of it is ever on both, whatever the order, the seed, the epoch or
            the other documents.
        validation_fraction: float in (0, 1), the expected share of documents
            in `"validation"`. Use the same one for both sides.
        seed: int. Shuffles the windows; `None` keeps the corpus's order. As
            for all of TensorFlow, `keras.utils.set_random_seed` enters too.
        shuffle_buffer: int, how many windows are shuffled at a time. One takes
            `4 * (sequence_length + 1)` bytes.
        reshuffle: bool. Give each iteration over the data set (each epoch) an
            order of its own, rather than the same one.
        host_index: int in [0, num_hosts). Which host this is.
        num_hosts: int. How many hosts share the corpus: whole shards each if
            their number divides evenly, else every `num_hosts`-th document.
            No document is read by two hosts. All hosts have equally many
            windows, the number that the shortest share fills, because hosts
            that train together must take equally many steps.
        drop_remainder: bool. Leave out a last batch that is not full.
        restore_newlines: bool. Turn the two characters `\n` into a newline.
            `False` suits a data set whose documents have real newlines.
        num_batches: int, how many batches to give. The counting is skipped;
            should the corpus hold fewer, iteration ends in an error.
        verbose: int. 1 shows a progress bar while tokens are counted.

    Returns:
        A `tf.data.Dataset` of `(x, y)`, both int32 `(batch_size,
        sequence_length)`, of known cardinality.

    Raises:
        FileNotFoundError: a shard is missing.
        ValueError: an argument is out of range, or the corpus does not fill
            a batch.

    Source: chapter 16, listing 16.3.
    """
    _check_positive(
        sequence_length=sequence_length,
        batch_size=batch_size,
        shuffle_buffer=shuffle_buffer,
        num_hosts=num_hosts,
    )
    if num_batches is not None:
        _check_positive(num_batches=num_batches)
    if not isinstance(host_index, int) or not 0 <= host_index < num_hosts:
        raise ValueError(
            f"`host_index` must be in [0, num_hosts={num_hosts}). Received: "
            f"host_index={host_index!r}. The first host is 0."
        )
    if seed is not None and not isinstance(seed, int):
        raise ValueError(
            f"`seed` must be None or an int. Received: seed={seed!r}. None "
            "does not shuffle."
        )
    tokenize = _tokenize_step(
        tokenizer, split, validation_fraction, restore_newlines
    )
    if isinstance(files, tf.data.Dataset):
        check_documents(files)
        shares = [files.shard(num_hosts, host) for host in range(num_hosts)]
        documents = shares[host_index]
        count = functools.partial(_count_tokens, shares, tokenize)
    else:
        shares = _share_shards(check_shards(files), num_hosts)
        documents = _read_in_turns(shares[host_index])
        settings = _settings(
            tokenizer, split, split and validation_fraction, restore_newlines
        )
        count = functools.partial(
            _count_shards, shares, tokenize, settings, verbose
        )

    window = sequence_length + 1
    # A stream of vectors (some tokens,) cut anew into (sequence_length + 1,).
    windows = _token_vectors(documents, tokenize).rebatch(
        window, drop_remainder=True
    )
    if num_batches is None:
        tokens = count()  # of each host
        num_windows = min(tokens) // window
        _check_fills(
            batch_size if drop_remainder else 1, num_windows, tokens, window
        )
        windows = windows.take(num_windows).apply(
            tf.data.experimental.assert_cardinality(num_windows)
        )
    if seed is not None:
        windows = windows.shuffle(
            shuffle_buffer, seed=seed, reshuffle_each_iteration=reshuffle
        )
    batches = windows.batch(batch_size, drop_remainder=drop_remainder)
    if num_batches is not None:
        batches = batches.take(num_batches).apply(
            tf.data.experimental.assert_cardinality(num_batches)
        )
    return batches.map(_shift).prefetch(8)


def side_by_side(datasets):
    """Join the batches of data sets, the rows of each below the last one's.

    So one process reads what several did.

    Args:
        datasets: list of `tf.data.Dataset` of `(x, y)`.

    Returns:
        A `tf.data.Dataset` of `(x, y)`, as long as the shortest.
    """
    if len(datasets) == 1:
        return datasets[0]

    def join(*batches):
        x, y = zip(*batches, strict=True)
        return tf.concat(x, axis=0), tf.concat(y, axis=0)

    return tf.data.Dataset.zip(*datasets).map(join)


def _shift(windows):
    """Split `(batch, length + 1)` into `x` and the `y` that follows it."""
    return windows[:, :-1], windows[:, 1:]  # (batch, length) twice


def _tokenize_step(tokenizer, split, validation_fraction, restore_newlines):
    """Return the function from a batch of documents to a vector of tokens."""
    if split not in (None, "train", "validation"):
        raise ValueError(
            '`split` must be None, "train" or "validation". Received: '
            f"split={split!r}. None takes all documents."
        )
    if not 0 < validation_fraction < 1:
        raise ValueError(
            "`validation_fraction` must be between 0 and 1. Received: "
            f"validation_fraction={validation_fraction!r}. For no validation "
            "documents leave out `split`."
        )
    if getattr(tokenizer, "sequence_length", None) is not None:
        raise ValueError(
            "`tokenizer` must neither pad nor cut documents. Received: one "
            f"with sequence_length={tokenizer.sequence_length}. Make it "
            "without, or set its `sequence_length` to None."
        )
    if not keras.backend.is_int_dtype(tokenizer.compute_dtype):
        raise ValueError(
            "`tokenizer` must return integers. Received: one with dtype="
            f'{tokenizer.compute_dtype!r}. Make it with dtype="int32".'
        )
    end = end_of_text_id(tokenizer)
    threshold = max(1, round(validation_fraction * _HASH_BUCKETS))

    def tokenize(documents):
        if restore_newlines:
            documents = tf.strings.regex_replace(documents, r"\\n", "\n")
        if split is not None:
            bucket = tf.strings.to_hash_bucket_fast(documents, _HASH_BUCKETS)
            held_out = bucket < threshold
            chosen = held_out if split == "validation" else ~held_out
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


def _token_vectors(documents, tokenize):
    return documents.batch(_DOCUMENTS_PER_CALL).map(
        tokenize, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )


def _share_shards(files, num_hosts):
    """Return what each host reads: lists of `(file, num_parts, part)`."""
    if len(files) % num_hosts == 0:
        return [
            [(file, 1, 0) for file in files[host::num_hosts]]
            for host in range(num_hosts)
        ]
    return [
        [(file, num_hosts, host) for file in files] for host in range(num_hosts)
    ]


def _parts(share):
    """Make a data set of `(file, num_parts, part)` from a host's share."""
    files, num_parts, part = zip(*share, strict=True)
    return tf.data.Dataset.from_tensor_slices(
        (
            list(files),
            tf.constant(num_parts, "int64"),
            tf.constant(part, "int64"),
        )
    )


def _read_part(file, num_parts, part):
    return tf.data.TextLineDataset(file).shard(num_parts, part)


def _read_in_turns(share):
    """Read a document of each shard in turn, as many shards as may be open."""
    return _parts(share).interleave(
        _read_part,
        cycle_length=_OPEN_SHARDS,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def _sum_tokens(documents, tokenize):
    """Return how many tokens documents have, as an int64 tensor."""
    return _token_vectors(
        documents, lambda batch: tf.size(tokenize(batch), "int64")
    ).reduce(tf.constant(0, "int64"), tf.add)


def _count_tokens(shares, tokenize):
    """Count the tokens of each host's data set."""
    return [int(_sum_tokens(documents, tokenize)) for documents in shares]


def _count_shards(shares, tokenize, settings, verbose):
    """Count the tokens of each host's share, of each part only once ever."""
    digests = {
        file: sha256_once(file) for share in shares for file, _, _ in share
    }
    names = {
        part: _cache_name(settings, digests[part[0]], part[1:])
        for share in shares
        for part in share
    }
    counts = {part: _read_count(name) for part, name in names.items()}
    unknown = [part for part, count in counts.items() if count is None]
    if unknown:
        bar = keras.utils.Progbar(
            len(unknown), verbose=verbose, unit_name="shard"
        )
        results = _parts(unknown).map(
            lambda *part: _sum_tokens(_read_part(*part), tokenize)
        )
        for part, count in zip(unknown, results, strict=True):
            counts[part] = int(count)
            # Each at once: a pass that is broken off is not lost.
            _write_count(names[part], counts[part])
            bar.add(1)
    return [sum(counts[part] for part in share) for share in shares]


def _settings(tokenizer, *settings):
    """Return what decides a count beside the shard, or `None` if unclear."""
    proto = getattr(tokenizer, "proto", None)
    if not isinstance(proto, bytes):
        return None  # not SentencePiece: count each time
    return [
        type(tokenizer).__qualname__,
        hashlib.sha256(proto).hexdigest(),
        tokenizer.add_bos,
        tokenizer.add_eos,
        *settings,
    ]


def _cache_name(settings, digest, part):
    if settings is None:
        return None
    key = json.dumps([settings, digest, part])
    return f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def _read_count(name):
    """Return a number of tokens from the cache, or `None`."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if name is not None:
            path = cache_dir("counts") / name
            return int(json.loads(path.read_text())["tokens"])
    return None


def _write_count(name, tokens):
    # Without a cache everything works, only more slowly.
    with contextlib.suppress(OSError):
        if name is not None:
            with whole_file(cache_dir("counts") / name) as file:
                json.dump({"tokens": tokens}, file)


def _check_positive(**arguments):
    for name, value in arguments.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(
                f"`{name}` must be an int of at least 1. Received: "
                f"{name}={value!r}."
            )


def _check_fills(least_windows, num_windows, tokens, window):
    if num_windows < least_windows:
        raise ValueError(
            f"The corpus must have at least {least_windows * window} tokens "
            f"on each host. Received: {min(tokens)} tokens. Give more text, or "
            "a smaller `sequence_length` or `batch_size`; for the validation "
            "side of a small corpus raise `validation_fraction`."
        )
