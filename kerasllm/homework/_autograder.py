"""Grade one submission after another, from the outside.

What happens to a submission, and in which processes, is in `kernels`.
"""

import copy
import os
import re
import unicodedata

from kerasllm.files import remember, whole_file
from kerasllm.homework._course import course_folder
from kerasllm.homework._notebooks import (
    MachineError,
    Result,
    is_cell,
    is_locked,
)
from kerasllm.homework.kernels._resources import make_cgroup, remove_cgroup
from kerasllm.homework.kernels.apart import Workers

# Names in nbgrader's folders avoid these: not every locale has them.
_NO_IDENTIFIER = re.compile(r"[^A-Za-z0-9.@-]+")
_LONGEST_IDENTIFIER = 60
_PREPARE = "kerasllm.homework.kernels._worker:prepare"
_WORKER_GB = 4  # memory for reading a submission and making its page


class Autograder:
    """Grades submissions of one assignment.

    Args:
        root: path of the course's folder.
        name: str, what the assignment is called.
        source: notebook with solutions and hidden tests.
        limits: dict of what a submission may use, and what it may not read; see
            `kernels._worker.prepare`.

    Attributes:
        points: dict from question to its maximum number of points.
        troubles: list of str, what this machine could not do.

    Raises:
        HomeworkError: nbgrader is missing, or refuses the assignment.
        MachineError: no process could be started.
    """

    def __init__(self, root, name, source, limits):
        import nbformat

        self.points = {
            cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.points
            for cell in source.cells
            if is_cell(cell, "grade")
        }
        self.troubles = []
        self.name, self.limits = name, limits
        self._identifiers = set()
        private = [_as_utf8(path) for path in limits["private"]]
        self._workers = Workers(
            _PREPARE,
            _as_utf8(root),
            name,
            nbformat.writes(source),
            limits | {"private": private},
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._workers.close()

    def grade(self, student, path, page=None):
        """Grade one submission, whatever it contains.

        Args:
            student: str.
            path: path of the notebook.
            page: path of the student's page, or `None` for none.

        Returns:
            A `Result`.
        """
        return self._grade(student, _as_utf8(path.absolute()), None, page)

    def grade_notebook(self, student, notebook, page=None):
        """Grade a notebook that has been read already; see `grade`."""
        import nbformat

        return self._grade(student, None, nbformat.writes(notebook), page)

    def ungraded(self, student, notes=(), score=0):
        """Return the `Result` of a submission on which no test was run.

        Args:
            student: str.
            notes: list of str, the reasons.
            score: the points of each question: 0, or `None` to leave them
                open.
        """
        scores = dict.fromkeys(self.points, score)
        return Result(student, scores, {}, list(notes), graded=False)

    def _grade(self, student, path, notebook, page):
        """Grade a submission in processes that end with it."""
        memory_gb, disk_gb = self.limits["memory_gb"], self.limits["disk_gb"]
        cgroup = make_cgroup(memory_gb) or ""
        try:
            outcome = self._workers.run(
                {
                    "student": student,
                    "identifier": self._identify(student),
                    "path": path,
                    "notebook": notebook,
                    "wants_page": page is not None,
                    "cgroup": cgroup,
                },
                self.limits["way"],
                _WORKER_GB,
                # The student's own files, and the log of the kernel.
                2 * disk_gb + 1,
            )
        finally:
            if cgroup:
                remove_cgroup(cgroup)
        return self._read_outcome(student, outcome, page).visible()

    def _read_outcome(self, student, outcome, page):
        """Return the `Result` of a submission, however grading it ended."""
        told = outcome.told
        if "unreadable" in told:
            return self.ungraded(student, [f"not graded: {told['unreadable']}"])
        notes = told.get("notes", [])
        if "result" not in told:
            trouble = told.get("trouble")
            self.troubles.append(trouble or outcome.problem)
            cause = ", for a reason of the machine" if trouble else ""
            reason = self.troubles[-1][:300]
            notes.append(f"not graded{cause}: {reason}")
            return self.ungraded(student, notes, score=None)
        result = Result(student, **told["result"])
        if page is not None and not self._write(page, told.get("page")):
            made = bool(told.get("page"))
            reason = "it cannot be written" if made else "nbgrader failed"
            reason = outcome.problem or reason
            result.notes.append(f"no feedback page could be made: {reason}")
            result.is_complete = False
        return result

    def _write(self, page, text):
        """Write a student's page; return whether it is there."""
        if text is None:
            return False
        try:
            with whole_file(page) as file:
                file.write(text)
        except OSError:  # a name that is too long, a full disk
            return False
        remember(page, self.name)
        return True

    def _identify(self, student):
        """Return the name of a student in nbgrader's folders."""
        plain = unicodedata.normalize("NFKD", student)
        plain = plain.encode("ascii", "ignore").decode()
        plain = _NO_IDENTIFIER.sub("_", plain).strip("._")
        plain = plain[:_LONGEST_IDENTIFIER] or "student"
        identifier, number = plain, 1
        while identifier in self._identifiers:
            number += 1
            identifier = f"{plain}_{number}"
        self._identifiers.add(identifier)
        return identifier


def _as_utf8(path):
    """Return a path as the server reads it, whatever the locale is."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


class Vouching:
    """Checks that this machine can grade, by grading the assignment's solution.

    The solution is graded only if there is reason for doubt, and only once.

    Args:
        name: str, what the assignment is called.
        source: notebook with solutions and hidden tests.
        limits: dict, as for `Autograder`.
    """

    def __init__(self, name, source, limits):
        self.name, self.source, self.limits = name, source, limits
        self.is_done = False

    def check(self, results, is_end):
        """Check that the machine is not to blame for the tests that failed.

        Args:
            results: list of `Result`. If the machine is to blame for a score,
                it becomes `None` in them.
            is_end: bool, whether the whole class was graded.

        Raises:
            MachineError: the machine is to blame.
        """
        graded = [result for result in results if result.graded]
        if not self.is_done and self._is_doubtful(results, graded, is_end):
            self.is_done = True
            self._vouch(results)
        blamed = [each for each in results if None in each.scores.values()]
        if is_end and not graded and len(blamed) == len(results):
            raise MachineError(
                "This machine must be able to grade. Received: "
                f"{len(results)} submissions, none of which could be run "
                f"({'; '.join(results[-1].notes)}). Grade them again."
            )

    def _is_doubtful(self, results, graded, is_end):
        last = results[-1]
        if not last.graded:
            return None in last.scores.values()
        if len(graded) == 1 and not last.total:
            return True
        return is_end and any(
            not any(result.scores[question] for result in graded)
            for question in self._tests()
        )

    def _tests(self):
        return [
            cell.metadata.nbgrader.grade_id
            for cell in self.source.cells
            if is_cell(cell, "grade") and is_locked(cell)
        ]

    def _vouch(self, results):
        """Grade the solution, without the answers that a person grades."""
        solution = copy.deepcopy(self.source)
        for cell in solution.cells:
            if is_cell(cell, "grade"):
                cell.source = ""
        with (
            course_folder() as root,
            Autograder(root, self.name, self.source, self.limits) as autograder,
        ):
            result = autograder.grade_notebook("solution", solution)
        if not result.graded:
            reason, failed = autograder.troubles[0], self._tests()
        else:
            reason = "; ".join(
                f"{test}: {said}" for test, said in result.failures.items()
            )
            failed = [*result.failures]
        if not failed:
            return
        for each in results:
            if each.graded:
                each.notes.append(
                    f"left open, the solution fails here: {', '.join(failed)}"
                )
                each.scores |= dict.fromkeys(failed)
        raise MachineError(
            f"The solution of {self.name} must pass on this machine before a "
            f"class is graded. Received: {reason[:1000]}. Mend the machine, "
            "or allow more time or memory, and grade again."
        )
