"""Grade a submission, in processes that end with it.

A server of `apart` calls `prepare` once. Each worker then grades one
submission of that assignment with nbgrader.
"""

import copy
import pathlib
import re

from kerasllm.homework._cells import rebuild
from kerasllm.homework._course import Course
from kerasllm.homework._notebooks import (
    MachineError,
    failure_of,
    is_cell,
    is_locked,
    read_submission,
    was_stopped,
)
from kerasllm.homework._notes import find_notes
from kerasllm.homework.kernels._lending import plan_loans
from kerasllm.homework.shown import clean_page

# Time to start and end two kernels, and for what nbgrader does around them.
_AROUND_SECONDS = 120


def prepare(root, name, source, limits):
    """Prepare to grade submissions of one assignment.

    Args:
        root: str, folder of the course.
        name: str, what the assignment is called.
        source: str, a notebook with solutions and hidden tests.
        limits: dict of what a submission may use, and what it may not read:
            the settings of `JudgedExecute`, and `read_seconds`.

    Returns:
        The method `Worker.grade`.
    """
    import nbformat

    course = Course(root)
    source = nbformat.reads(source, as_version=4)
    return Worker(course, name, source, limits).grade


class Worker:
    """Grades a submission.

    Args:
        course: `Course` to work in.
        name: as for `prepare`.
        source: notebook, as for `prepare`.
        limits: as for `prepare`.
    """

    def __init__(self, course, name, source, limits):
        self.course = course
        self.name = name
        self.released = course.generate(name, source)
        self.metadata = dict(source.metadata.get("kerasllm", {}))
        self.troubles = []
        self.read_seconds = limits["read_seconds"]
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
        # A function, because nbgrader would copy the list.
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
        from nbgrader.preprocessors import GetGrades

        from kerasllm.homework.shown._exporter import ClearTests, PageExporter

        # nbgrader's own feedback shows the hidden tests.
        self.course.config.GenerateFeedback.preprocessors = [
            GetGrades,
            ClearTests,
            "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
        ]
        # A page should not run what a student displays, either.
        self.course.config.HTMLExporter.sanitize_html = True
        self.course.config.GenerateFeedback.exporter_class = PageExporter
        # Make a page now, so that what it loads is not loaded in each process.
        score = {"notebook": "", "score": 0, "max_score": 0, "late_penalty": 0}
        converter = GenerateFeedback(config=self.course.config)
        exporter = PageExporter(config=converter.config)
        notebook = copy.deepcopy(self.released)
        for cell in notebook.cells:
            if "nbgrader" in cell.metadata:
                cell.metadata.nbgrader |= {"score": 0, "points": 0}
        page, _ = exporter.from_notebook_node(notebook, {"nbgrader": score})
        clean_page(page, self.name)

    def grade(
        self, tell, student, identifier, path, notebook, wants_page, cgroup
    ):
        """Grade a submission, and tell the results.

        Args:
            tell: function, see `apart.Workers`.
            student: str, the student's name.
            identifier: str, what nbgrader calls the student.
            path: str, path of the submission; `None` if it was read already.
            notebook: str, the notebook that was read; `None` to read `path`.
            wants_page: bool, whether to make the student's page.
            cgroup: str, see `_kernel.run_kernel`.
        """
        import nbformat

        tell(begin="reading it", seconds=self.read_seconds)
        if path is None:
            notebook, problem = nbformat.reads(notebook, as_version=4), None
        else:
            try:
                notebook, problem = read_submission(pathlib.Path(path))
            except MachineError as error:
                tell(trouble=f"{error}")
                return
        if problem:
            tell(unreadable=problem)
            return
        notes = []
        # This decides what is run, whatever else the student's metadata say.
        notebook = rebuild(notebook, self.released, notes)
        notes += find_notes(notebook, self.metadata)
        tell(notes=notes)
        submitted = self.course.root / "submitted" / identifier / self.name
        submitted.mkdir(parents=True)
        nbformat.write(notebook, submitted / f"{self.name}.ipynb")
        settings = self.course.config.JudgedExecute
        settings.cgroup = cgroup
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
        tell(result=self._read_result(student, identifier, notes))
        if wants_page:
            tell(begin="making its page", seconds=self.read_seconds)
            tell(page=self._make_page(api, student, identifier))

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
        # The page in the course should be clean, too.
        made.write_text(page, "utf-8")
        return page
