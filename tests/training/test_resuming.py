"""Training runs that are broken off, and go on as if they had not been."""

import csv
import os
import pathlib
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from kerasllm import files
from kerasllm.checks import RunError
from kerasllm.training import CHECKPOINT_FILE, HISTORY_FILE, TrainingInterrupted
from tests.training.small_runs import (
    EPOCHS,
    STEPS,
    KillAt,
    Killed,
    dataset,
    in_dtype,
    kill,
    model,
    saved_progress,
    train,
    without_speed,
)

# Between two checkpoints, in the first epoch; before the first checkpoint; at
# one; at the end of an epoch; at the very last batch.
SLOW = [
    pytest.param(step, marks=[pytest.mark.slow, pytest.mark.any_backend])
    for step in (5, 1, 3, 4, 10)
]


@pytest.mark.parametrize("step", [8, *SLOW])
def test_a_killed_run_ends_where_the_unbroken_one_does(
    tmp_path, unbroken, step
):
    with pytest.raises(Killed):
        train(tmp_path, model(), callbacks=[KillAt(step, kill)])
    net = model(seed=99)  # what the new process starts from must not matter
    if step == 1:  # nothing was saved yet, so the seed decides
        net = model()
    history = train(tmp_path, net)
    expected_history, expected_weights = unbroken
    np.testing.assert_allclose(
        without_speed(history), without_speed(expected_history), atol=1e-5
    )
    for ours, theirs in zip(net.get_weights(), expected_weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    with open(tmp_path / "history.csv") as file:
        assert len(list(csv.DictReader(file))) == EPOCHS


@pytest.mark.any_backend
def test_what_a_kill_left_behind_is_removed(tmp_path):
    for name in (CHECKPOINT_FILE, HISTORY_FILE, "sign"):
        (tmp_path / f".{name}.x1_y2z3a.partial").write_bytes(b"half a file")
    other = tmp_path / ".notes.txt.x1_y2z3a.partial"
    other.write_text("not ours")
    train(tmp_path, model(), epochs=1, steps_per_epoch=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        other.name,
        CHECKPOINT_FILE,
        HISTORY_FILE,
    ]


@pytest.mark.any_backend
def test_two_kills_in_one_epoch_lose_no_average(tmp_path):
    """Nor do unequal batches count alike: the last one has one sequence."""
    data = dataset().unbatch().take(STEPS * 4 - 3).batch(4)
    arguments = {"train_dataset": data, "checkpoint_steps": 1}
    unbroken = train(None, model(), **arguments)
    for _ in range(2):
        with pytest.raises(Killed):
            train(tmp_path, model(), callbacks=[KillAt(2, kill)], **arguments)
    history = train(tmp_path, model(seed=99), **arguments)
    np.testing.assert_allclose(
        without_speed(history), without_speed(unbroken), atol=1e-6
    )


@pytest.mark.any_backend
@pytest.mark.slow
def test_a_kill_while_saving_leaves_the_checkpoint_before(
    tmp_path, unbroken, monkeypatch
):
    real, calls = np.savez, []

    def savez(file, **arrays):
        calls.append(file)
        if len(calls) == 3:
            file.write(b"half a file")
            raise Killed
        real(file, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr("numpy.savez", savez)
        with pytest.raises(Killed):
            train(tmp_path, model())
    history = train(tmp_path, model(seed=99))
    np.testing.assert_allclose(
        without_speed(history), without_speed(unbroken[0]), atol=1e-5
    )


@pytest.mark.any_backend
def test_ctrl_c_saves_and_the_same_call_goes_on(tmp_path, unbroken):
    def ctrl_c():
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    validated = []
    count = keras.callbacks.LambdaCallback()
    count.on_test_batch_end = lambda batch, logs=None: validated.append(batch)
    with pytest.raises(TrainingInterrupted, match="after step 4.*can go on"):
        train(
            tmp_path,
            model(),
            callbacks=[KillAt(3, ctrl_c), count],
            checkpoint_steps=1000,
        )
    assert len(validated) < 2  # it does not validate at leisure
    assert signal.getsignal(signal.SIGINT) is before
    assert saved_progress(tmp_path / CHECKPOINT_FILE)["step"] == 4
    history = train(tmp_path, model(seed=99))
    np.testing.assert_allclose(
        without_speed(history), without_speed(unbroken[0]), atol=1e-5
    )


@pytest.mark.any_backend
def test_ctrl_c_after_the_last_save_is_not_swallowed(tmp_path, unbroken):
    """Everything is saved, but the caller's program must not go on."""
    samples = []

    def sample(net):
        samples.append(net)
        if len(samples) == EPOCHS:
            os.kill(os.getpid(), signal.SIGINT)
        return "text"

    with pytest.raises(TrainingInterrupted, match="after step 10.*is saved"):
        train(tmp_path, model(), sample=sample)
    history = train(tmp_path, model(seed=99), callbacks=[KillAt(1, kill)])
    np.testing.assert_allclose(
        without_speed(history), without_speed(unbroken[0]), atol=1e-5
    )


@pytest.mark.any_backend
def test_without_a_directory_nothing_is_kept(tmp_path, unbroken, monkeypatch):
    monkeypatch.chdir(tmp_path)
    history = train(None, model())
    np.testing.assert_allclose(
        without_speed(history), without_speed(unbroken[0]), atol=1e-5
    )

    def ctrl_c():
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingInterrupted, match="Nothing was saved"):
        train(None, model(), callbacks=[KillAt(2, ctrl_c)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.any_backend
def test_a_finished_run_is_not_trained_again(finished, unbroken):
    net = model(seed=99)
    history = train(finished, net, callbacks=[KillAt(1, kill)])
    assert len(history) == EPOCHS
    np.testing.assert_allclose(net.get_weights()[0], unbroken[1][0], atol=1e-5)


@pytest.mark.any_backend
def test_a_callback_ends_a_run_that_was_resumed(tmp_path):
    """Also at the end of the epoch that had been broken off."""
    with pytest.raises(Killed):
        train(tmp_path, model(), epochs=3, callbacks=[KillAt(7, kill)])

    class Enough(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    history = train(tmp_path, model(), epochs=3, callbacks=[Enough()])
    assert [epoch["epoch"] for epoch in history] == [1, 2]


@pytest.mark.any_backend
def test_a_run_may_be_validated_later(tmp_path):
    train(tmp_path, model(), epochs=1, validation_dataset=None)
    train(tmp_path, model())
    with open(tmp_path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["val_loss"] == "" and float(rows[1]["val_loss"]) > 0


def test_weights_of_any_dtype_come_back(tmp_path):
    net = in_dtype("bfloat16", model)
    again = in_dtype("bfloat16", lambda: model(seed=2))
    history = train(tmp_path, net)
    assert train(tmp_path, again) == history
    for ours, theirs in zip(again.weights, net.weights, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(
            *(
                ops.convert_to_numpy(ops.cast(v, "float32"))
                for v in (ours, theirs)
            )
        )


SCRIPT = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from tests.training.small_runs import KillAt, model, train
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
train(sys.argv[2], model(), callbacks=[KillAt(3, kill)])
"""


@pytest.mark.any_backend
@pytest.mark.slow
def test_a_process_that_is_killed_outright_resumes(tmp_path, unbroken):
    root = pathlib.Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(root), str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert saved_progress(tmp_path / CHECKPOINT_FILE)["step"] == 2
    history = train(tmp_path, model(seed=99))
    np.testing.assert_allclose(
        without_speed(history), without_speed(unbroken[0]), atol=1e-5
    )


@pytest.mark.any_backend
def test_a_run_has_no_fewer_epochs_than_it_has_had(finished):
    """A model that was trained for longer is not the one asked for."""
    train(finished, model(), epochs=2)
    with pytest.raises(RunError, match="begun, 2. Received: epochs=1 for"):
        train(finished, model(), epochs=1)
    assert len(train(finished, model(), epochs=3)) == 3


@pytest.mark.any_backend
def test_a_directory_is_the_place_of_one_run_at_a_time(tmp_path):
    with (
        files.locked(tmp_path),
        pytest.raises(RuntimeError, match="one run at a time.*another process"),
    ):
        train(tmp_path, model())
    assert not (tmp_path / CHECKPOINT_FILE).exists()
    train(tmp_path, model())
    assert (tmp_path / CHECKPOINT_FILE).is_file()
