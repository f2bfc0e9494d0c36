"""Homework: releasing it to a class, checking it at home, grading it.

An assignment is one jupytext file `hw*.py` with nbgrader's cell metadata and,
in its header, `kerasllm: {graded: [...], forbidden: [...]}`: the names that a
student defines and the modules that have them already. Its solutions and
hidden tests are in no wheel; releasing and grading need the checkout.
"""

import ast
import csv
import dataclasses
import logging
import os
import pathlib
import platform
import re
import secrets
import shutil
import sysconfig
import tempfile
import warnings
from collections import Counter

from kerasllm import sandbox

_LARGEST_SUBMISSION = 20 * 2**20  # bytes
_STUDENT_NAME = re.compile(r"\w[\w.@-]*")
_MARKS = ("BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS")
# Shorter lines, such as `return counts`, may stand anywhere.
_TELLING_LINE = 20
# Not forbidden, and seldom needed: worth a look before a grade is given.
_CURIOUS = {"ctypes", "gc", "importlib", "inspect", "subprocess", "socket",
            "signal", "_ctypes", "multiprocessing"}  # fmt: skip
_CURIOUS_CALLS = {"__import__", "eval", "exec", "get_ipython", "open"}


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
    for cell in notebook.cells:
        if seed is not None and cell.cell_type == "code":
            cell.source = re.sub(
                r"(?m)^SEED = \d+$", f"SEED = {int(seed)}", cell.source
            )
    return notebook


def release(directory, folder=None, seed=None):
    """Write the students' version of each assignment.

    Args:
        directory: path of the folder to write `.ipynb` files to.
        folder: path of the assignments, see `sources`.
        seed: int, which data the students work on.

    Returns:
        list of the paths written.

    Raises:
        RuntimeError: an assignment is malformed, or something of a solution or
            a hidden test would have been released. Nothing is written.
    """
    import nbformat

    directory = pathlib.Path(directory)
    released = {}
    with _Course() as course:
        for name, path in sources(folder).items():
            source = read_source(path, seed)
            notebook = course.generate(name, source)
            leaks = find_leaks(source, notebook)
            if leaks:
                raise RuntimeError(
                    "A release must have nothing of the solutions and hidden "
                    f"tests. Received: {path}, whose release has {leaks[0]!r}. "
                    "Put it between the marks of a solution or hidden tests."
                )
            released[directory / f"{name}.ipynb"] = notebook
    directory.mkdir(parents=True, exist_ok=True)
    for path, notebook in released.items():
        nbformat.write(notebook, path)
    return list(released)


def find_leaks(source, released):
    """Return lines of solutions and hidden tests that a release has.

    Args:
        source: notebook with both.
        released: notebook that should have neither.
    """
    secret, public = set(), set()
    for cell in source.cells:
        inside = False
        marked = any(mark in cell.source for mark in _MARKS)
        # Without marks all of a solution cell is the solution.
        whole = _is(cell, "solution") and not marked
        for line in map(str.strip, cell.source.splitlines()):
            if any(mark in line for mark in _MARKS):
                inside = "BEGIN" in line
            elif inside or whole:
                secret.add(line)
            else:
                public.add(line)
    telling = {line for line in secret - public if len(line) >= _TELLING_LINE}
    text = "\n".join(cell.source for cell in released.cells)
    lines = {line.strip() for line in text.splitlines()}
    leaks = sorted(telling & lines)
    leaks += [mark for mark in _MARKS if mark in text]
    leaks += ["an output" for cell in released.cells if cell.get("outputs")]
    return leaks


def check(path):
    """Run a student's notebook with the tests that are visible in it.

    Args:
        path: path of the `.ipynb`. It is not changed.

    Returns:
        A `Result`; points are those of tests whose visible part passes.

    Raises:
        ValueError: it is no notebook of an assignment.
        RuntimeError: nbclient is missing.
    """
    try:
        from nbclient import NotebookClient
    except ImportError as error:
        raise RuntimeError(
            "Checking needs nbclient, which comes with Jupyter. Received: an "
            f"installation without it ({error}). `pip install "
            '"kerasllm[notebooks]"`.'
        ) from None

    path = pathlib.Path(path)
    notebook, problem = _read_notebook(path)
    if problem or not any(_is(cell, "grade") for cell in notebook.cells):
        raise ValueError(
            "The file must be a notebook of an assignment. Received: "
            f"{path} ({problem or 'without tests'}). Start from a fresh copy "
            "of the assignment and paste your cells into it."
        )
    metadata = notebook.metadata.get("kerasllm", {})
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "-"}
    NotebookClient(
        notebook,
        timeout=300,
        allow_errors=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    result = Result(path.stem, {}, {}, _notes(notebook, metadata))
    for cell in notebook.cells:
        if not _is(cell, "grade"):
            continue
        question = cell.metadata.nbgrader.grade_id
        if _is(cell, "solution"):
            result.scores[question] = None
            continue
        failure = _failure(cell)
        points = cell.metadata.nbgrader.points
        result.scores[question] = 0 if failure else points
        if failure:
            result.failures[question] = failure
    return result


def find_submissions(directory, names):
    """Find the notebooks that a class handed in.

    Args:
        directory: path of a folder with `STUDENT.ipynb`, or with a folder for
            each student as nbgrader collects them.
        names: the assignments there are.

    Returns:
        A pair: the name of the assignment, or `None` if unclear, and a dict
        from student to path, sorted.
    """
    directory = pathlib.Path(directory)
    found, assignments = {}, set()
    for path in sorted(directory.rglob("*.ipynb")):
        parts = path.relative_to(directory).parts
        if path.is_symlink() or ".ipynb_checkpoints" in parts:
            continue
        assignments |= {name for name in names if path.stem.startswith(name)}
        student = parts[0] if len(parts) > 1 else path.stem
        if len(parts) == 1:
            for name in names:
                student = student.replace(name, "").strip("_- ") or student
        found.setdefault(student, []).append(path)
    name = assignments.pop() if len(assignments) == 1 else None
    if name is None and len(names) == 1:
        name = names[0]
    chosen = {}
    for student, paths in found.items():
        named = [path for path in paths if path.stem == name]
        chosen[student] = (named or paths)[0]
    return name, chosen


def grade(
    submissions,
    csv_path,
    folder=None,
    assignment=None,
    seed=None,
    feedback=None,
    course=None,
    *,
    memory_gb=4.0,
    cell_seconds=60,
    call_seconds=20,
    total_seconds=600,
    backend="jax",
    unprotected=False,
    progress=print,
):
    """Grade a class.

    Args:
        submissions: path, see `find_submissions`.
        csv_path: path of the table to write, a row a student.
        folder: path of the assignments, see `sources`.
        assignment: str, which one; `None` recognizes it by file names.
        seed: int, what hidden inputs are drawn from; `None` draws one.
        feedback: path of the folder for a page a student; by default
            `feedback` beside the table.
        course: path of a new folder to keep as nbgrader's course, for grading
            by hand in its formgrader.
        memory_gb: float, memory of a submission.
        cell_seconds: int, time of one cell.
        call_seconds: int, time of one call by a test.
        total_seconds: int, time of a submission.
        backend: str, what Keras runs on.
        unprotected: bool. Grade on a system without Landlock, too, where a
            submission can read and change all files that you can.
        progress: callable that is given a line for each submission.

    Returns:
        A pair: list of `Result`, and the seed.

    Raises:
        ValueError: no submissions, or it is unclear of what.
        RuntimeError: nbgrader or Landlock is missing.
    """
    if not (unprotected or sandbox.landlock_version()):
        raise RuntimeError(
            "Grading needs Landlock (Linux 5.13 or newer) to keep submissions "
            f"from your files. Received: {platform.platform()} without it. "
            "Grade in a container that has nothing else in it, and say "
            "--unprotected."
        )
    found = sources(folder)
    name, paths = find_submissions(submissions, list(found))
    name = assignment or name
    if name not in found or not paths:
        raise ValueError(
            "The folder must hold submissions of one assignment of "
            f"{', '.join(found)}. Received: {submissions} with {len(paths)} "
            f"notebooks of {name or 'more than one'}. Name it with "
            "--assignment."
        )
    csv_path = pathlib.Path(csv_path)
    feedback = pathlib.Path(feedback or csv_path.parent / "feedback")
    seed = secrets.randbelow(10**6) if seed is None else seed
    limits = {
        "memory_gb": float(memory_gb),
        "timeout": cell_seconds,
        "call_seconds": call_seconds,
        "total_seconds": total_seconds,
        "backend": backend,
        "seed": seed,
    }
    results = []
    with _Course(course) as made:
        made.prepare(name, read_source(found[name]), limits)
        for student, path in paths.items():
            result = made.grade(student, path, feedback)
            results.append(result)
            progress(f"{student}: {result.total:g}")
    write_csv(csv_path, results, made.points)
    return results, seed


def write_csv(path, results, points):
    """Write a table with a row a student and a column a question.

    What a person has to grade is left empty.

    Args:
        path: path of the file.
        results: list of `Result`.
        points: dict from question to the most points it gives.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["student", "automatic points", *points, "notes"])
        writer.writerow(["(most)", sum(points.values()), *points.values(), ""])
        for result in results:
            scores = [result.scores.get(question) for question in points]
            notes = "; ".join(result.notes)
            writer.writerow(
                [_cell(result.student), result.total, *scores, _cell(notes)]
            )


def _cell(text):
    """Keep a spreadsheet from taking text for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t" and text else text


def summarize(results):
    """Return lines on how a class did and what failed most often."""
    lines = [f"{len(results)} submissions"]
    for question in results[0].scores:
        scores = [result.scores.get(question) for result in results]
        if None in scores:
            lines.append(f"{question}: to grade by hand")
            continue
        passed = sum(bool(score) for score in scores)
        lines.append(f"{question}: {passed} of {len(results)} passed")
        messages = Counter(
            result.failures[question].splitlines()[0][:200]
            for result in results
            if result.failures.get(question)
        )
        for message, count in messages.most_common(3):
            lines.append(f"  {count} x {message}")
    return lines


class _Course:
    """A course of nbgrader in a folder, temporary unless it is named."""

    def __init__(self, directory=None):
        try:
            from nbgrader.apps import NbGraderAPI
            from nbgrader.coursedir import CourseDirectory
        except ImportError as error:
            raise RuntimeError(
                "Releasing and grading need nbgrader. Received: an "
                f'installation without it ({error}). `pip install "kerasllm'
                '[instructor]"`. Students need only `check`.'
            ) from None
        from traitlets.config import Config

        self.is_temporary = directory is None
        if directory is None:
            self.root = pathlib.Path(tempfile.mkdtemp()).resolve()
        else:
            self.root = pathlib.Path(directory).resolve()
            if self.root.exists():
                raise ValueError(
                    "`course` must be a new folder. Received: "
                    f"{directory}, which exists. Name another."
                )
            self.root.mkdir(parents=True)
        self.root.chmod(0o700)
        # nbgrader calls alembic by name, even if Python was called by path.
        scripts = sysconfig.get_path("scripts")
        if scripts not in os.environ["PATH"].split(os.pathsep):
            os.environ["PATH"] = f"{scripts}{os.pathsep}{os.environ['PATH']}"
        self.config = Config()
        self.config.CourseDirectory.root = str(self.root)
        self.config.CourseDirectory.course_id = "kerasllm"
        # What nbgrader logs is returned by its functions, too.
        self.config.Application.log_level = logging.CRITICAL
        self._api = lambda: NbGraderAPI(
            CourseDirectory(config=self.config), config=self.config
        )

    def __enter__(self):
        # SQLAlchemy is not content with how nbgrader adds its rows.
        self.warnings = warnings.catch_warnings()
        self.warnings.__enter__()
        warnings.filterwarnings("ignore", message="Object of type <Submitted")
        return self

    def __exit__(self, *error):
        self.warnings.__exit__(*error)
        if self.is_temporary:
            shutil.rmtree(self.root, ignore_errors=True)

    def generate(self, name, source):
        """Make the students' version of an assignment and return it."""
        import nbformat

        folder = self.root / "source" / name
        folder.mkdir(parents=True)
        nbformat.write(source, folder / f"{name}.ipynb")
        answer = self._api().generate_assignment(name)
        if not answer["success"]:
            raise RuntimeError(
                f"An assignment must be as nbgrader wants it. Received: {name} "
                f"with\n{answer.get('log', '')}{answer.get('error', '')}"
            )
        released = self.root / "release" / name / f"{name}.ipynb"
        return nbformat.read(released, as_version=4)

    def prepare(self, name, source, limits):
        """Make the assignment and set up how submissions are run."""
        from nbgrader.preprocessors import (
            AssignLatePenalties,
            CheckCellMetadata,
            ClearHiddenTests,
            GetGrades,
            IgnorePattern,
            LimitOutput,
            SaveAutoGrades,
        )

        from kerasllm.homework_grading import JudgedExecute

        self.name = name
        self.released = self.generate(name, source)
        self.metadata = dict(source.metadata.get("kerasllm", {}))
        graded = [cell for cell in source.cells if _is(cell, "grade")]
        self.points = {
            cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.points
            for cell in graded
        }
        settings = self.config.JudgedExecute
        settings.update(limits)
        settings.graded = self.metadata.get("graded", [])
        settings.forbidden = self.metadata.get("forbidden", [])
        settings.tests = {
            cell.metadata.nbgrader.grade_id: {
                "source": cell.source,
                "is_test": _is(cell, "grade"),
            }
            for cell in source.cells
            if _is_locked(cell)
        }
        self.config.Autograde.autograde_preprocessors = [
            JudgedExecute,
            IgnorePattern,
            LimitOutput,
            SaveAutoGrades,
            AssignLatePenalties,
            CheckCellMetadata,
        ]
        # nbgrader's own feedback shows the hidden tests.
        self.config.GenerateFeedback.preprocessors = [
            GetGrades,
            ClearHiddenTests,
            "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
        ]
        # Nor should a page run what a student displays.
        self.config.HTMLExporter.sanitize_html = True

    def grade(self, student, path, feedback):
        """Grade one submission, whatever is in it.

        Returns:
            A `Result`.
        """
        import nbformat

        nothing = dict.fromkeys(self.points, 0)
        if not _STUDENT_NAME.fullmatch(student):
            note = "not graded: rename it to letters, digits, . _ @ and -"
            return Result(student, nothing, {}, [note])
        notebook, problem = _read_notebook(path)
        if problem:
            return Result(student, nothing, {}, [f"not graded: {problem}"])
        notes = _notes(notebook, self.metadata)
        submitted = self.root / "submitted" / student / self.name
        submitted.mkdir(parents=True)
        nbformat.write(
            rebuild(notebook, self.released), submitted / f"{self.name}.ipynb"
        )
        api = self._api()
        answer = api.autograde(self.name, student)
        if not answer["success"]:
            # The error that it returns only points to its log.
            errors = re.findall(r"(?m)^ +(\w+Error: .*)$", answer["log"])
            reason = errors[-1] if errors else answer["error"]
            notes.append(f"not graded: {reason[:300]}")
            return Result(student, nothing, {}, notes)
        result = self._read_result(student, notes)
        answer = api.generate_feedback(self.name, student)
        page = self.root / "feedback" / student / self.name
        page = page / f"{self.name}.html"
        if answer["success"] and page.exists():
            feedback.mkdir(parents=True, exist_ok=True)
            shutil.copy(page, feedback / f"{student}.html")
        else:
            result.notes.append("no feedback page could be made")
        return result

    def _read_result(self, student, notes):
        import nbformat
        from nbgrader.api import Gradebook

        scores = {}
        with Gradebook(self._api().coursedir.db_url, "kerasllm") as gradebook:
            submission = gradebook.find_submission(self.name, student)
            for notebook in submission.notebooks:
                for mark in notebook.grades:
                    by_hand = mark.needs_manual_grade
                    scores[mark.name] = None if by_hand else mark.auto_score
        path = self.root / "autograded" / student / self.name
        notebook = nbformat.read(path / f"{self.name}.ipynb", as_version=4)
        failures = {
            cell.metadata.nbgrader.grade_id: _failure(cell)
            for cell in notebook.cells
            if _is(cell, "grade") and _is_locked(cell) and _failure(cell)
        }
        stops = [text for text in failures.values() if "was stopped" in text]
        if stops:
            notes.append(stops[0].partition(": ")[2])
        return Result(student, scores, failures, notes)


def rebuild(notebook, released):
    """Make of a submission a notebook that nbgrader can rely on.

    Of the student's notebook only the cells' text is taken. A cell is what the
    release says of its id, the first with that id; all others are plain cells.
    Cells that are missing are put at the end.

    Args:
        notebook: the submission.
        released: the students' version of the assignment.
    """
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    expected = {
        cell.metadata.nbgrader.grade_id: cell
        for cell in released.cells
        if "nbgrader" in cell.metadata
    }
    cells = []
    for cell in notebook.cells:
        details = cell.get("metadata", {}).get("nbgrader", {})
        grade_id = details.get("grade_id") if hasattr(details, "get") else None
        known = expected.pop(grade_id, None) if _is_text(grade_id) else None
        source, kind = cell.source, cell.cell_type
        if known is not None:
            kind = known.cell_type
            source = known.source if _is_locked(known) else source
        if kind not in ("code", "markdown"):
            continue
        new = new_code_cell if kind == "code" else new_markdown_cell
        metadata = {} if known is None else known.metadata
        cells.append(new(source, metadata=metadata))
    cells += expected.values()
    return new_notebook(cells=cells, metadata=released.metadata)


def _read_notebook(path):
    """Return a notebook and `None`, or `None` and what is wrong with it."""
    import nbformat

    try:
        if path.stat().st_size > _LARGEST_SUBMISSION:
            return None, f"the file has more than {_LARGEST_SUBMISSION} bytes"
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if not _is_text(cell.source) or not _is_text(cell.cell_type):
                return None, "a cell that is no text"
        return notebook, None
    except Exception as error:  # whatever a broken file can raise
        return None, f"it is no notebook ({type(error).__name__})"


def _is_text(value):
    return isinstance(value, str)


def _is(cell, what):
    return bool(cell.metadata.get("nbgrader", {}).get(what))


def _is_locked(cell):
    """Return whether a cell is the instructor's: a test or a helper."""
    return not _is(cell, "solution") and (
        _is(cell, "grade") or _is(cell, "locked")
    )


def _failure(cell):
    """Return the message of the error that a cell ended in, or `None`."""
    for output in cell.get("outputs", ()):
        if output.output_type == "error":
            name = "" if output.ename == "AssertionError" else output.ename
            return f"{name}: {output.evalue}" if name else output.evalue
    return None


def _notes(notebook, metadata):
    """Return what in the code of a student is forbidden or curious."""
    forbidden = set(metadata.get("forbidden", ()))
    notes = set()
    for cell in notebook.cells:
        if cell.cell_type != "code" or _is_locked(cell):
            continue
        lines = cell.source.splitlines()
        # Magics are no Python.
        lines = ["" if line.lstrip()[:1] in "%!" else line for line in lines]
        try:
            tree = ast.parse("\n".join(lines))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            notes.add("a cell that is not Python")
            continue
        for name in _used_names(tree):
            parts = name.split(".")
            heads = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
            if heads & forbidden:
                notes.add(f"imports {name}, which is forbidden")
            elif parts[0] in _CURIOUS or name in _CURIOUS_CALLS:
                notes.add(f"uses {name}")
    return sorted(notes)


def _used_names(tree):
    """Yield the modules that code imports and the functions it calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id
