"""What a test is lent: right functions in the place of wrong ones."""

import pytest

from kerasllm import homework
from tests.homework.tiny_course import TINY, jupytext, nbformat

pytestmark = pytest.mark.any_backend

# `total` calls `double`, which both are given points for.
BUILT = TINY.replace("return sum(xs)", "return sum(double(x) for x in xs) // 2")


def source_of(text):
    notebook = jupytext.reads(text, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        details = cell.metadata.get("nbgrader", {})
        cell.id = details.get("grade_id", f"cell-{number}")
    return notebook


def test_a_test_grades_what_is_written_before_it():
    plan = homework.plan_loans(source_of(BUILT))
    assert plan["tests"] == {
        "test_double": ["double"], "test_total": ["total"]
    }  # fmt: skip
    assert list(plan["functions"]) == ["double", "total"]
    assert plan["base"][0] == "SEED = 0" and "def one()" in plan["base"][1]


def test_a_second_test_grades_the_same():
    text = BUILT.replace('"test_total"', '"first"').replace(
        '# %% nbgrader={"grade": true, "grade_id": "picture"',
        '# %% nbgrader={"grade": true, "grade_id": "second", "locked": true, '
        '"points": 3, "schema_version": 3, "solution": false, "task": false}\n'
        'pass\n\n# %% nbgrader={"grade": true, "grade_id": "picture"',
    )
    plan = homework.plan_loans(source_of(text))
    assert plan["tests"]["first"] == plan["tests"]["second"] == ["total"]


@pytest.mark.parametrize(
    ("passed", "lent"),
    [
        ({}, None),  # its test was deleted, or comes at the end
        ({"test_double": True}, None),
        ({"test_double": False}, ["double"]),
    ],
)
def test_only_what_was_tested_and_failed_is_lent(passed, lent):
    loans = homework.Loans(homework.plan_loans(source_of(BUILT)))
    for test, outcome in passed.items():
        loans.record(test, outcome)
    assert loans.of("test_double") is None
    assert loans.of("one") is None  # no test
    loan = loans.of("test_total")
    assert (loan and loan[1]) == lent
    if loan:
        # Nothing of what is still to be tested.
        assert not any("def total" in source for source in loan[0])


def test_what_is_lent_is_given_back():
    namespace = {"double": "mine"}
    sources = ["import math", "def double(x):\n    return math.floor(x * 2)"]
    homework.lend([*sources, "half = 0.5"], ["double", "half"], namespace)
    assert namespace["double"](1.5) == 3 and namespace["half"] == 0.5
    homework.lend([], [], namespace)
    assert namespace == {"double": "mine"}


def test_work_in_a_plain_cell_is_not_done_again():
    text = BUILT.replace(
        "SEED = 0", "import math\nSEED = 0\nnothing = open('no file').read()"
    )
    plan = homework.plan_loans(source_of(text))
    assert plan["base"][0] == "import math\nSEED = 0"


@pytest.mark.once
def test_a_mistake_costs_its_points_once_in_grading(nbgrader, tmp_path):
    (tmp_path / "hw").mkdir()
    (tmp_path / "hw" / "hw0_tiny.py").write_text(BUILT)
    (tmp_path / "class").mkdir()

    def hand_in(student, double, order=1):
        notebook = source_of(BUILT.replace("return x + x", f"return {double}"))
        test = notebook.cells.pop(3)
        assert test.id == "test_double"
        notebook.cells.insert({1: 3, 2: 5}[order], test)
        nbformat.write(notebook, tmp_path / "class" / f"{student}.ipynb")

    hand_in("right", "x + x")
    hand_in("unwritten", "None")
    hand_in("late", "None", order=2)  # its test is the last
    results, _ = homework.grade(
        tmp_path / "class",
        tmp_path / "grades.csv",
        tmp_path / "hw",
        unprotected=True,
    )
    totals = {result.student: result.total for result in results}
    assert totals == {"right": 5, "unwritten": 3, "late": 0}, results
