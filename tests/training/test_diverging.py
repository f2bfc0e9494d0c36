"""Runs that diverge: what stops them, and what they leave."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from kerasllm.checks import DivergedError
from kerasllm.training import CHECKPOINT_FILE, Checkpoint
from tests.training.small_runs import STEPS, dataset, model, train


class Jump(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is far too large from one step on."""

    def __init__(self, step, learning_rate):
        self.step = step
        self.learning_rate = learning_rate

    def __call__(self, iterations):
        is_before = ops.cast(iterations, "float32") < self.step - 1
        return ops.where(is_before, 1e-2, self.learning_rate)


def sample_nothing(model):
    raise ValueError("There is nothing to sample from.")


# After a step with 1e30 the weights are finite, what they compute is not.
@pytest.mark.parametrize(
    "jump, checkpoint_steps, validates, found, kept",
    [
        pytest.param((3, 1e30), 2, True, 4, 2, id="the loss"),
        pytest.param((3, math.inf), 1, True, 3, 2, id="the weights"),
        pytest.param(
            (5, math.inf),
            2,
            False,
            5,
            4,
            id="at the epoch's end",
            marks=pytest.mark.any_backend,
        ),
        pytest.param(
            (5, 1e30),
            2,
            True,
            5,
            4,
            id="the validation's loss",
            marks=pytest.mark.any_backend,
        ),
    ],
)
def test_divergence_stops_the_run_and_keeps_the_last_good_state(
    tmp_path, jump, checkpoint_steps, validates, found, kept
):
    changes = {} if validates else {"validation_dataset": None}
    with pytest.raises(
        DivergedError, match=f"at step {found}. The last good checkpoint"
    ):
        train(
            tmp_path,
            model(),
            learning_rate=Jump(*jump),
            checkpoint_steps=checkpoint_steps,
            sample=sample_nothing,
            **changes,
        )
    net = model(seed=99)
    net.compile(
        keras.optimizers.Adam(Jump(*jump)),  # a schedule is no variable
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    net.optimizer.build(net.trainable_variables)
    saved = Checkpoint(tmp_path, STEPS, 1)
    saved.restore(net)
    assert saved.step == kept
    with np.load(tmp_path / CHECKPOINT_FILE) as file:  # a sum, and of how many
        before = file["metric00000"] / file["metric00001"]
    assert net.evaluate(dataset(), verbose=0) == pytest.approx(before, abs=0.3)


@pytest.mark.any_backend
def test_a_run_that_diverges_at_once_leaves_no_checkpoint(tmp_path):
    with pytest.raises(DivergedError, match="There is no checkpoint"):
        train(
            tmp_path,
            model(),
            learning_rate=Jump(0, math.inf),  # as a number it is refused
            steps_per_epoch=1,
            validation_dataset=None,
        )
    assert not (tmp_path / CHECKPOINT_FILE).exists()


@pytest.mark.any_backend
def test_a_lower_rate_cures_divergence_in_the_same_directory(tmp_path):
    train(tmp_path, model(), epochs=1)
    many = {"checkpoint_steps": 1000}  # the next one would be too late
    with pytest.raises(DivergedError, match="use float32.$"):
        train(tmp_path, model(), learning_rate=1e30, **many)
    history = train(tmp_path, model(), learning_rate=1e-3, **many)
    assert [epoch["step"] for epoch in history] == [STEPS, 2 * STEPS]
    assert history[1]["loss"] < history[0]["loss"]
