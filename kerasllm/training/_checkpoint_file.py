"""The checkpoint file, which is written atomically and verified when read.

It is an `.npz` archive with three parts: `progress`, a JSON string;
`random_state`; and the values of variables, in the order that the caller lists.
"""

import csv
import dataclasses
import json
import os
import zipfile

import ml_dtypes
import numpy as np

from kerasllm import files
from kerasllm.checks import EnvironmentFailure, RunError

# Files without a format number are from the first version. For models with
# adapters, it left out the frozen weights.
FORMAT = 2


@dataclasses.dataclass
class SavedState:
    """The content of a checkpoint.

    Attributes:
        progress: dict. `step`, `steps_per_epoch`, `first_batch`, `dtype`,
            `history` and, except in the first version, `format`.
        random_state: uint8 array; see `backend.random_state`.
        values: list of arrays, the variables of the model and optimizer.
        metrics: list of arrays, the metric sums of the epoch so far.
    """

    progress: dict
    random_state: np.ndarray
    values: list
    metrics: list


def write_state(path, state):
    """Write a checkpoint, which replaces the previous one.

    Args:
        path: `pathlib.Path`.
        state: a `SavedState`.

    Raises:
        EnvironmentFailure: the disk is full. The previous file is kept.
    """
    arrays = {f"{i:05}": value for i, value in enumerate(state.values)}
    arrays |= {f"metric{i:05}": sum_ for i, sum_ in enumerate(state.metrics)}
    try:
        with files.whole_file(path, "wb") as file:
            np.savez(
                file,
                progress=json.dumps(state.progress | {"format": FORMAT}),
                random_state=state.random_state,
                **arrays,
            )
    except OSError as error:
        raise EnvironmentFailure(
            error.errno,
            "A checkpoint must be written, after step "
            f"{state.progress['step']}. Received: {_reason(error)}. Make room; "
            "the run can then go on from the previous checkpoint",
            str(path),
        ) from error


def read_state(path):
    """Return the `SavedState` in a file.

    Raises:
        RunError: the file is damaged.
    """
    try:
        with np.load(path) as file:
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
        raise RunError(
            "A checkpoint must be whole. Received: "
            f"{path}, which cannot be read ({error}). Put back a copy of it, "
            "or delete it to start the run again."
        ) from error
    names = sorted(arrays)
    return SavedState(
        progress,
        random_state,
        [arrays[name] for name in names if name.isdigit()],
        [arrays[name] for name in names if not name.isdigit()],
    )


def write_history(path, history):
    """Write the log of the epochs as a table.

    The whole file is rewritten each time. If lines were appended, they would
    be repeated after a kill.

    Args:
        path: `pathlib.Path`.
        history: list of dicts, one per epoch.

    Raises:
        EnvironmentFailure: the disk is full. The previous file is kept.
    """
    # A resumed run may have validation only from that point on.
    names = dict.fromkeys(name for epoch in history for name in epoch)
    try:
        with files.whole_file(path) as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(history)
    except OSError as error:
        raise EnvironmentFailure(
            error.errno,
            f"The log must be written. Received: {_reason(error)}. The "
            "checkpoint is saved. Make room; the run can then go on from "
            "there",
            str(path),
        ) from error


def _reason(error):
    """Return why a file was not written, without what to do about it."""
    return os.strerror(error.errno) if error.errno else str(error)


def assign(variables, values):
    """Set variables to the values in a file.

    Args:
        variables: list of Keras variables.
        values: list of arrays with matching shapes.
    """
    for variable, value in zip(variables, values, strict=True):
        if value.dtype.kind == "V":  # NumPy's name for bfloat16
            value = value.view(ml_dtypes.bfloat16)
        variable.assign(value)


def first_difference(variables, values):
    """Describe how values do not fit variables; `None` if they all fit."""
    count = f"{len(values)} variables for {len(variables)}"
    for variable, value in zip(variables, values, strict=False):
        shape = tuple(variable.shape)
        if value.shape != shape:
            return (
                f"{count}; the first that differs, of shape {value.shape}, is "
                f"for {variable.path} of shape {shape}"
            )
    if len(variables) != len(values):
        return f"{count}, which differ only in their number"
    return None
