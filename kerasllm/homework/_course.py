"""Release assignments, and make the course folder that nbgrader works in.

nbgrader expects a certain layout of this folder, which `Course` sets up.
"""

import contextlib
import logging
import os
import pathlib
import shutil
import sqlite3
import tempfile
import warnings

from kerasllm.checks import UserError, check_path
from kerasllm.files import (
    check_may_write,
    check_unchanged,
    remember,
    whole_file,
)
from kerasllm.homework._notebooks import (
    DELIMITERS,
    HomeworkError,
    is_cell,
    read_source,
    sources,
)

# Shorter lines, such as `return counts`, may occur anywhere.
_TELLING_LINE = 20
# Variables with these prefixes would change what nbgrader does.
_STEERING = ("ALEMBIC", "IPYTHON", "JUPYTER", "NBGRADER", "PYTHON")


def release(directory, folder=None, seed=None, force=False):
    """Write the students' version of each assignment.

    Args:
        directory: path of the folder to write `.ipynb` files to.
        folder: path of the assignments, see `sources`.
        seed: int, selects the data that students work on; `None` keeps the
            data of the assignments.
        force: bool. Replace even notebooks that somebody has changed.

    Returns:
        list of the paths of the notebooks.

    Raises:
        MissingFileError: there are no assignments.
        UserError: `directory` goes through a file, or may not be written to.
        HomeworkError: an assignment is malformed, or something of a solution or
            a hidden test would have been released. Nothing is written.
        RunError: somebody has changed a notebook that is there. Nothing is
            written.
    """
    import nbformat

    directory = check_path("directory", directory)
    check_may_write(directory)
    released = {}
    with course_folder() as root, Course(root) as course:
        for name, path in sources(folder).items():
            source = read_source(path, seed)
            notebook = course.generate(name, source)
            leaks = find_leaks(source, notebook)
            if leaks:
                raise HomeworkError(
                    "A release must have nothing of the solutions and hidden "
                    f"tests. Received: {path}, whose release has {leaks[0]!r}. "
                    "Put it between the delimiters of a solution or of hidden "
                    "tests."
                )
            text = nbformat.writes(notebook).removesuffix("\n") + "\n"
            released[directory / f"{name}.ipynb"] = text
    new = [path for path, text in released.items() if not _has(path, text)]
    check_unchanged(new, force)
    for path, text in released.items():
        if path in new:
            with whole_file(path) as file:
                file.write(text)
        remember(path)
    return list(released)


def _has(path, text):
    """Return whether a file has a text and nothing else."""
    try:  # a pipe would be waited for
        return path.is_file() and path.read_bytes() == text.encode()
    except OSError:
        return False


def find_leaks(source, released):
    """Return the lines of solutions and hidden tests that a release has.

    Args:
        source: notebook with both.
        released: notebook that should have neither.

    Returns:
        list of str: the lines, then the delimiters that are left, then
        `"an output"` for each cell with outputs.
    """
    secret, public = set(), set()
    for cell in source.cells:
        inside = False
        delimited = any(word in cell.source for word in DELIMITERS)
        # Without delimiters, the whole cell is the solution.
        whole = is_cell(cell, "solution") and not delimited
        for line in map(str.strip, cell.source.splitlines()):
            if any(word in line for word in DELIMITERS):
                inside = "BEGIN" in line
            elif inside or whole:
                secret.add(line)
            else:
                public.add(line)
    telling = {line for line in secret - public if len(line) >= _TELLING_LINE}
    text = "\n".join(cell.source for cell in released.cells)
    lines = {line.strip() for line in text.splitlines()}
    leaks = sorted(telling & lines)
    leaks += [word for word in DELIMITERS if word in text]
    leaks += ["an output" for cell in released.cells if cell.get("outputs")]
    return leaks


@contextlib.contextmanager
def course_folder(directory=None):
    """Make a folder that only its owner can read, and yield its path.

    Args:
        directory: path of a new folder, or `None` for one that is removed at
            the end.

    Raises:
        UserError: the folder exists.
    """
    if directory is None:
        root = pathlib.Path(tempfile.mkdtemp()).resolve()
    else:
        root = check_path("course", directory).resolve()
        if root.exists():
            raise UserError(
                "`course` must be a new folder. Received: "
                f"{directory}, which exists. Name another."
            )
        root.mkdir(parents=True)
    root.chmod(0o700)
    try:
        yield root
    finally:
        if directory is None:
            shutil.rmtree(root, ignore_errors=True)


class Course:
    """A course of nbgrader.

    As a context manager, it hides environment variables that would change what
    nbgrader does.

    Args:
        root: path of its folder.

    Attributes:
        root: path of the folder.
        config: the `Config` that nbgrader runs with.

    Raises:
        HomeworkError: nbgrader is missing.
    """

    def __init__(self, root):
        try:
            import nbgrader.apps  # noqa: F401
        except ImportError as error:
            raise HomeworkError(
                "Releasing and grading need nbgrader. Received: an "
                f"installation without it ({error}). Use `pip install -e "
                '".[instructor]"` in a clone of kerasllm. Students need only '
                "`check`."
            ) from None
        from traitlets.config import Config

        self.root = pathlib.Path(root)
        self.config = Config()
        self.config.CourseDirectory.root = str(self.root)
        self.config.CourseDirectory.course_id = "kerasllm"
        # nbgrader's functions also return what it logs.
        self.config.Application.log_level = logging.CRITICAL

    def __enter__(self):
        # SQLAlchemy warns about how nbgrader adds a submission, and a shell
        # may turn warnings into errors.
        self.warnings = warnings.catch_warnings()
        self.warnings.__enter__()
        warnings.simplefilter("ignore")
        self.variables = dict(os.environ)
        for name in self.variables:
            if name.startswith(_STEERING) and name != "PYTHONHOME":
                del os.environ[name]
        return self

    def __exit__(self, *error):
        os.environ.clear()
        os.environ.update(self.variables)
        self.warnings.__exit__(*error)

    def api(self):
        """Return nbgrader's functions for this course."""
        from nbgrader.apps import NbGraderAPI
        from nbgrader.coursedir import CourseDirectory

        return NbGraderAPI(
            CourseDirectory(config=self.config), config=self.config
        )

    def generate(self, name, source):
        """Make the students' version of an assignment and return it.

        Args:
            name: str, what the assignment is called.
            source: notebook with solutions and hidden tests.

        Raises:
            HomeworkError: nbgrader refuses it.
        """
        import nbformat

        released = self.root / "release" / name / f"{name}.ipynb"
        if released.exists():  # the process that made it was killed
            return nbformat.read(released, as_version=4)
        self._begin_database()
        folder = self.root / "source" / name
        folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(source, folder / f"{name}.ipynb")
        answer = self.api().generate_assignment(name)
        if not answer["success"]:
            raise HomeworkError(
                f"An assignment must be as nbgrader wants it. Received: {name} "
                f"with\n{answer.get('log', '')}{answer.get('error', '')}"
            )
        return nbformat.read(released, as_version=4)

    def _begin_database(self):
        """Write the version of nbgrader's database, if it has none yet.

        nbgrader would start another Python to find it out, which takes seconds.
        """
        from alembic.script import ScriptDirectory
        from nbgrader import dbutil

        path = self.root / "gradebook.db"
        if path.exists():
            return
        version = ScriptDirectory(dbutil.ALEMBIC_DIR).get_current_head()
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute(
                "CREATE TABLE alembic_version (version_num VARCHAR(32) "
                "NOT NULL)"
            )
            database.execute(
                "INSERT INTO alembic_version VALUES (?)", (version,)
            )
