"""The number of tokens in a corpus, counted once and kept in the cache."""

import contextlib
import hashlib
import json
import sys

import keras

from kerasllm.backend import tf
from kerasllm.files import cache_dir, sha256_once, whole_file
from kerasllm.pipeline._documents import parts_of, read_part, token_vectors
from kerasllm.progress import working


def _sum_tokens(documents, tokenize):
    """Return the number of tokens in documents, as an int64 tensor."""
    return token_vectors(
        documents, lambda batch: tf.size(tokenize(batch), "int64")
    ).reduce(tf.constant(0, "int64"), tf.add)


def count_tokens(shares, tokenize):
    """Count the tokens in each host's dataset."""
    return [int(_sum_tokens(documents, tokenize)) for documents in shares]


def count_shards(shares, tokenize, settings, verbose):
    """Count the tokens in each host's share, using cached counts."""
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
        results = parts_of(unknown).map(
            lambda *part: _sum_tokens(read_part(*part), tokenize)
        )
        with _shown(len(unknown), verbose) as bar:
            for part, count in zip(unknown, results, strict=True):
                counts[part] = int(count)
                # Write each count at once, in case the pass is interrupted.
                _write_count(names[part], counts[part])
                bar.add(1)
    return [sum(counts[part] for part in share) for share in shares]


@contextlib.contextmanager
def _shown(total, verbose):
    """Show that shards are counted; yield a bar that counts them.

    A pipe gets a line now and then instead, since Keras would write a bar for
    each shard into it.
    """
    can_draw = sys.stdout.isatty() or "ipykernel" in sys.modules
    with contextlib.ExitStack() as stack:
        if verbose and not can_draw:
            verbose = 0
            stack.enter_context(working("Counting tokens", at_once=False))
        yield keras.utils.Progbar(total, verbose=verbose, unit_name="shard")


def settings_of(tokenizer, *settings):
    """Return what determines a shard's count, or `None` if that is unknown."""
    proto = getattr(tokenizer, "proto", None)
    if not isinstance(proto, bytes):
        return None  # not SentencePiece, so count each time
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
    # Everything also works without a cache, only more slowly.
    with contextlib.suppress(OSError):
        if name is not None:
            with whole_file(cache_dir("counts") / name) as file:
                json.dump({"tokens": tokens}, file)
