"""Checking at home."""

import psutil
import pytest

from kerasllm import cli, homework
from kerasllm.checks import MissingFileError
from kerasllm.homework import _check
from tests.homework.tiny_course import (
    RIGHT,
    TOTAL,
    WRONG,
    nbformat,
    submit,
    tiny_release,
)

pytestmark = pytest.mark.any_backend


def test_check_runs_the_visible_tests(tmp_path, monkeypatch, capsys):
    """In this Python, though another one is named on the way."""
    pytest.importorskip("nbclient")
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        '{"argv": ["/no/such/python", "{connection_file}"],'
        ' "display_name": "stale", "language": "python"}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    notebook = submit(tiny_release(), {"double": WRONG, "total": TOTAL})
    path = tmp_path / "mine.ipynb"
    nbformat.write(notebook, path)
    before = path.read_bytes()
    result = homework.check(path)
    assert path.read_bytes() == before
    assert result.scores == {"test_double": 0, "test_total": 3, "picture": None}
    assert result.failures == {"test_double": "The double of 1 is 2."}
    assert result.unwritten == ["picture"]
    with pytest.raises(SystemExit) as finished:
        cli.main(["homework", "check", str(path)])
    assert finished.value.code == 1
    said = capsys.readouterr().out
    assert "The double of 1 is 2." in said
    assert "1 not written yet, 1 tests fail" in said


@pytest.mark.parametrize(
    "answers, unwritten, failures",
    [
        ({}, ["test_double", "test_total", "picture"], {}),
        # Written, but it calls what is not, or says so in its own way.
        ({"total": "def total(xs):\n    return double(sum(xs))",
          "picture": "print(1)"}, ["test_double", "test_total"], {}),
        ({"double": "def double(x):\n    raise NotImplementedError('odd')",
          "total": TOTAL, "picture": "print(1)"}, [],
         {"test_double": "NotImplementedError: odd"}),
        # A test that passes is passed, whatever else is in its cell.
        ({"double": RIGHT, "total": f"{TOTAL}\ndef later():\n"
          "    raise NotImplementedError()"}, ["picture"], {}),
    ],
)  # fmt: skip
def test_what_is_as_it_was_handed_out_is_not_written_yet(
    tmp_path, monkeypatch, answers, unwritten, failures
):
    """Each exercise says so, in place of an error of its test."""

    def run(notebook, folder):
        """In this process, as a kernel would."""
        names, errors = {}, []
        for each in notebook.cells:
            errors.append(None)
            try:
                exec(each.source, names)
            except Exception as error:
                errors[-1] = f"{type(error).__name__}: {error}"
        return errors

    monkeypatch.setattr(_check, "_run", run)
    path = tmp_path / "mine.ipynb"
    nbformat.write(submit(tiny_release(), answers), path)
    result = homework.check(path)
    assert result.unwritten == unwritten
    waiting = {each: "not written yet" for each in unwritten}
    waiting.pop("picture", None)
    assert result.failures == waiting | failures


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
    monkeypatch.setattr(_check, "_CELL_SECONDS", 3)
    before = psutil.Process().children(recursive=True)
    result = check_with(tmp_path, total)
    left = set(psutil.Process().children(recursive=True)) - set(before)
    assert not left, "no kernel outlives its check"
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
