"""Checkpoints: everything that a training run needs to go on as if unbroken.

Weights alone are not enough. The optimizer has moments, dropout has the state
of its random generators, the progress bar has running averages, and the data
have a position. `Checkpoint` keeps all four and writes them as one folder that
appears whole or not at all.
"""

import contextlib
import csv
import json
import math
import pathlib
import signal
import threading

import keras
import numpy as np

from kerasllm import files

HISTORY_FILE = "history.csv"


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C arrived; the state was saved, and the run can be resumed."""


class Checkpoint(keras.callbacks.Callback):
    """Counts the batches of a run, saves its state, and restores it.

    Args:
        directory: str or path. The folder `checkpoint` below it holds the
            last state, and `history.csv` beside it the log.
        steps_per_epoch: int. Batches in an epoch.
        checkpoint_steps: int. Batches between checkpoints; there is one
            after each epoch in any case.

    Attributes:
        step: int. Batches that the weights have seen.
        history: list of dicts, one for each finished epoch.
        stopped: `None`, `"interrupted"` or `"diverged"`.
    """

    def __init__(self, directory, steps_per_epoch, checkpoint_steps):
        super().__init__()
        self.folder = pathlib.Path(directory, "checkpoint")
        self.steps_per_epoch = steps_per_epoch
        self.checkpoint_steps = checkpoint_steps
        self.step = 0
        self.history = []
        self.stopped = None
        self._interrupted = False
        self._metrics = None  # running averages, until `fit` has made theirs

    def save(self):
        """Write the state of the model and the run."""
        # `self.model` is a property: on JAX it brings the variables up to
        # date, which `fit` keeps elsewhere between steps. Not for each batch.
        arrays = {
            f"{kind}/{i:05}": keras.ops.convert_to_numpy(variable)
            for kind, variables in _variables(self.model).items()
            for i, variable in enumerate(variables)
        }
        with files.whole_folder(self.folder) as folder:
            np.savez(folder / "variables.npz", **arrays)
            progress = {
                "step": self.step,
                "steps_per_epoch": self.steps_per_epoch,
                "history": self.history,
            }
            (folder / "progress.json").write_text(json.dumps(progress))
        self._write_history()

    def restore(self, model):
        """Set `model` and the counters to the checkpoint, if there is one.

        Args:
            model: a compiled keras model whose optimizer is built.

        Raises:
            RuntimeError: the checkpoint is of another model or was made with
                another `steps_per_epoch`.
        """
        if not self.folder.is_dir():
            return
        progress = json.loads((self.folder / "progress.json").read_text())
        if progress["steps_per_epoch"] != self.steps_per_epoch:
            raise RuntimeError(
                "A run must go on with the `steps_per_epoch` that it began "
                f"with, {progress['steps_per_epoch']}. Received: "
                f"steps_per_epoch={self.steps_per_epoch}. Use the former, or "
                "another directory for a new run."
            )
        with np.load(self.folder / "variables.npz") as arrays:
            saved = {"model": [], "optimizer": [], "metrics": []}
            for name in sorted(arrays):
                saved[name.split("/")[0]].append(arrays[name])
        self._metrics = saved.pop("metrics")
        variables = _variables(model)
        for kind in saved:
            self._assign(variables[kind], saved[kind])
        self.step = progress["step"]
        self.history = progress["history"]

    @contextlib.contextmanager
    def catching_interrupts(self):
        """Turn the first Ctrl-C into a save and a stop after the batch.

        Raises:
            TrainingInterrupted: after the block, if there was a Ctrl-C.
            FloatingPointError: after the block, if the loss diverged.
        """
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)

            def on_interrupt(number, frame):
                self._interrupted = True
                signal.signal(signal.SIGINT, previous)  # the second one acts

            signal.signal(signal.SIGINT, on_interrupt)
            try:
                yield
            finally:
                signal.signal(signal.SIGINT, previous)
        else:  # Python delivers signals to the main thread only
            yield
        if self.stopped == "diverged":
            raise FloatingPointError(
                "The loss must stay finite. Received: NaN or infinity at step "
                f"{self.step}. The last good checkpoint is in {self.folder}. "
                "Lower the learning rate, lengthen the warmup, or use float32."
            )
        if self.stopped == "interrupted":
            raise TrainingInterrupted(
                f"Interrupted after step {self.step}. The state is saved in "
                f"{self.folder}; the same call goes on from there."
            )

    def on_epoch_begin(self, epoch, logs=None):
        # `fit` has just set the running averages to zero. In the middle of
        # an epoch they go on from where they were.
        if self._metrics is not None and self.step % self.steps_per_epoch:
            self._assign(_variables(self.model)["metrics"], self._metrics)
        self._metrics = None

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if not math.isfinite(logs["loss"]):
            self._stop("diverged")
        elif self.step % self.steps_per_epoch == 0:
            pass  # saved in `on_epoch_end`, with the validation
        elif self._interrupted:
            self.save()
            self._stop("interrupted")
        elif self.step % self.checkpoint_steps == 0:
            self.save()

    def on_epoch_end(self, epoch, logs=None):
        if self.stopped:
            return
        self.history.append({"epoch": epoch + 1, **logs})
        self.save()
        if self._interrupted:
            self._stop("interrupted")

    def _stop(self, reason):
        self.stopped = reason
        self.model.stop_training = True

    def _assign(self, variables, values):
        shapes = [tuple(variable.shape) for variable in variables]
        if shapes != [value.shape for value in values]:
            raise RuntimeError(
                "A checkpoint fits only the model that it was written from. "
                f"Received: {self.folder}, with variables of other shapes. "
                "Build the model as in that run, or use another directory."
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def _write_history(self):
        # Written anew each time: after a kill, rows that were appended would
        # stand there twice.
        if self.history:
            path = self.folder.parent / HISTORY_FILE
            with files.whole_file(path) as file:
                writer = csv.DictWriter(file, self.history[0])
                writer.writeheader()
                writer.writerows(self.history)


def _variables(model):
    """Return all that training changes, by kind, each in a fixed order."""
    return {
        "model": model.variables,  # weights and dropout's generators
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
