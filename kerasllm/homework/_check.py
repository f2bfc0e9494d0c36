"""Check at home: run a student's notebook with its visible tests."""

import atexit
import os
import re
import tempfile

from kerasllm.checks import MissingFileError, UserError, check_path
from kerasllm.homework._cells import defined_names
from kerasllm.homework._notebooks import (
    HomeworkError,
    MachineError,
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
_UNWRITTEN = error_message("NotImplementedError", "")
# What nbgrader puts in place of a solution, in code and in text.
_STUBS = ("raise NotImplementedError()", "YOUR ANSWER HERE")
NOT_WRITTEN = "not written yet"
_NOT_RUN = (
    "not run to its end. A cell used up the memory or left Python, or two ran "
    "out of time."
)


def check(path):
    """Run a student's notebook with the tests that are visible in it.

    A cell that takes longer than 300 s is interrupted. The second such cell
    ends the notebook, and so does a cell that ends Python. Tests that did not
    run count as failed.

    Args:
        path: path of the `.ipynb`. It is not changed.

    Returns:
        A `Result`. Its points are those of the tests whose visible part
        passes. A test that needs a function that is still as it was handed
        out fails with the message `NOT_WRITTEN`.

    Raises:
        UserError: the file is not a notebook of an assignment.
        MissingFileError: there is no such file.
        HomeworkError: nbclient is missing.
        MachineError: Python's kernel does not start.
    """
    try:
        import nbclient  # noqa: F401
    except ImportError as error:
        raise HomeworkError(
            "Checking needs nbclient, which comes with Jupyter. Received: an "
            f"installation without it ({error}). Use `pip install -e "
            '".[notebooks]"` in a clone of kerasllm.'
        ) from None

    path = check_path("path", path)
    if not path.exists():
        raise MissingFileError(
            f"`path` must be a file. Received: {path}, which is not there. "
            "Name the notebook that you downloaded and filled in."
        )
    notebook, problem = read_submission(path)
    if problem or not any(is_cell(cell, "grade") for cell in notebook.cells):
        raise UserError(
            "The file must be a notebook of an assignment. Received: "
            f"{path} ({problem or 'none of its cells is marked as a test'}). "
            "Colab, and copying cells, lose those marks. Start from a fresh "
            "copy of the assignment and paste your code into its cells."
        )
    metadata = notebook.metadata.get("kerasllm", {})
    errors = _run(notebook, path.parent)
    unwritten = set().union(*map(_unwritten_names, notebook.cells))
    result = Result(path.stem, {}, {}, find_notes(notebook, metadata))
    for cell, error in zip(notebook.cells, errors, strict=True):
        if is_cell(cell, "grade"):
            _score(result, cell, error, unwritten)
        elif error == _OUT_OF_TIME:
            first = cell.source.strip().splitlines()[0]
            result.notes.append(f"the cell {first!r}: {error}")
    return result.visible()


def _score(result, cell, error, unwritten):
    """Add the points of a test, or leave them to a person."""
    question = cell.metadata.nbgrader.grade_id
    if is_cell(cell, "solution"):
        result.scores[question] = None
        if _is_stub(cell):
            result.unwritten.append(question)
        return
    result.scores[question] = 0 if error else cell.metadata.nbgrader.points
    if error:
        tested = set(re.findall(r"\w+", cell.source))
        if unwritten & tested or error == _UNWRITTEN:
            result.unwritten.append(question)
            error = NOT_WRITTEN
        result.failures[question] = error


def _is_stub(cell):
    """Return whether a cell has something that is still to be written."""
    return any(line.strip() in _STUBS for line in cell.source.splitlines())


def _unwritten_names(cell):
    """Return the names that a cell defines if it is still to be written."""
    if (
        cell.cell_type == "code"
        and is_cell(cell, "solution")
        and _is_stub(cell)
    ):
        return defined_names(cell.source)
    return set()


def _run(notebook, folder):
    """Run a notebook; return for each cell what went wrong, or `None`."""
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError

    from kerasllm.homework.kernels._manager import OwnKernelManager

    failures = [_NOT_RUN] * len(notebook.cells)

    def keep(cell, cell_index, execute_reply):
        reply = execute_reply["content"]
        failures[cell_index] = None
        if reply["status"] != "ok":
            failures[cell_index] = error_message(
                reply["ename"], reply["evalue"]
            )
        # The first one may ignore interrupts and still be running.
        if failures.count(_OUT_OF_TIME) > 1:
            raise DeadKernelError

    client = NotebookClient(
        notebook,
        km=OwnKernelManager(),
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
    )
    client.owns_km = True  # so it ends the kernel, even one that still runs
    try:
        _execute(client, folder)
    except DeadKernelError:
        pass  # `failures` says which cells have not run
    return failures


def _execute(client, folder):
    """Run the notebook of a client in a folder.

    Raises:
        MachineError: the kernel does not start.
    """
    from kerasllm.homework.kernels._manager import home_environment, last_words

    started = []
    client.on_notebook_start = lambda **_: started.append(True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as own:
        client.km.connection_file = os.path.join(own, "connection.json")
        log = os.path.join(own, "log")
        try:
            with open(log, "wb") as said:
                client.execute(
                    cwd=str(folder), env=home_environment(own), stderr=said
                )
        except Exception as error:
            if started:
                raise
            # nbclient would clean up once more when Python ends.
            atexit.unregister(client._cleanup_kernel)
            raise MachineError(
                "Python's kernel must start. Received: "
                f"{last_words(log) or error}. In a clone of "
                'kerasllm, use `pip install -e ".[notebooks]"` with the Python '
                "that runs this."
            ) from error
