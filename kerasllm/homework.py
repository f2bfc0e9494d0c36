"""Homework: what an assignment is, and checking it at home.

An assignment is one jupytext file `hw*.py` with nbgrader's cell metadata and,
in its header, `kerasllm: {graded: [...], forbidden: [...]}`: the names that a
student defines and the modules that have them already. It may have
`forbidden_names`, of functions and layers of allowed modules, and `assets`,
presets of this package to work with. Its solutions and hidden tests are in no
wheel; releasing and grading need the checkout.

Handing it out and grading it are in `homework_course`.
"""

import ast
import dataclasses
import pathlib
import re

_LARGEST_SUBMISSION = 20 * 2**20  # bytes
_CELL_SECONDS = 300  # that a cell may take at home
_OUT_OF_TIME = (
    f"interrupted after {_CELL_SECONDS} s. Look for a loop without an end."
)
_NOT_RUN = (
    "not run to its end. A cell used up the memory or left Python, or two ran "
    "out of time."
)
# Whatever stands between such marks is not for students.
MARKS = ("BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS", "MARK SCHEME")
# Shorter lines, such as `return counts`, may stand anywhere.
_TELLING_LINE = 20
# Not forbidden, and seldom needed: worth a look before a grade is given.
_CURIOUS = {"ctypes", "gc", "importlib", "inspect", "subprocess", "socket",
            "signal", "_ctypes", "multiprocessing"}  # fmt: skip
_CURIOUS_CALLS = {"__import__", "eval", "exec", "get_ipython", "open"}
_CURIOUS_MAGICS = {"!", "bash", "run", "script", "sh", "sx", "system"}
# IPython's lines that are no Python: `%time x = 1`, `%%bash`, `!ls`.
_MAGIC = re.compile(r"(?m)^([ \t]*)(?:%%?(\w+)|!+)(.*)$")


@dataclasses.dataclass
class Result:
    """What one submission earned.

    Args:
        student: str, the name of its file or folder.
        scores: dict from question to points, or to `None` where a person has
            to grade.
        failures: dict from question to the message of its failed test.
        notes: list of str, what the instructor should look at.
    """

    student: str
    scores: dict
    failures: dict = dataclasses.field(default_factory=dict)
    notes: list = dataclasses.field(default_factory=list)

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
        FileNotFoundError: there are none.
    """
    if folder is None:
        folder = pathlib.Path(__file__).parent.parent / "chapters" / "homework"
    found = {
        path.stem: path for path in sorted(pathlib.Path(folder).glob("hw*.py"))
    }
    if not found:
        raise FileNotFoundError(
            "The assignments must be in a folder of `hw*.py` files. Received: "
            f"{folder}. They are not part of the installed package; run this "
            "in a checkout or name its chapters/homework."
        )
    return found


def read_source(path, seed=None):
    """Read an assignment with solutions and hidden tests as a notebook.

    Args:
        path: path of the `.py` file.
        seed: int, to stand in the line `SEED = ...`; `None` leaves it.
    """
    import jupytext

    notebook = jupytext.read(path)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    for number, cell in enumerate(notebook.cells):
        # Jupytext draws new ids each time, and a release would never be equal
        # to the one before.
        details = cell.metadata.get("nbgrader", {})
        cell.id = details.get("grade_id", f"cell-{number}")
        if seed is not None and cell.cell_type == "code":
            cell.source = re.sub(
                r"(?m)^SEED = \d+$", f"SEED = {int(seed)}", cell.source
            )
    return notebook


def find_leaks(source, released):
    """Return lines of solutions and hidden tests that a release has.

    Args:
        source: notebook with both.
        released: notebook that should have neither.
    """
    secret, public = set(), set()
    for cell in source.cells:
        inside = False
        marked = any(mark in cell.source for mark in MARKS)
        # Without marks all of a solution cell is the solution.
        whole = is_cell(cell, "solution") and not marked
        for line in map(str.strip, cell.source.splitlines()):
            if any(mark in line for mark in MARKS):
                inside = "BEGIN" in line
            elif inside or whole:
                secret.add(line)
            else:
                public.add(line)
    telling = {line for line in secret - public if len(line) >= _TELLING_LINE}
    text = "\n".join(cell.source for cell in released.cells)
    lines = {line.strip() for line in text.splitlines()}
    leaks = sorted(telling & lines)
    leaks += [mark for mark in MARKS if mark in text]
    leaks += ["an output" for cell in released.cells if cell.get("outputs")]
    return leaks


def check(path):
    """Run a student's notebook with the tests that are visible in it.

    A cell that takes too long is interrupted, the second one ends the notebook,
    and so does what ends Python. Tests that did not run fail.

    Args:
        path: path of the `.ipynb`. It is not changed.

    Returns:
        A `Result`; points are those of tests whose visible part passes.

    Raises:
        ValueError: it is no notebook of an assignment.
        RuntimeError: nbclient is missing.
    """
    try:
        import nbclient  # noqa: F401
    except ImportError as error:
        raise RuntimeError(
            "Checking needs nbclient, which comes with Jupyter. Received: an "
            f"installation without it ({error}). `pip install "
            '"kerasllm[notebooks]"`.'
        ) from None

    path = pathlib.Path(path)
    notebook, problem = read_submission(path)
    if problem or not any(is_cell(cell, "grade") for cell in notebook.cells):
        raise ValueError(
            "The file must be a notebook of an assignment. Received: "
            f"{path} ({problem or 'without tests'}). Start from a fresh copy "
            "of the assignment and paste your cells into it."
        )
    metadata = notebook.metadata.get("kerasllm", {})
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "-"}
    failures = _run(notebook, path.parent)
    result = Result(path.stem, {}, {}, find_notes(notebook, metadata))
    for cell, failure in zip(notebook.cells, failures, strict=True):
        if not is_cell(cell, "grade"):
            if failure == _OUT_OF_TIME:
                first = cell.source.strip().splitlines()[0]
                result.notes.append(f"the cell {first!r}: {failure}")
            continue
        question = cell.metadata.nbgrader.grade_id
        if is_cell(cell, "solution"):
            result.scores[question] = None
            continue
        points = cell.metadata.nbgrader.points
        result.scores[question] = 0 if failure else points
        if failure:
            result.failures[question] = failure
    return result


def _run(notebook, folder):
    """Run a notebook; return for each cell what went wrong, or `None`."""
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError

    failures = [_NOT_RUN] * len(notebook.cells)

    def keep(cell, cell_index, execute_reply):
        reply = execute_reply["content"]
        failures[cell_index] = None
        if reply["status"] != "ok":
            failures[cell_index] = _message(reply["ename"], reply["evalue"])
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
        pass  # what has not run is in `failures`
    return failures


def read_submission(path):
    """Return a notebook and `None`, or `None` and what is wrong with it."""
    import nbformat

    try:
        if path.stat().st_size > _LARGEST_SUBMISSION:
            return None, f"the file has more than {_LARGEST_SUBMISSION} bytes"
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if not is_text(cell.source) or not is_text(cell.cell_type):
                return None, "a cell that is no text"
            _drop_strange_details(cell)
        return notebook, None
    except Exception as error:  # whatever a broken file can raise
        return None, f"it is no notebook ({type(error).__name__})"


def _drop_strange_details(cell):
    """Drop what is not of nbgrader's form: such a cell is a plain one."""
    details = cell.metadata.get("nbgrader")
    if not isinstance(details, dict) or not is_text(details.get("grade_id")):
        cell.metadata.pop("nbgrader", None)


def is_text(value):
    """Return whether a part of a notebook is a text, as it should be."""
    return isinstance(value, str)


def is_cell(cell, what):
    """Return whether nbgrader's metadata of a cell say `what` of it."""
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
            return _message(output.ename, output.evalue)
    return None


def _message(name, said):
    """Return the message of an error, which is never empty."""
    if name == "AssertionError":
        return said or name
    return f"{name}: {said}"


def find_notes(notebook, metadata):
    """Return what in the code of a student is forbidden or curious."""
    forbidden = set(metadata.get("forbidden", ()))
    forbidden_names = set(metadata.get("forbidden_names", ()))
    notes = set()
    for cell in notebook.cells:
        if cell.cell_type != "code" or is_locked(cell):
            continue
        tree = _parse(cell.source)
        if tree is None:
            # Only what is no Python can have magics.
            magics = {match[2] or "!" for match in _MAGIC.finditer(cell.source)}
            notes |= {f"uses {magic}" for magic in magics & _CURIOUS_MAGICS}
            tree = _parse(_MAGIC.sub(_as_python, cell.source))
        if tree is None:
            notes.add("a cell that is not Python")
            words = forbidden_names & set(re.findall(r"\w+", cell.source))
            notes |= {f"uses {word}, which is forbidden" for word in words}
            continue
        for name in _used_names(tree):
            parts = name.split(".")
            heads = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
            if heads & forbidden:
                notes.add(f"imports {name}, which is forbidden")
            elif parts[0] in _CURIOUS or name in _CURIOUS_CALLS:
                notes.add(f"uses {name}")
        for name in forbidden_names & set(_all_names(tree)):
            notes.add(f"uses {name}, which is forbidden")
    return sorted(notes)


def _parse(source):
    """Return the syntax tree of code, or `None` if it is not Python."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _as_python(magic):
    """Return what a magic is given as Python, or else its words as texts."""
    indent, given = magic[1], magic[3].strip()
    if not given or _parse(given) is None:
        given = repr(re.findall(r"\w+", given))
    return indent + given


def _used_names(tree):
    """Yield the modules that code imports and the functions it calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def _all_names(tree):
    """Yield every name in code: of variables, attributes, arguments, imports.

    Text counts, too: `getattr(layer, "enable_lora")`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.alias):
            yield from node.name.split(".")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
