"""Models whose variables start with what is loaded."""

import keras
import keras_hub
import numpy as np
import pytest
from keras import ops

from kerasllm import files
from kerasllm.backend import LoadedValues, companion_of, state_of
from kerasllm.presets import load_causal_lm


def refuse(shape, dtype=None):
    raise AssertionError("an initial value was drawn")


def test_what_is_loaded_needs_no_initial_value():
    older = keras.Variable(np.zeros(2, "float32"))
    with LoadedValues():
        loaded = keras.Variable(refuse, shape=(2,), dtype="float32")
        not_loaded = keras.Variable("ones", shape=(3,), dtype="float32")
        loaded.assign([1, 2])
        loaded.assign([3, 4])
        older.assign([5, 6])
        assert ops.convert_to_numpy(loaded.value).tolist() == [3, 4]
    for variable, expected in (
        (loaded, [3, 4]),
        (not_loaded, [1, 1, 1]),
        (older, [5, 6]),
    ):
        assert ops.convert_to_numpy(variable).tolist() == expected
        variable.assign_add(ops.ones(variable.shape))
        assert ops.convert_to_numpy(variable)[0] == expected[0] + 1


def test_two_variables_that_load_one_array_do_not_share_it():
    value = ops.ones((2,))
    with LoadedValues():
        one = keras.Variable("zeros", shape=(2,), dtype="float32")
        other = keras.Variable("zeros", shape=(2,), dtype="float32")
        one.assign(value)
        other.assign(value)
    one.assign_add(value)
    assert ops.convert_to_numpy(one).tolist() == [2, 2]
    assert ops.convert_to_numpy(other).tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_preset_is_the_one_that_keras_hub_loads(dtype):
    folder = str(files.assets_dir() / "tiny")
    options = {"dtype": dtype} if dtype else {}
    expected = keras_hub.models.CausalLM.from_preset(folder, **options)
    found = load_causal_lm("tiny", dtype)
    for a, b in zip(found.weights, expected.weights, strict=True):
        assert (a.path, a.dtype, a.trainable) == (b.path, b.dtype, b.trainable)
        np.testing.assert_array_equal(
            ops.convert_to_numpy(ops.cast(a, "float32")),
            ops.convert_to_numpy(ops.cast(b, "float32")),
        )


def test_a_companion_lives_as_long_as_the_variables_of_its_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    made = []

    def make(model, previous):
        made.append((len(model.variables), previous))
        return f"companion {len(made)}"

    assert companion_of(model, "_companion", make) == "companion 1"
    model.layers[0].kernel.assign(np.ones((2, 2)))  # the same variable
    assert companion_of(model, "_companion", make) == "companion 1"
    assert companion_of(model, "_other", make) == "companion 2"
    weights = len(model.variables)
    model.layers[0].enable_lora(rank=1)
    assert companion_of(model, "_companion", make) == "companion 3"
    assert made == [(2, None), (2, None), (weights + 2, "companion 1")]
    assert len(model.variables) == weights + 2  # nothing is counted twice


def test_a_state_tells_whether_values_have_changed():
    variables = [
        keras.Variable(np.zeros((3, 40), "float32")),
        keras.Variable(1.0),
    ]
    before = state_of(variables)
    assert state_of(variables) == before
    variables[0].assign_add(np.ones((3, 40)))
    after = state_of(variables)
    assert after != before and state_of(variables) == after
    one_row = ops.convert_to_numpy(variables[0]).copy()
    one_row[2, 30:] = 0
    variables[0].assign(one_row)
    assert state_of(variables) != after
    after = state_of(variables)
    variables[1].assign(2.0)
    assert state_of(variables) != after
    assert state_of(variables[:1]) != state_of(variables)


def test_a_step_of_training_changes_the_state():
    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile(optimizer="sgd", loss="mse")
    x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    model.fit(x, y, verbose=0)
    before = state_of(model.variables)
    model.fit(x, y, verbose=0)
    assert state_of(model.variables) != before
