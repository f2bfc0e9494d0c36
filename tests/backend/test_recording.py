"""What PyTorch records computes what was computed before."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasllm import backend

pytestmark = [
    pytest.mark.usefixtures("recorded_at_once"),
    pytest.mark.skipif(
        keras.backend.backend() != "torch", reason="only PyTorch records"
    ),
]


def check(function, *arguments):
    """Compare a recording to the function itself, at other values."""
    recorded = backend.compiled(function)
    for _ in range(2):  # it is recorded, and then replayed
        expected = function(*[ops.copy(ops.array(a)) for a in arguments])
        results = recorded(*[ops.copy(ops.array(a)) for a in arguments])
        for one, other in zip(results, expected, strict=True):
            np.testing.assert_array_equal(
                ops.convert_to_numpy(one), ops.convert_to_numpy(other)
            )
        arguments = [argument + 1 for argument in arguments]
    assert recorded.count == 1


def test_what_is_read_before_and_after_a_change_in_place_is_not_shared():
    def function(cache, update):
        first = ops.reshape(cache, (2, 6))
        before = first * 2.0
        cache = backend.write_cache(cache, 1, update, axis=0)
        second = ops.reshape(cache, (2, 6))
        return before, second * 2.0, ops.sum(cache), ops.sum(second)

    check(
        function,
        np.arange(12, dtype="float32").reshape(4, 3),
        np.ones((1, 3), "float32"),
    )


def test_what_is_random_is_drawn_each_time():
    import torch

    recorded = backend.compiled(
        lambda x: (torch.rand(64) + x, torch.rand(64) + x)
    )
    for _ in range(2):
        one, other = recorded(np.zeros(64, "float32"))
        assert not np.array_equal(one.numpy(), other.numpy())


def random_views(x, rng):
    """Apply some reshapes, transpositions and the like."""
    for _ in range(8):
        shape = list(x.shape)
        kind = rng.integers(6)
        if kind == 0:
            x = ops.reshape(x, rng.permutation(shape).tolist())
        elif kind == 1:
            x = ops.transpose(x, rng.permutation(len(shape)).tolist())
        elif kind == 2:
            x = ops.expand_dims(x, int(rng.integers(len(shape) + 1)))
        elif kind == 3 and 1 in shape:
            x = ops.squeeze(x, shape.index(1))
        elif kind == 4:
            x = ops.broadcast_to(x[None], (2, *shape))[1]
        elif kind == 5 and shape[0] > 1:
            x = x[1:] if rng.integers(2) else x[:-1]
    return x


@pytest.mark.parametrize("seed", range(40))
def test_views_give_the_same_elements(seed):
    weight = keras.Variable(np.arange(24, dtype="float32").reshape(2, 3, 4))

    def function(x):
        rng = np.random.default_rng(seed)
        x = random_views(x, rng)
        w = random_views(ops.convert_to_tensor(weight), rng)
        x = x * 2.0  # the views before it and after it stay apart
        return random_views(x, rng) + 0.0, w + 0.0

    check(function, np.arange(120, dtype="float32").reshape(2, 3, 4, 5))


def test_a_change_in_place_of_one_result_leaves_others_shared():
    """What a changed array was computed from does not change with it."""
    weight = keras.Variable(np.arange(4, dtype="float32"))

    def function(x):
        product = x * weight
        mean = ops.mean(x * weight, axis=-1, keepdims=True)
        mean += 1.0  # in place, on PyTorch
        return product, mean, ops.mean(product, axis=-1, keepdims=True)

    check(function, np.arange(8, dtype="float32").reshape(2, 4))
