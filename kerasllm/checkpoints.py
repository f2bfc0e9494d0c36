"""Checkpoints: everything that a training run needs to go on as if unbroken.

Weights alone are not enough. The optimizer has moments, dropout has random
generators, the epoch has averages so far, and the data have a position.
`Checkpoint` keeps them all and writes them as one file, which replaces the one
before as a whole or not at all.
"""

import contextlib
import csv
import hashlib
import json
import math
import pathlib
import signal
import threading
import zipfile

import keras
import ml_dtypes
import numpy as np

from kerasllm import backend, files
from kerasllm import distribution as devices

CHECKPOINT_FILE = "checkpoint.npz"
HISTORY_FILE = "history.csv"
FORMAT = 2
RUN_FILE = "run.json"  # the arguments, where they decide which run it is


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C arrived; the state was saved, and the run can be resumed."""


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

    Raises:
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
        self.path = None
        if directory is not None:
            devices.check_directory(directory)
            with devices.failing_together():
                if devices.process_index() == 0:  # it writes for all
                    # A directory is the place of one run: who left these was
                    # killed, and each is as large as a checkpoint.
                    for name in (CHECKPOINT_FILE, HISTORY_FILE):
                        files.remove_partial(pathlib.Path(directory, name))
            self.path = pathlib.Path(directory, CHECKPOINT_FILE)
        self.steps_per_epoch = steps_per_epoch
        self.checkpoint_steps = checkpoint_steps
        self.first_batch = first_batch
        self.variables = variables or _all_variables
        self.step = 0
        self.history = []
        self.stopped = None
        self._interrupted = False
        self._random_state = None
        self._metrics = []  # their sums over the epoch up to the resumption

    def save(self):
        """Write the state of the model and the run, if there is a place.

        Of several processes one writes, but all must call it.

        Returns:
            bool. `False` if nothing was written because there is a NaN or an
            infinity in it: the loss of a step is from before its update, and
            says nothing about what the update has done.

        Raises:
            OSError: there is no room. The file before is still there.
            RuntimeError: so it is in the process that writes.
        """
        self._random_state = backend.random_state()
        if self.path is None:
            return True
        # `self.model` is a property: on JAX it brings the variables up to
        # date, which `fit` keeps elsewhere between steps. Not for each batch.
        variables = self._kept(self.model, self.variables)
        values = [backend.to_numpy(variable) for variable in variables]
        is_broken = not all(
            np.isfinite(value).all()
            for variable, value in zip(variables, values, strict=True)
            if keras.backend.is_float_dtype(variable.dtype)
        )
        if backend.of_all_processes(is_broken).any():
            return False
        metrics = map(backend.to_numpy, self.model.metrics_variables)
        arrays = {f"{i:05}": value for i, value in enumerate(values)}
        arrays |= {f"metric{i:05}": value for i, value in enumerate(metrics)}
        with devices.failing_together():
            if devices.process_index() == 0:
                self._write(arrays)
        return True

    def _write(self, arrays):
        """Write the file with the values of the variables, and the log."""
        progress = {
            "format": FORMAT,
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "first_batch": self.first_batch,
            "dtype": self.model.dtype_policy.name,
            "history": self.history,
        }
        try:
            with files.whole_file(self.path, "wb") as file:
                np.savez(
                    file,
                    progress=json.dumps(progress),
                    random_state=self._random_state,
                    **arrays,
                )
        except OSError as error:
            raise OSError(
                error.errno,
                f"A checkpoint must be written, after step {self.step}. "
                f"Received: {error.strerror}. Make room; the same call then "
                "goes on from the checkpoint before",
                str(self.path),
            ) from error
        self._write_history()

    def restore(self, model):
        """Set `model` and the counters to the checkpoint, if there is one.

        Args:
            model: a compiled keras model whose optimizer is built.

        Raises:
            RuntimeError: the checkpoint is damaged, of another model, made
                with other data or another `steps_per_epoch`, or processes
                find different ones.
        """
        progress = None
        with devices.failing_together():
            if self.path is not None and self.path.is_file():
                progress, self._random_state, values, metrics = self._read()
        # Before anything is assigned, which processes do together.
        steps = backend.of_all_processes(progress["step"] if progress else 0)
        if steps.min() != steps.max():
            raise RuntimeError(
                "All processes of a run must go on from the same checkpoint. "
                f"Received: checkpoints after steps {steps.tolist()}, in "
                f"{self.path}. Use a directory that all of them share."
            )
        if progress is None:
            return
        self._check_data(progress)
        if progress["steps_per_epoch"] != self.steps_per_epoch:
            raise RuntimeError(
                "A run must go on with the `steps_per_epoch` that it began "
                f"with, {progress['steps_per_epoch']}. Received: "
                f"steps_per_epoch={self.steps_per_epoch}. If you have not "
                "passed it, it is the length of the data divided by `epochs`, "
                "and the data or `epochs` are others. Use the former, or "
                "another directory for a new run."
            )
        variables = self._kept(model, self.variables)
        difference = _first_difference(variables, values)
        if difference and "format" not in progress:
            # The first version left out by itself what adapters leave frozen.
            fewer = self._kept(model, _trainable_variables)
            if not _first_difference(fewer, values):
                variables, difference = fewer, None
        if difference:
            raise RuntimeError(
                "A checkpoint fits only the model and the optimizer that it "
                f"was written from. Received: {self.path}, with {difference}. "
                f"Its dtype is {progress.get('dtype', 'unknown')}, the model's "
                f"{model.dtype_policy.name}. Build and compile the model as in "
                "that run, or use another directory."
            )
        for variable, value in zip(variables, values, strict=True):
            if value.dtype.kind == "V":  # NumPy's name for bfloat16
                value = value.view(ml_dtypes.bfloat16)
            variable.assign(value)
        self.step = progress["step"]
        self.history = progress["history"]
        if self.step % self.steps_per_epoch:
            self._metrics = metrics

    def _kept(self, model, choose):
        """Return the variables in a checkpoint, the optimizer's among them.

        A learning rate that is a number is a variable of the optimizer, too.
        It is left out: what the caller asks for holds, also when a run goes on.
        """
        variables = [*choose(model), *model.optimizer.variables]
        return [v for v in variables if v.name != "learning_rate"]

    def _check_data(self, progress):
        """Check that the data begin as in the run so far.

        It comes before all other checks: other data may also mean other
        epochs or another vocabulary, but they are the reason.
        """
        found, here = progress.get("first_batch"), self.first_batch
        differs = False
        # What process 0 reads is in the file. With another number of processes
        # it reads more rows of the same batch, or fewer.
        if found and here and backend.process()[0] == 0:
            count = min(len(found["rows"]), len(here["rows"]))
            differs = (
                found["shape"] != here["shape"]
                or found["rows"][:count] != here["rows"][:count]
            )
        if backend.of_all_processes(differs).any():
            received = "the same shape, but other tokens"
            if found["shape"] != here["shape"]:
                received = f"the shape {here['shape']}, not {found['shape']}"
            raise RuntimeError(
                "A run must go on with the data that it began with, in the "
                "same batches and in the same order each time that they are "
                f"read. Received: a first batch with {received}, for the run "
                f"in {self.path.parent}. Use the former text, vocabulary and "
                "batch size, shuffled not at all or with a `seed` and "
                "`reshuffle_each_iteration=False`; or another directory for "
                "a new run."
            )

    def _read(self):
        """Return progress, random state, values of variables and metrics."""
        try:
            with np.load(self.path) as file:
                arrays = dict(file)
            progress = json.loads(str(arrays.pop("progress")))
            random_state = arrays.pop("random_state")
        except (
            OSError,
            EOFError,
            ValueError,
            KeyError,
            zipfile.BadZipFile,
        ) as error:
            raise RuntimeError(
                "A checkpoint must be whole. Received: "
                f"{self.path}, which cannot be read ({error}). Put back a copy "
                "of it, or delete it to start the run again."
            ) from error
        names = sorted(arrays)
        values = [arrays[n] for n in names if n.isdigit()]
        metrics = [arrays[n] for n in names if not n.isdigit()]
        return progress, random_state, values, metrics

    @contextlib.contextmanager
    def catching_interrupts(self):
        """Turn the first Ctrl-C into a save and a stop after the batch.

        Raises:
            TrainingInterrupted: after the block, if there was a Ctrl-C.
            FloatingPointError: after the block, if the run diverged.
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
            kept = "There is no checkpoint"
            if self.path is not None and self.path.is_file():
                kept = f"The last good checkpoint is {self.path}"
            # Where the arguments are on record, other ones are another run.
            where = ""
            if self.path and self.path.with_name(RUN_FILE).is_file():
                where = (
                    ", in another directory: this one is for the run as it is"
                )
            raise FloatingPointError(
                "Loss and weights must stay finite. Received: NaN or infinity "
                f"at step {self.step}. {kept}. Lower the learning rate, "
                f"lengthen the warmup, or use float32{where}."
            )
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
            # `fit` resets metrics when it starts an epoch, be it the rest of
            # one, and TensorFlow makes them in the first step. They are sums
            # and counts. If they are others now, they begin anew.
            variables = self.model.metrics_variables
            if not _first_difference(variables, self._metrics):
                for variable, value in zip(
                    variables, self._metrics, strict=True
                ):
                    variable.assign_add(value)
            self._metrics = []
        if not math.isfinite(logs["loss"]):
            self._stop("diverged")
        elif self.step % self.steps_per_epoch == 0:
            pass  # saved in `on_epoch_end`, with the validation
        elif self.step % self.checkpoint_steps == 0 or (
            self._interrupted and devices.num_processes() == 1
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
        if backend.of_all_processes(self._interrupted).any():
            self._stop("interrupted")

    def _stop(self, reason):
        self.stopped = reason
        self.model.stop_training = True

    def _write_history(self):
        # Written anew each time: after a kill, rows that were appended would
        # stand there twice.
        if self.history:
            path = self.path.with_name(HISTORY_FILE)
            with files.whole_file(path) as file:
                # A run that goes on may be validated only from then on.
                names = dict.fromkeys(n for row in self.history for n in row)
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows(self.history)


def describe_batch(batch, shares=1):
    """Describe a batch so that another one can be told from it.

    Args:
        batch: tuple `(x, y)` of what one process reads, integers
            `(rows, length)`. `x` may be a dict with `token_ids`.
        shares: int. Processes among which a whole batch is divided.

    Returns:
        A dict for JSON: `shape` of the token ids in the whole batch, and
        `rows`, the first digits of the SHA-256 of each row in this process.
    """
    x = batch[0]
    rows, length = (x["token_ids"] if isinstance(x, dict) else x).shape
    arrays = [np.asarray(array) for array in keras.tree.flatten(batch)]
    # Images need not be as many as there are texts.
    arrays = [array for array in arrays if len(array) == rows]
    digests = []
    for row in zip(*arrays, strict=True):
        content = b"".join(part.tobytes() for part in row)
        digests.append(hashlib.sha256(content).hexdigest()[:16])
    return {"shape": [rows * shares, length], "rows": digests}


def _all_variables(model):
    return model.variables


def _trainable_variables(model):
    """Return what is trainable, and what is no float: a generator's state."""
    return [
        v
        for v in model.variables
        if v.trainable or not keras.backend.is_float_dtype(v.dtype)
    ]


def _first_difference(variables, values):
    """Say where values do not fit variables; `None` where all do."""
    count = f"{len(values)} variables for {len(variables)}"
    for variable, value in zip(variables, values, strict=False):
        shape = tuple(variable.shape)
        if value.shape != shape:
            return (
                f"{count}; the first that differs, of shape {value.shape}, is "
                f"for {variable.path} of shape {shape}"
            )
    if len(variables) != len(values):
        return f"{count}, which differ in nothing but their number"
