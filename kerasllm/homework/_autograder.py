"""Grading one submission after another in a course of nbgrader.

How a submission is run, apart from the tests, is in `_judge`.
"""

import re
import shutil

from kerasllm.homework._notebooks import (
    Result,
    failure_of,
    is_cell,
    is_locked,
    read_submission,
    rebuild,
    was_stopped,
)
from kerasllm.homework._notes import find_notes

_STUDENT_NAME = re.compile(r"\w[\w.@-]*")


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

        from kerasllm.homework._judge import JudgedExecute

        settings = self.course.config.JudgedExecute
        settings.update(limits)
        settings.private = [*limits["private"], str(self.course.root)]
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
        from nbgrader.preprocessors import ClearHiddenTests, GetGrades

        # nbgrader's own feedback shows the hidden tests.
        self.course.config.GenerateFeedback.preprocessors = [
            GetGrades,
            ClearHiddenTests,
            "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
        ]
        # Nor should a page run what a student displays.
        self.course.config.HTMLExporter.sanitize_html = True

    def grade(self, student, path, feedback):
        """Grade one submission, whatever is in it.

        Args:
            student: str.
            path: path of the notebook.
            feedback: path of the folder for the student's page.

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
        submitted = self.course.root / "submitted" / student / self.name
        submitted.mkdir(parents=True)
        nbformat.write(notebook, submitted / f"{self.name}.ipynb")
        api = self.course.api()
        answer = api.autograde(self.name, student)
        if not answer["success"]:
            # The error that it returns only points to its log.
            errors = re.findall(r"(?m)^ +(\w+Error: .*)$", answer["log"])
            reason = errors[-1] if errors else answer["error"]
            notes.append(f"not graded: {reason[:300]}")
            return Result(student, nothing, {}, notes)
        result = self._read_result(student, notes)
        if not self._write_page(api, student, feedback):
            result.notes.append("no feedback page could be made")
        return result

    def _read_result(self, student, notes):
        """Return the `Result` that nbgrader's database and notebook hold."""
        import nbformat
        from nbgrader.api import Gradebook

        scores = {}
        database = self.course.api().coursedir.db_url
        with Gradebook(database, "kerasllm") as gradebook:
            submission = gradebook.find_submission(self.name, student)
            for notebook in submission.notebooks:
                for grade in notebook.grades:
                    by_hand = grade.needs_manual_grade
                    scores[grade.name] = None if by_hand else grade.auto_score
        path = self.course.root / "autograded" / student / self.name
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
        return Result(student, scores, failures, notes + stops[:1])

    def _write_page(self, api, student, feedback):
        """Copy the student's page; return whether there is one."""
        answer = api.generate_feedback(self.name, student)
        page = self.course.root / "feedback" / student / self.name
        page = page / f"{self.name}.html"
        if not (answer["success"] and page.exists()):
            return False
        feedback.mkdir(parents=True, exist_ok=True)
        shutil.copy(page, feedback / f"{student}.html")
        return True
