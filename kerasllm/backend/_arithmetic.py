"""Arithmetic that the backends are good at in different ways."""

import math

import keras
import numpy as np
from keras import ops

from kerasllm.backend._devices import name


def dropout(inputs, rate, seed):
    """Set a random share `rate` of `inputs` to zero and scale up the rest.

    On JAX a mask costs as much as a matrix product: `keras.random.dropout`
    draws a 32-bit word for each element, and each word takes twenty rounds
    of integer mixing. To keep or to drop needs fewer bits than that, so here
    one word decides for two elements. The other backends draw masks cheaply
    and keep Keras's own.

    Args:
        inputs: float tensor of any shape.
        rate: float in `[0, 1)`. On JAX it is rounded to a multiple of
            `2**-16`; the scale uses the rounded rate, so that the
            expectation is exact.
        seed: a `keras.random.SeedGenerator`.

    Returns:
        A tensor of the shape and dtype of `inputs`.
    """
    if name() != "jax":
        return keras.random.dropout(inputs, rate, seed=seed)
    import jax

    levels = 2**16
    keep = round((1 - rate) * levels)
    size = inputs.size
    words = jax.random.bits(seed.next(), ((size + 1) // 2, 1), "uint32")
    # XLA fuses this broadcast shift into the mixing; stacking the two halves
    # instead would write every word to memory first.
    halves = (words >> np.array([0, 16], "uint32")) & (levels - 1)
    mask = ops.reshape(ops.reshape(halves, -1)[:size] < keep, inputs.shape)
    return ops.where(mask, inputs * (levels / keep), 0)


def multiply_few_rows(x, matrix):
    """Multiply a few rows by a large matrix, as decoding does all the time.

    The time goes into reading the matrix. The plain product of one row does so
    on one core, and TensorFlow's XLA makes it part of a loop that reads the
    matrix in the wrong order. A batch of products of blocks is spared both.
    PyTorch needs it in float32 only: in bfloat16 another library multiplies.

    Args:
        x: float tensor `(rows, size)`.
        matrix: float tensor `(size, columns)`.

    Returns:
        float tensor `(rows, columns)`.
    """
    rows, size = x.shape
    if (name() == "jax" and rows > 1) or _is_torch_in_half(x):
        return ops.matmul(x, matrix)
    blocks = math.gcd(size, 2 if name() == "tensorflow" else 4)
    x = ops.reshape(x, (rows, blocks, size // blocks))
    matrix = ops.reshape(matrix, (blocks, size // blocks, -1))
    return ops.sum(ops.matmul(ops.swapaxes(x, 0, 1), matrix), axis=0)


def score_few_rows(x, embeddings):
    """Multiply a few rows by all embeddings, in the order they lie in memory.

    Args:
        x: float tensor `(rows, size)`.
        embeddings: float tensor `(vocabulary_size, size)`.

    Returns:
        float tensor `(rows, vocabulary_size)`.
    """
    rows, size = x.shape
    if (name() == "tensorflow" and rows == 1) or _is_torch_in_half(x):
        return ops.matmul(x, ops.transpose(embeddings))
    if name() == "tensorflow":
        return ops.transpose(ops.matmul(embeddings, ops.transpose(x)))
    # In blocks it runs on all cores, as in `multiply_few_rows`.
    blocks = math.gcd(embeddings.shape[0], 4)
    embeddings = ops.reshape(embeddings, (blocks, -1, size))
    x = ops.broadcast_to(ops.transpose(x), (blocks, size, rows))
    return ops.transpose(ops.reshape(ops.matmul(embeddings, x), (-1, rows)))


def _is_torch_in_half(x):
    return name() == "torch" and keras.backend.standardize_dtype(
        x.dtype
    ) not in ("float32", "float64")


def is_scalar(number):
    """Tell a number, Python's or in a tensor, from an array of them."""
    return not getattr(number, "shape", ())


def write_cache(cache, index, update, axis):
    """Write new entries into a key or value cache.

    Args:
        cache: float tensor. PyTorch writes into its memory; JAX and
            TensorFlow copy, unless it was given away to a compiled function.
        index: int or int32 scalar tensor, where to begin; or int32
            `(cache.shape[0],)`, where each of them goes, for one entry each.
        update: float tensor of the shape of `cache` but for `axis`.
        axis: int, the axis of positions.

    Returns:
        The cache with `update` in it.
    """
    if not is_scalar(index):
        return _write_apart(cache, index, update, axis)
    if name() == "torch":
        positions = ops.arange(update.shape[axis], dtype="int64") + index
        return cache.index_copy_(axis, positions, update)
    starts = [0] * len(cache.shape)
    starts[axis] = index
    return ops.slice_update(cache, starts, update)


def _write_apart(cache, index, update, axis):
    """Write one entry for each of the first axis, at positions of their own."""
    shape = [1] * len(cache.shape)
    shape[0] = cache.shape[0]
    index = ops.reshape(index, shape)  # (cache.shape[0], 1, 1)
    if name() == "torch":
        index = ops.cast(index, "int64").expand(update.shape)
        return cache.scatter_(axis, index, update)
    shape = [1] * len(cache.shape)
    shape[axis] = cache.shape[axis]
    positions = ops.arange(cache.shape[axis], dtype="int32")
    positions = ops.reshape(positions, shape)
    # One pass over the cache, which attention passes over anyway.
    return ops.where(positions == index, update, cache)


def hide_value(number):
    """Keep XLA from compiling anew for each value of a number.

    TensorFlow's `slice` wants to know where it begins, and has the whole
    function compiled once for each value of an argument that says so. What
    comes out of a loop it takes as it is.

    Args:
        number: int32 scalar tensor, not negative.

    Returns:
        The same number.
    """
    if name() != "tensorflow":
        return number
    import tensorflow as tf

    start = [tf.zeros_like(number)]
    return tf.while_loop(lambda n: n < number, lambda n: number, start)[0]


def scalars(numbers):
    """Prepare numbers as arguments that may change without compiling anew.

    Args:
        numbers: dict of ints and floats.

    Returns:
        dict of scalar arrays; under PyTorch, which compiles nothing here and
        has faster operations for plain numbers, the numbers themselves.
    """
    if name() == "torch":
        return numbers
    return {
        key: np.array(value, "int32" if isinstance(value, int) else "float32")
        for key, value in numbers.items()
    }
