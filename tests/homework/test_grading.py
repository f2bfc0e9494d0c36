"""Grading a class, from its folder of submissions to its table."""

import csv
import pathlib

import numpy as np
import pytest

from kerasllm import cli, homework
from kerasllm.checks import UserError
from kerasllm.homework import _sandbox
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


def test_submissions_are_found_in_both_forms(tmp_path):
    names = ["hw1_tokens", "hw2_decoder"]
    for path in ("ann/hw1_tokens/hw1_tokens.ipynb", "ann/hw1_tokens/old.ipynb",
                 "bob/hw1_tokens.ipynb", "hw1_tokens_cem.ipynb",
                 "dan/.ipynb_checkpoints/hw1_tokens.ipynb"):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    (tmp_path / "eve.ipynb").symlink_to("/etc/passwd")
    name, found, notes = homework.find_submissions(tmp_path, names)
    assert name == "hw1_tokens"
    assert list(found) == ["ann", "bob", "cem"]
    assert found["ann"].name == "hw1_tokens.ipynb"
    assert notes == {}


def test_the_notebook_of_the_assignment_is_graded(tmp_path):
    names = ["hw1_tokens", "hw2_decoder"]
    for path in ("ann/hw1_tokens/hw1_tokens.ipynb",
                 "ann/hw2_decoder/hw2_decoder.ipynb",
                 "bob/draft.ipynb", "bob/hw2_decoder (1).ipynb",
                 "cem/hw2_decoder (1).ipynb", "cem/hw2_decoder.ipynb",
                 "dan/hw1_tokens.ipynb", "eve.ipynb", "hw1_tokens_fay.ipynb",
                 "hw2_decoder_fay.ipynb"):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    name, found, notes = homework.find_submissions(
        tmp_path, names, "hw2_decoder"
    )
    assert name == "hw2_decoder"
    assert {student: path.name for student, path in found.items()} == {
        "ann": "hw2_decoder.ipynb",
        "bob": "hw2_decoder (1).ipynb",
        "cem": "hw2_decoder.ipynb",
        "dan": "hw1_tokens.ipynb",
        "eve": "eve.ipynb",
        "fay": "hw2_decoder_fay.ipynb",
    }
    # A note where an instructor could have chosen another, or has none.
    assert notes == {
        "cem": "graded hw2_decoder.ipynb, not hw2_decoder (1).ipynb",
        "dan": "graded hw1_tokens.ipynb: no file is named after the assignment",
    }
    name, _, _ = homework.find_submissions(tmp_path, names)
    assert name is None


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
    assert (tmp_path / "out" / "feedback" / "ann.html").exists()
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


def test_the_table_of_a_class_is_that_of_its_script():
    """The script says what each of its submissions must earn, and checks it."""
    from tests import homework_class

    text = (ROOT / "chapters" / "homework" / "README.md").read_text("utf-8")
    assert len(homework_class.STUDENTS) == 30
    for name, (kind, what, points, change) in homework_class.STUDENTS.items():
        assert f"| {name} | {kind} | {what} | {points} |" in text
        change(homework_class.Submission())  # what it changes is there
