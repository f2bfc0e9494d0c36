"""An assignment of two small functions, its release, and submissions of it."""

import json
import re

import pytest

nbformat = pytest.importorskip(
    "nbformat", reason='notebooks need `pip install -e ".[notebooks]"`'
)
jupytext = pytest.importorskip(
    "jupytext", reason='notebooks need `pip install -e ".[notebooks]"`'
)


def cell(source, grade_id=None, kind=None, points=0):
    new = nbformat.v4.new_code_cell(source)
    if kind:
        new.metadata.nbgrader = {
            "grade": kind in ("test", "hand"),
            "grade_id": grade_id,
            "locked": kind in ("test", "helper"),
            "schema_version": 3,
            "solution": kind in ("solution", "hand"),
            "task": False,
        }
        if points:
            new.metadata.nbgrader.points = points
    return new


TINY = '''# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   kerasllm:
#     forbidden: [kerasllm, statistics, sentencepiece]
#     graded: [double, total]
# ---

# %%
SEED = 0

# %% nbgrader={"grade": false, "grade_id": "one", "locked": true, "schema_version": 3, "solution": false, "task": false}
def one():
    """A helper that both sides have."""
    return 1

# %% nbgrader={"grade": false, "grade_id": "double", "locked": false, "schema_version": 3, "solution": true, "task": false}
def double(x):
    ### BEGIN SOLUTION
    return x + x + one() - one()
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test_double", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
assert double(one()) == 2, "The double of 1 is 2."
### BEGIN HIDDEN TESTS
import os
import random
rng = random.Random(os.environ.get("KERASLLM_HOMEWORK_SEED", "0"))
for _ in range(20):
    hidden = rng.randrange(10**9)
    expected = hidden * 2
    assert double(hidden) == expected, "The double of any number."
### END HIDDEN TESTS

# %% nbgrader={"grade": false, "grade_id": "total", "locked": false, "schema_version": 3, "solution": true, "task": false}
def total(xs):
    ### BEGIN SOLUTION
    return sum(xs)
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test_total", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
assert total([1, 2]) == 3, "The total of 1 and 2 is 3."
### BEGIN HIDDEN TESTS
assert total([]) == 0, "The total of nothing is 0."
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "picture", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
print("a picture by a person of taste")
### END SOLUTION
'''  # noqa: E501


def with_copies(names):
    """The tiny assignment with a function like `double` for each name.

    Returns:
        A pair: the assignment as text, and a function that returns the code of
        a `double` as that of a copy.
    """
    head, *cells = TINY.split("\n# %%")
    double, test = (part for part in cells if "double" in part.split("\n")[0])

    def renamed(text, name):
        return re.sub(r"\b(test_)?double\b", rf"\1{name}", text)

    position = cells.index(test) + 1
    cells[position:position] = [
        renamed(part, name) for name in names for part in (double, test)
    ]
    graded = ", ".join(["double", "total", *names])
    text = "\n# %%".join([head, *cells])
    return text.replace("[double, total]", f"[{graded}]"), renamed


RIGHT = "def double(x):\n    return 2 * x"


TOTAL = "def total(xs):\n    return sum(xs)"


WRONG = "def double(x):\n    return 7"


def submit(released, answers):
    """Return a student's notebook with these answers, by id of the cell."""
    notebook = nbformat.from_dict(json.loads(json.dumps(released)))
    for each in notebook.cells:
        grade_id = each.metadata.get("nbgrader", {}).get("grade_id")
        each.source = answers.get(grade_id, each.source)
    return notebook


def tiny_release():
    """The students' version of the tiny assignment, made without nbgrader."""
    return without_secrets(jupytext.reads(TINY, fmt="py:percent"))


def without_secrets(notebook):
    """Take the solutions and hidden tests out of a notebook; return it."""
    for each in notebook.cells:
        each.source = re.sub(
            r"### BEGIN SOLUTION.*?### END SOLUTION",
            "raise NotImplementedError()",
            re.sub(
                r"### BEGIN HIDDEN.*?TESTS$", "", each.source, flags=re.DOTALL
            ),
            flags=re.DOTALL,
        )
    return notebook
