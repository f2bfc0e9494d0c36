"""The folder of a run: the names of its files, and which run it belongs to.

`run.json` holds the arguments that determine the result of a run. A call with
other arguments raises an error, so that no run overwrites another.
"""

import json

from kerasllm import distribution as devices
from kerasllm import files
from kerasllm.checks import RunError

CHECKPOINT_FILE = "checkpoint.npz"
HISTORY_FILE = "history.csv"
MODEL_FILE = "model.keras"
RUN_FILE = "run.json"


def claim(directory, identity, shares=1, **settled):
    """Record which run a folder belongs to, or check that it is this run.

    Args:
        directory: `pathlib.Path`.
        identity: dict of JSON values, the arguments that determine the run.
        shares: int. Number of processes that share a batch.
        **settled: choices of a new run that may be different when it is
            resumed. They are recorded beside `identity`.

    Returns:
        int. The number of streams of text that a batch of the run consists of.

    Raises:
        RunError: the folder belongs to another run, or it has a checkpoint
            of an unknown one, or `shares` does not divide the number of
            streams.
    """
    if not (directory / RUN_FILE).is_file():
        _check_no_checkpoint(directory)
        write_run(directory, identity | {"streams": shares} | settled)
        return shares
    found = read_run(directory)
    different = [key for key in identity if found.get(key) != identity[key]]
    if different:
        raise RunError(
            "A directory must hold one run only. Received: "
            f"{directory}, with a run of another "
            f"{' and '.join(different)}. Use another directory, or the "
            "original arguments."
        )
    streams = found.get("streams", 1)
    if streams % shares:
        raise RunError(
            "A run must continue with a number of processes that divides the "
            f"one it began with, {streams}. Received: {shares} processes for "
            f"the run in {directory}. Use one process, which always works, or "
            "use another directory."
        )
    return streams


def _check_no_checkpoint(directory):
    """Check that a folder without a record has no checkpoint either."""
    if (directory / CHECKPOINT_FILE).is_file():
        raise RunError(
            f"A directory with a {CHECKPOINT_FILE} must also hold the "
            f"{RUN_FILE} that records whose it is. Received: {directory}, "
            f"which has no {RUN_FILE}. Put it back, or use another directory."
        )


def claim_for_model(directory, identity):
    """Claim a folder for a run that holds its lock; see `only_run_in`.

    Args:
        directory: `pathlib.Path`.
        identity: dict for JSON, the arguments that determine the run.

    Raises:
        RunError: the folder belongs to another run.
    """
    with devices.first_process_first():
        # If nothing is trained yet, the arguments may change. (The folder of
        # a pretrained model has such a file, too.)
        if (directory / RUN_FILE).is_file() and not any(
            (directory / name).is_file()
            for name in (CHECKPOINT_FILE, MODEL_FILE)
        ):
            _check_kind(directory, identity)
            (directory / RUN_FILE).unlink()
        # Compare it as JSON will return it.
        claim(directory, json.loads(json.dumps(identity)))


def _check_kind(directory, identity):
    """Check that the record in a folder is of a run of the same kind."""
    found = read_run(directory)
    if found.keys() - {"streams"} != identity.keys():
        raise RunError(
            "A directory must hold one run only. Received: "
            f"{directory}, with a {RUN_FILE} that records something else: "
            f"{', '.join(found) or 'nothing'}. Use another directory."
        )


def read_run(directory):
    """Return the record of a run's folder: a dict.

    Raises:
        RunError: the file does not hold a JSON object.
    """
    path = directory / RUN_FILE
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise RunError(
            "The record of a run must be a JSON object. Received: "
            f"{path}, which cannot be read ({error}). Put back a copy of it, "
            "or use another directory."
        ) from error


def write_run(directory, record):
    """Write the arguments and results of a run into its folder.

    Args:
        directory: `pathlib.Path`.
        record: dict for JSON.
    """
    with files.whole_file(directory / RUN_FILE) as file:
        json.dump(record, file, indent=2)
