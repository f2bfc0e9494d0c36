"""A run of `grpo` that goes on, or one that is refused."""

import signal

import keras
import numpy as np
import pytest

from kerasllm import lora, tuning
from kerasllm.checks import RunError
from kerasllm.training import (
    CHECKPOINT_FILE,
    HISTORY_FILE,
    TrainingInterrupted,
)
from tests.alphabet import END
from tests.tuning.policies import (
    OPTIONS,
    PROMPTS,
    has_a,
    make_policy,
    share_of_a,
    values,
    without_seconds,
)

ARGUMENTS = PROMPTS, share_of_a, ["a", "bb"]
TRAINING = OPTIONS | {
    "learning_rate": 1e-2, "validation_steps": 2,
    "mask_truncated_completions": False, "minibatch_size": 8,
}  # fmt: skip


def prepared(rank):
    """Return a policy; its adapters are the same each time."""
    model = make_policy()
    if rank is not None:
        lora.enable_lora(model, rank)
        rng = np.random.default_rng(0)
        for weight in model.trainable_weights:
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return model


class Interrupt(keras.callbacks.Callback):
    """Presses Ctrl-C in a step, or has the process die there."""

    def __init__(self, step, dies=False):
        super().__init__()
        self.step, self.dies = step, dies

    def on_train_batch_end(self, batch, logs=None):
        """Without it, Keras might call the other one in another thread."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch + 1 == self.step:
            if self.dies:
                raise SystemExit
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
# What is trained goes on from other weights, and adapters from none.
@pytest.mark.parametrize(("rank", "same_session"), [(None, True), (2, False)])
def test_an_interrupted_run_ends_as_one_in_one_go(tmp_path, rank, same_session):
    """Its start and its best weights are those of the whole run."""

    def tune(model, name, callbacks=(), steps=5):
        return tuning.grpo(
            model, *ARGUMENTS, steps=steps, directory=tmp_path / name,
            beta=0.1, callbacks=callbacks, **TRAINING,
        )  # fmt: skip

    whole = prepared(rank)
    history = tune(whole, "whole")
    model = prepared(rank)
    with pytest.raises(TrainingInterrupted, match="after step 3"):
        tune(model, "parts", [Interrupt(3)])
    if not same_session:
        model = prepared(rank)
    again = tune(model, "parts")
    assert len(again) == 6  # with the start
    for expected, found in zip(
        without_seconds(history), without_seconds(again), strict=True
    ):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    for expected, found in zip(values(whole), values(model), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.any_backend
def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path):
    """With the same steps again, and then with more of them."""

    def tune(name, callbacks=(), steps=4):
        model = make_policy()
        history = tuning.grpo(
            model, *ARGUMENTS, steps=steps, directory=tmp_path / name,
            callbacks=callbacks, checkpoint_steps=2, **TRAINING,
        )  # fmt: skip
        return without_seconds(history), values(model)

    expected, weights = tune("whole")
    for step in (2, 4):  # before the first checkpoint, and after it
        with pytest.raises(SystemExit):
            tune("parts", [Interrupt(step, dies=True)])
    found, others = tune("parts")
    for one, another in zip(found, expected, strict=True):
        assert one == pytest.approx(another, rel=1e-4, abs=1e-5)
    for one, another in zip(weights, others, strict=True):
        np.testing.assert_allclose(one, another, atol=1e-5)
    assert tune("parts")[0] == found
    longer, _ = tune("parts", steps=5)
    assert longer[:5] == found and longer[5]["step"] == 5
    with pytest.raises(RunError, match="`steps` must be at least .* had, 5"):
        tune("parts", steps=4)
    (tmp_path / "parts" / "best.npz").write_bytes(b"PK no file")
    with pytest.raises(RunError, match="must hold its best.npz"):
        tune("parts", steps=5)


@pytest.mark.any_backend
def test_a_directory_of_another_run_is_refused(tmp_path):
    def tune(rank=2, weight=0.0, **changed):
        model = prepared(rank)
        kernel = model.backbone.decoders[0].feed_forward_1.kernel
        kernel.assign_add(np.full(kernel.shape, weight))
        arguments = {
            "prompts": PROMPTS, "reward_fn": share_of_a, "steps": 1,
            "directory": tmp_path, **OPTIONS,
        } | changed  # fmt: skip
        return tuning.grpo(model, **arguments)

    tune()
    tune(steps=2, min_reward=-1, checkpoint_steps=3)
    for changed, named in (
        ({"num_generations": 8}, "num_generations"),
        ({"beta": 0.2}, "beta"),
        ({"epsilon": 0.1}, "epsilon"),
        ({"epsilon_high": 0.3}, "epsilon_high"),
        ({"scale_rewards": "none"}, "scale_rewards"),
        ({"loss_type": "dapo"}, "loss_type"),
        ({"num_iterations": 2}, "num_iterations"),
        ({"temperature": 0.9}, "temperature"),
        ({"mask_truncated_completions": False}, "mask_truncated_completions"),
        ({"max_completion_length": 5}, "max_completion_length"),
        ({"batch_size": 2}, "batch_size"),
        ({"minibatch_size": 4}, "minibatch_size"),
        ({"reward_fn": has_a}, "reward_fn"),
        ({"reward_weights": [2]}, "reward_weights"),
        ({"learning_rate": 1e-3}, "learning_rate"),
        ({"stop_token_ids": [0, END]}, "stop_token_ids"),
        ({"validation_steps": 3}, "validation_steps"),
        ({"seed": 1}, "seed"),
        ({"prompts": PROMPTS[:3]}, "prompts"),
        ({"validation_prompts": ["new"]}, "validation_prompts"),
        ({"weight": 0.1}, "model"),
        ({"rank": 3}, "adapters"),
    ):
        message = rf"one run only.*another `{named}`( \(.*\))?\."
        with pytest.raises(RunError, match=message):
            tune(**{"steps": 2} | changed)


@pytest.mark.any_backend
def test_a_run_without_its_start_is_refused(tmp_path):
    def tune():
        return tuning.grpo(
            make_policy(), PROMPTS, has_a, steps=1, directory=tmp_path,
            **OPTIONS,
        )  # fmt: skip

    tune()
    (tmp_path / "start.npz").unlink()
    with pytest.raises(RunError, match="must hold its start.npz"):
        tune()
    # Until something is trained, it is taken again.
    for name in (CHECKPOINT_FILE, HISTORY_FILE):
        (tmp_path / name).unlink()
    tune()
    assert (tmp_path / "start.npz").is_file()


@pytest.mark.any_backend
def test_a_loss_that_is_no_number_ends_the_run(tmp_path, monkeypatch):
    from kerasllm.tuning.reinforcement import _policy_model

    monkeypatch.setattr(
        _policy_model, "grpo_loss", lambda logprobs, *a: logprobs[0, 0] * np.nan
    )
    with pytest.raises(FloatingPointError, match="at step 1. There is no ch"):
        tuning.grpo(
            make_policy(), PROMPTS, has_a, directory=tmp_path, **OPTIONS
        )
    assert not (tmp_path / CHECKPOINT_FILE).exists()
