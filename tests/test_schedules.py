"""The warmup schedule against its formula, and through a saved optimizer."""

import keras
import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.schedules import UpdateSchedule, WarmupSchedule, warmup_for


def test_the_rate_rises_linearly_and_stays():
    schedule = WarmupSchedule(rate=0.5, warmup_steps=4)
    rates = [float(schedule(step)) for step in range(7)]
    np.testing.assert_allclose(rates, [0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5])


def test_no_warmup_means_the_full_rate_from_the_start():
    schedule = WarmupSchedule(rate=0.5, warmup_steps=0)
    assert [float(schedule(step)) for step in (0, 1, 9)] == [0.5] * 3


@pytest.mark.any_backend
def test_defaults_are_the_chapters():
    assert WarmupSchedule().get_config() == {
        "rate": 2e-4,
        "warmup_steps": 1000,
    }


def test_the_optimizer_steps_by_the_scheduled_rate():
    """Plain gradient descent on f(x) = x moves by exactly the rate."""
    x = keras.Variable(0.0)
    optimizer = keras.optimizers.SGD(WarmupSchedule(0.5, warmup_steps=4))
    optimizer.build([x])
    moved = []
    for _ in range(6):
        before = float(x.value)
        optimizer.apply([keras.ops.convert_to_tensor(1.0)], [x])
        moved.append(before - float(x.value))
    np.testing.assert_allclose(moved, [0, 0.125, 0.25, 0.375, 0.5, 0.5])


@pytest.mark.any_backend
def test_a_compiled_model_with_the_schedule_can_be_saved(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(WarmupSchedule(0.25, 8)), "mse")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    restored = loaded.optimizer.get_config()["learning_rate"]["config"]
    assert restored == {"rate": 0.25, "warmup_steps": 8}


@pytest.mark.any_backend
def test_numpys_numbers_are_saved_as_pythons():
    schedule = WarmupSchedule(np.float32(0.25), np.int64(8))
    config = schedule.get_config()
    assert config == {"rate": 0.25, "warmup_steps": 8}
    assert [type(value) for value in config.values()] == [float, int]


@pytest.mark.any_backend
@pytest.mark.parametrize("rate", [0, -1e-3, float("nan"), float("inf"), True])
def test_the_rate_must_be_positive(rate):
    with pytest.raises(UserError, match="`rate` must be a positive number"):
        WarmupSchedule(rate=rate)


@pytest.mark.any_backend
@pytest.mark.parametrize("steps", [-1, float("nan"), float("inf"), False])
def test_the_warmup_must_not_be_negative(steps):
    with pytest.raises(UserError, match="`warmup_steps` must be zero or more"):
        WarmupSchedule(warmup_steps=steps)


@pytest.mark.any_backend
@pytest.mark.parametrize("steps", [0, 1.5, True])
def test_the_batches_of_an_update_are_counted(steps):
    with pytest.raises(UserError, match="must be a positive int"):
        UpdateSchedule(WarmupSchedule(), steps)


def test_under_accumulation_a_step_is_an_update():
    schedule = UpdateSchedule(WarmupSchedule(0.5, 4), 3)
    rates = [float(schedule(step)) for step in range(15)]
    np.testing.assert_allclose(
        rates, np.repeat([0, 0.125, 0.25, 0.375, 0.5], 3)
    )
    config = keras.saving.serialize_keras_object(schedule)
    again = keras.saving.deserialize_keras_object(config)
    assert [float(again(step)) for step in range(15)] == rates


@pytest.mark.any_backend
def test_the_default_fits_the_model_and_the_run():
    book = warmup_for(41_800_768, 100_000)
    assert (book.rate, book.warmup_steps) == (2e-4, 1000)  # the chapter's
    larger = warmup_for(10**9, 5000)
    assert (larger.rate, larger.warmup_steps) == (2e-4, 500)
    # A fourth of the parameters is half of the width: twice the rate.
    assert warmup_for(41_800_768 // 4, 9).rate == pytest.approx(4e-4)
    tiny = warmup_for(1000, 9)
    assert (tiny.rate, tiny.warmup_steps) == (pytest.approx(2e-3), 0)
