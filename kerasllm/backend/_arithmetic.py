"""Arithmetic that is fastest when written differently for each backend."""

import math

import keras
import numpy as np
from keras import ops

from kerasllm.backend._devices import name


def dropout(inputs, rate, seed):
    """Set a random share `rate` of `inputs` to zero and scale up the rest.

    On JAX, a mask costs as much as a matrix product: `keras.random.dropout`
    draws a 32-bit word for each element, and each word takes twenty rounds
    of integer mixing. A decision to keep or drop needs fewer bits than that,
    so here one word decides for two elements. The other backends draw masks
    cheaply and use Keras's own dropout.

    Args:
        inputs: float tensor of any shape.
        rate: float in `[0, 1)`. On JAX it is rounded to a multiple of
            `2**-16`. The scale uses the rounded rate, so the expectation is
            exact.
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
    """Multiply a matrix of only a few rows by a large matrix.

    Decoding does this for every token, and most of the time goes into reading
    the large matrix. The plain product of a single row uses one core, and
    TensorFlow's XLA turns it into a loop that reads the matrix in the wrong
    order. A batch of products of blocks avoids both problems. PyTorch needs
    the blocks in float32 only: bfloat16 products use a different library.

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
    return ops.sum(multiply_pairs(ops.swapaxes(x, 0, 1), matrix), axis=0)


def score_few_rows(x, embeddings):
    """Multiply a few rows by all embeddings, in their order in memory.

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
    # Blocks let the product use all cores, as in `multiply_few_rows`.
    blocks = math.gcd(embeddings.shape[0], 4)
    embeddings = ops.reshape(embeddings, (blocks, -1, size))
    x = ops.broadcast_to(ops.transpose(x), (blocks, size, rows))
    scores = multiply_pairs(embeddings, x)
    return ops.transpose(ops.reshape(scores, (-1, rows)))


def _is_torch_in_half(x):
    dtype = keras.backend.standardize_dtype(x.dtype)
    return name() == "torch" and dtype in ("bfloat16", "float16")


def token_logprobs(logits, labels):
    """Return the log-probabilities of labels.

    PyTorch makes a pass over the logits for each operation, forward and
    backward. Its cross-entropy takes fewer of them, if the vocabulary is the
    second of two axes. Compilers of the other backends join the operations.

    Args:
        logits: float `(..., vocabulary_size)`.
        labels: int `(...)`.

    Returns:
        A tensor `(...)` of the dtype of `logits`.
    """
    if name() == "torch":
        losses = ops.sparse_categorical_crossentropy(
            ops.reshape(labels, (-1,)),
            ops.reshape(logits, (-1, logits.shape[-1])),
            from_logits=True,
        )
        return -ops.reshape(losses, labels.shape)
    chosen = ops.take_along_axis(logits, labels[..., None], axis=-1)
    return chosen[..., 0] - ops.logsumexp(logits, axis=-1)


def multiply_pairs(x, y):
    """Multiply as many matrices by as many others.

    This is `keras.ops.matmul` without a choice of shapes, each of which leaves
    PyTorch several views.

    Args:
        x: float tensor `(count, rows, size)`.
        y: float tensor `(count, size, columns)`.

    Returns:
        float tensor `(count, rows, columns)`.
    """
    if name() == "torch":
        return x.bmm(y)
    return ops.matmul(x, y)


def arrange_kernel(variable, axes):
    """Store a kernel so that a product of a few rows reads it in order.

    In half precision, PyTorch's library for CPUs multiplies a row ten times as
    fast if the inputs of each output lie side by side. Elsewhere, and in
    float32, nothing is done. The values and the shape stay the same, and only
    their order in memory changes.

    Args:
        variable: `keras.Variable`, the kernel of a layer.
        axes: the axes of the kernel, those of its outputs first.
    """
    tensor = variable.value
    if not _is_torch_in_half(tensor) or tensor.device.type != "cpu":
        return
    back = sorted(range(len(axes)), key=lambda i: axes[i])
    # The parameter stays the same object, which an optimizer may hold.
    tensor.data = tensor.data.permute(*axes).contiguous().permute(*back)


def join_kernels(variables):
    """Store kernels side by side, so that one product can have all of them.

    On a CPU, PyTorch multiplies a row by one wide matrix faster than by several
    narrow ones. Elsewhere, nothing is done. The values and the shapes stay the
    same, and only their places in memory change.

    Args:
        variables: list of `keras.Variable`, kernels `(size, ...)` of layers
            that read the same `size` inputs. If their dtypes differ, nothing is
            done.
    """
    tensors = [variable.value for variable in variables]
    if name() != "torch" or tensors[0].device.type != "cpu":
        return
    apart = joined_kernel(variables) is None
    if not apart or len({tensor.dtype for tensor in tensors}) > 1:
        return
    import torch

    matrices = [tensor.data.flatten(1) for tensor in tensors]
    joined = torch.cat(matrices, axis=1)
    if _is_torch_in_half(joined):  # as `arrange_kernel` stores one
        joined = joined.T.contiguous().T
    parts = joined.split([matrix.shape[1] for matrix in matrices], dim=1)
    for tensor, part in zip(tensors, parts, strict=True):
        # The parameter stays the same object, which an optimizer may hold.
        tensor.data = part.unflatten(1, tensor.shape[1:])


def joined_kernel(variables):
    """Return kernels that lie side by side as one, or `None`.

    Args:
        variables: list of `keras.Variable`, kernels `(size, ...)` in the order
            in which `join_kernels` got them.

    Returns:
        A tensor `(size, columns)` with the columns of all kernels, which are
        not copied. `None` if `join_kernels` has not stored them so.
    """
    if name() != "torch":
        return None
    tensors = [variable.value for variable in variables]
    size = tensors[0].shape[0]
    columns = [tensor.numel() // size for tensor in tensors]
    strides = tensors[0].stride(0), tensors[0].stride(-1)
    if strides not in ((sum(columns), 1), (1, size)):
        return None
    # A recording calls this, too, so only what its tensors know is asked for.
    block = tensors[0].untyped_storage().data_ptr()
    place = tensors[0].data_ptr()
    for tensor, width in zip(tensors, columns, strict=True):
        if (
            (tensor.stride(0), tensor.stride(-1)) != strides
            or tensor.untyped_storage().data_ptr() != block
            or tensor.data_ptr() != place
        ):
            return None
        place += width * strides[1] * tensor.element_size()
    return tensors[0].as_strided((size, sum(columns)), strides)


def is_scalar(number):
    """Return whether a value is a number or a scalar tensor."""
    # In TensorFlow, every known shape is true, even an empty one.
    return len(getattr(number, "shape", ())) == 0


def is_known(tensor):
    """Return whether the values of a tensor can be read now.

    While a function is compiled, its tensors stand for values to come.
    """
    if name() == "jax":
        import jax

        return not isinstance(tensor, jax.core.Tracer)
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.executing_eagerly()
    import torch

    # Tensors without values, for shapes or for recording, have other classes.
    is_plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    return is_plain and not (tensor.is_meta or torch.compiler.is_compiling())


def write_cache(cache, index, update, axis):
    """Write new entries into a key or value cache.

    Args:
        cache: float tensor. PyTorch updates it in place. JAX and TensorFlow
            make a copy, unless it was donated to a compiled function.
        index: int or int32 scalar tensor, the position of the first entry;
            or int32 `(cache.shape[0],)`, a position for each index of the
            first axis, with one new entry each.
        update: float tensor with the shape of `cache`, except along `axis`.
        axis: int, the axis of positions.

    Returns:
        The cache with `update` in it.
    """
    if not is_scalar(index):
        return _write_apart(cache, index, update, axis)
    if name() == "torch":
        positions = ops.arange(update.shape[axis], dtype="int64") + index
        return cache.index_copy_(axis, positions, update)
    return ops.slice_update(cache, _starts(cache, index, axis), update)


def read_cache(cache, index, size, axis):
    """Return some positions of a key or value cache.

    Args:
        cache: float tensor.
        index: int32 scalar tensor, the first position, from `hide_value`.
            `index + size` must not exceed the length of the cache.
        size: int. Number of positions.
        axis: int, the axis of positions.
    """
    if name() == "torch":  # a slice would need the number
        positions = ops.arange(size, dtype="int64") + index
        return cache.index_select(axis, positions)
    shape = list(cache.shape)
    shape[axis] = size
    return ops.slice(cache, _starts(cache, index, axis), shape)


def _starts(cache, index, axis):
    """Return where a slice of a cache begins: a list."""
    # JAX needs one dtype. With `jax_enable_x64`, a plain 0 would be int64.
    zero = ops.zeros_like(index) if name() == "jax" else 0
    starts = [zero] * len(cache.shape)
    starts[axis] = index
    return starts


def _write_apart(cache, index, update, axis):
    """Write one entry per index of the first axis, each at its own position."""
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
    # This takes one pass over the cache, which attention reads anyway.
    return ops.where(positions == index, update, cache)


def hide_value(number):
    """Keep XLA from recompiling for each value of a number.

    TensorFlow's `slice` asks for the value of its start. If that value comes
    from an argument, XLA compiles the whole function again for each value.
    The result of a loop has no known value, so `slice` accepts it as it is.

    Args:
        number: int32 scalar tensor, zero or larger.

    Returns:
        The same number.
    """
    if name() != "tensorflow":
        return number
    import tensorflow as tf

    start = [tf.zeros_like(number)]
    return tf.while_loop(lambda n: n < number, lambda n: number, start)[0]


def scalars(numbers):
    """Turn numbers into arguments that may change without recompilation.

    Args:
        numbers: dict of ints and floats.

    Returns:
        dict of scalar arrays. PyTorch compiles nothing here and has faster
        operations for plain numbers, so there it is `numbers` itself.
    """
    if name() == "torch":
        return numbers
    return {
        key: np.array(value, "int32" if isinstance(value, int) else "float32")
        for key, value in numbers.items()
    }
