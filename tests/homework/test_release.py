"""What is released, and what must not be."""

import contextlib
import copy
import json
import os
import pathlib
import re

import pytest

from kerasllm import cli, homework
from kerasllm.checks import UserError
from kerasllm.homework import _course
from tests.homework.tiny_course import (
    TINY,
    cell,
    jupytext,
    nbformat,
    without_secrets,
)

pytestmark = pytest.mark.any_backend

ROOT = pathlib.Path(__file__).parents[2]


ASSIGNMENTS = homework.sources()


@pytest.fixture(scope="module")
def releases(nbgrader, tmp_path_factory):
    """The assignments as students get them, made in two ways and as shipped."""
    root = tmp_path_factory.mktemp("releases")
    homework.release(root / "called", seed=77)
    arguments = ["homework", "release", str(root / "typed"), "--seed", "77"]
    cli.main(arguments)
    homework.release(root / "shipped")
    return root


@pytest.mark.once
@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_a_release_has_neither_solutions_nor_hidden_tests(name, releases):
    path = releases / "called" / f"{name}.ipynb"
    text = path.read_text()
    assert "BEGIN SOLUTION" not in text and "HIDDEN TESTS" not in text
    source = homework.read_source(ASSIGNMENTS[name])
    secret = {
        line.strip()
        for cell in source.cells
        for part in re.findall(
            r"### BEGIN (?:SOLUTION|HIDDEN TESTS)(.*?)### END",
            cell.source,
            re.DOTALL,
        )
        for line in part.splitlines()
        if len(line.strip()) >= 20
    }
    public = re.sub(
        r"### BEGIN (SOLUTION|HIDDEN TESTS).*?### END",
        "",
        "\n".join(cell.source for cell in source.cells),
        flags=re.DOTALL,
    )
    for line in secret:
        if line not in public:
            assert json.dumps(line)[1:-1] not in text
    # Some have no data that differ from term to term.
    has_seed = any(
        re.search(r"(?m)^SEED = \d", cell.source) for cell in source.cells
    )
    assert ("SEED = 77" in text) == has_seed
    assert "raise NotImplementedError()" in text
    # Ids of cells, too: a release changes no file that it need not change.
    typed = releases / "typed" / f"{name}.ipynb"
    assert typed.read_bytes() == path.read_bytes()


@pytest.mark.once
@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_notebook_beside_an_assignment_is_its_release(name, releases):
    made, kept = (
        nbformat.read(folder / f"{name}.ipynb", as_version=4)
        for folder in (releases / "shipped", ASSIGNMENTS[name].parent)
    )
    assert [(each.id, each.source) for each in kept.cells] == [
        (each.id, each.source) for each in made.cells
    ], "Run `kerasllm homework release chapters/homework --force`."


@pytest.mark.once
def test_a_course_is_made_once_though_its_process_is_killed(nbgrader):
    """Or else nobody after that student would be graded."""
    source = jupytext.reads(TINY, "py:percent")
    with _course.course_folder() as root, _course.Course(root) as course:
        first = course.generate("hw0_tiny", source)
        assert course.generate("hw0_tiny", source) == first


class QuickCourse(contextlib.nullcontext):
    """Leaves out what is not for students, as nbgrader does in seconds."""

    def __enter__(self):
        return self

    def generate(self, name, source):
        return without_secrets(copy.deepcopy(source))


def test_a_release_replaces_no_notebook_that_was_changed(
    tmp_path, monkeypatch, capsys
):
    """And writes none of the others then; unasked, that is."""
    monkeypatch.setattr(_course, "Course", QuickCourse)
    (tmp_path / "hw").mkdir()
    for name in ("hw0_tiny", "hw1_tiny"):
        (tmp_path / "hw" / f"{name}.py").write_text(TINY)
    paths = homework.release(tmp_path / "out", tmp_path / "hw", seed=1)
    # Another term's data in the place of notebooks that nobody has touched.
    assert homework.release(tmp_path / "out", tmp_path / "hw", 2) == paths
    assert all("SEED = 2" in path.read_text() for path in paths)
    notebook = nbformat.read(paths[0], as_version=4)
    notebook.cells[0].source = "mine"
    nbformat.write(notebook, paths[0])
    before = [path.read_bytes() for path in paths]
    arguments = ["homework", "release", str(tmp_path / "out"), "--sources",
                 str(tmp_path / "hw"), "--seed", "3"]  # fmt: skip
    with pytest.raises(SystemExit) as finished:
        cli.main(arguments)
    assert finished.value.code == 2
    assert "hw0_tiny.ipynb, which is not as this command wrote it" in (
        capsys.readouterr().err
    )
    assert [path.read_bytes() for path in paths] == before
    cli.main([*arguments, "--force"])
    assert all("SEED = 3" in path.read_text() for path in paths)


def test_a_release_waits_for_no_pipe(tmp_path, monkeypatch):
    monkeypatch.setattr(_course, "Course", QuickCourse)
    (tmp_path / "hw0_tiny.py").write_text(TINY)
    os.mkfifo(tmp_path / "hw0_tiny.ipynb")
    with pytest.raises(UserError, match="not as this command wrote it"):
        homework.release(tmp_path, tmp_path)


def test_a_release_goes_through_no_file(tmp_path, monkeypatch):
    """And this is told before the notebooks are made."""
    monkeypatch.setattr(_course, "Course", None)
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/out"):
        with pytest.raises(UserError, match="folder that can be written to"):
            homework.release(tmp_path / out)


def test_no_solution_is_part_of_the_package():
    secret = [
        line.strip()
        for path in ASSIGNMENTS.values()
        for line in path.read_text().splitlines()
        if "merged_words[" in line or "hidden inputs" in line
    ]
    assert secret
    for path in (ROOT / "kerasllm").rglob("*.py"):
        text = path.read_text()
        assert not any(line in text for line in secret), path


def test_a_leak_is_found():
    source, released = (nbformat.v4.new_notebook() for _ in range(2))
    secret = "answer = sorted(values)[len(values) // 2]"
    source.cells = [
        cell(f"### BEGIN SOLUTION\n{secret}\n### END SOLUTION", "a", "solution")
    ]
    released.cells = [cell("raise NotImplementedError()")]
    assert homework.find_leaks(source, released) == []
    released.cells.append(cell(f"    {secret}"))
    assert homework.find_leaks(source, released) == [secret]
    released.cells = [cell("### BEGIN HIDDEN TESTS")]
    assert homework.find_leaks(source, released)


def test_sources_are_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="not part of the installed"):
        homework.sources(tmp_path)
