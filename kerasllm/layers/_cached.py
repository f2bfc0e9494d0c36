"""Attention with a cache, and products of a few positions.

A single query reads the whole cache for one product. With the keys as
`(size, length)` and the values as `(length, size)`, both products read
contiguous memory, and XLA needs no copy. At 2,048 positions it is 15 times as
fast on a CPU as the layout of the projections.
"""

import math

import keras
from keras import ops

from kerasllm import backend

# Names under which a layer has layers that read the same.
READ_TOGETHER = (
    ("_query_dense", "_key_dense", "_value_dense"),
    ("_feedforward_gate_dense", "_feedforward_intermediate_dense"),
    ("gating_ffw", "gating_ffw_2"),
)
# Up to this many positions, reading the matrix is all that a product costs.
FEW_POSITIONS = 64


def split_heads(x):
    """Map `(batch, length, heads, size)` to `(batch, heads, length, size)`."""
    return ops.transpose(x, (0, 2, 1, 3))


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
        index: int or int32 scalar tensor, the position of the first target;
            or int32 `(batch,)`, one position for each sequence, each with a
            single target.
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
    if not isinstance(index, int) or index:  # something was read before
        key, value, first = _seen(cache, index, targets, window)
    # Query heads that share a head of keys become targets of one product.
    query = ops.reshape(query, (batch * key_heads, -1, size))
    # (batch * key_heads, share * targets, sources)
    scores = backend.multiply_pairs(query, key)
    if soft_cap is not None:
        scores = ops.tanh(scores / soft_cap) * soft_cap
    sources = scores.shape[-1]
    visible = _visible(where - first, targets, sources, window)
    scores = ops.reshape(
        scores, (batch * key_heads, -1, targets, sources)
    )  # (batch * key_heads, share, targets, sources)
    weights = attention_weights(scores, visible)
    weights = ops.reshape(weights, (batch * key_heads, -1, sources))
    outputs = backend.multiply_pairs(weights, value)
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


def apply_dense(layer, inputs):
    """Return `layer(inputs)`, faster when there are only a few positions.

    Args:
        layer: a built `Dense`, or an `EinsumDense` of Keras's attention layer.
        inputs: float tensor `(batch, length, ...)`.
    """
    if not _is_plain(layer) or not are_few(inputs):
        return layer(inputs)
    x = _in_rows(inputs)
    kernel = ops.cast(ops.reshape(layer.kernel, (x.shape[1], -1)), x.dtype)
    return _finish(layer, backend.multiply_few_rows(x, kernel), inputs.shape)


def apply_together(layers, inputs):
    """Return `layer(inputs)` for layers that read the same.

    Where `arrange_kernels` has joined their kernels, it is a single product.

    Args:
        layers: list of layers as for `apply_dense`, all from `READ_TOGETHER`.
        inputs: float tensor `(batch, length, size)`.

    Returns:
        list of the outputs of each layer.
    """
    kernel = None
    if all(map(_is_plain, layers)) and are_few(inputs):
        variables = [layer.kernel for layer in layers]
        kernel = backend.joined_kernel(variables)
    if kernel is None:
        return [apply_dense(layer, inputs) for layer in layers]
    x = _in_rows(inputs)
    outputs = backend.multiply_few_rows(x, ops.cast(kernel, x.dtype))
    results, start = [], 0
    for layer in layers:
        stop = start + math.prod(layer.kernel.shape[1:])
        part = outputs[:, start:stop]
        results.append(_finish(layer, part, inputs.shape))
        start = stop
    return results


def _is_plain(layer):
    """Return whether a layer has nothing but its kernel.

    Quantized and LoRA layers have other weights and other arithmetic.
    """
    return not (layer.quantization_mode or layer.lora_enabled)


def _in_rows(inputs):
    """Map `(batch, length, ...)` to `(batch * length, size)`."""
    return ops.reshape(inputs, (inputs.shape[0] * inputs.shape[1], -1))


def _finish(layer, outputs, shape):
    """Return what a layer makes of its product.

    Args:
        layer: as for `apply_dense`.
        outputs: `(batch * length, size)`.
        shape: shape of the inputs of the layer.
    """
    # (batch, length, heads, key_dim), or (batch, length, size)
    full = (*shape[:2], *layer.compute_output_shape(shape)[2:])
    outputs = ops.reshape(outputs, full)
    if layer.bias is not None:
        outputs = outputs + ops.cast(layer.bias, outputs.dtype)
    return outputs if layer.activation is None else layer.activation(outputs)


def arrange_kernels(layers):
    """Store the kernels of layers as products of a few positions read them.

    Args:
        layers: list of Keras layers or models, with all that is inside them.
    """
    for layer in layers:
        for names in READ_TOGETHER:
            together = [getattr(layer, name, None) for name in names]
            if all(map(_can_be_joined, together)):
                backend.join_kernels([dense._kernel for dense in together])
        if isinstance(layer, keras.layers.Dense):
            backend.arrange_kernel(layer._kernel, (1, 0))
        elif isinstance(layer, keras.layers.EinsumDense):
            inputs, kernel = layer.equation.split("->")[0].split(",")
            axes = range(len(kernel))
            # The outputs first: axes that the inputs do not have.
            axes = sorted(axes, key=lambda i: kernel[i] in inputs)
            backend.arrange_kernel(layer._kernel, axes)
        arrange_kernels(layer._layers)


def _can_be_joined(layer):
    """Return whether the first axis of a kernel, alone, is that of inputs."""
    if isinstance(layer, keras.layers.EinsumDense):
        inputs, kernel = layer.equation.split("->")[0].split(",")
        shared = [axis for axis in kernel if axis in inputs]
        return shared == [kernel[0]]
    return isinstance(layer, keras.layers.Dense)


def are_few(inputs):
    """Return whether a product with `(batch, ..., size)` is memory-bound."""
    shape = inputs.shape[:-1]
    return None not in shape and math.prod(shape) <= FEW_POSITIONS


def attention_weights(scores, mask):
    """Take a float32 softmax over the last axis, where `mask` is true.

    Args:
        scores: float tensor of any shape.
        mask: bool tensor that can be broadcast to it, or `None`.

    Returns:
        A tensor of the shape and dtype of `scores`.
    """
    weights = ops.cast(scores, "float32")
    if mask is not None:
        # This is finite, so a target without any source gets equal weights
        # instead of NaN. Such padding is never read.
        weights = ops.where(mask, weights, -1e9)
    return ops.cast(ops.softmax(weights, axis=-1), scores.dtype)
