"""How a `fit` shows that it goes on, in a terminal and in a pipe alike."""

import contextlib
import sys
import threading
import time

import keras

from kerasllm.progress import SECONDS_OF_SILENCE


class EpochProgress(keras.callbacks.ProgbarLogger):
    """Keras's progress bar, which is never silent for long.

    Where a line cannot be drawn again, such as in a pipe, Keras would print
    its bar up to twenty times a second. There, this callback prints a line
    when it has been silent for `SECONDS_OF_SILENCE`, and one after each epoch.
    In a terminal it shows Keras's bar, and such a line only while nothing
    else moves, as during compilation. With `verbose=2` it prints what Keras
    does, and nothing in between.

    Use it in a `with` block around `fit`.

    Args:
        run: the `Checkpoint` of the run. An epoch that it stops must not look
            finished.
    """

    def __init__(self, run):
        super().__init__()
        self.run = run
        self._doing = "compiling the training step"
        self._before_validation = "compiling the validation step"
        self._shown = time.monotonic()
        self._done = threading.Event()
        self._is_chatty = False

    def __enter__(self):
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._done.set()
        self._thread.join()

    def set_params(self, params):
        super().set_params(params)
        is_notebook = "ipykernel" in sys.modules
        self._is_chatty = self.verbose == 1 and not is_notebook
        if self._is_chatty and not sys.stdout.isatty():
            self.verbose = 2

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        numbers = [f"{name}: {value:.4f}" for name, value in logs.items()]
        step = f"step {self.seen}/{self.target}"
        self._note(" - ".join([step, *numbers]))

    def on_test_begin(self, logs=None):
        super().on_test_begin(logs)
        self._note(self._before_validation)
        self._before_validation = "validation"  # it is compiled once

    def on_test_batch_end(self, batch, logs=None):
        super().on_test_batch_end(batch, logs)
        self._note(f"validation, batch {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        if self.run.stopped is None:
            super().on_epoch_end(epoch, logs)
        elif self.verbose:
            # Keras would print its bar as if the epoch were complete.
            print(f"\nStopped after {self.seen} of {self.target} steps.")
        self._note("saving the epoch")
        self._shown = time.monotonic()  # the line of the epoch

    def _note(self, doing):
        self._doing = doing
        if self.verbose == 1:  # the bar has just moved
            self._shown = time.monotonic()

    def _watch(self):
        """Print what happens whenever nothing was shown for a while."""
        while not self._done.wait(SECONDS_OF_SILENCE / 10):
            now = time.monotonic()
            if self._is_chatty and now - self._shown >= SECONDS_OF_SILENCE:
                self._shown = now
                # If nobody reads it, the epoch's own line will tell.
                with contextlib.suppress(OSError, ValueError):
                    print(f"  {self._doing}", flush=True)
