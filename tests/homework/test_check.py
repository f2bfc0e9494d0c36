"""Checking at home."""

import pytest

from kerasllm import cli, homework
from kerasllm.checks import MissingFileError
from kerasllm.homework import _check
from tests.homework.tiny_course import (
    TOTAL,
    WRONG,
    nbformat,
    submit,
    tiny_release,
)

pytestmark = pytest.mark.any_backend


def test_check_runs_the_visible_tests(tmp_path, capsys):
    pytest.importorskip("nbclient")
    notebook = submit(tiny_release(), {"double": WRONG, "total": TOTAL})
    path = tmp_path / "mine.ipynb"
    nbformat.write(notebook, path)
    before = path.read_bytes()
    result = homework.check(path)
    assert path.read_bytes() == before
    assert result.scores == {"test_double": 0, "test_total": 3, "picture": None}
    assert result.failures == {"test_double": "The double of 1 is 2."}
    with pytest.raises(SystemExit) as finished:
        cli.main(["homework", "check", str(path)])
    assert finished.value.code == 1
    assert "The double of 1 is 2." in capsys.readouterr().out


def check_with(tmp_path, total):
    """Check a notebook with this cell for `total`, saved with old outputs."""
    pytest.importorskip("nbclient")
    notebook = submit(tiny_release(), {"double": WRONG, "total": total})
    for each in notebook.cells:
        if each.cell_type == "code":
            each.outputs = [nbformat.v4.new_output("stream", text="fine")]
    path = tmp_path / "mine.ipynb"
    nbformat.write(notebook, path)
    result = homework.check(path)
    assert result.failures["test_double"] == "The double of 1 is 2."
    assert result.total == 0
    return result


@pytest.mark.once
@pytest.mark.parametrize(
    "total, failure",
    [
        ("while True: pass", "NameError"),
        ("def total(xs):\n    while True: pass", "interrupted"),
        # Cannot be interrupted, so the test does not get its turn.
        ("while True:\n"
         "    import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
         "interrupted"),
    ],
)  # fmt: skip
def test_check_ends_a_loop_and_goes_on(tmp_path, monkeypatch, total, failure):
    monkeypatch.setattr(_check, "_CELL_SECONDS", 4)
    result = check_with(tmp_path, total)
    assert failure in result.failures["test_total"]
    is_told = any("'while True" in note for note in result.notes)
    assert is_told == total.startswith("while")


@pytest.mark.parametrize(
    "total, failure",
    [
        ("import os\nos._exit(0)", "not run to its end"),
        ("def total(xs):\n    import os\n    os._exit(0)",
         "not run to its end"),
        ("def total(xs):\n    assert not xs", "AssertionError"),
    ],
)  # fmt: skip
def test_check_says_what_did_not_run(tmp_path, total, failure):
    """What was saved in the notebook is of an earlier run."""
    result = check_with(tmp_path, total)
    assert failure in result.failures["test_total"]


def test_check_wants_an_assignment(tmp_path):
    with pytest.raises(MissingFileError, match="must be a file. Received:"):
        homework.check(tmp_path / "missing.ipynb")
    path = tmp_path / "other.ipynb"
    path.write_text("{}")
    with pytest.raises(ValueError, match="must be a notebook of an assignment"):
        homework.check(path)
