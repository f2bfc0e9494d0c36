"""What a training run shows, and what it does not pretend."""

import io
import itertools
import signal
import threading
import types

import pytest

from kerasllm.training import TrainingInterrupted, _progress
from tests.training.small_runs import EPOCHS, STEPS, KillAt, model, train

pytestmark = pytest.mark.any_backend


def test_an_epoch_is_a_line_where_no_bar_can_be_drawn(tmp_path, capsys):
    train(tmp_path, model(), verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Epoch 1/{EPOCHS}"
    assert len(lines) == 2 * EPOCHS
    for line in lines[1::2]:
        assert line.startswith(f"{STEPS}/{STEPS} - ")


def test_an_epoch_that_was_stopped_does_not_look_finished(tmp_path, capsys):
    stop = KillAt(2, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        train(
            tmp_path,
            model(),
            verbose=1,
            callbacks=[stop],
            sample=lambda net: "a sample",
        )
    out = capsys.readouterr().out
    # The batch after the one in which it came is the last.
    assert f"Stopped after 3 of {STEPS} steps." in out
    assert f"{STEPS}/{STEPS}" not in out
    assert "a sample" not in out


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_silence_ends_after_a_while(monkeypatch, tmp_path, verbose):
    """And only where a line an epoch, or nothing, was not asked for."""

    class Listener(io.StringIO):
        def write(self, text):
            if "  step 1/" in text:
                heard.set()
            return super().write(text)

    heard = threading.Event()
    monkeypatch.setattr("sys.stdout", Listener())
    monkeypatch.setattr(_progress, "SECONDS_OF_SILENCE", 0.01)
    seconds = 10 if verbose == 1 else 0.1
    listen = KillAt(2, lambda: heard.wait(seconds))
    train(tmp_path, model(), verbose=verbose, callbacks=[listen])
    assert heard.is_set() == (verbose == 1)


def test_only_the_first_validation_is_said_to_compile():
    progress = _progress.EpochProgress(types.SimpleNamespace(stopped=None))
    progress.set_params({"verbose": 0, "epochs": 2, "steps": 1})
    said = []
    for epoch in range(2):
        progress.on_test_begin()
        said.append(progress._doing)
        progress.on_epoch_end(epoch, {})
    assert said == ["compiling the validation step", "validation"]


def test_the_line_of_an_epoch_ends_the_silence(monkeypatch):
    """No other line follows it at once, in a pipe."""
    clock = itertools.count()
    monkeypatch.setattr(_progress.time, "monotonic", lambda: next(clock))
    progress = _progress.EpochProgress(types.SimpleNamespace(stopped=None))
    progress.set_params({"verbose": 0, "epochs": 1, "steps": 1})
    progress.on_epoch_begin(0)
    before = progress._shown
    progress.on_epoch_end(0, {})
    assert progress._shown > before
