"""Parts of the families: rotation and scores."""

import math

import numpy as np
from keras import ops

from kerasllm import backend
from kerasllm.layers import apply_together, are_few, split_heads


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
    return x * cosines + ops.roll(x, x.shape[-1] // 2, axis=-1) * sines


def project(attention, x):
    """Return the heads of queries, keys and values.

    Args:
        attention: an attention layer with the three projections of Keras's.
        x: `(batch, length, hidden_dim)`.

    Returns:
        Three tensors `(batch, heads, length, size)`.
    """
    projections = (
        attention._query_dense,
        attention._key_dense,
        attention._value_dense,
    )
    return [split_heads(heads) for heads in apply_together(projections, x)]


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
