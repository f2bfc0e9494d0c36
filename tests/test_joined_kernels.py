"""Layers that read the same, as one product."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasllm import backend
from kerasllm.layers import apply_together, arrange_kernels

is_torch = keras.backend.backend() == "torch"


class Projections(keras.Layer):
    """Queries, keys and values, as attention layers have them."""

    def __init__(self, dtype="float32", value_dtype=None):
        super().__init__()
        self._query_dense = keras.layers.EinsumDense(
            "abc,cde->abde", (None, 4, 2), bias_axes="de", dtype=dtype
        )
        self._key_dense = keras.layers.EinsumDense(
            "abc,cde->abde", (None, 2, 3), dtype=dtype
        )
        self._value_dense = keras.layers.Dense(
            5, activation="relu", dtype=value_dtype or dtype
        )

    def layers(self):
        return [self._query_dense, self._key_dense, self._value_dense]


def inputs_of(dtype="float32", shape=(2, 3, 8)):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    return ops.cast(x, dtype)


def numbers(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))


def joined(layers):
    return backend.joined_kernel([layer.kernel for layer in layers])


@pytest.mark.parametrize("dtype, error", [("float32", 1e-5), ("bfloat16", 0.1)])
@pytest.mark.parametrize("shape", [(1, 1, 8), (2, 3, 8), (2, 40, 8)])
def test_joined_layers_give_what_each_gives(dtype, error, shape):
    projections = Projections(dtype)
    layers, x = projections.layers(), inputs_of(dtype, shape)
    expected = [numbers(layer(x)) for layer in layers]
    kernels = [numbers(layer.kernel) for layer in layers]
    for _ in range(2):  # it changes nothing the second time
        arrange_kernels([projections])
        for layer, kernel in zip(layers, kernels, strict=True):
            np.testing.assert_array_equal(numbers(layer.kernel), kernel)
    together = apply_together(layers, x)
    alone = [layer(x) for layer in layers]
    for results in (together, alone):
        for result, values in zip(results, expected, strict=True):
            np.testing.assert_allclose(numbers(result), values, atol=error)


@pytest.mark.skipif(not is_torch, reason="only PyTorch shares memory")
def test_the_joined_kernel_is_the_memory_of_the_layers():
    projections = Projections()
    layers = projections.layers()
    for layer in layers:
        layer(inputs_of())
    assert joined(layers) is None
    arrange_kernels([projections])
    matrix = joined(layers)
    assert matrix.shape == (8, 8 + 6 + 5)
    layers[1].kernel.assign(np.full((8, 2, 3), 7.0))
    assert (matrix[:, 8:14] == 7).all()
    assert not (matrix[:, :8] == 7).any()
    assert joined(layers[::-1]) is None
    assert joined([layers[0], layers[2]]) is None


@pytest.mark.skipif(not is_torch, reason="only PyTorch shares memory")
def test_kernels_that_went_elsewhere_are_joined_no_more():
    projections = Projections()
    layers, x = projections.layers(), inputs_of()
    for layer in layers:
        layer(x)
    arrange_kernels([projections])
    kernel = layers[1].kernel.value
    kernel.data = kernel.data.clone() * 2
    assert joined(layers) is None
    result = apply_together(layers, x)[1]
    np.testing.assert_allclose(
        numbers(result), numbers(layers[1](x)), atol=1e-5
    )


@pytest.mark.usefixtures("quick_to_quantize")
@pytest.mark.parametrize("change", ["lora", "int8", "dtypes"])
def test_special_layers_are_computed_by_themselves(change):
    projections = Projections(
        value_dtype="bfloat16" if change == "dtypes" else None
    )
    layers, x = projections.layers(), inputs_of()
    for layer in layers:
        layer(x)
    if change == "lora":
        layers[0].enable_lora(2)
        layers[0].lora_kernel_b.assign(np.ones(layers[0].lora_kernel_b.shape))
    if change == "int8":
        layers[2].quantize("int8")
    arrange_kernels([projections])
    error = 0.02 if change == "dtypes" else 1e-5  # a bfloat16 layer rounds
    for layer, result in zip(layers, apply_together(layers, x), strict=True):
        np.testing.assert_allclose(
            numbers(result), numbers(layer(x)), atol=error
        )
    if change == "dtypes":
        assert joined(layers) is None
