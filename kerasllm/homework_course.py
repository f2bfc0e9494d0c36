"""Homework on the instructor's side: releasing it and grading a class.

nbgrader does the work, in a course folder that is made for the occasion. How
submissions are run is in `homework_grading`.
"""

import csv
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
from kerasllm.files import whole_file
from kerasllm.homework import (
    Result,
    failure_of,
    find_leaks,
    find_notes,
    is_cell,
    is_locked,
    read_source,
    read_submission,
    sources,
)
from kerasllm.homework_kernel import library_folders

_STUDENT_NAME = re.compile(r"\w[\w.@-]*")


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


def find_submissions(directory, names, assignment=None):
    """Find the notebooks that a class handed in.

    Args:
        directory: path of a folder with `STUDENT.ipynb`, or with a folder for
            each student as nbgrader collects them.
        names: the assignments there are.
        assignment: str, which of them; `None` recognizes it by file names.

    Returns:
        The name of the assignment, or `None` if unclear, a dict from student
        to path, sorted, and a dict from student to a note, for those whose
        files leave it unclear which to grade.
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
    name = assignment
    if name is None and len(assignments) == 1:
        name = assignments.pop()
    if name is None and len(names) == 1:
        name = names[0]
    chosen, notes = {}, {}
    for student, paths in found.items():
        chosen[student], note = _choose(paths, name, names)
        if note:
            notes[student] = note
    return name, chosen, notes


def _choose(paths, name, names):
    """Return the one of a student's notebooks to grade as `name`, and a note.

    The note is `None` if there is no doubt.
    """
    named = [path for path in paths if name and path.stem.startswith(name)]
    named.sort(key=lambda path: path.stem != name)
    if len(named) > 1:
        others = ", ".join(path.name for path in named[1:])
        return named[0], f"graded {named[0].name}, not {others}"
    if named:
        return named[0], None
    # A file that says only whose it is may well be of this assignment.
    unnamed = [path for path in paths if not path.stem.startswith(tuple(names))]
    path = (unnamed or paths)[0]
    if unnamed and len(paths) == 1:
        return path, None
    return path, f"graded {path.name}: no file is named after the assignment"


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
        ValueError: no submissions, or it is unclear of what; or a folder that
            submissions must not read is one of libraries, which they must.
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
    name, paths, unclear = find_submissions(
        submissions, list(found), assignment
    )
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
        "private": _private_folders(
            found[name].parent, submissions, csv_path.parent, feedback
        ),
    }
    results = []
    with _Course(course) as made:
        made.prepare(name, read_source(found[name]), limits)
        for student, path in paths.items():
            result = made.grade(student, path, feedback)
            if student in unclear:
                result.notes.insert(0, unclear[student])
            results.append(result)
            # Each time: who is interrupted keeps what is graded.
            write_csv(csv_path, results, made.points)
            progress(f"{student}: {result.total:g}")
    return results, seed


def _private_folders(*folders):
    """Return folders that submissions must not read, wherever they are.

    The whole project that such a folder is in is one of them: its history has
    the solutions, too.
    """
    private = {pathlib.Path(folder).resolve() for folder in folders}
    private |= {
        parent
        for folder in private
        for parent in folder.parents
        if (parent / ".git").exists() or (parent / "pyproject.toml").exists()
    }
    for folder in map(os.path.realpath, library_folders()):
        if pathlib.Path(folder) in private:
            raise ValueError(
                "Assignments, submissions, the table and pages must be in "
                "folders that submissions need not read. Received: something "
                f"in {folder}, which has libraries. Move it to a folder of "
                "its own."
            )
    return sorted(map(str, private))


def write_csv(path, results, points):
    """Write a table with a row a student and a column a question.

    What a person has to grade is left empty.

    Args:
        path: path of the file.
        results: list of `Result`.
        points: dict from question to the most points it gives.
    """
    with whole_file(path, newline="") as file:
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
        graded = [cell for cell in source.cells if is_cell(cell, "grade")]
        self.points = {
            cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.points
            for cell in graded
        }
        settings = self.config.JudgedExecute
        settings.update(limits)
        settings.private = [*limits["private"], str(self.root)]
        settings.graded = self.metadata.get("graded", [])
        settings.forbidden = self.metadata.get("forbidden", [])
        settings.assets = self.metadata.get("assets", [])
        settings.tests = {
            cell.metadata.nbgrader.grade_id: {
                "source": cell.source,
                "is_test": is_cell(cell, "grade"),
            }
            for cell in source.cells
            if is_locked(cell)
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
        notebook, problem = read_submission(path)
        if problem:
            return Result(student, nothing, {}, [f"not graded: {problem}"])
        # What is run, whatever the student's metadata say of it.
        notebook = rebuild(notebook, self.released)
        notes = find_notes(notebook, self.metadata)
        submitted = self.root / "submitted" / student / self.name
        submitted.mkdir(parents=True)
        nbformat.write(notebook, submitted / f"{self.name}.ipynb")
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
            cell.metadata.nbgrader.grade_id: failure_of(cell)
            for cell in notebook.cells
            if is_cell(cell, "grade") and is_locked(cell) and failure_of(cell)
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
        notebook: the submission, as `read_submission` returns it.
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
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        known = expected.pop(grade_id, None)
        source, kind = cell.source, cell.cell_type
        if known is not None:
            kind = known.cell_type
            source = known.source if is_locked(known) else source
        if kind not in ("code", "markdown"):
            continue
        new = new_code_cell if kind == "code" else new_markdown_cell
        metadata = {} if known is None else known.metadata
        cells.append(new(source, metadata=metadata))
    cells += expected.values()
    return new_notebook(cells=cells, metadata=released.metadata)
