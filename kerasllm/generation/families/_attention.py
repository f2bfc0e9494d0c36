"""What the families share: attention to a cache, rotation, and scores."""

import math

import keras
import numpy as np
from keras import ops

from kerasllm import backend
from kerasllm.layers import are_few, attention_weights


def split_heads(x):
    """Map `(batch, length, heads, size)` to `(batch, heads, length, size)`."""
    return ops.transpose(x, (0, 2, 1, 3))


def cache_spec(shape_of_keys, num_layers, dtype):
    """Return an empty cache as nested `keras.KerasTensor`s.

    Args:
        shape_of_keys: `(batch_size * heads, head_dim, length)`.
        num_layers: int.
        dtype: str.
    """
    heads, size, length = shape_of_keys
    return tuple(
        (
            keras.KerasTensor((heads, size, length), dtype),
            keras.KerasTensor((heads, length, size), dtype),
        )
        for _ in range(num_layers)
    )


def attend(query, key, value, cache, index, window=None, soft_cap=None):
    """Attend from new positions to themselves and to all earlier ones.

    Query heads that are neighbors share a head of keys and values, as in
    grouped-query attention (Ainslie et al., 2023, arXiv:2305.13245).

    Args:
        query: `(batch, heads, targets, size)`, already scaled.
        key: `(batch, key_heads, targets, size)`.
        value: `(batch, key_heads, targets, size)`.
        cache: a pair of the keys `(batch * key_heads, size, max_length)` and
            the values `(batch * key_heads, max_length, size)`. Its memory may
            be reused for the returned cache.
        index: the int 0 if nothing was read before; an int32 scalar tensor,
            the position of the first target; or int32 `(batch,)`, one position
            for each sequence, each with a single target.
        window: int or `None`. How many positions a target sees, itself among
            them.
        soft_cap: float or `None`. Largest absolute score.

    Returns:
        `(batch, targets, heads, size)`, and the cache with the keys and values
        of the new positions in it.
    """
    batch, heads, targets, size = query.shape
    key_heads = key.shape[1]
    key = ops.reshape(key, (-1, targets, size))  # (batch * key_heads, ...)
    key = ops.swapaxes(key, 1, 2)  # (batch * key_heads, size, targets)
    value = ops.reshape(value, (-1, targets, size))
    where = index
    if not backend.is_scalar(index):  # one for each head of each sequence
        where = ops.broadcast_to(index[:, None], (batch, key_heads))
        where = ops.reshape(where, (-1,))  # (batch * key_heads,)
    cache = (
        backend.write_cache(cache[0], where, key, axis=2),
        backend.write_cache(cache[1], where, value, axis=1),
    )
    first = 0  # position of the first source
    if not isinstance(index, int):  # what was read before is visible, too
        key, value, first = _seen(cache, index, targets, window)
    # Query heads that share a head of keys become targets of one product.
    query = ops.reshape(query, (batch * key_heads, -1, size))
    scores = ops.matmul(query, key)  # (batch * key_heads, share * targets, ...)
    if soft_cap is not None:
        scores = ops.tanh(scores / soft_cap) * soft_cap
    sources = scores.shape[-1]
    visible = _visible(where - first, targets, sources, window)
    scores = ops.reshape(
        scores, (batch * key_heads, -1, targets, sources)
    )  # (batch * key_heads, share, targets, sources)
    weights = attention_weights(scores, visible)
    weights = ops.reshape(weights, (batch * key_heads, -1, sources))
    outputs = ops.matmul(weights, value)
    outputs = ops.reshape(outputs, (batch, heads, targets, size))
    return ops.transpose(outputs, (0, 2, 1, 3)), cache


def _seen(cache, index, targets, window):
    """Return the keys and values that targets may see.

    A single target in a layer with a window reads only its window.

    Returns:
        Keys `(batch * key_heads, size, sources)`, values `(batch * key_heads,
        sources, size)`, and the position of the first of them.
    """
    length = cache[0].shape[-1]
    if window is None or window >= length or targets > 1:
        return *cache, 0
    if not backend.is_scalar(index):  # each sequence has a window elsewhere
        return *cache, 0
    first = ops.clip(index - window + 1, 0, length - window)
    first = backend.hide_value(first)
    return (
        backend.read_cache(cache[0], first, window, axis=2),
        backend.read_cache(cache[1], first, window, axis=1),
        first,
    )


def _visible(index, targets, sources, window):
    """Return whether a target sees a source.

    Args:
        index: position of the first target, counted from the first source.
        targets: int.
        sources: int.
        window: int or `None`.

    Returns:
        bool `(1 or batch * key_heads, 1, targets, sources)`.
    """
    if not backend.is_scalar(index):
        index = ops.reshape(index, (-1, 1, 1, 1))
    positions = ops.arange(targets, dtype="int32")[None, None, :, None] + index
    others = ops.arange(sources, dtype="int32")
    visible = others <= positions
    if window is not None:
        visible = ops.logical_and(visible, others > positions - window)
    return visible


def frequencies_of(rotary_embedding, size):
    """Return the angles of one position: float32 array `(size / 2,)`.

    Args:
        rotary_embedding: a `RotaryEmbedding` of KerasHub, or Llama's.
        size: int. Size of a head.
    """
    return ops.convert_to_numpy(rotary_embedding._get_inverse_freq(size))


def rotation(frequencies, index, length, dtype):
    """Return cosines and sines with which `rotate` turns positions.

    Args:
        frequencies: float32 array `(size / 2,)`.
        index: int, int32 scalar tensor, or int32 `(batch,)`: the position of
            the first token.
        length: int. Number of tokens.
        dtype: str.

    Returns:
        Two tensors that fit `(batch, heads, length, size)`.
    """
    if not isinstance(index, int):
        index = ops.cast(ops.reshape(index, (-1, 1, 1, 1)), "float32")
    positions = index + ops.arange(length, dtype="float32")[:, None]
    # The two halves of a head turn by the same angles, to and fro.
    angles = positions * ops.convert_to_tensor(np.tile(frequencies, 2))
    signs = np.repeat(np.float32([-1, 1]), len(frequencies))
    sines = ops.sin(angles) * ops.convert_to_tensor(signs)
    return ops.cast(ops.cos(angles), dtype), ops.cast(sines, dtype)


def rotate(x, cosines_and_sines):
    """Give each position its rotation (Su et al., 2021, arXiv:2104.09864).

    Args:
        x: `(batch, heads, length, size)`.
        cosines_and_sines: what `rotation` returned.
    """
    cosines, sines = cosines_and_sines
    first, second = ops.split(x, 2, axis=-1)
    return x * cosines + ops.concatenate([second, first], -1) * sines


def score(embedding, hidden_states):
    """Return float32 logits `(batch, vocabulary_size)` of one position.

    Args:
        embedding: a `ReversibleEmbedding` of Keras.
        hidden_states: `(batch, 1, hidden_dim)`.
    """
    x = hidden_states[:, 0]
    special = (
        embedding.quantization_mode
        or embedding.lora_enabled
        or embedding.reverse_dtype
    )
    if special or not are_few(x):
        logits = embedding(hidden_states, reverse=True)[:, 0]
        return ops.cast(logits, "float32")
    if embedding.tie_weights:
        weights = ops.cast(embedding.embeddings, x.dtype)
        logits = backend.score_few_rows(x, weights)
    else:
        weights = ops.cast(embedding.reverse_embeddings, x.dtype)
        logits = backend.multiply_few_rows(x, weights)
    cap = embedding.logit_soft_cap
    if cap is not None:
        logits = ops.tanh(logits / cap) * cap
    return ops.cast(logits, "float32")


def scale_of(size):
    """Return what scores are multiplied by: a float."""
    return 1 / math.sqrt(size)
