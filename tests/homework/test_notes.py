"""What is taken of a submission, and what is noted about it."""

import json

import pytest

from kerasllm import homework
from tests.homework.tiny_course import (
    RIGHT,
    TINY,
    TOTAL,
    cell,
    nbformat,
    submit,
    tiny_release,
)

pytestmark = pytest.mark.any_backend


def test_of_a_submission_only_the_text_is_taken():
    released = tiny_release()
    notebook = submit(released, {"double": RIGHT, "test_double": "pass"})
    notebook.cells[2].metadata.tags = ["raises-exception"]
    notebook.cells.pop()
    rebuilt = homework.rebuild(notebook, released)
    by_id = {
        each.metadata.nbgrader.grade_id: each
        for each in rebuilt.cells
        if "nbgrader" in each.metadata
    }
    assert by_id["double"].source == RIGHT
    assert "tags" not in by_id["double"].metadata
    assert "The double of 1 is 2." in by_id["test_double"].source
    assert rebuilt.cells[-1].metadata.nbgrader.grade_id == "picture"


@pytest.mark.parametrize(
    "details",
    [1, None, {"locked": True}, {"grade_id": ["double"], "locked": True}],
)
def test_what_claims_to_be_of_nbgrader_is_a_plain_cell(tmp_path, details):
    """And does not keep its code from being looked at."""
    notebook = nbformat.v4.new_notebook(cells=[cell("eval('1')")])
    notebook.cells[0].metadata = {"nbgrader": details}
    path = tmp_path / "odd.ipynb"
    path.write_text(json.dumps(notebook))
    read, problem = homework.read_submission(path)
    assert problem is None
    rebuilt = homework.rebuild(read, tiny_release())
    for each in (read, rebuilt):
        assert each.cells[0].source == "eval('1')"
        assert homework.find_notes(each, {}) == ["uses eval"]


@pytest.mark.parametrize("metadata", [None, [], "text"])
def test_what_has_no_metadata_is_no_notebook(tmp_path, metadata):
    notebook = nbformat.v4.new_notebook(cells=[cell("pass")])
    notebook.cells[0].metadata = metadata
    path = tmp_path / "odd.ipynb"
    path.write_text(json.dumps(notebook))
    assert "no notebook" in homework.read_submission(path)[1]


def test_notes_name_what_is_worth_a_look():
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        cell("%matplotlib inline\nfrom kerasllm.tokenizers import x"),
        cell("import numpy as np, ctypes\n__import__('os')"),
        cell("def broken(: use_cache()"),
    ]
    notebook.cells.append(
        cell("layer.enable_lora(8)\nDense(1, lora_rank=2)\n# use_bias")
    )
    notes = homework.find_notes(
        notebook,
        {
            "forbidden": ["kerasllm"],
            "forbidden_names": [
                "enable_lora",
                "lora_rank",
                "use_bias",
                "use_cache",
            ],
        },
    )
    assert notes == [
        "a cell that is not Python",
        "imports kerasllm.tokenizers.x, which is forbidden",
        "uses __import__",
        "uses ctypes",
        "uses enable_lora, which is forbidden: deduct where it is needed",
        "uses lora_rank, which is forbidden: deduct where it is needed",
        "uses use_cache, which is forbidden: deduct where it is needed",
    ]


def test_a_table_can_hold_all_notes():
    names = ", ".join(f"ctypes.{'a' * 300}{i}" for i in range(10_000))
    notebook = nbformat.v4.new_notebook(cells=[cell(f"import {names}")])
    notes = homework.find_notes(notebook, {})
    assert notes[-1] == "9950 more notes" and len(notes) == 51
    assert len("; ".join(notes)) < 32_767  # characters in a spreadsheet's cell


@pytest.mark.parametrize(
    "line",
    ["%time x = Ready(1)", "    %timeit -n 1 Ready(1)", "%%capture Ready(1)",
     "!echo Ready", "%time 1\nx = Ready(1)"],
)  # fmt: skip
def test_a_magic_hides_no_name(line):
    source = f"if True:\n{line}" if line.startswith(" ") else line
    notebook = nbformat.v4.new_notebook(cells=[cell(source)])
    notes = homework.find_notes(notebook, {"forbidden_names": ["Ready"]})
    assert "uses Ready, which is forbidden: deduct where it is needed" in notes
    assert "a cell that is not Python" not in notes


def test_a_magic_is_noted_if_it_is_worth_a_look():
    cells = [
        cell("%matplotlib inline\n%pip install numpy"),
        cell("x = (5\n% 2)"),
        cell("!cat /etc/passwd"),
        cell("if 1:\n  %run other.py\n%time import kerasllm"),
    ]
    notes = homework.find_notes(
        nbformat.v4.new_notebook(cells=cells), {"forbidden": ["kerasllm"]}
    )
    assert notes == ["imports kerasllm, which is forbidden", "uses !",
                     "uses run"]  # fmt: skip


def test_a_forbidden_name_costs_the_question_that_it_is_in():
    """The note says so, in code that is no Python, too."""
    for source in ("x = Ready(1)", "def broken(: Ready"):
        notebook = nbformat.v4.new_notebook()
        notebook.cells = [cell(source, "double", "solution")]
        notes = homework.find_notes(notebook, {"forbidden_names": ["Ready"]})
        assert (
            "uses Ready, which is forbidden: deduct the points of double"
            in notes
        )


@pytest.mark.parametrize(
    ("source", "note"),
    [
        ('getattr(layers, "Multi" + "HeadAttention")', "getattr with a name"),
        ('getattr(layers, f"{1}HeadAttention")', "getattr with a name"),
        ("getattr(layers, name, None)", "getattr with a name"),
        ('vars(layers)["Atten" + "tion"]', "vars"),
        ('layers.__dict__["Atten" + "tion"]', "__dict__"),
        ("Layer.__subclasses__()[3]", "__subclasses__"),
        ('globals()["lay" + "ers"]', "globals"),
        ("from operator import attrgetter as get", "attrgetter"),
        ("import importlib as i", "importlib"),
        ("eval('lay' + 'ers')", "eval"),
        ('getattr(layer, "kernel")', None),
        ("getattr(layer)", None),
    ],
)
def test_ways_to_a_name_that_is_not_written_are_noted(source, note):
    notebook = nbformat.v4.new_notebook(cells=[cell(source)])
    notes = homework.find_notes(notebook, {})
    assert len(notes) == (note is not None)
    assert all(said.startswith(f"uses {note}") for said in notes)


@pytest.mark.once
def test_what_is_noted_is_what_is_run(nbgrader, tmp_path):
    """The submission's metadata say nothing about it."""
    (tmp_path / "hw").mkdir()
    (tmp_path / "hw" / "hw0_tiny.py").write_text(
        TINY.replace(
            "graded:", "forbidden_names: [Lock, Label, Strange]\n#     graded:"
        )
    )
    answers = {"double": f"Label = 2\n{RIGHT}", "total": TOTAL}
    notebook = submit(tiny_release(), answers)
    (double,) = [c for c in notebook.cells if c.source.startswith("Label")]
    double.update(cell_type="markdown")
    locked, strange = cell("Lock = 2", "unknown", "helper"), cell("Strange = 2")
    strange.metadata = {"nbgrader": 1}
    notebook.cells[:0] = [locked, strange]
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "ann.ipynb").write_text(json.dumps(notebook))
    (result,), _ = homework.grade(
        tmp_path / "class",
        tmp_path / "grades.csv",
        tmp_path / "hw",
        unprotected=True,
    )
    assert result.total == 5, result
    names = ("Label", "Lock", "Strange")
    for name, note in zip(names, result.notes, strict=True):
        assert f"{name}, which is forbidden: deduct" in note
