"""Grading a class: its submissions, its table, what failed most often.

Grading one of them is in `_autograder`.
"""

import csv
import dataclasses
import os
import pathlib
import platform
import secrets
from collections import Counter

from kerasllm.checks import (
    UserError,
    check_int,
    check_positive_ints,
    check_real,
)
from kerasllm.files import whole_file
from kerasllm.homework import _sandbox
from kerasllm.homework._autograder import Autograder
from kerasllm.homework._course import Course
from kerasllm.homework._kernel import library_folders, module_files
from kerasllm.homework._notebooks import HomeworkError, read_source, sources


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Args:
        memory_gb: float, memory of its process.
        cell_seconds: int, time of one cell.
        call_seconds: int, time of one call by a test.
        total_seconds: int, time of all.
        backend: str, what Keras runs on; by default what the environment
            variable `KERAS_BACKEND` says, or Keras itself.

    Raises:
        UserError: a number is none, or not positive.
    """

    memory_gb: float = 4.0
    cell_seconds: int = 60
    call_seconds: int = 20
    total_seconds: int = 600
    backend: str | None = None

    def __post_init__(self):
        check_real("memory_gb", self.memory_gb, _is_size, "positive and finite")
        check_positive_ints(
            cell_seconds=self.cell_seconds,
            call_seconds=self.call_seconds,
            total_seconds=self.total_seconds,
        )

    def settings(self):
        """Return them as settings of `JudgedExecute`."""
        return {
            "memory_gb": float(self.memory_gb),
            "timeout": int(self.cell_seconds),
            "call_seconds": int(self.call_seconds),
            "total_seconds": int(self.total_seconds),
            "backend": str(self.backend or os.environ.get("KERAS_BACKEND", "")),
        }


def _is_size(gigabytes):
    return 0 < gigabytes < float("inf")


def grade(
    submissions,
    csv_path,
    folder=None,
    assignment=None,
    seed=None,
    feedback=None,
    course=None,
    *,
    unprotected=False,
    progress=print,
    **limits,
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
        course: path of a new folder, which nbgrader's formgrader can open.
        unprotected: bool. Grade on a system without Landlock, too, where a
            submission can read and change all files that you can.
        progress: callable that is given a line for each submission.
        **limits: what a submission may use, see `Limits`.

    Returns:
        A pair: list of `Result`, and the seed.

    Raises:
        UserError: no submissions, or it is unclear of what; a malformed limit;
            or a folder to hide is one of libraries, which must be readable.
        HomeworkError: nbgrader or Landlock is missing, or the assignment is
            malformed.
    """
    settings = Limits(**limits).settings() | {"seed": _choose_seed(seed)}
    _check_protection(unprotected)
    chosen = _choose_assignment(submissions, folder, assignment)
    name, path, found, notes = chosen
    csv_path = pathlib.Path(csv_path)
    feedback = pathlib.Path(feedback or csv_path.parent / "feedback")
    settings["private"] = _private_folders(
        path.parent, submissions, csv_path.parent, feedback
    )
    source = read_source(path)
    _check_forbidden(source)
    results = []
    with Course(course) as made:
        autograder = Autograder(made, name, source, settings)
        for student, notebook in found.items():
            result = autograder.grade(student, notebook, feedback)
            result.notes[:0] = notes.get(student, [])
            results.append(result)
            # Each time: who is interrupted keeps what is graded.
            write_csv(csv_path, results, autograder.points)
            progress(f"{student}: {result.total:g}")
    return results, settings["seed"]


def _choose_seed(seed):
    if seed is None:
        return secrets.randbelow(10**6)
    return check_int("seed", seed, 0)


def _check_protection(unprotected):
    """Raise unless submissions are kept from the files of who grades."""
    if not (unprotected or _sandbox.landlock_version()):
        raise HomeworkError(
            "Grading needs Landlock (Linux 5.13 or newer) to keep submissions "
            f"from your files. Received: {platform.platform()} without it. "
            "Grade in a container that has nothing else in it, and say "
            "--unprotected."
        )


def _choose_assignment(submissions, folder, assignment):
    """Return what to grade: name, path, paths of submissions, and notes."""
    assignments = sources(folder)
    name, found, unclear = find_submissions(
        submissions, list(assignments), assignment
    )
    if name not in assignments or not found:
        raise UserError(
            "The folder must hold submissions of one assignment of "
            f"{', '.join(assignments)}. Received: {submissions} with "
            f"{len(found)} notebooks of {name or 'more than one'}. Name it "
            "with --assignment."
        )
    notes = {student: [note] for student, note in unclear.items()}
    return name, assignments[name], found, notes


def _check_forbidden(source):
    """Raise if a forbidden module of this package is only a forwarder.

    What it forwards would be left for students to import and to read.
    """
    for module in source.metadata.get("kerasllm", {}).get("forbidden", ()):
        for file in map(pathlib.Path, module_files([module])):
            if file.parent.name == "_moved":
                raise HomeworkError(
                    "An assignment must forbid modules by the names that they "
                    f"have now. Received: forbidden: {module}, which has "
                    f"moved. Its docstring, in {file}, says where to."
                )


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
            raise UserError(
                "Assignments, submissions, the table and pages must be in "
                "folders that submissions need not read. Received: something "
                f"in {folder}, which has libraries. Move it to a folder of "
                "its own."
            )
    return sorted(map(str, private))


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
