"""What is going on: a bar in a terminal, a line every few seconds in a pipe."""

import contextlib
import threading
import time

import keras
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

SECONDS = 8  # between two lines in a pipe


class Work:
    """Something that takes a while, and how far it has come.

    Attributes:
        what: str, such as `"Training the vocabulary"`.
        done: int, steps so far.
        total: int, all steps; or `None` where nobody knows.
    """

    def __init__(self, what, total=None):
        self.what, self.done, self.total = what, 0, total
        self.started = time.perf_counter()

    def become(self, what, total=None):
        """Go on to another part of the work."""
        self.what, self.done, self.total = what, 0, total

    def __str__(self):
        seconds = f"{time.perf_counter() - self.started:.0f} s"
        if self.total is None:
            return f"{self.what} ({seconds})"
        return f"{self.what}: {self.done} of {self.total} ({seconds})"


@contextlib.contextmanager
def shown(console, what, total=None):
    """Show that something is going on, until the block ends.

    Args:
        console: rich `Console`.
        what: str.
        total: int, the number of its steps, if it is known.

    Yields:
        The `Work`, whose `done` the block may count up.
    """
    work = Work(what, total)
    with _bar(console, work) if console.is_terminal else _lines(console, work):
        yield work


@contextlib.contextmanager
def _lines(console, work):
    """Print a line every few seconds."""
    is_over = threading.Event()

    def run():
        while not is_over.wait(SECONDS):
            console.print(f"  ... {work}", markup=False)

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
        yield
    finally:
        is_over.set()
        if thread.is_alive():
            thread.join()


@contextlib.contextmanager
def _bar(console, work):
    """Draw a bar, which disappears in the end."""
    live = Live(
        get_renderable=lambda: _drawn(work),
        console=console,
        refresh_per_second=2,
        transient=True,
    )
    try:
        with live:
            yield
    finally:  # also if Ctrl-C came while it started, without a cursor
        live.stop()


def _drawn(work):
    """Return a bar, or a pulse where the end is unknown, and the words."""
    line = Table.grid(padding=(0, 1))
    line.add_row(
        "", ProgressBar(work.total, work.done, width=20), Text(str(work))
    )
    return line


class StepsDone(keras.callbacks.Callback):
    """Tells a `Work` how many steps of a `fit` are done.

    Args:
        work: `Work`.
        what: str. What the work is called while the `fit` runs.
    """

    def __init__(self, work, what):
        super().__init__()
        self.work, self.name = work, what
        self._before = 0  # steps of earlier epochs

    def on_train_begin(self, logs=None):
        self.work.become(self.name, self._all_steps())

    def on_epoch_begin(self, epoch, logs=None):
        self._before = epoch * self.params["steps"]

    def on_train_batch_end(self, batch, logs=None):
        self.work.done = self._before + batch + 1

    def _all_steps(self):
        return self.params["epochs"] * self.params["steps"]
