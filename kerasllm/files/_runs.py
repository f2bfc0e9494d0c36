"""The folder of a run: the names of its files, and which run it belongs to.

`run.json` holds the arguments that determine the result of a run. A call with
other arguments raises an error, so that no run overwrites another. Nothing
here needs a backend, so a command can refuse a folder before one starts.
"""

import json
import shlex

from kerasllm.checks import MissingFileError, RunError, check_path

CHECKPOINT_FILE = "checkpoint.npz"
HISTORY_FILE = "history.csv"
MODEL_FILE = "model.keras"
RUN_FILE = "run.json"
VOCABULARY_FILE = "vocabulary.spm"


def read_run(directory):
    """Return the record of a run's folder: a dict.

    Args:
        directory: `pathlib.Path`.

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
            "or use another `directory`."
        ) from error


def has_results(directory):
    """Tell whether anything was trained in a folder: a bool.

    Until then, a run that failed or was killed has nothing to lose, and
    another run may use the folder.

    Args:
        directory: `pathlib.Path`.
    """
    return any(
        (directory / name).is_file() for name in (CHECKPOINT_FILE, MODEL_FILE)
    )


def check_same_run(directory, identity):
    """Check that a folder holds no results of a run with other arguments.

    Args:
        directory: str or path.
        identity: dict of JSON values, arguments that determine the run. It
            may be a part of what the folder records.

    Raises:
        RunError: the folder holds such results, or files of these names that
            no run has written, or its record is damaged.
    """
    directory = check_path("directory", directory)
    if not (directory / RUN_FILE).is_file():
        _check_nobodys_results(directory)
        return
    if not has_results(directory):
        return
    found = read_run(directory)
    different = [
        _in_what(key, found.get(key), value)
        for key, value in identity.items()
        if found.get(key) != value
    ]
    if different:
        raise RunError(
            "A directory must hold one run only. Received: "
            f"{directory}, with a run of another {' and '.join(different)}. "
            "Use another `directory`, or the original arguments."
        )


def _in_what(key, found, value):
    """Say which argument differs, and where a recipe differs in little."""
    names = []
    if isinstance(value, dict) and isinstance(found, dict):
        names = [name for name in value if found.get(name) != value[name]]
    if not 0 < len(names) < 3:
        return f"`{key}`"
    return f"`{key}` ({', '.join(f'`{name}`' for name in names)})"


def _check_nobodys_results(directory):
    """Check that a folder without a record has nothing to overwrite."""
    for name in (CHECKPOINT_FILE, MODEL_FILE, HISTORY_FILE):
        if (directory / name).is_file():
            raise RunError(
                f"A directory with a {name} must also hold the {RUN_FILE} "
                f"that records whose it is. Received: {directory}, which has "
                f"no {RUN_FILE}. Put it back, or use another `directory`."
            )


def check_finished_run(directory):
    """Check that a folder holds what `pretrain_mini_gpt` wrote in the end.

    Args:
        directory: str or path.

    Raises:
        MissingFileError: one of its files is missing.
    """
    directory = check_path("directory", directory)
    if has_results(directory) and not (directory / MODEL_FILE).is_file():
        raise MissingFileError(
            "A model directory must hold a finished pretraining run. "
            f"Received: {directory}, with a run that was interrupted. Repeat "
            "the call or the command that began it: it goes on from the last "
            "checkpoint."
        )
    for name in (MODEL_FILE, VOCABULARY_FILE, RUN_FILE):
        if not (directory / name).is_file():
            raise MissingFileError(
                "A model directory must hold a finished pretraining run. "
                f"Received: {directory}, which has no {name}. Make one with "
                f"`kerasllm pretrain --out {shlex.quote(str(directory))}`."
            )
