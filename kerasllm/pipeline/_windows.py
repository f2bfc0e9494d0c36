"""Batches of token windows from the documents of a corpus."""

import functools

from kerasllm.backend import tf
from kerasllm.checks import (
    TooLittleTextError,
    UserError,
    check_positive_ints,
    is_int,
    shown,
)
from kerasllm.pipeline._counts import count_shards, count_tokens, settings_of
from kerasllm.pipeline._documents import (
    read_in_turns,
    share_shards,
    token_vectors,
    tokenize_step,
)
from kerasllm.tokenizers import check_documents, check_shards


# Over sixty lines, because it documents fourteen arguments; its body is short.
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
    r"""Make batches of token windows from a corpus.

    Each document is tokenized and ends with `<|endoftext|>`. The shards are
    read in turn, one document of each. The stream of tokens is split into
    windows of `sequence_length + 1` tokens, and `y` is `x` shifted by one. With
    the defaults these are exactly the batches of the chapter's pipeline. The
    tokens are counted first, once per corpus, so the number of batches is
    known.

    Args:
        files: list of shard paths, or a `tf.data.Dataset` of documents (scalar
            strings) that gives the same ones each time. A shard is UTF-8, with
            one document per line and newlines escaped as `\n`. An empty line
            is an empty document with only an end token, as in the chapter;
            in a `split`, blank lines are left out. TensorFlow's line reader
            drops carriage returns.
        tokenizer: KerasHub tokenizer with the token `<|endoftext|>` that
            neither pads nor truncates (`sequence_length=None`).
        sequence_length: int, number of tokens in a sequence of `x`.
        batch_size: int, sequences in a batch. The last batch may have fewer.
        split: `None` for all documents, or `"train"` or `"validation"`. The
            hash of its text assigns a document to one of the two. So a
            document, or a copy of it, is never in both, whatever the order,
            the seed, the epoch or the other documents.
        validation_fraction: float in (0, 1), the expected fraction of the
            documents in `"validation"`, which are held out. Use the same
            value for both splits.
        seed: int. Shuffles the windows; `None` keeps the corpus's order. As
            for all of TensorFlow, the result also depends on
            `keras.utils.set_random_seed`.
        shuffle_buffer: int, number of windows that are shuffled at a time.
            Each takes `4 * (sequence_length + 1)` bytes.
        reshuffle: bool. Whether each iteration over the dataset (each epoch)
            has a new order.
        host_index: int in [0, num_hosts). The index of this host.
        num_hosts: int. The number of hosts that share the corpus. Each reads
            whole shards if their number divides evenly, or else every
            `num_hosts`-th document. No two hosts read the same document. All
            hosts get the number of windows that the shortest share fills,
            because hosts that train together must take equally many steps.
        drop_remainder: bool. Whether to drop a last batch that is not full.
        restore_newlines: bool. Whether to turn the two characters `\n` into a
            newline. Use `False` for a dataset whose documents have real
            newlines.
        num_batches: int, the number of batches. Tokens are then not counted.
            If the corpus holds fewer, iteration ends with an error.
        verbose: int. 1 shows that tokens are counted, and for how long.

    Returns:
        A `tf.data.Dataset` of `(x, y)`, both int32 `(batch_size,
        sequence_length)`, of known cardinality.

    Raises:
        MissingFileError: a shard is missing.
        UserError: an argument is out of range, or the corpus is too small to
            fill a batch.

    Source: chapter 16, listing 16.3.
    """
    check_positive_ints(
        sequence_length=sequence_length,
        batch_size=batch_size,
        shuffle_buffer=shuffle_buffer,
        num_hosts=num_hosts,
        num_batches=1 if num_batches is None else num_batches,
    )
    _check_host(host_index, num_hosts)
    _check_seed(seed)
    tokenize = tokenize_step(
        tokenizer, split, validation_fraction, restore_newlines
    )
    settings = settings_of(
        tokenizer,
        split,
        split and ["no blank lines", float(validation_fraction)],
        restore_newlines,
    )
    documents, count = _read_share(
        files, tokenize, settings, int(host_index), int(num_hosts), verbose
    )
    # Regroup vectors (some tokens,) into windows (sequence_length + 1,).
    windows = token_vectors(documents, tokenize).rebatch(
        sequence_length + 1, drop_remainder=True
    )
    if num_batches is None:
        least = batch_size if drop_remainder else 1
        num_windows = _num_windows(count(), sequence_length + 1, least)
        windows = _take_exactly(windows, num_windows)
    if seed is not None:
        windows = windows.shuffle(
            shuffle_buffer, seed=seed, reshuffle_each_iteration=reshuffle
        )
    batches = windows.batch(batch_size, drop_remainder=drop_remainder)
    if num_batches is not None:
        batches = _take_exactly(batches, num_batches)
    return batches.map(_shift).prefetch(8)


def side_by_side(datasets):
    """Join datasets, so that a batch holds the sequences of all of them.

    One process can then read what several processes read before.

    Args:
        datasets: list of `tf.data.Dataset` of `(x, y)`.

    Returns:
        A `tf.data.Dataset` of `(x, y)`, as long as the shortest of them.
    """
    if len(datasets) == 1:
        return datasets[0]

    def join(*batches):
        x, y = zip(*batches, strict=True)
        return tf.concat(x, axis=0), tf.concat(y, axis=0)

    return tf.data.Dataset.zip(*datasets).map(join)


def _check_host(host_index, num_hosts):
    if not is_int(host_index) or not 0 <= host_index < num_hosts:
        raise UserError(
            f"`host_index` must be in [0, num_hosts={num_hosts}). Received: "
            f"host_index={shown(host_index)}. The first host is 0."
        )


def _check_seed(seed):
    if seed is not None and not is_int(seed):
        raise UserError(
            f"`seed` must be None or an int. "
            f"Received: seed={shown(seed)}. None "
            "does not shuffle."
        )


def _read_share(files, tokenize, settings, host_index, num_hosts, verbose):
    """Return a host's documents, and a function that counts all tokens.

    Returns:
        A `tf.data.Dataset` of documents, and a callable without arguments that
        returns a list of ints, the number of tokens of each host.
    """
    if isinstance(files, tf.data.Dataset):
        check_documents(files)
        shares = [files.shard(num_hosts, host) for host in range(num_hosts)]
        count = functools.partial(count_tokens, shares, tokenize)
        return shares[host_index], count
    shares = share_shards(check_shards(files), num_hosts)
    count = functools.partial(count_shards, shares, tokenize, settings, verbose)
    return read_in_turns(shares[host_index]), count


def _num_windows(tokens, window, least):
    """Return the number of windows that each host has.

    Args:
        tokens: list of int. The number of tokens of each host.
        window: int. Number of tokens in a window.
        least: int. Smallest number of windows that is allowed.

    Raises:
        TooLittleTextError: there are fewer windows.
    """
    num_windows = min(tokens) // window
    if num_windows < least:
        raise TooLittleTextError(
            f"The corpus must have at least {least * window} tokens on each "
            f"host. Received: {min(tokens)} tokens. Give more text, or a "
            "smaller `sequence_length` or `batch_size`. For the validation "
            "split of a small corpus, raise `validation_fraction`.",
            least * window,
            min(tokens),
        )
    return num_windows


def _take_exactly(dataset, number):
    """Return the first elements of a dataset; fewer are an error."""
    return dataset.take(number).apply(
        tf.data.experimental.assert_cardinality(number)
    )


def _shift(windows):
    """Split `(batch, length + 1)` into `x` and the `y` that follows it."""
    return windows[:, :-1], windows[:, 1:]  # (batch, length) twice
