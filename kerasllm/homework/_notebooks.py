"""Assignments and submissions: what they are, and how they are read.

An assignment is a jupytext file `hw*.py` with nbgrader's cell metadata. Its
header has `kerasllm: {graded: [...], forbidden: [...]}`: the names that a
student defines, and the modules that have them already. It may also have
`forbidden_names`, functions and layers of allowed modules, and `assets`,
presets of this package to work with. The installed package has no solutions
and no hidden tests, so releasing and grading need the checkout.

A submission is a notebook that anybody may have written. Nothing in it is
taken for granted, least of all its metadata.
"""

import dataclasses
import json
import pathlib
import re
import stat

from kerasllm.checks import (
    ExplainedError,
    MissingFileError,
    UserError,
    check_path,
)
from kerasllm.homework.shown import visible, without_surrogates

_LARGEST_SUBMISSION = 20 * 2**20  # bytes
# What stands between these delimiters is not for students.
DELIMITERS = ("BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS", "MARK SCHEME")
MARKS = DELIMITERS  # the first version's name of them
# A cell that was not run, because its notebook was stopped, gets this error.
STOPPED = "NotebookStopped"


class HomeworkError(UserError, RuntimeError):
    """An assignment is malformed, or a required program is missing."""


class MachineError(ExplainedError, RuntimeError):
    """This machine cannot run a notebook, whoever wrote it."""


@dataclasses.dataclass
class Result:
    """What one submission earned.

    Args:
        student: str, the name of its file or folder.
        scores: dict from question to points, or to `None` where a person has
            to grade.
        failures: dict from question to the message of its failed test.
        notes: list of str, what the instructor should look at.
        graded: bool, whether its tests were run.
        unwritten: list of questions that are still as they were handed out.
        is_complete: bool, whether everything that was asked for was made, such
            as a page.
    """

    student: str
    scores: dict
    failures: dict = dataclasses.field(default_factory=dict)
    notes: list = dataclasses.field(default_factory=list)
    graded: bool = True
    unwritten: list = dataclasses.field(default_factory=list)
    is_complete: bool = True

    def visible(self):
        """Return a copy with control characters written as escapes."""
        return dataclasses.replace(
            self,
            failures={
                question: visible(said)
                for question, said in self.failures.items()
            },
            notes=[visible(note) for note in self.notes],
        )

    @property
    def total(self):
        """Points without those that a person has to give."""
        return sum(score for score in self.scores.values() if score)


def sources(folder=None):
    """Return the assignments of a folder, by name.

    Args:
        folder: path; by default `chapters/homework` of the checkout.

    Returns:
        dict from str to path, sorted.

    Raises:
        MissingFileError: there are none.
    """
    if folder is None:
        checkout = pathlib.Path(__file__).parents[2]
        folder = checkout / "chapters" / "homework"
    found = {
        path.stem: path
        for path in sorted(check_path("folder", folder).glob("hw*.py"))
    }
    if not found:
        raise MissingFileError(
            "The assignments must be in a folder of `hw*.py` files. Received: "
            f"{folder}. They are not part of the installed package; run this "
            "in a checkout or name its chapters/homework."
        )
    return found


def read_source(path, seed=None):
    """Read an assignment with solutions and hidden tests as a notebook.

    Args:
        path: path of the `.py` file.
        seed: int. It replaces the number in the line `SEED = ...`; `None`
            leaves that line as it is.
    """
    import jupytext

    notebook = jupytext.read(path)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    for number, cell in enumerate(notebook.cells):
        # Jupytext draws new ids each time, so that no release would be equal
        # to the one before.
        details = cell.metadata.get("nbgrader", {})
        cell.id = details.get("grade_id", f"cell-{number}")
        if seed is not None and cell.cell_type == "code":
            cell.source = re.sub(
                r"(?m)^SEED = \d+$", f"SEED = {int(seed)}", cell.source
            )
    return notebook


def read_submission(path):
    """Return a notebook and `None`, or `None` and what is wrong with it.

    Raises:
        MachineError: this machine cannot read the file, whatever is in it.
    """
    import nbformat

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe waits forever
            return None, "it is no file"
        with open(path, "rb") as file:
            content = file.read(_LARGEST_SUBMISSION + 1)
        if len(content) > _LARGEST_SUBMISSION:
            return None, f"the file has more than {_LARGEST_SUBMISSION} bytes"
        # `json` reads UTF-16 and byte order marks, which editors may write.
        content = json.dumps(json.loads(content))
        notebook = nbformat.reads(content, as_version=4)
        for cell in notebook.cells:
            if not is_text(cell.source) or not is_text(cell.cell_type):
                return None, "a cell that is no text"
            cell.source = without_surrogates(cell.source)
            _drop_strange_details(cell)
        return notebook, None
    except OSError as error:
        name = visible(path.name, kept="")
        raise MachineError(
            "A submission must be a file that can be read. Received: "
            f"{name} ({error.strerror}). Look at its permissions."
        ) from error
    except Exception as error:  # whatever a broken file can raise
        return None, f"it is no notebook ({type(error).__name__})"


def _drop_strange_details(cell):
    """Make a cell plain if its metadata do not have nbgrader's form."""
    details = cell.metadata.get("nbgrader")
    if not isinstance(details, dict) or not is_text(details.get("grade_id")):
        cell.metadata.pop("nbgrader", None)


def is_text(value):
    """Return whether a part of a notebook is text, as it should be."""
    return isinstance(value, str)


def is_cell(cell, what):
    """Return whether nbgrader marks a cell as `what`, such as `"grade"`."""
    return bool(cell.metadata.get("nbgrader", {}).get(what))


def is_locked(cell):
    """Return whether a cell is the instructor's: a test or a helper."""
    return not is_cell(cell, "solution") and (
        is_cell(cell, "grade") or is_cell(cell, "locked")
    )


def failure_of(cell):
    """Return the message of the error that a cell ended in, or `None`."""
    for output in cell.get("outputs", ()):
        if output.output_type == "error":
            return error_message(output.ename, output.evalue)
    return None


def was_stopped(cell):
    """Return whether a cell was not run, because its notebook was stopped."""
    return any(
        output.output_type == "error" and output.ename == STOPPED
        for output in cell.get("outputs", ())
    )


def error_message(name, said):
    """Return the message of an error, which is never empty."""
    if name == "AssertionError":
        return said or name
    return f"{name}: {said}"
