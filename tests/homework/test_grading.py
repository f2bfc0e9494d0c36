"""Grading a class, from its folder of submissions to its table."""

import csv
import pathlib

import numpy as np
import pytest

from kerasllm import cli, files, homework
from kerasllm.checks import RunError, UserError
from kerasllm.homework import _grade
from kerasllm.homework.kernels import _sandbox
from tests.homework.tiny_course import (
    RIGHT,
    TINY,
    TOTAL,
    WRONG,
    nbformat,
    submit,
    tiny_release,
)

pytestmark = pytest.mark.any_backend

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.once
def test_grade_takes_the_assignment_that_it_is_told(nbgrader, tmp_path):
    (tmp_path / "hw").mkdir()
    for name in ("hw0_other", "hw1_tiny"):
        (tmp_path / "hw" / f"{name}.py").write_text(TINY)
    for name, double in (("hw0_other", WRONG), ("hw1_tiny (1)", RIGHT),
                         ("hw1_tiny (2)", WRONG)):  # fmt: skip
        folder = tmp_path / "class" / "ann" / name
        folder.mkdir(parents=True)
        notebook = submit(tiny_release(), {"double": double, "total": TOTAL})
        nbformat.write(notebook, folder / f"{name}.ipynb")
    (result,), _ = homework.grade(
        tmp_path / "class",
        tmp_path / "grades.csv",
        tmp_path / "hw",
        "hw1_tiny",
        unprotected=True,
    )
    assert result.total == 5
    assert "graded hw1_tiny (1).ipynb, not hw1_tiny (2).ipynb" in result.notes


@pytest.mark.once
def test_grading_from_the_command_line(nbgrader, tmp_path, capsys):
    (tmp_path / "hw").mkdir()
    (tmp_path / "hw" / "hw0_tiny.py").write_text(TINY)
    notebook = submit(tiny_release(), {"double": WRONG, "total": TOTAL})
    pictures = nbformat.v4.new_markdown_cell(
        "![](attachment:a.png) ![](attachment:missing.png)"
    )
    pictures.attachments = {"a.png": {"image/png": "AA=="}}
    notebook.cells.append(pictures)
    (tmp_path / "class" / "ann").mkdir(parents=True)
    nbformat.write(notebook, tmp_path / "class" / "ann" / "hw0_tiny.ipynb")
    arguments = ["homework", "grade", tmp_path / "class",
                 "--csv", tmp_path / "out" / "grades.csv",
                 "--sources", tmp_path / "hw", "--seed", "5", "--unprotected",
                 "--course", tmp_path / "course"]  # fmt: skip
    cli.main([str(argument) for argument in arguments])
    said = capsys.readouterr().out
    assert "ann: 3" in said and "--seed 5" in said
    assert "1 x The double of 1 is 2." in said
    page = tmp_path / "out" / "feedback" / "ann.html"
    assert "data:image/png;base64,AA==" in page.read_text("utf-8")
    assert (tmp_path / "course" / "gradebook.db").exists()
    with pytest.raises(SystemExit) as finished:
        cli.main([str(argument) for argument in arguments])
    assert finished.value.code == 2  # the course exists
    assert "must be a new folder" in capsys.readouterr().err


@pytest.mark.once
def test_an_interrupted_class_keeps_its_grades(nbgrader, tmp_path):
    (tmp_path / "hw").mkdir()
    (tmp_path / "hw" / "hw0_tiny.py").write_text(TINY)
    (tmp_path / "class").mkdir()
    notebook = submit(tiny_release(), {"double": RIGHT, "total": TOTAL})
    for student in ("ann", "bob"):
        nbformat.write(notebook, tmp_path / "class" / f"{student}.ipynb")

    def interrupt(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        homework.grade(
            tmp_path / "class",
            tmp_path / "grades.csv",
            tmp_path / "hw",
            unprotected=True,
            progress=interrupt,
        )
    with open(tmp_path / "grades.csv", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert rows["ann"]["automatic points"] == "5.0" and "bob" not in rows


def test_grading_needs_landlock(tmp_path, monkeypatch):
    monkeypatch.setattr(_sandbox, "landlock_version", lambda: 0)
    with pytest.raises(RuntimeError, match="needs Landlock .* Received: .*"):
        homework.grade(tmp_path, tmp_path / "grades.csv")


@pytest.mark.parametrize(
    "limits",
    [{"memory_gb": True}, {"memory_gb": "4"}, {"memory_gb": float("nan")},
     {"cell_seconds": 0}, {"call_seconds": 1.5}, {"total_seconds": True},
     {"seed": -1}],
)  # fmt: skip
def test_a_limit_is_a_positive_number(tmp_path, limits):
    (name,) = limits
    with pytest.raises(UserError, match=f"`{name}` must be .* Received: "):
        homework.grade(tmp_path, tmp_path / "grades.csv", **limits)


def test_numpys_numbers_are_numbers(tmp_path):
    with pytest.raises(UserError, match="must hold submissions of one"):
        homework.grade(
            tmp_path,
            tmp_path / "grades.csv",
            memory_gb=np.float32(1),
            cell_seconds=np.int64(1),
            seed=np.int32(0),
            unprotected=True,
        )


def test_grade_wants_submissions(tmp_path):
    with pytest.raises(ValueError, match="must hold submissions of one"):
        homework.grade(tmp_path, tmp_path / "grades.csv", unprotected=True)
    (tmp_path / "ann.zip").write_text("")
    with pytest.raises(UserError, match="0 notebooks .*, and ann .*ann.zip"):
        homework.grade(
            tmp_path,
            tmp_path / "grades.csv",
            assignment=next(iter(homework.sources())),
            unprotected=True,
        )


def test_points_that_a_person_wrote_into_the_table_are_kept(tmp_path, capsys):
    """Told before anything is graded."""
    (tmp_path / "hw0_tiny.py").write_text(TINY)
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "ann.ipynb").write_text("{}")
    table = tmp_path / "out" / "grades.csv"
    homework.write_csv(table, [homework.Result("ann", {"picture": 4})], {})
    before = table.read_bytes()
    arguments = ["homework", "grade", tmp_path / "class", "--csv", table,
                 "--sources", tmp_path, "--unprotected"]  # fmt: skip
    with pytest.raises(SystemExit) as finished:
        cli.main([str(argument) for argument in arguments])
    assert finished.value.code == 2
    said = capsys.readouterr().err
    assert "grades.csv, which is not as this command wrote it" in said
    assert "--force" in said
    assert table.read_bytes() == before


def test_one_assignment_replaces_nothing_of_another(tmp_path, monkeypatch):
    """Though nobody has changed it; and two do not write at once."""
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "ann.ipynb").write_text("{}")
    for name in ("hw0_tiny", "hw1_tiny"):
        (tmp_path / f"{name}.py").write_text(TINY)
    table, page = tmp_path / "grades.csv", tmp_path / "feedback" / "ann.html"

    def grade(name):
        with monkeypatch.context() as patch:
            patch.setattr(_grade, "Autograder", None)
            homework.grade(
                tmp_path / "class", table, tmp_path, name, unprotected=True
            )

    for path in (table, page):
        path.parent.mkdir(exist_ok=True)
        path.write_text("points")
        files.remember(path, "hw0_tiny")
        with pytest.raises(RunError, match="command wrote it for hw1_tiny"):
            grade("hw1_tiny")
        with pytest.raises(TypeError):  # it begins
            grade("hw0_tiny")
        path.unlink()
    with files.locked(page.parent):
        with pytest.raises(RunError, match="another process is at work"):
            grade("hw0_tiny")


def test_a_table_that_is_edited_while_a_class_is_graded_is_kept(tmp_path):
    path, said = tmp_path / "grades.csv", []
    table = _grade._Table(path, "hw0_tiny", {"a": 2}, said.append)
    table.add(homework.Result("ann", {"a": 1}))
    path.write_text("mine")
    (tmp_path / "grades-changed1.csv").write_text("of yesterday")
    table.add(homework.Result("bob", {"a": 2}))
    table.add(homework.Result("cem", {"a": 0}))
    assert (tmp_path / "grades-changed2.csv").read_text() == "mine"
    assert len(path.read_text().splitlines()) == 5
    assert said == ["the table was changed meanwhile, now grades-changed2.csv"]


def test_the_row_of_the_maxima_is_nobodys(tmp_path):
    results = [homework.Result("(most)", {"a": 1})]
    homework.write_csv(tmp_path / "grades.csv", results, {"a": 2})
    rows = (tmp_path / "grades.csv").read_text().splitlines()
    assert rows[1:] == ["(most),2,2,", "(most)*,1,1,"]


def test_what_could_not_be_graded_has_a_row_and_a_line(tmp_path):
    """For a reason of the machine nobody gets a 0."""
    results = [
        homework.Result("ann", {"a": 2, "b": 0}, {"b": "No."}),
        homework.Result("bob", {"a": 0, "b": 0}, {}, ["not graded: a picture"],
                        graded=False),
        homework.Result("cem", {"a": None, "b": None}, graded=False),
    ]  # fmt: skip
    assert homework.summarize(results) == [
        "3 submissions",
        "2 not graded, see their notes: bob, cem",
        "a: 1 of 1 passed",
        "b: 0 of 1 passed",
        "  1 x No.",
    ]
    homework.write_csv(tmp_path / "grades.csv", results, {"a": 2, "b": 3})
    rows = (tmp_path / "grades.csv").read_text().splitlines()
    assert rows[2:] == [
        "ann,2,2,0,", "bob,0,0,0,not graded: a picture", "cem,,,,"
    ]  # fmt: skip


def test_the_table_of_a_class_is_that_of_its_script():
    """The script says what each of its submissions must earn, and checks it."""
    from tests import homework_class

    text = (ROOT / "chapters" / "homework" / "README.md").read_text("utf-8")
    assert len(homework_class.STUDENTS) == 30
    for name, (kind, what, points, change) in homework_class.STUDENTS.items():
        assert f"| {name} | {kind} | {what} | {points} |" in text
        change(homework_class.Submission())  # what it changes is there
