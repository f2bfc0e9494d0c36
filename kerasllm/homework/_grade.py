"""Grade a class: its submissions, its table, and what failed most often.

`_autograder` grades a single submission.
"""

import dataclasses
import hashlib
import itertools
import math
import os
import pathlib
import platform
import secrets
import sys
from collections import Counter

from kerasllm.checks import (
    UserError,
    check_int,
    check_path,
    check_positive_ints,
    check_real,
)
from kerasllm.files import (
    check_unchanged,
    check_writable,
    locked,
    remember,
    sha256,
)
from kerasllm.homework._autograder import Autograder, Vouching
from kerasllm.homework._course import course_folder
from kerasllm.homework._notebooks import (
    HomeworkError,
    MachineError,
    read_source,
    sources,
)
from kerasllm.homework._submissions import find_leftovers, find_submissions
from kerasllm.homework.kernels import _namespaces, _resources, _sandbox
from kerasllm.homework.kernels._kernel import library_folders, module_files
from kerasllm.homework.shown import visible, write_csv

_LONGEST_NAME = 180  # bytes, of the 255 that a file's name may have


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Args:
        memory_gb: float, memory of its processes, in units of 2**30 bytes.
        cell_seconds: int, time of one cell.
        call_seconds: int, time of one call by a test.
        total_seconds: int, time of the whole submission.
        read_seconds: int, time to read it, and again to make its page.
        disk_gb: float, size of its files, in units of 2**30 bytes, as far as
            the system can limit it.
        backend: str, the backend of Keras; by default Keras's own choice,
            whatever the environment variable `KERAS_BACKEND` says.

    Raises:
        UserError: a limit is not a number, or not positive.
    """

    memory_gb: float = 4.0
    cell_seconds: int = 60
    call_seconds: int = 20
    total_seconds: int = 600
    read_seconds: int = 60
    disk_gb: float = 1.0
    backend: str | None = None

    def __post_init__(self):
        for name in ("memory_gb", "disk_gb"):
            size = getattr(self, name)
            check_real(name, size, _is_size, "positive and finite")
        check_positive_ints(
            cell_seconds=self.cell_seconds,
            call_seconds=self.call_seconds,
            total_seconds=self.total_seconds,
            read_seconds=self.read_seconds,
        )

    def settings(self):
        """Return the limits as `Autograder` takes them."""
        return {
            "memory_gb": float(self.memory_gb),
            "timeout": int(self.cell_seconds),
            "call_seconds": int(self.call_seconds),
            "total_seconds": int(self.total_seconds),
            "read_seconds": int(self.read_seconds),
            "disk_gb": float(self.disk_gb),
            "backend": self.backend or "",
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
    force=False,
    progress=print,
    **limits,
):
    """Grade a class.

    No variable of the shell changes what a submission earns. If nobody passes
    a test, the assignment's own solution is graded, too. If the solution also
    fails, the machine is to blame, and not the class.

    Args:
        submissions: path, see `find_submissions`.
        csv_path: path of the table to write, with one row per student.
        folder: path of the assignments, see `sources`.
        assignment: str, its name; `None` recognizes it by file names.
        seed: int, seed of the hidden inputs; `None` draws one.
        feedback: path of the folder for the students' pages; by default
            `feedback` beside the table.
        course: path of a new folder, which nbgrader's formgrader can open.
        unprotected: bool. Grade even on a system without Landlock, where a
            submission can read and change all files that you can.
        force: bool. Replace even a table and pages that somebody has changed.
        progress: callable that gets a line for each submission.
        **limits: what a submission may use, see `Limits`.

    Returns:
        A pair: list of `Result`, and the seed.

    Raises:
        MissingFileError: there are no assignments.
        UserError: there are no submissions, or it is unclear of which
            assignment; the seed or a limit is malformed; `course` exists; or a
            folder to hide is a folder of libraries, which must stay readable.
        HomeworkError: nbgrader or Landlock is missing, or the assignment is
            malformed.
        RunError: the table, or a page, was changed since it was written, or is
            of another assignment; or they are being written at the moment.
        MachineError: the assignment's own solution fails on this machine, or
            nothing can be run. A table that has been written leaves open what
            the machine is to blame for.
    """
    settings = Limits(**limits).settings() | {
        "seed": _choose_seed(seed),
        "way": _namespaces.find_way(),
    }
    _check_protection(unprotected)
    csv_path = check_path("csv_path", csv_path)
    feedback = check_path("feedback", feedback or csv_path.parent / "feedback")
    submissions = check_path("submissions", submissions)
    if course is not None:
        course = check_path("course", course)
    outputs = [path for path in (csv_path, feedback, course) if path]
    name, path, found, notes, refused = _choose_assignment(
        submissions, folder, assignment, outputs
    )
    pages = {student: feedback / _page_of(student) for student in found}
    for written in (csv_path.parent, feedback):
        check_writable(written)
    check_unchanged([csv_path, *pages.values()], force, name)
    settings["private"] = _private_folders(
        path.parent, submissions, csv_path.parent, feedback
    )
    source = read_source(path)
    _check_forbidden(source)
    for left in find_leftovers(submissions, [name], outputs):
        progress(f"left out: {left}")
    with (
        locked(feedback),
        course_folder(course) as root,
        Autograder(root, name, source, settings) as autograder,
    ):
        table = _Table(csv_path, name, autograder.points, progress)
        vouching = Vouching(name, source, settings)
        for student in sorted({*found, *notes}):
            if student in found:
                page = pages[student]
                result = autograder.grade(student, found[student], page)
            else:
                score = None if student in refused else 0
                result = autograder.ungraded(student, score=score)
            if student in notes:
                result.notes.insert(0, notes[student])
            table.add(result)
            progress(_progress(result))
            if student in found:
                table.check(vouching)
        table.check(vouching, is_end=True)
    return table.results, settings["seed"]


class _Table:
    """The results so far, in memory and in a file."""

    def __init__(self, path, name, points, progress):
        self.path, self.name, self.points = path, name, points
        self.progress = progress
        self.results, self.digest = [], None

    def add(self, result):
        """Add a row and write the table, in case of an interruption."""
        self.results.append(result)
        self.write()

    def write(self):
        """Write the table."""
        self._keep_changes()
        write_csv(self.path, self.results, self.points)
        self.digest = sha256(self.path)
        remember(self.path, self.name)

    def _keep_changes(self):
        """Rename the table if somebody has changed it since it was written."""
        if not self.digest or not self.path.exists():
            return
        if sha256(self.path) != self.digest:
            stem, suffix = self.path.stem, self.path.suffix
            names = (f"{stem}-changed{n}{suffix}" for n in itertools.count(1))
            paths = map(self.path.with_name, names)
            kept = next(path for path in paths if not path.exists())
            self.path.replace(kept)
            self.progress(f"the table was changed meanwhile, now {kept.name}")

    def check(self, vouching, is_end=False):
        """Raise if the machine, and not the class, is to blame for failures.

        The table then leaves open what the machine is to blame for.
        """
        try:
            vouching.check(self.results, is_end)
        except MachineError:
            self.write()
            raise


def _page_of(student):
    """Return the name of a student's page, in UTF-8 whatever the locale is.

    A name that a file system may find too long is cut off, and a part of its
    hash tells it from others.
    """
    name = student.encode()
    if len(name) > _LONGEST_NAME:
        start = name[:_LONGEST_NAME].decode("utf-8", "ignore")
        name = f"{start}-{hashlib.sha256(name).hexdigest()[:12]}".encode()
    return os.fsdecode(name + b".html")


def _progress(result):
    said = f"{result.total:g}" if result.graded else "; ".join(result.notes)
    return visible(f"{result.student}: {said}", kept="")


def _choose_seed(seed):
    if seed is None:
        return secrets.randbelow(10**6)
    return check_int("seed", seed, 0, math.inf)


def _check_protection(unprotected):
    """Raise if submissions could read your files, unless that is allowed."""
    if not (unprotected or _sandbox.landlock_version()):
        raise HomeworkError(
            "Grading needs Landlock (Linux 5.13 or newer) to keep submissions "
            f"from your files. Received: {platform.platform()} without it. "
            "Grade in a container that has nothing else in it, and say "
            "--unprotected."
        )


def protections():
    """Return what confines submissions on this system, one line per kind.

    The table in chapters/homework/README.md has the same words.
    """
    landlock = _sandbox.landlock_version()
    way = _namespaces.find_way()
    cgroup = _resources.make_cgroup(1)
    if cgroup:
        _resources.remove_cgroup(cgroup)
    is_linux = sys.platform.startswith("linux")
    lines = [
        "files: Landlock" if landlock else "files: none",
        "network: none of the machine's"
        if way
        else "network: no TCP (Landlock)"
        if landlock >= 4
        else "network: open",
        "its end: namespaces end all of it"
        if way
        else "its end: all descendants are killed"
        if is_linux
        else "its end: its process group is killed",
        "temporary files: in memory, of limited size"
        if way
        else "temporary files: a folder, each file of limited size",
        "memory and processes: a cgroup"
        if cgroup
        else "memory and processes: looked at five times a second"
        if is_linux
        else "memory and processes: limits of each process",
    ]
    return lines


def _choose_assignment(submissions, folder, assignment, outputs):
    """Return what to grade: name, path, submissions, notes, and refusals."""
    assignments, refused = sources(folder), set()
    name, found, notes = find_submissions(
        submissions, list(assignments), assignment, outputs, refused
    )
    if name not in assignments or not found:
        others = [f"{student} ({note})" for student, note in notes.items()]
        raise UserError(
            "The folder must hold submissions of one assignment of "
            f"{', '.join(assignments)}. Received: {submissions} with "
            f"{len(found)} notebook{'s' * (len(found) != 1)} "
            f"{f'of {name}' if name else 'whose names do not tell which one'}"
            f"{', and ' * bool(others)}{'; '.join(others[:3])}. Name it "
            "with --assignment."
        )
    return name, assignments[name], found, notes, refused


def _check_forbidden(source):
    """Raise if a forbidden module of this package is only a forwarder.

    Students could still import and read the module that it forwards to.
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
    """Return the folders that submissions must not read.

    If such a folder is in a project, the whole project is included: its
    history has the solutions, too.
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


def summarize(results):
    """Return lines on how a class did and what failed most often."""
    lines = [f"{len(results)} submissions"]
    left = [result for result in results if not result.graded]
    if left:
        students = ", ".join(result.student for result in left)
        lines.append(f"{len(left)} not graded, see their notes: {students}")
    graded = [result for result in results if result.graded]
    for question in results[0].scores:
        scores = [result.scores.get(question) for result in graded]
        if None in scores:
            lines.append(f"{question}: to grade by hand")
            continue
        passed = sum(bool(score) for score in scores)
        lines.append(f"{question}: {passed} of {len(graded)} passed")
        messages = Counter(
            result.failures[question].splitlines()[0][:200]
            for result in graded
            if result.failures.get(question)
        )
        for message, count in messages.most_common(3):
            lines.append(f"  {count} x {message}")
    return [visible(line, kept="") for line in lines]
