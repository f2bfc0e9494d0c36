import io
import threading

import keras
import numpy as np
import pytest
from rich.console import Console
from rich.live import Live

from kerasllm.tour import _progress

pytestmark = pytest.mark.any_backend


class Lines(io.StringIO):
    """Tells when a third line has come."""

    def __init__(self):
        super().__init__()
        self.enough = threading.Event()

    def write(self, text):
        written = super().write(text)
        if self.getvalue().count("\n") >= 3:
            self.enough.set()
        return written


def test_a_pipe_gets_a_line_again_and_again(monkeypatch):
    monkeypatch.setattr(_progress, "SECONDS", 0.01)
    file = Lines()
    with _progress.shown(Console(file=file), "Digging", 8) as work:
        work.done = 3
        assert file.enough.wait(timeout=60)
    assert "  ... Digging: 3 of 8 (0 s)\n" in file.getvalue()


def test_lines_come_at_least_every_ten_seconds():
    assert _progress.SECONDS <= 9


def test_a_terminal_gets_a_bar_that_goes_away():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=60)
    with _progress.shown(console, "Digging [bold]", 8) as work:
        work.done = 8
    text = file.getvalue()
    assert "Digging [bold]: 8 of 8" in text and "━" in text
    assert text.endswith("\x1b[1A\x1b[2K")  # the cursor went up and cleared it


def test_an_error_ends_what_is_shown(monkeypatch):
    monkeypatch.setattr(_progress, "SECONDS", 0.01)
    before = threading.active_count()
    for is_terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=is_terminal)
        with pytest.raises(InterruptedError):
            with _progress.shown(console, "Digging"):
                raise InterruptedError
    assert threading.active_count() <= before


def test_ctrl_c_while_a_bar_starts_leaves_the_cursor_there(monkeypatch):
    def interrupt(live, refresh=True):
        start(live, refresh)
        raise KeyboardInterrupt

    start = Live.start
    monkeypatch.setattr(Live, "start", interrupt)
    file = io.StringIO()
    console = Console(file=file, force_terminal=True)
    with pytest.raises(KeyboardInterrupt):
        with _progress.shown(console, "Digging"):
            pass
    hidden, seen = "\x1b[?25l", "\x1b[?25h"
    assert file.getvalue().rindex(seen) > file.getvalue().rindex(hidden)


def test_the_steps_of_a_fit_are_counted_over_its_epochs():
    work = _progress.Work("Compiling")
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(str(work)[:-6])
    )
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.zeros((4, 1), "float32")
    steps = _progress.StepsDone(work, "Training")
    model.fit(
        *(x, x), epochs=3, initial_epoch=1, batch_size=2, verbose=0,
        callbacks=[steps, watch],
    )  # fmt: skip
    assert (work.done, work.total) == (6, 6)
    assert seen == [f"Training: {n} of 6" for n in (3, 4, 5, 6)]
