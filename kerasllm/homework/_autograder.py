"""Grading one submission after another in a course of nbgrader.

How a submission is run, apart from the tests, is in `kernels`.
"""

import copy
import re
import unicodedata

from kerasllm.files import remember, whole_file
from kerasllm.homework._cells import rebuild
from kerasllm.homework._course import Course
from kerasllm.homework._notebooks import (
    MachineError,
    Result,
    failure_of,
    is_cell,
    is_locked,
    read_submission,
    was_stopped,
)
from kerasllm.homework._notes import find_notes
from kerasllm.homework.kernels._apart import run_apart
from kerasllm.homework.kernels._lending import plan_loans
from kerasllm.homework.kernels._resources import make_cgroup, remove_cgroup
from kerasllm.homework.shown import clean_page

# What a submission is called in nbgrader's folders, whatever the locale is.
_NO_IDENTIFIER = re.compile(r"[^A-Za-z0-9.@-]+")
_LONGEST_IDENTIFIER = 60
_WORKER_GB = 4  # memory for reading a submission and making its page
# To start two kernels and end them, and for what nbgrader does around them.
_AROUND_SECONDS = 120


class Autograder:
    """Grades submissions of one assignment.

    Args:
        course: `Course` to work in.
        name: str, what the assignment is called.
        source: notebook with solutions and hidden tests.
        limits: dict of what a submission may use, and what it may not read: the
            settings of `JudgedExecute`.

    Attributes:
        points: dict from question to the most points it gives.
        troubles: list of str, what the machine could not do.
    """

    def __init__(self, course, name, source, limits):
        self.course = course
        self.name = name
        self.released = course.generate(name, source)
        self.metadata = dict(source.metadata.get("kerasllm", {}))
        self.points = {
            cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.points
            for cell in source.cells
            if is_cell(cell, "grade")
        }
        self.troubles = []
        self.read_seconds = limits["read_seconds"]
        self._identifiers = set()
        self._set_up_running(source, limits)
        self._set_up_pages()

    def _set_up_running(self, source, limits):
        """Configure nbgrader to run students' and instructor's cells apart."""
        from nbgrader.preprocessors import (
            AssignLatePenalties,
            CheckCellMetadata,
            IgnorePattern,
            LimitOutput,
            SaveAutoGrades,
        )

        from kerasllm.homework.kernels._judge import JudgedExecute

        settings = self.course.config.JudgedExecute
        settings.update(limits)
        del settings["read_seconds"]
        settings.private = [*limits["private"], str(self.course.root)]
        troubles = self.troubles
        # A function, which nbgrader hands on without copying the list.
        settings.tell_trouble = lambda said: troubles.append(said)
        settings.graded = self.metadata.get("graded", [])
        settings.forbidden = self.metadata.get("forbidden", [])
        settings.assets = self.metadata.get("assets", [])
        settings.plan = plan_loans(source)
        settings.tests = {
            cell.metadata.nbgrader.grade_id: {
                "source": cell.source,
                "is_test": is_cell(cell, "grade"),
            }
            for cell in source.cells
            if is_locked(cell)
        }
        self.course.config.Autograde.autograde_preprocessors = [
            JudgedExecute,
            IgnorePattern,
            LimitOutput,
            SaveAutoGrades,
            AssignLatePenalties,
            CheckCellMetadata,
        ]

    def _set_up_pages(self):
        """Configure nbgrader's feedback, which students see."""
        from nbgrader.converters import GenerateFeedback
        from nbgrader.preprocessors import ClearHiddenTests, GetGrades

        from kerasllm.homework.shown._exporter import PageExporter

        # nbgrader's own feedback shows the hidden tests.
        self.course.config.GenerateFeedback.preprocessors = [
            GetGrades,
            ClearHiddenTests,
            "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
        ]
        # Nor should a page run what a student displays.
        self.course.config.HTMLExporter.sanitize_html = True
        self.course.config.GenerateFeedback.export_class = PageExporter
        # What a first page loads is loaded once, and not in each process.
        score = {"notebook": "", "score": 0, "max_score": 0, "late_penalty": 0}
        converter = GenerateFeedback(config=self.course.config)
        exporter = PageExporter(config=converter.config)
        notebook = copy.deepcopy(self.released)
        for cell in notebook.cells:
            if "nbgrader" in cell.metadata:
                cell.metadata.nbgrader |= {"score": 0, "points": 0}
        page, _ = exporter.from_notebook_node(notebook, {"nbgrader": score})
        clean_page(page, self.name)

    def grade(self, student, path, page=None):
        """Grade one submission, whatever is in it.

        Args:
            student: str.
            path: path of the notebook.
            page: path of the student's page, or `None` for none.

        Returns:
            A `Result`.
        """
        return self._grade(student, lambda: read_submission(path), page)

    def grade_notebook(self, student, notebook, page=None):
        """Grade what was read of a submission; see `grade`."""
        return self._grade(student, lambda: (notebook, None), page)

    def ungraded(self, student, notes=(), score=0):
        """Return the `Result` of what no test was run on.

        Args:
            student: str.
            notes: list of str, why.
            score: what it earned for each question: 0, or `None` where that
                is left open.
        """
        scores = dict.fromkeys(self.points, score)
        return Result(student, scores, {}, list(notes), graded=False)

    def _grade(self, student, read, page):
        """Grade what a function reads, in processes that end with it."""
        settings = self.course.config.JudgedExecute
        identifier = self._identify(student)
        settings.cgroup = make_cgroup(settings.memory_gb) or ""
        try:
            outcome = run_apart(
                lambda tell: self._run(
                    student, identifier, read, page is not None, tell
                ),
                settings.way,
                _WORKER_GB,
                # The student's own files, and the log of the kernel.
                2 * settings.disk_gb + 1,
            )
        finally:
            if settings.cgroup:
                remove_cgroup(settings.cgroup)
        return self._read_outcome(student, outcome, page).visible()

    def _read_outcome(self, student, outcome, page):
        """Return the `Result` of a submission, whatever became of it."""
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
        if page is not None and not _write(page, told.get("page")):
            reason = outcome.problem or "it cannot be written"
            result.notes.append(f"no feedback page could be made: {reason}")
            result.is_complete = False
        return result

    def _run(self, student, identifier, read, wants_page, tell):
        """Grade a submission, in the worker; tell what it came to."""
        import nbformat

        tell(begin="reading it", seconds=self.read_seconds)
        notebook, problem = read()
        if problem:
            tell(unreadable=problem)
            return
        notes = []
        # What is run, whatever the student's metadata say of it.
        notebook = rebuild(notebook, self.released, notes)
        notes += find_notes(notebook, self.metadata)
        tell(notes=notes)
        submitted = self.course.root / "submitted" / identifier / self.name
        submitted.mkdir(parents=True)
        nbformat.write(notebook, submitted / f"{self.name}.ipynb")
        settings = self.course.config.JudgedExecute
        seconds = settings.total_seconds + _AROUND_SECONDS
        tell(begin="running it", seconds=seconds)
        api = self.course.api()
        answer = api.autograde(self.name, identifier)
        if not answer["success"]:
            # The error that it returns only points to its log.
            errors = re.findall(r"(?m)^ +(\w+Error: .*)$", answer["log"])
            said = [*self.troubles, *errors[-1:], answer["error"]]
            tell(trouble=str(said[0] or "nbgrader failed")[:300])
            return
        result = self._read_result(student, identifier, notes)
        tell(result=result)
        if wants_page:
            tell(begin="making its page", seconds=self.read_seconds)
            tell(page=self._make_page(api, student, identifier))

    def _identify(self, student):
        """Return what a student is called in nbgrader's folders."""
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

    def _read_result(self, student, identifier, notes):
        """Return what nbgrader's database and notebook hold, as a dict."""
        import nbformat
        from nbgrader.api import Gradebook

        scores = {}
        database = self.course.api().coursedir.db_url
        with Gradebook(database, "kerasllm") as gradebook:
            gradebook.update_or_create_student(identifier, last_name=student)
            submission = gradebook.find_submission(self.name, identifier)
            for notebook in submission.notebooks:
                for grade in notebook.grades:
                    by_hand = grade.needs_manual_grade
                    scores[grade.name] = None if by_hand else grade.auto_score
        path = self.course.root / "autograded" / identifier / self.name
        notebook = nbformat.read(path / f"{self.name}.ipynb", as_version=4)
        failures = {
            cell.metadata.nbgrader.grade_id: failure_of(cell)
            for cell in notebook.cells
            if is_cell(cell, "grade") and is_locked(cell) and failure_of(cell)
        }
        stops = [
            cell.outputs[0].evalue
            for cell in notebook.cells
            if is_cell(cell, "grade") and is_locked(cell) and was_stopped(cell)
        ]
        return {
            "scores": scores,
            "failures": failures,
            "notes": notes + stops[:1],
        }

    def _make_page(self, api, student, identifier):
        """Return the student's page, or `None` if nbgrader makes none."""
        answer = api.generate_feedback(self.name, identifier)
        made = self.course.root / "feedback" / identifier / self.name
        made = made / f"{self.name}.html"
        if not (answer["success"] and made.exists()):
            return None
        page = clean_page(made.read_text("utf-8"), f"{self.name}: {student}")
        # The course, too, should have none that is not clean.
        made.write_text(page, "utf-8")
        return page


def _write(page, text):
    """Write a student's page; return whether it is there."""
    if text is None:
        return False
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(page) as file:
            file.write(text)
    except OSError:  # a name that is too long, a full disk
        return False
    remember(page)
    return True


class Vouching:
    """Whether this machine can grade: the assignment's own solution tells.

    It is graded only if there is reason for doubt, and once.

    Args:
        name: str, what the assignment is called.
        source: notebook with solutions and hidden tests.
        limits: dict, as for `Autograder`.
    """

    def __init__(self, name, source, limits):
        self.name, self.source, self.limits = name, source, limits
        self.is_done = False

    def check(self, results, is_end):
        """Check that the machine is not to blame for what a class failed.

        Args:
            results: list of `Result`. What the machine is to blame for is
                left open in them.
            is_end: bool, whether the whole class was graded.

        Raises:
            MachineError: it is.
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
        """Grade the solution, without what a person grades."""
        solution = copy.deepcopy(self.source)
        for cell in solution.cells:
            if is_cell(cell, "grade"):
                cell.source = ""
        with Course() as course:
            autograder = Autograder(course, self.name, self.source, self.limits)
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
