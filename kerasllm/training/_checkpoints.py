"""Checkpoints: everything that a training run needs to resume exactly.

Weights alone are not enough. The optimizer has moments, dropout has random
number generators, the epoch has running averages, and the data have a
position. `Checkpoint` keeps them all in one file.
"""

import math
import pathlib

import keras
import numpy as np

from kerasllm import backend, files
from kerasllm import distribution as devices
from kerasllm.checks import DivergedError, RunError, check_int
from kerasllm.files import CHECKPOINT_FILE, HISTORY_FILE, RUN_FILE
from kerasllm.training._checkpoint_file import (
    SavedState,
    assign,
    first_difference,
    read_state,
    write_history,
    write_state,
)
from kerasllm.training._first_batch import check_same_data
from kerasllm.training._interrupts import Interrupts, TrainingInterrupted


class Checkpoint(keras.callbacks.Callback):
    """Counts the batches of a run, saves its state, and restores it.

    Args:
        directory: str or path. Folder for the last state, `checkpoint.npz`,
            and the log, `history.csv`. `None` saves nothing.
        steps_per_epoch: int. Batches in an epoch.
        checkpoint_steps: int. Batches between checkpoints. There is always
            one after each epoch.
        first_batch: the result of `describe_batch` for the first batch, which
            detects different data; `None` skips this check.
        variables: callable from the model to the list of variables that a
            checkpoint must contain; `None` for all of them.

    Attributes:
        step: int. Number of batches that the model was trained on.
        history: list of dicts, one for each finished epoch.
        stopped: `None`, `"interrupted"` or `"diverged"`.
        interrupts: an `Interrupts`. Inside its `with` block, the first Ctrl-C
            saves the state and stops the run after the current batch.

    Raises:
        UserError: a number of batches is not a positive int.
        OSError: `directory` is not writable.
        RuntimeError: `directory` is not writable in another process, or a
            process does not see what the first one writes there.
    """

    def __init__(
        self,
        directory,
        steps_per_epoch,
        checkpoint_steps,
        first_batch=None,
        variables=None,
    ):
        super().__init__()
        # Python ints can be written as JSON.
        self.steps_per_epoch = check_int("steps_per_epoch", steps_per_epoch, 1)
        self.checkpoint_steps = check_int(
            "checkpoint_steps", checkpoint_steps, 1
        )
        self.path = None
        if directory is not None:
            _prepare(directory)
            self.path = pathlib.Path(directory, CHECKPOINT_FILE)
        self.first_batch = first_batch
        self.variables = variables or _all_variables
        self.interrupts = Interrupts()
        self.step = 0
        self.history = []
        self.stopped = None
        self._random_state = None
        self._metrics = []  # metric sums of the epoch before the resumption

    def save(self):
        """Write the state of the model and the run, if there is a folder.

        Only one process writes, but all processes must call this method.

        Returns:
            bool. `False` if nothing was written because the state has a NaN or
            an infinity. The loss of a step does not show this, because it is
            computed before the step updates the weights.

        Raises:
            EnvironmentFailure: the disk is full. The previous file is kept.
            RuntimeError: the disk is full in the process that writes.
        """
        self._random_state = backend.random_state()
        if self.path is None:
            return True
        # `self.model` is a property. On JAX, reading it updates the variables,
        # which `fit` keeps elsewhere between steps. Do not read it per batch.
        model = self.model
        variables = _kept(model, self.variables)
        values = [backend.to_numpy(variable) for variable in variables]
        is_broken = not all(
            np.isfinite(value).all()
            for variable, value in zip(variables, values, strict=True)
            if keras.backend.is_float_dtype(variable.dtype)
        )
        if backend.of_all_processes(is_broken).any():
            return False
        progress = {
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "first_batch": self.first_batch,
            "dtype": model.dtype_policy.name,
            "history": self.history,
        }
        metrics = [backend.to_numpy(v) for v in model.metrics_variables]
        state = SavedState(progress, self._random_state, values, metrics)
        with devices.failing_together():
            if devices.process_index() == 0:
                write_state(self.path, state)
                if self.history:
                    write_history(
                        self.path.with_name(HISTORY_FILE), self.history
                    )
        return True

    def restore(self, model):
        """Set `model` and the counters to the checkpoint, if there is one.

        Args:
            model: a compiled Keras model whose optimizer is built.

        Raises:
            RunError: the checkpoint is damaged, is from another model, was
                made with other data or another `steps_per_epoch`, or differs
                between processes.
        """
        saved = None
        with devices.failing_together():
            if self.path is not None and self.path.is_file():
                saved = read_state(self.path)
        # This comes before any assignment, which all processes do together.
        steps = backend.of_all_processes(saved.progress["step"] if saved else 0)
        if steps.min() != steps.max():
            raise RunError(
                "All processes of a run must go on from the same checkpoint. "
                f"Received: checkpoints after steps {steps.tolist()}, in "
                f"{self.path}. Use a directory that all of them share."
            )
        if saved is None:
            return
        progress = saved.progress
        check_same_data(
            progress.get("first_batch"), self.first_batch, self.path.parent
        )
        self._check_steps(progress["steps_per_epoch"])
        assign(self._variables_in(saved, model), saved.values)
        self.step = progress["step"]
        self.history = progress["history"]
        self._random_state = saved.random_state
        if self.step % self.steps_per_epoch:
            self._metrics = saved.metrics

    def raise_if_stopped(self):
        """Raise an error if the run has stopped early.

        Raises:
            DivergedError: loss or weights are no longer finite.
            TrainingInterrupted: there was a Ctrl-C, maybe after the last step.
        """
        if self.stopped == "diverged":
            self._raise_diverged()
        # It may have come after the last save, while a sample was printed.
        arrived = backend.of_all_processes(self.interrupts.arrived).any()
        if arrived or self.stopped == "interrupted":
            kept = "Nothing was saved: there is no `directory`."
            if self.path is not None:
                kept = (
                    f"The state is saved in {self.path}, and the run can go "
                    "on from there."
                )
            raise TrainingInterrupted(
                f"Interrupted after step {self.step}. {kept}"
            )

    def on_train_batch_begin(self, batch, logs=None):
        # Random draws since the last batch of the run must not change what
        # follows. (`fit` makes some when it starts an epoch.)
        if self._random_state is not None:
            backend.set_random_state(self._random_state)
            self._random_state = None

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self._metrics:
            self._resume_metrics()
        if not math.isfinite(logs["loss"]):
            self._stop("diverged")
        elif self.step % self.steps_per_epoch == 0:
            pass  # saved in `on_epoch_end`, with the validation
        elif self.step % self.checkpoint_steps == 0 or (
            self.interrupts.arrived and devices.num_processes() == 1
        ):
            self._save_or_stop()

    def on_test_batch_end(self, batch, logs=None):
        # `fit` runs the validation before it stops, so cut that short, too.
        if self.stopped:
            self.model.stop_evaluating = True

    def on_epoch_end(self, epoch, logs=None):
        if self.stopped:
            return
        if not math.isfinite(logs.get("val_loss", 0)):
            self._stop("diverged")
            return
        self.history.append({"epoch": epoch + 1, "step": self.step, **logs})
        self._save_or_stop()

    def _save_or_stop(self):
        if not self.save():
            self._stop("diverged")
            return
        # All processes must stop after the same step, or one would wait for
        # the others forever. They already wait for one another here.
        if backend.of_all_processes(self.interrupts.arrived).any():
            self._stop("interrupted")

    def _stop(self, reason):
        self.stopped = reason
        self.model.stop_training = True

    def _resume_metrics(self):
        """Add the metrics of an interrupted epoch to those of its rest.

        `fit` resets metrics whenever it starts, even in the middle of an
        epoch, and TensorFlow creates them in the first step. Metrics are sums
        and counts. If the model has other metrics now, they start from zero.
        """
        variables = self.model.metrics_variables
        if not first_difference(variables, self._metrics):
            for variable, value in zip(variables, self._metrics, strict=True):
                variable.assign_add(value)
        self._metrics = []

    def _check_steps(self, steps_per_epoch):
        if steps_per_epoch != self.steps_per_epoch:
            raise RunError(
                "A run must continue with the `steps_per_epoch` that it began "
                f"with, {steps_per_epoch}. Received: "
                f"steps_per_epoch={self.steps_per_epoch}. By default it is the "
                "number of batches in the data, which may have changed. Pass "
                "the original value, or use another `directory` for a new run."
            )

    def _variables_in(self, saved, model):
        """Return the variables whose values a checkpoint holds."""
        variables = _kept(model, self.variables)
        difference = first_difference(variables, saved.values)
        if difference and "format" not in saved.progress:
            fewer = _kept(model, _changing_beside_adapters)
            if not first_difference(fewer, saved.values):
                return fewer
        if difference:
            raise RunError(
                "A checkpoint fits only the model and the optimizer that it "
                f"was written from. Received: {self.path}, with {difference}. "
                f"Its dtype is {saved.progress.get('dtype', 'unknown')}, the "
                f"model's {model.dtype_policy.name}. Build and compile the "
                "model as in that run, or use another directory."
            )
        return variables

    def _raise_diverged(self):
        kept, where = "There is no checkpoint", ""
        if self.path is not None and self.path.is_file():
            kept = f"The last good checkpoint is {self.path}"
            # If the arguments are recorded, changed ones make another run.
            if self.path.with_name(RUN_FILE).is_file():
                where = (
                    ", in another `directory`, as this one records its "
                    "arguments"
                )
        raise DivergedError(
            "Loss and weights must stay finite. Received: NaN or infinity "
            f"at step {self.step}. {kept}. Lower the learning rate, "
            f"lengthen the warmup, or use float32{where}."
        )


def _prepare(directory):
    """Create the folder of a run, and remove files of killed processes."""
    devices.check_directory(directory)
    with devices.failing_together():
        if devices.process_index() == 0:  # only this process writes
            # A folder belongs to one run, so these files are left over from a
            # killed process. Each is as large as a checkpoint.
            for name in (CHECKPOINT_FILE, HISTORY_FILE):
                files.remove_partial(pathlib.Path(directory, name))


def _kept(model, choose):
    """Return the variables of a checkpoint, including the optimizer's.

    A learning rate that is a plain number is also a variable of the optimizer.
    It is left out, so that a resumed run uses the caller's learning rate.
    """
    variables = [*choose(model), *model.optimizer.variables]
    return [v for v in variables if v.name != "learning_rate"]


def _all_variables(model):
    return model.variables


def _changing_beside_adapters(model):
    """Return the variables that the first version saved with adapters."""
    return [
        variable
        for variable in model.variables
        if variable.trainable
        or not keras.backend.is_float_dtype(variable.dtype)
    ]
