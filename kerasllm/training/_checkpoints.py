"""Checkpoints: everything that a training run needs to go on as if unbroken.

Weights alone are not enough. The optimizer has moments, dropout has random
generators, the epoch has averages so far, and the data have a position.
`Checkpoint` keeps them all in one file.
"""

import math
import pathlib

import keras
import numpy as np

from kerasllm import backend, files
from kerasllm import distribution as devices
from kerasllm.checks import DivergedError, RunError, check_int
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
from kerasllm.training._run_folder import (
    CHECKPOINT_FILE,
    HISTORY_FILE,
    RUN_FILE,
)


class Checkpoint(keras.callbacks.Callback):
    """Counts the batches of a run, saves its state, and restores it.

    Args:
        directory: str or path. `checkpoint.npz` in it holds the last state,
            and `history.csv` the log. `None` saves nothing.
        steps_per_epoch: int. Batches in an epoch.
        checkpoint_steps: int. Batches between checkpoints; there is one
            after each epoch in any case.
        first_batch: what `describe_batch` says of the first batch of the
            data, by which other data are noticed; `None` trusts the caller.
        variables: callable from the model to the list of its variables that
            a checkpoint has to keep; `None` for all of them.

    Attributes:
        step: int. Batches that the weights have seen.
        history: list of dicts, one for each finished epoch.
        stopped: `None`, `"interrupted"` or `"diverged"`.
        interrupts: an `Interrupts`. In a `with` block of it the first Ctrl-C
            saves the state and stops the run after the batch.

    Raises:
        UserError: a number of batches is not a positive int.
        OSError: nothing can be written to `directory`.
        RuntimeError: so it is in another process, or a process does not see
            what the first one writes there.
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
        # Python's ints: they go into a file, as JSON.
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
        self._metrics = []  # their sums over the epoch up to the resumption

    def save(self):
        """Write the state of the model and the run, if there is a folder.

        Of several processes one writes, but all must call it.

        Returns:
            bool. `False` if nothing was written because there is a NaN or an
            infinity in it: the loss of a step is from before its update, and
            says nothing about what the update has done.

        Raises:
            EnvironmentFailure: there is no room. The file before is still
                there.
            RuntimeError: so it is in the process that writes.
        """
        self._random_state = backend.random_state()
        if self.path is None:
            return True
        # `self.model` is a property: on JAX it brings the variables up to
        # date, which `fit` keeps elsewhere between steps. Not for each batch.
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
            model: a compiled keras model whose optimizer is built.

        Raises:
            RunError: the checkpoint is damaged, of another model, made
                with other data or another `steps_per_epoch`, or processes
                find different ones.
        """
        saved = None
        with devices.failing_together():
            if self.path is not None and self.path.is_file():
                saved = read_state(self.path)
        # Before anything is assigned, which processes do together.
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
        """Say why the run has ended before its end, if it has.

        Raises:
            DivergedError: loss or weights are no longer finite.
            TrainingInterrupted: there was a Ctrl-C.
        """
        if self.stopped == "diverged":
            self._raise_diverged()
        if self.stopped == "interrupted":
            kept = "Nothing was saved: there is no `directory`."
            if self.path is not None:
                kept = (
                    f"The state is saved in {self.path}; the same call goes "
                    "on from there."
                )
            raise TrainingInterrupted(
                f"Interrupted after step {self.step}. {kept}"
            )

    def on_train_batch_begin(self, batch, logs=None):
        # Whatever drew random numbers since the last batch of the run (`fit`
        # does so when it starts an epoch) must not change what follows.
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
        # `fit` validates before it stops, however long that takes.
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
        # Processes have to stop after the same step, or one would wait for
        # the others forever. They ask each other where they wait anyway.
        if backend.of_all_processes(self.interrupts.arrived).any():
            self._stop("interrupted")

    def _stop(self, reason):
        self.stopped = reason
        self.model.stop_training = True

    def _resume_metrics(self):
        """Add what an interrupted epoch had measured to its rest.

        `fit` resets metrics when it starts an epoch, be it the rest of one,
        and TensorFlow makes them in the first step. They are sums and counts.
        If they are others now, they begin anew.
        """
        variables = self.model.metrics_variables
        if not first_difference(variables, self._metrics):
            for variable, value in zip(variables, self._metrics, strict=True):
                variable.assign_add(value)
        self._metrics = []

    def _check_steps(self, steps_per_epoch):
        if steps_per_epoch != self.steps_per_epoch:
            raise RunError(
                "A run must go on with the `steps_per_epoch` that it began "
                f"with, {steps_per_epoch}. Received: "
                f"steps_per_epoch={self.steps_per_epoch}. If you have not "
                "passed it, it is the length of the data divided by `epochs`, "
                "and the data or `epochs` are others. Use the former, or "
                "another directory for a new run."
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
        kept = "There is no checkpoint"
        if self.path is not None and self.path.is_file():
            kept = f"The last good checkpoint is {self.path}"
        # Where the arguments are on record, other ones are another run.
        where = ""
        if self.path and self.path.with_name(RUN_FILE).is_file():
            where = ", in another directory: this one is for the run as it is"
        raise DivergedError(
            "Loss and weights must stay finite. Received: NaN or infinity "
            f"at step {self.step}. {kept}. Lower the learning rate, "
            f"lengthen the warmup, or use float32{where}."
        )


def _prepare(directory):
    """Make the folder of a run, and remove what kills have left in it."""
    devices.check_directory(directory)
    with devices.failing_together():
        if devices.process_index() == 0:  # it writes for all
            # A folder belongs to one run: who left these was killed, and each
            # is as large as a checkpoint.
            for name in (CHECKPOINT_FILE, HISTORY_FILE):
                files.remove_partial(pathlib.Path(directory, name))


def _kept(model, choose):
    """Return the variables in a checkpoint, the optimizer's among them.

    A learning rate that is a number is a variable of the optimizer, too. It is
    left out: what the caller asks for holds, also when a run goes on.
    """
    variables = [*choose(model), *model.optimizer.variables]
    return [v for v in variables if v.name != "learning_rate"]


def _all_variables(model):
    return model.variables


def _changing_beside_adapters(model):
    """Return what the first version kept of a model with adapters."""
    return [
        variable
        for variable in model.variables
        if variable.trainable
        or not keras.backend.is_float_dtype(variable.dtype)
    ]
