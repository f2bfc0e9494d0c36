"""Compiled functions: once for each shape, for whichever thread."""

import concurrent.futures
import threading

import keras
import numpy as np
import pytest
from keras import ops

from kerasllm import backend

pytestmark = pytest.mark.usefixtures("recorded_at_once")


def twice(x):
    return ops.multiply(x, 2.0)


def test_eight_threads_compile_once_for_each_shape():
    function = backend.compiled(twice)
    barrier = threading.Barrier(8)

    def call(size):
        barrier.wait()
        return ops.convert_to_numpy(function(np.ones(size, "float32")))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(call, [2, 3] * 4))
    for size, result in zip([2, 3] * 4, results, strict=True):
        np.testing.assert_array_equal(result, np.full(size, 2.0))
    assert function.count == 2


def test_variables_are_held_and_their_values_are_read_at_each_call():
    variable = keras.Variable(np.float32(3.0))
    function = backend.compiled(lambda x: x * variable, [variable])
    assert float(function(np.float32(2.0))) == 6.0
    variable.assign(np.float32(5.0))
    assert float(function(np.float32(2.0))) == 10.0
    assert function.count == 1


def test_a_single_call_takes_the_values_it_is_given():
    """On TensorFlow, nothing is compiled for it."""
    variable = keras.Variable(np.float32(3.0))
    function = backend.compiled(lambda x: x * variable, [variable], shared=True)
    assert float(function.bind_once()(np.float32(2.0))) == 6.0
    variable.assign(np.float32(5.0))
    assert float(function.bind_once()(np.float32(2.0))) == 10.0
    if backend.shares_compiled():
        others = [keras.Variable(np.float32(7.0))]
        assert float(function.bind_once(others)(np.float32(2.0))) == 14.0
    compiles = keras.backend.backend() != "tensorflow"
    assert function.count == int(compiles)
    assert float(function(np.float32(2.0))) == 10.0
    assert function.count == 1


def test_what_is_donated_is_updated_in_a_single_call_as_well():
    function = backend.compiled(lambda x, y: (x + y, y), donate={0: 0})
    x = ops.convert_to_tensor(np.ones(2, "float32"))
    new, _ = function.bind_once()(x, np.float32(2.0))
    np.testing.assert_array_equal(ops.convert_to_numpy(new), [3.0, 3.0])


def test_an_error_while_compiling_leaves_the_function_usable():
    errors = [RuntimeError("not now")]

    def fragile(x):
        if errors:
            raise errors.pop()
        return x + 1.0

    function = backend.compiled(fragile)
    with pytest.raises(RuntimeError, match="not now"):
        function(np.float32(1.0))
    assert float(function(np.float32(1.0))) == 2.0


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="the others compile at once"
)
def test_pytorch_records_what_is_called_often(monkeypatch):
    """And the recording gives what the calls before it gave."""
    from kerasllm.backend import _compiled_torch

    monkeypatch.setattr(_compiled_torch, "CALLS_BEFORE_RECORDING", 2)
    function = backend.compiled(twice)
    counts = []
    for number in range(4):
        assert float(function(np.float32(number))) == 2 * number
        function(np.ones(3, "float32"))  # of another shape, counted apart
        counts.append(function.count)
    assert counts == [0, 0, 2, 2]


@pytest.mark.skipif(backend.name() != "jax", reason="a setting of JAX")
def test_a_cache_can_be_used_with_numbers_of_64_bits():
    import jax

    with jax.enable_x64(True):
        index = ops.convert_to_tensor(1, "int32")
        cache, new = ops.zeros((2, 4), "float32"), ops.ones((2, 1), "float32")
        cache = backend.write_cache(cache, index, new, axis=1)
        read = backend.read_cache(cache, index, 2, axis=1)
    assert ops.convert_to_numpy(read).tolist() == [[1, 0]] * 2
