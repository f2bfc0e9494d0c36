"""The shell and the machine decide on no points."""

import csv
import json
import os
import sys

import pytest

from kerasllm import cli, homework
from tests.homework.tiny_course import (
    RIGHT,
    TINY,
    TOTAL,
    WRONG,
    jupytext,
    nbformat,
    submit,
    tiny_release,
)

pytest.importorskip("nbclient")
pytestmark = pytest.mark.any_backend


@pytest.fixture
def hostile_shell(tmp_path, monkeypatch):
    """A shell whose variables steer Python, Jupyter, IPython and Keras."""
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    for folder in (kernel, startup, tmp_path / "keras", tmp_path / "path"):
        folder.mkdir(parents=True)
    spec = {
        "argv": ["/no/such/python", "{connection_file}"],
        "display_name": "stale",
        "language": "python",
        "interrupt_mode": "message",
        "env": {"PYTHONOPTIMIZE": "2"},
    }
    (kernel / "kernel.json").write_text(json.dumps(spec))
    (startup / "first.py").write_text("sum = print = None")
    (tmp_path / "keras" / "keras.json").write_text('{"backend": "none"}')
    (tmp_path / "path" / "random.py").write_text("raise ImportError")
    variables = {
        "JUPYTER_PATH": tmp_path / "jupyter",
        "JUPYTER_RUNTIME_DIR": "/proc/none",
        "JUPYTER_DEFAULT_PROVISIONER_NAME": "none",
        "IPYTHONDIR": tmp_path / "ipython",
        "PYTHONPATH": tmp_path / "path",
        "PYTHONSTARTUP": startup / "first.py",
        "PYTHONOPTIMIZE": "2",  # without `assert`, whatever is wrong passes
        "PYTHONWARNINGS": "error",
        "PYTHONHASHSEED": "7",
        "PYTHONIOENCODING": "ascii",
        "LC_ALL": "tr_TR",
        "KERAS_BACKEND": "none",
        "KERAS_HOME": tmp_path / "keras",
        "JAX_PLATFORMS": "none",
        "XLA_FLAGS": "--none",
        "TF_CPP_MIN_LOG_LEVEL": "0",
        "MPLBACKEND": "none",
        "OMP_NUM_THREADS": "0",
        "LD_PRELOAD": "",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    return variables


def test_no_variable_of_the_shell_is_handed_on(tmp_path, monkeypatch):
    from kerasllm.homework.kernels._manager import (
        environment,
        home_environment,
    )

    before = environment(tmp_path), home_environment(tmp_path)
    needed = set(before[1]) - set(before[0])
    for name in {*os.environ, *before[0], "KERAS_BACKEND", "PYTHONOPTIMIZE",
                 "JAX_PLATFORMS", "SOMETHING_ELSE"} - needed:  # fmt: skip
        if name not in ("PATH", "HOME", "TMPDIR"):
            monkeypatch.setenv(name, "other")
    assert (environment(tmp_path), home_environment(tmp_path)) == before
    for name in ("PATH", "HOME"):  # at home, programs are where they are
        monkeypatch.setenv(name, "other")
        assert home_environment(tmp_path)[name] == "other"
    assert environment(tmp_path) == before[0]
    assert environment(tmp_path, "abc")["KERAS_BACKEND"] == "abc"


def test_the_kernel_is_this_pythons(hostile_shell):
    from kerasllm.homework.kernels._manager import OwnKernelManager

    manager = OwnKernelManager(kernel_name="python3")
    command = manager.format_kernel_cmd()
    assert command[:4] == [sys.executable, "-m", "ipykernel_launcher", "-f"]
    assert manager.kernel_spec.env == {}
    assert manager.kernel_spec.interrupt_mode == "signal"


def a_class(folder, **doubles):
    """Write an assignment and the submissions of a class."""
    (folder / "hw").mkdir()
    (folder / "hw" / "hw0_tiny.py").write_text(TINY)
    (folder / "class").mkdir()
    for student, double in doubles.items():
        notebook = submit(tiny_release(), {"double": double, "total": TOTAL})
        nbformat.write(notebook, folder / "class" / f"{student}.ipynb")


def rows_of(folder):
    with open(folder / "grades.csv", newline="", encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


@pytest.mark.once
def test_the_shell_decides_on_no_points(nbgrader, hostile_shell, tmp_path):
    """Nor does the form of a name, or metadata that were lost on the way."""
    a_class(tmp_path, **{"ann": WRONG, "zoe\u0301": RIGHT})
    pasted = tmp_path / "class" / "zoe\u0301.ipynb"
    notebook = nbformat.read(pasted, as_version=4)
    for each in notebook.cells:
        each.metadata.pop("nbgrader", None)
    nbformat.write(notebook, pasted)
    (tmp_path / "class" / "._zoe\u0301.ipynb").write_bytes(b"\0\5\26\7")
    before = dict(os.environ)
    homework.grade(
        tmp_path / "class",
        tmp_path / "grades.csv",
        tmp_path / "hw",
        unprotected=True,
    )
    assert dict(os.environ) == before
    rows = rows_of(tmp_path)
    assert rows["ann"]["automatic points"] == "3.0"
    zoe = rows["zo\u00e9"]
    assert zoe["automatic points"] == "5.0"
    assert "._zo\u00e9.ipynb" in zoe["notes"]
    assert "6 cells had lost their metadata" in zoe["notes"]
    assert len(rows) == 3  # theirs, and the most that there is
    assert (tmp_path / "feedback" / "zo\u00e9.html").exists()


@pytest.mark.once
def test_a_kernel_that_does_not_start_costs_no_points(
    nbgrader, tmp_path, monkeypatch, capsys
):
    """Nobody gets a 0, and the command does not succeed."""
    from kerasllm.homework import _autograder

    monkeypatch.setattr(
        _autograder, "_PREPARE", "tests.homework.jobs:prepare_without_kernels"
    )
    a_class(tmp_path, ann=RIGHT, bob=RIGHT)
    arguments = ["homework", "grade", tmp_path / "class",
                 "--csv", tmp_path / "grades.csv",
                 "--sources", tmp_path / "hw", "--unprotected"]  # fmt: skip
    with pytest.raises(SystemExit) as finished:
        cli.main([str(argument) for argument in arguments])
    assert finished.value.code == 1
    captured = capsys.readouterr()
    assert "The solution of hw0_tiny must pass on this machine" in captured.err
    assert "Received: no kernel today." in captured.err
    rows = rows_of(tmp_path)
    assert rows["ann"]["automatic points"] == ""
    assert rows["ann"]["test_double"] == ""
    assert "no kernel today" in rows["ann"]["notes"]


def test_what_the_solution_fails_too_is_left_open(monkeypatch):
    from kerasllm.homework import _autograder

    class SolutionFails:
        troubles = ()

        def __init__(self, course, name, source, limits):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def grade_notebook(self, student, notebook):
            assert "HIDDEN TESTS" not in "".join(
                each.source for each in notebook.cells
            )
            return homework.Result(student, {}, {"test_double": "No disk."})

    monkeypatch.setattr(_autograder, "Autograder", SolutionFails)
    source = jupytext.reads(TINY, "py:percent")
    vouching = _autograder.Vouching("tiny", source, {})
    scores = {"test_double": 0, "test_total": 3, "picture": None}
    results = [homework.Result("ann", scores)]
    vouching.check(results, False)
    with pytest.raises(homework.MachineError, match="test_double: No disk."):
        vouching.check(results, True)
    assert scores == {"test_double": None, "test_total": 3, "picture": None}
    assert results[0].notes == [
        "left open, the solution fails here: test_double"
    ]


def test_the_machine_is_doubted_only_with_reason():
    from kerasllm.homework._autograder import Vouching

    class Counting(Vouching):
        count = 0

        def _vouch(self, results):
            self.count += 1

    def doubts(*scores, is_end=False):
        vouching = Counting("tiny", jupytext.reads(TINY, "py:percent"), {})
        results = [
            homework.Result("ann", dict(zip(tests, each, strict=True)),
                            graded=each[0] is not None)
            for each in scores
        ]  # fmt: skip
        for number in range(len(results)):
            vouching.check(results[: number + 1], False)
        if is_end:
            vouching.check(results, True)
        return vouching.count

    tests = ("test_double", "test_total", "picture")
    assert doubts((2, 3, None), (0, 0, None), is_end=True) == 0
    assert doubts((0, 3, None)) == 0
    assert doubts((0, 3, None), (0, 3, None), is_end=True) == 1
    assert doubts((0, 0, 0), (0, 0, 0), is_end=True) == 1  # at once, and once
    assert doubts((2, 3, None), (None, None, None), is_end=True) == 1
    with pytest.raises(homework.MachineError, match="none of which could be"):
        doubts((None, None, None), is_end=True)


def test_check_says_why_the_kernel_does_not_start(tmp_path, monkeypatch):
    from kerasllm.homework.kernels._manager import OwnKernelManager

    said = "import sys; sys.exit('No module named ipykernel')"
    monkeypatch.setattr(
        OwnKernelManager,
        "format_kernel_cmd",
        lambda *_, **__: [sys.executable, "-c", said],
    )
    path = tmp_path / "mine.ipynb"
    nbformat.write(tiny_release(), path)
    with pytest.raises(homework.MachineError, match="Received: No module na"):
        homework.check(path)
