"""Checking at home: a student's notebook, run with its visible tests."""

import pathlib

from kerasllm.checks import MissingFileError, UserError
from kerasllm.homework._notebooks import (
    HomeworkError,
    Result,
    error_message,
    is_cell,
    read_submission,
)
from kerasllm.homework._notes import find_notes

_CELL_SECONDS = 300  # that a cell may take at home
_OUT_OF_TIME = (
    f"interrupted after {_CELL_SECONDS} s. Look for a loop without an end."
)
_NOT_RUN = (
    "not run to its end. A cell used up the memory or left Python, or two ran "
    "out of time."
)


def check(path):
    """Run a student's notebook with the tests that are visible in it.

    A cell that takes too long is interrupted. The second such cell ends the
    notebook, and so does a cell that ends Python. Tests that did not run fail.

    Args:
        path: path of the `.ipynb`. It is not changed.

    Returns:
        A `Result`; points are those of tests whose visible part passes.

    Raises:
        UserError: it is no notebook of an assignment.
        MissingFileError: there is no such file.
        HomeworkError: nbclient is missing.
    """
    try:
        import nbclient  # noqa: F401
    except ImportError as error:
        raise HomeworkError(
            "Checking needs nbclient, which comes with Jupyter. Received: an "
            f"installation without it ({error}). `pip install "
            '"kerasllm[notebooks]"`.'
        ) from None

    path = pathlib.Path(path)
    if not path.exists():
        raise MissingFileError(
            f"`path` must be a file. Received: {path}, which is not there. "
            "Name the notebook that you downloaded and filled in."
        )
    notebook, problem = read_submission(path)
    if problem or not any(is_cell(cell, "grade") for cell in notebook.cells):
        raise UserError(
            "The file must be a notebook of an assignment. Received: "
            f"{path} ({problem or 'without tests'}). Start from a fresh copy "
            "of the assignment and paste your cells into it."
        )
    metadata = notebook.metadata.get("kerasllm", {})
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "-"}
    failures = _run(notebook, path.parent)
    result = Result(path.stem, {}, {}, find_notes(notebook, metadata))
    for cell, failure in zip(notebook.cells, failures, strict=True):
        if is_cell(cell, "grade"):
            _score(result, cell, failure)
        elif failure == _OUT_OF_TIME:
            first = cell.source.strip().splitlines()[0]
            result.notes.append(f"the cell {first!r}: {failure}")
    return result


def _score(result, cell, failure):
    """Add the points of a test, or leave them to a person."""
    question = cell.metadata.nbgrader.grade_id
    if is_cell(cell, "solution"):
        result.scores[question] = None
        return
    result.scores[question] = 0 if failure else cell.metadata.nbgrader.points
    if failure:
        result.failures[question] = failure


def _run(notebook, folder):
    """Run a notebook; return for each cell what went wrong, or `None`."""
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError

    failures = [_NOT_RUN] * len(notebook.cells)

    def keep(cell, cell_index, execute_reply):
        reply = execute_reply["content"]
        failures[cell_index] = None
        if reply["status"] != "ok":
            failures[cell_index] = error_message(
                reply["ename"], reply["evalue"]
            )
        # The first may be one that cannot be interrupted and is still running.
        if failures.count(_OUT_OF_TIME) > 1:
            raise DeadKernelError

    client = NotebookClient(
        notebook,
        timeout=_CELL_SECONDS,
        interrupt_on_timeout=True,
        error_on_timeout={
            "ename": "AssertionError",
            "evalue": _OUT_OF_TIME,
            "traceback": [],
        },
        allow_errors=True,
        on_cell_executed=keep,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute()
    except DeadKernelError:
        pass  # `failures` says which cells have not run
    return failures
