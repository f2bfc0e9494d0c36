"""Ctrl-C during training: noted at first, so that the state can be saved."""

import signal
import threading


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C arrived; the state was saved, and the run can be resumed."""


class Interrupts:
    """Notes the first Ctrl-C in a `with` block; the second one acts as usual.

    Outside the main thread it does nothing: Python delivers signals there.

    Attributes:
        arrived: bool. Whether there was a Ctrl-C.
    """

    def __init__(self):
        self.arrived = False
        self._previous = None

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            # `None` if a library has set it, who knows how.
            self._previous = signal.getsignal(signal.SIGINT)
            if self._previous is not None:
                signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *error):
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _note(self, number, frame):
        self.arrived = True
        signal.signal(signal.SIGINT, self._previous)
