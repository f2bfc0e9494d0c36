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
        RunError: the folder belongs to another run, or `shares` does not
            divide the number of streams.
    """
    if not (directory / RUN_FILE).is_file():
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


def claim_for_model(directory, identity):
    """Claim a folder for a run that holds its lock; see `only_run_in`.

    Args:
        directory: `pathlib.Path`.
        identity: dict for JSON, the arguments that determine the run.

    Raises:
        RunError: the folder belongs to another run.
    """
    with devices.first_process_first():
        # If nothing is trained yet, the record may be replaced. (The folder of
        # a pretrained model has such a file, too.)
        if not any(
            (directory / name).is_file()
            for name in (CHECKPOINT_FILE, MODEL_FILE)
        ):
            (directory / RUN_FILE).unlink(missing_ok=True)
        # Compare it as JSON will return it.
        claim(directory, json.loads(json.dumps(identity)))


def read_run(directory):
    """Return the record of a run's folder: a dict."""
    return json.loads((directory / RUN_FILE).read_text(encoding="utf-8"))


def write_run(directory, record):
    """Write the arguments and results of a run into its folder.

    Args:
        directory: `pathlib.Path`.
        record: dict for JSON.
    """
    with files.whole_file(directory / RUN_FILE) as file:
        json.dump(record, file, indent=2)
