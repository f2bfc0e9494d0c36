"""Ctrl-C during training, delayed so that the state can be saved."""

import signal
import threading


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C arrived; the state was saved, and the run can be resumed."""


class Interrupts:
    """Records the first Ctrl-C in a `with` block; the second one interrupts.

    It does nothing outside the main thread, which receives all signals.

    Attributes:
        arrived: bool. Whether Ctrl-C was pressed.
    """

    def __init__(self):
        self.arrived = False
        self._previous = None

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            # `None` if the handler was not installed from Python. A shell's
            # script lets its jobs in the background ignore Ctrl-C.
            if before not in (None, signal.SIG_IGN):
                self._previous = before
                signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *error):
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _note(self, number, frame):
        self.arrived = True
        signal.signal(signal.SIGINT, self._previous)
