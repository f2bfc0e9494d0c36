"""The folder of a run: what its files are called, and whose it is.

`run.json` holds the arguments that decide the result of a run. A call with
other arguments is refused there, so that no run overwrites another.
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
    """Note in a folder which run it belongs to, or say that it has another.

    Args:
        directory: `pathlib.Path`.
        identity: dict, as JSON gives it back. What decides the run.
        shares: int. Processes among which a batch is divided.
        **settled: what a new run settles on, and what need not be the same
            when it goes on. It is noted beside `identity`.

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
            "arguments that it was begun with."
        )
    streams = found.get("streams", 1)
    if streams % shares:
        raise RunError(
            "A run must go on with a number of processes that divides the one "
            f"it began with, {streams}. Received: {shares} processes for the "
            f"run in {directory}. One process always fits; or use another "
            "directory."
        )
    return streams


def claim_for_model(directory, identity):
    """Claim a folder for a run that has its lock, see `only_run_in`.

    Args:
        directory: `pathlib.Path`.
        identity: dict for JSON. What decides the run.

    Raises:
        RunError: the folder belongs to another run.
    """
    with devices.first_process_first():
        # Where nothing is trained yet, nothing can be mistaken. (The folder of
        # a pretrained model has such a file, too.)
        if not any(
            (directory / name).is_file()
            for name in (CHECKPOINT_FILE, MODEL_FILE)
        ):
            (directory / RUN_FILE).unlink(missing_ok=True)
        # As it will be read.
        claim(directory, json.loads(json.dumps(identity)))


def read_run(directory):
    """Return what a folder says of its run: a dict."""
    return json.loads((directory / RUN_FILE).read_text(encoding="utf-8"))


def write_run(directory, record):
    """Write what decides a run, and what came of it, into its folder.

    Args:
        directory: `pathlib.Path`.
        record: dict for JSON.
    """
    with files.whole_file(directory / RUN_FILE) as file:
        json.dump(record, file, indent=2)
