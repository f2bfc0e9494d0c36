"""Which cell of a submission is which, when the metadata are gone."""

import pytest

from kerasllm import homework
from tests.homework.tiny_course import (
    RIGHT,
    TOTAL,
    cell,
    nbformat,
    submit,
    tiny_release,
)

pytestmark = pytest.mark.any_backend

ALL = ["one", "double", "test_double", "total", "test_total", "picture"]
DRAWN = "print('my picture')"


def without_metadata(answers):
    """Return a submission that was copied and pasted cell by cell."""
    notebook = submit(tiny_release(), answers)
    for each in notebook.cells:
        each.metadata.pop("nbgrader", None)
    return notebook


def find(notebook, start):
    (found,) = [c for c in notebook.cells if c.source.startswith(start)]
    return found


def rebuilt(notebook):
    """Return the source of each cell with an id, all sources, and notes."""
    notes = []
    made = homework.rebuild(notebook, tiny_release(), notes)
    by_id = {
        each.metadata.nbgrader.grade_id: each.source
        for each in made.cells
        if "nbgrader" in each.metadata
    }
    return by_id, [each.source for each in made.cells], notes


def test_cells_without_metadata_are_recognized():
    answers = {"double": RIGHT, "total": TOTAL, "picture": DRAWN}
    by_id, sources, notes = rebuilt(without_metadata(answers))
    assert list(by_id) == ALL
    assert {key: by_id[key] for key in answers} == answers
    # No stub comes after the student's function, which it would replace.
    assert not any("NotImplementedError" in source for source in sources)
    assert len(sources) == len(tiny_release().cells)
    assert notes == [
        "6 cells had lost their metadata and were recognized by their "
        "content: one, double, test_double, total, test_total, ..."
    ]


def test_with_metadata_nothing_is_guessed():
    answers = {"double": TOTAL, "total": RIGHT, "picture": DRAWN}
    by_id, _, notes = rebuilt(submit(tiny_release(), answers))
    assert {key: by_id[key] for key in answers} == answers
    assert notes == []


@pytest.mark.parametrize(
    "code",
    [
        "double = lambda x: 2 * x",
        "%%time\ndef double(x):\n    return 2 * x",
        "@staticmethod\ndef double(x):\n    return 2 * x",
        "if True:\n    def double(x):\n        return 2 * x",
        "def double(x) return 2 * x",  # not Python, and still an answer
        "class double: pass",
        "async def double(x): pass",
        "def triple(x): return 3 * x\ndef double(x): return 2 * x",
    ],
)
def test_an_answer_is_recognized_by_what_it_defines(code):
    by_id, sources, _ = rebuilt(without_metadata({"double": code}))
    assert by_id["double"] == code and sources.count(code) == 1


@pytest.mark.parametrize(
    "code",
    ["def other(): double = 1", "[double for double in [1]]", "double(2)",
     "lambda double: 1", "# def double(x):"],
)  # fmt: skip
def test_a_name_that_is_only_used_defines_nothing(code):
    assert "double" not in homework.defined_names(code)


def test_an_answer_in_another_cell_is_not_replaced_by_the_stub():
    """The student's own cell defines both; the cell of one is deleted."""
    notebook = submit(tiny_release(), {"double": f"{RIGHT}\n{TOTAL}"})
    notebook.cells.remove(find(notebook, "def total"))
    _, sources, notes = rebuilt(notebook)
    assert sum("def total" in source for source in sources) == 1
    assert notes == ["in a cell with others: total"]


def test_the_last_of_several_attempts_counts():
    notebook = without_metadata({"double": "def double(x):\n    return 1"})
    notebook.cells.append(cell(RIGHT))
    by_id, sources, _ = rebuilt(notebook)
    assert by_id["double"] == RIGHT
    assert "def double(x):\n    return 1" in sources


def test_a_changed_test_is_put_back_and_a_changed_helper_comes_first():
    notebook = without_metadata({"double": RIGHT, "total": TOTAL})
    find(notebook, "assert double").source = "assert True"
    find(notebook, "def one").source = "def one():\n    return 5"
    by_id, sources, notes = rebuilt(notebook)
    assert "The double of 1 is 2." in by_id["test_double"]
    assert "return 1" in by_id["one"]
    # Tests that use the helper, and the student's cells, come after it.
    assert sources.index(by_id["one"]) < sources.index(RIGHT)
    assert "cells that are missing: one, test_double" in notes


def test_a_figure_is_found_by_its_place_or_left_to_a_person():
    by_id, _, _ = rebuilt(without_metadata({"picture": DRAWN}))
    assert by_id["picture"] == DRAWN
    # Nothing tells where it is: a person looks, and nobody gets a 0 unseen.
    notebook = without_metadata({})
    notebook.cells.remove(find(notebook, "raise NotImpl"))
    notebook.cells.insert(0, cell(DRAWN))
    by_id, sources, notes = rebuilt(notebook)
    assert by_id["picture"] == (
        "# This cell was not found. Look for it among the others."
    )
    assert DRAWN in sources
    assert "cells that are missing: picture" in notes
    # Left out by somebody who has added nothing, it is as it was handed out.
    notebook = submit(tiny_release(), {})
    notebook.cells.pop()
    by_id, _, _ = rebuilt(notebook)
    assert by_id["picture"] == "raise NotImplementedError()"


def test_another_notebook_is_told_apart():
    notebook = nbformat.v4.new_notebook(cells=[cell("x = 1"), cell("y = 2")])
    _, sources, notes = rebuilt(notebook)
    assert sources[:2] == ["x = 1", "y = 2"]
    assert notes == [
        "none of its 2 cells is of the assignment: is it another notebook?"
    ]


def test_a_raw_cell_is_shown():
    notebook = submit(tiny_release(), {})
    notebook.cells.append(nbformat.v4.new_raw_cell("my answer"))
    _, sources, _ = rebuilt(notebook)
    assert sources[-1] == "my answer"


def test_of_copies_an_answer_that_was_written_counts_and_a_test_comes_late():
    """Jupyter copies the id, too: in a copy, and in both parts of a split."""
    notebook = submit(tiny_release(), {"double": RIGHT, "total": TOTAL})
    test, picture = (
        find(notebook, start) for start in ("assert double", "raise NotImpl")
    )
    # To look at it, above the function, which is not there yet.
    notebook.cells.insert(0, nbformat.from_dict({**test}))
    answer = nbformat.from_dict({**picture, "source": DRAWN})
    notebook.cells.append(answer)
    by_id, sources, notes = rebuilt(notebook)
    assert by_id["picture"] == DRAWN
    assert sources.index(RIGHT) < sources.index(by_id["test_double"], 1)
    made = homework.rebuild(notebook, tiny_release()).cells
    assert "nbgrader" not in made[0].metadata
    assert notes == ["cells that it has twice: test_double, picture"]


@pytest.mark.parametrize("place", ["test_double", "one"])
def test_an_answer_in_a_cell_that_is_put_back_is_kept(place):
    """As when two cells are merged: the first one gives its id to both."""
    given = tiny_release()
    (cell_of_both,) = [
        each
        for each in given.cells
        if each.metadata.get("nbgrader", {}).get("grade_id") == place
    ]
    text = cell_of_both.source
    notebook = submit(given, {"double": RIGHT, place: f"{text}\n\n{TOTAL}"})
    notebook.cells.remove(find(notebook, "def total"))
    by_id, sources, notes = rebuilt(notebook)
    assert by_id[place] == text
    (kept,) = [each for each in sources if TOTAL in each]
    assert sources.index(kept) < sources.index(by_id["test_total"])
    assert notes == ["in a cell with others: total",
                     f"changed and put back: {place}"]  # fmt: skip


def test_pictures_in_a_text_are_kept_and_nothing_else_is():
    notebook = submit(tiny_release(), {})
    text = nbformat.v4.new_markdown_cell("![](attachment:a.png)")
    text.attachments = {
        "a.png": {"image/png": "AA==", "text/html": "<script>"},
        "b.svg": {"image/svg+xml": "<svg>"},
        "c.png": "AA==",
        "d.png": {"image/png": ["AA=="]},
    }
    notebook.cells += [text, nbformat.from_dict({**text, "attachments": 5})]
    *_, kept, plain = homework.rebuild(notebook, tiny_release()).cells
    assert kept.attachments == {"a.png": {"image/png": "AA=="}}
    assert "attachments" not in plain
