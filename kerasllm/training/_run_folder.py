"""Claiming the folder of a run; `kerasllm.files` has the names of its files."""

import json

import keras

from kerasllm import distribution as devices
from kerasllm import files
from kerasllm.checks import (
    RunError,
    UserError,
    check_choice,
    check_list,
    check_path,
    is_int,
    shown,
)
from kerasllm.files import (
    RUN_FILE,
    check_same_run,
    has_results,
    read_run,
)


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
        RunError: the folder belongs to another run with results, or it has
            results of an unknown one, or `shares` does not divide the number
            of streams.
    """
    check_same_run(directory, identity)
    if not (directory / RUN_FILE).is_file():
        return _begin(directory, identity, shares, settled)
    found = read_run(directory)
    if any(found.get(key) != identity[key] for key in identity):
        # Nothing is trained yet, so the arguments may change.
        _check_kind(directory, found, identity.keys() <= found.keys())
        return _begin(directory, identity, shares, settled)
    streams = found.get("streams", 1)
    if streams % shares:
        raise RunError(
            "A run must continue with a number of processes that divides the "
            f"one it began with, {streams}. Received: {shares} processes for "
            f"the run in {directory}. Use one process, which always works, or "
            "use another `directory`."
        )
    return streams


def _begin(directory, identity, shares, settled):
    """Record a new run; return its streams."""
    write_run(directory, identity | {"streams": shares} | settled)
    return shares


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
        if (directory / RUN_FILE).is_file() and not has_results(directory):
            found = read_run(directory)
            is_same_kind = found.keys() - {"streams"} == identity.keys()
            _check_kind(directory, found, is_same_kind)
            (directory / RUN_FILE).unlink()
        # Compare it as JSON will return it.
        claim(directory, json.loads(json.dumps(identity)))


def _check_kind(directory, found, is_same_kind):
    """Refuse to replace the record of a run of another kind."""
    if not is_same_kind:
        raise RunError(
            "A directory must hold one run only. Received: "
            f"{directory}, with a {RUN_FILE} that records something else: "
            f"{', '.join(found) or 'nothing'}. Use another `directory`."
        )


def write_run(directory, record):
    """Write the arguments and results of a run into its folder.

    Args:
        directory: `pathlib.Path`.
        record: dict for JSON.
    """
    with files.whole_file(directory / RUN_FILE) as file:
        json.dump(record, file, indent=2)


def check_run(directory, callbacks, verbose):
    """Check what every run takes, before any of its work begins.

    Args:
        directory: str or path of the folder of the run, or `None`.
        callbacks: list of Keras callbacks, a single one, or `None`.
        verbose: `"auto"`, 0, 1 or 2.

    Returns:
        The folder, a `pathlib.Path` or `None`, and a list of callbacks.

    Raises:
        UserError: one of them is something else.
    """
    if directory is not None:
        directory = check_path("directory", directory)
    if callbacks is None or isinstance(callbacks, keras.callbacks.Callback):
        callbacks = [callbacks] if callbacks else []
    callbacks = check_list("callbacks", callbacks)
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise UserError(
                "Each of `callbacks` must be a `keras.callbacks.Callback`. "
                f"Received: {shown(callback)}. Pass an object, not its class."
            )
    is_number = isinstance(verbose, bool) or is_int(verbose)
    if not (is_number and 0 <= verbose <= 2):
        check_choice("verbose", verbose, ("auto", 0, 1, 2))
    return directory, callbacks
