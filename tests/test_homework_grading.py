"""Grading: what a submission earns, and what cannot be had."""

import ast
import base64
import collections
import csv
import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import numpy as np
import pytest

from kerasllm import cli, homework, homework_course, homework_remote, sandbox

nbformat = pytest.importorskip(
    "nbformat", reason='notebooks need `pip install -e ".[notebooks]"`'
)
pytest.importorskip(
    "jupytext", reason='notebooks need `pip install -e ".[notebooks]"`'
)
ROOT = pathlib.Path(__file__).parent.parent


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


# --- Between the two processes ---------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -(2**70), 0.1, float("inf"), "é\n'\"", b"\0\xff",
        [1, (2, [3])], {"a": {1: (b"b", b"c")}}, {1, 2}, frozenset("ab"),
        ["list", [1]], {(b"a", b"b"): 2},
    ],
)  # fmt: skip
def test_data_comes_back_as_it_was(value):
    text = json.dumps(homework_remote.encode(value, None))
    again = homework_remote.decode(json.loads(text))
    assert again == value and type(again) is type(value)


@pytest.mark.parametrize("dtype", ["int32", "float32", "bool", "uint8"])
def test_arrays_come_back_as_they_were(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    text = json.dumps(homework_remote.encode(array, None))
    again = homework_remote.decode(json.loads(text))
    assert again.dtype == array.dtype and np.array_equal(again, array)
    scalar = homework_remote.decode(homework_remote.encode(array[1, 1], None))
    assert type(scalar) is type(array[1, 1])


def test_what_claims_to_be_data_is_not_taken_for_it():
    class Yes(int):
        def __eq__(self, other):
            return True

        __hash__ = int.__hash__

    encoded = homework_remote.encode([Yes(1)], [])
    (received,) = homework_remote.decode(encoded)
    assert type(received) is int and received != 2

    class Evil:
        def __eq__(self, other):
            return True

    encoded = homework_remote.encode(Evil(), [])
    assert homework_remote.decode(encoded, object()) != 1
    with pytest.raises(TypeError, match="must be data. Received: .* Evil"):
        homework_remote.encode(Evil(), None)


def test_what_serves_for_a_list_or_a_dict_is_one():
    for value, expected in [
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        ((x for x in "ab"), ["a", "b"]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.items(), [("a", 1)]),
        (np.float32(0.5), np.float32(0.5)),
    ]:
        again = homework_remote.decode(homework_remote.encode(value, None))
        assert again == expected and type(again) is type(expected)


@pytest.mark.parametrize(
    "value",
    [["eval", "1"], ["array", ["O", [1], "AAAAAAAAAAA="]], ["list"], [], {}],
)
def test_nothing_else_can_be_sent(value):
    with pytest.raises((ValueError, TypeError, KeyError)):
        homework_remote.decode(value)


def test_a_function_of_a_notebook_answers(monkeypatch):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "halve", lambda x: x // 2, raising=False)
    main.halve.__module__ = "__main__"
    monkeypatch.setattr(main, "counter", collections.Counter, raising=False)

    class Direct(homework_remote.Student):
        """Sends no message: the other process is this one."""

        def __init__(self):
            self.timeout = 1
            self.client = self

        def execute(self, code, user_expressions, **options):
            request = re.search(r"serve\('(.*)'\)", user_expressions["answer"])[
                1
            ]
            text = repr(homework_remote.serve(request))
            answer = {"data": {"text/plain": text}}
            return {"content": {"user_expressions": {"answer": answer}}}

    class Layer:
        __module__ = "__main__"

        def __init__(self, factor):
            self.weights = [np.full(2, factor)]

        def scale(self, x, plus=0):
            return self.weights[0] * x + plus

    monkeypatch.setattr(main, "Layer", Layer, raising=False)
    monkeypatch.setattr(
        main, "apply", lambda layer, x: layer.scale(x), raising=False
    )
    main.apply.__module__ = "__main__"

    student = Direct()
    # An object stays where it is; what it returns is data.
    layer = student.function("Layer")(3)
    assert layer.scale(2, plus=1).tolist() == [7, 7]
    assert layer.weights[0].tolist() == [3, 3]
    assert student.function("apply")(layer, 2).tolist() == [6, 6]
    with pytest.raises(RuntimeError, match="raised AttributeError"):
        _ = layer.bias
    assert student.function("halve")(7) == 3
    with pytest.raises(TypeError, match="`halve` raised TypeError"):
        student.function("halve")("a")
    with pytest.raises(NameError, match="must define `other`"):
        student.function("other")(1)
    with pytest.raises(NameError, match="written in the notebook. Received"):
        student.function("counter")("a")


def test_what_a_notebook_says_is_cut_on_this_side():
    """There, `serve` can be replaced."""

    class Mute(homework_remote.Student):
        def __init__(self):
            pass

    answer = json.dumps(["error", "ValueError", "x" * 10**6])
    answer = base64.b64encode(answer.encode()).decode()
    answer = {"answer": {"data": {"text/plain": repr(answer)}}}
    message = {"content": {"user_expressions": answer}}
    with pytest.raises(ValueError, match="`double` raised ValueError") as error:
        Mute()._read(message, ["name", "double"])
    assert len(str(error.value)) < 2 * homework_remote.LONGEST_MESSAGE


@pytest.fixture
def judge(nbgrader):
    from kerasllm.homework_grading import Judge

    judge = Judge(60, kernel_name="python3")
    judge.create_kernel_manager()
    judge.start_new_kernel()
    judge.start_new_kernel_client()
    yield judge
    judge.close()


def test_a_test_passes_only_if_its_kernel_says_so(judge, monkeypatch):
    """Outputs come another way, and may come too late to be seen."""
    monkeypatch.setattr(judge, "output", lambda *arguments: None)
    wrong = cell("print(1)\nassert 1 == 2, 'One is not two.'")
    judge.run(wrong)
    assert homework.failure_of(wrong) == "One is not two."
    right = cell("print(1)\n2.0")
    judge.run(right)
    assert right.outputs == []
    wordy = cell("raise ValueError('x' * 10**6)")
    judge.run(wordy)
    assert len(wordy.outputs[0].evalue) <= homework_remote.LONGEST_MESSAGE


# --- A class of submissions ------------------------------------------------

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

RIGHT = "def double(x):\n    return 2 * x"
TOTAL = "def total(xs):\n    return sum(xs)"
WRONG = "def double(x):\n    return 7"

# What a student writes for `double`, beside a right `total`, and what both
# earn together: 2 and 3 points.
CLASS = {
    "right": (RIGHT, 5),
    "wrong": (WRONG, 3),
    "syntax_error": ("def double(x) return 2 * x", 3),
    "hard_codes": ("def double(x):\n    return {1: 2, 2: 4}.get(x, 0)", 3),
    "catches_and_passes": (
        "import builtins\n"
        "class Quiet(BaseException): pass\n"
        "builtins.AssertionError = Quiet\n"
        "def double(x):\n"
        "    try:\n"
        "        return 1 / 0\n"
        "    except Exception:\n"
        "        pass",
        3,
    ),
    "prints_a_score": (
        "from IPython.display import display\n"
        "def double(x):\n"
        "    print('2.0'); display(2.0)\n"
        "    return 'passed'\n"
        "print('test_double: 2/2')\n"
        "2.0",
        3,
    ),
    "prints_without_end": (
        "def double(x):\n"
        "    print('x' * 10**6)\n"
        "    return 2 * x\n"
        "for _ in range(30):\n"
        "    double(1)",
        5,
    ),
    "loops_in_a_cell": (f"{WRONG}\nwhile True: pass", 3),
    "loops_in_a_function": ("def double(x):\n    while True: pass", 3),
    # The kernel has to be killed, and `total` comes after that.
    "loops_and_cannot_be_stopped": (
        f"{RIGHT}\n"
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "while True: pass",
        0,
    ),
    "is_slow_in_small_portions": (
        "import time\n"
        "def double(x):\n    time.sleep(1)\n    return 2 * x", 3
    ),
    "returns_too_much": (
        "def double(x):\n    return 'x' * (3 * 10**8)", 3
    ),
    "writes_a_script": (
        f"{RIGHT}\n"
        "from IPython.display import HTML, display\n"
        "display(HTML('<script>steal_grades()</script>'))",
        5,
    ),
    "eats_memory_in_a_cell": (f"{RIGHT}\nhoard = [0] * 10**9", 5),
    "eats_memory_in_a_function": (
        "def double(x):\n    return len([0] * 10**9) * 0 + 2 * x", 3
    ),
    "leaves_a_process_behind": (
        f"{RIGHT}\nimport subprocess\nsubprocess.Popen(['sleep', '31415'])", 5
    ),
    "leaves": ("import os\nos._exit(0)", 0),
    "equals_everything": (
        "class Yes(int):\n"
        "    __eq__ = lambda self, other: True\n"
        "    __ne__ = lambda self, other: False\n"
        "    __bool__ = lambda self: True\n"
        "    __hash__ = int.__hash__\n"
        "def double(x):\n    return Yes(7)",
        3,
    ),
    "patches_what_tests_use": (
        f"{WRONG}\n"
        "import builtins, sys, IPython\n"
        "shell = get_ipython()\n"
        "shell.showtraceback = lambda *a, **k: None\n"
        "shell.input_transformers_cleanup.append(lambda lines: [])\n"
        "builtins.isinstance = lambda *a: True\n"
        "try:\n"
        "    import nbgrader.utils\n"
        "    nbgrader.utils.determine_grade = lambda *a: (9, 9)\n"
        "except Exception: pass",
        None,  # whatever is left of the notebook, but not two points
    ),
    "answers_for_its_functions": (
        "import sys, json, base64\n"
        "servant = sys.modules['homework_servant']\n"
        "def serve(request):\n"
        "    answer = ['value', ['object', [0, '2']]]\n"
        "    return base64.b64encode(json.dumps(answer).encode()).decode()\n"
        "servant.serve = serve",
        0,
    ),
    "looks_at_the_caller": (
        "import gc, inspect, os\n"
        "def double(x):\n"
        "    for frame in inspect.stack():\n"
        "        for names in (frame.frame.f_locals, frame.frame.f_globals):\n"
        "            if 'expected' in names: return names['expected']\n"
        "    seed = os.environ['KERASLLM_HOMEWORK_SEED']",
        3,
    ),
    "looks_at_the_tests_process": (
        "import os, pathlib\n"
        "def double(x):\n"
        "    for path in pathlib.Path('/proc').glob('[0-9]*/environ'):\n"
        "        try:\n"
        "            if 'PATH=' in path.read_text() and (\n"
        "                    path.parent.name != str(os.getpid())):\n"
        "                return 2 * x\n"
        "        except OSError: pass",
        3,
    ),
    "imports_what_is_forbidden": (
        "from statistics import fsum\n"
        "def double(x):\n    return int(fsum([x, x]))",
        3,
    ),
    "unblocks_what_is_forbidden": (
        "import sys, importlib\n"
        "sys.meta_path[:] = [m for m in sys.meta_path\n"
        "                    if type(m).__name__ != 'Forbidden']\n"
        "sys.modules.pop('statistics', None)\n"
        "importlib.invalidate_caches()\n"
        "import statistics\n"
        "def double(x):\n    return int(statistics.fsum([x, x]))",
        3,
    ),
    "reads_the_solutions": (
        "import pathlib\n"
        "def double(x):\n"
        "    text = pathlib.Path('SOURCE').read_text()\n"
        "    return 2 * x if text else None",
        3,
    ),
    "reads_other_students": (
        "import pathlib\n"
        "def double(x):\n"
        "    text = pathlib.Path('SUBMISSIONS/right.ipynb').read_text()\n"
        "    return 2 * x if text else None",
        3,
    ),
    "finds_the_course": (
        "import pathlib\n"
        "def double(x):\n"
        "    for path in pathlib.Path('TEMPORARY').iterdir():\n"
        "        if (path / 'gradebook.db').exists(): return 2 * x",
        3,
    ),
    "writes_elsewhere": (
        "def double(x):\n"
        "    open('SUBMISSIONS/left_behind', 'w').write('x')\n"
        "    return 2 * x",
        3,
    ),
    "calls_home": (
        "import socket\n"
        "def double(x):\n"
        "    socket.create_connection(('127.0.0.1', 4242424242 % 65536), 1)\n"
        "    return 2 * x",
        3,
    ),
}  # fmt: skip
if sandbox.landlock_version() >= 6:
    CLASS["kills_the_grader"] = (
        "import os, signal\n"
        "def double(x):\n"
        "    os.kill(os.getppid(), signal.SIGKILL)\n"
        "    return 2 * x",
        3,
    )
NEEDS_LANDLOCK = {
    "looks_at_the_tests_process",
    "unblocks_what_is_forbidden", "reads_the_solutions", "finds_the_course",
    "reads_other_students", "writes_elsewhere", "calls_home",
}  # fmt: skip


def submit(released, answers):
    """Return a student's notebook with these answers, by id of the cell."""
    notebook = nbformat.from_dict(json.loads(json.dumps(released)))
    for each in notebook.cells:
        grade_id = each.metadata.get("nbgrader", {}).get("grade_id")
        each.source = answers.get(grade_id, each.source)
    return notebook


def tampered(released):
    """Return submissions whose attack is on the notebook's form."""
    base = {"double": WRONG, "total": TOTAL}

    edited = submit(released, {**base, "test_double": "pass"})
    deleted = submit(released, base)
    deleted.cells = [
        each
        for each in deleted.cells
        if each.metadata.get("nbgrader", {}).get("grade_id") != "test_double"
    ]
    relabelled = submit(released, {**base, "test_double": "pass"})
    for each in relabelled.cells:
        if each.metadata.get("nbgrader", {}).get("grade_id") == "test_double":
            each.metadata.nbgrader.update(
                grade=False, solution=True, locked=False, points=1000
            )
            each.metadata.tags = ["skip-execution"]
    doubled = submit(released, base)
    doubled.cells.insert(0, cell("pass", "test_double", "test", 1000))
    doubled.cells.append(cell("pass", "extra", "test", 1000))
    kernel = submit(released, base)
    kernel.metadata.kernelspec = {"name": "bash", "language": "R"}
    kernel.metadata.kerasllm = {"graded": [], "forbidden": []}
    redefined = submit(released, {**base, "one": "def one():\n    return 3.5"})
    return {
        "edits_a_test": edited,
        "deletes_a_test": deleted,
        "relabels_a_test": relabelled,
        "repeats_a_test": doubled,
        "changes_the_kernel": kernel,
        "edits_a_helper": redefined,
    }


@pytest.fixture(scope="module")
def graded(nbgrader, tmp_path_factory):
    """Grade the class once; the tests look at what each earned."""
    root = tmp_path_factory.mktemp("class")
    folder, submissions = root / "homework", root / "submissions"
    folder.mkdir()
    submissions.mkdir()
    (folder / "hw0_tiny.py").write_text(TINY)
    (path,) = homework_course.release(root / "release", folder)
    released = nbformat.read(path, as_version=4)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    places = {
        "SOURCE": str(folder / "hw0_tiny.py"),
        "SUBMISSIONS": str(submissions),
        "TEMPORARY": os.environ.get("TMPDIR", "/tmp"),
        "4242424242 % 65536": str(listener.getsockname()[1]),
    }
    notebooks = tampered(released)
    for name, (double, _) in CLASS.items():
        for old, new in places.items():
            double = double.replace(old, new)
        notebooks[name] = submit(released, {"double": double, "total": TOTAL})
    notebooks["untouched"] = released
    for name, notebook in notebooks.items():
        nbformat.write(notebook, submissions / f"{name}.ipynb")
    (submissions / "broken.ipynb").write_text('{"cells": [')
    (submissions / "no_notebook.ipynb").write_bytes(b"\x89PNG\0")
    (submissions / "empty.ipynb").write_text("")
    (submissions / "odd_cells.ipynb").write_text(
        '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": '
        '[{"cell_type": "code", "source": 3, "metadata": {"nbgrader": 1}}]}'
    )
    (submissions / "=cmd().ipynb").write_text("{}")
    results, seed = homework_course.grade(
        submissions,
        root / "grades.csv",
        folder,
        memory_gb=1.0,
        cell_seconds=4,
        call_seconds=2,
        total_seconds=60,
        unprotected=True,
    )
    try:
        listener.accept()
        called = True
    except TimeoutError:
        called = False
    return {
        "results": {result.student: result for result in results},
        "root": root,
        "called": called,
        "seed": seed,
    }


def earned(graded, name):
    if name in NEEDS_LANDLOCK and not sandbox.landlock_version():
        pytest.skip("this system has no Landlock")
    return graded["results"][name].scores


@pytest.mark.once
@pytest.mark.parametrize("name", CLASS)
def test_a_submission_gets_what_it_earned(name, graded):
    points = CLASS[name][1]
    scores = earned(graded, name)
    total = graded["results"][name].total
    result = graded["results"][name]
    if points is None:
        assert scores["test_double"] == 0, result
    else:
        assert total == points, result


@pytest.mark.once
@pytest.mark.parametrize(
    "name",
    ["edits_a_test", "deletes_a_test", "relabels_a_test", "repeats_a_test",
     "changes_the_kernel", "edits_a_helper"],
)  # fmt: skip
def test_tests_are_the_instructors(name, graded):
    scores = earned(graded, name)
    assert scores["test_double"] == 0
    assert scores["test_total"] == 3
    assert set(scores) == {"test_double", "test_total", "picture"}


@pytest.mark.once
@pytest.mark.parametrize(
    "name", ["broken", "no_notebook", "empty", "odd_cells", "=cmd()"]
)
def test_a_broken_submission_does_not_stop_the_class(name, graded):
    result = graded["results"][name]
    assert result.total == 0
    assert any("not graded" in note for note in result.notes)
    assert graded["results"]["right"].total == 5


@pytest.mark.once
def test_an_untouched_submission_earns_nothing(graded):
    assert graded["results"]["untouched"].total == 0
    # Not even a look by a person is needed.
    assert graded["results"]["untouched"].scores["picture"] == 0


@pytest.mark.once
def test_nothing_left_the_sandbox(graded):
    if not sandbox.landlock_version():
        pytest.skip("this system has no Landlock")
    assert not (graded["root"] / "submissions" / "left_behind").exists()
    if sandbox.landlock_version() >= 4:
        assert not graded["called"]


@pytest.mark.once
def test_no_process_is_left_behind(graded):
    assert graded["results"]["leaves_a_process_behind"].total == 5
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert b"31415" not in path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue


@pytest.mark.once
def test_the_table_the_pages_and_the_notes(graded):
    with open(graded["root"] / "grades.csv", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert rows["right"]["automatic points"] == "5.0"
    assert rows["(most)"]["test_total"] == "3"
    assert "'=cmd()" in rows, "a name must not become a formula"
    page = (graded["root"] / "feedback" / "wrong.html").read_text()
    assert "The double of 1 is 2." in page
    script = (graded["root"] / "feedback" / "writes_a_script.html").read_text()
    assert "<script>steal_grades()" not in script
    for secret in ("HIDDEN TESTS", "rng.randrange", "expected ="):
        assert secret not in page
    notes = graded["results"]["imports_what_is_forbidden"].notes
    assert any("statistics.fsum, which is forbidden" in n for n in notes)
    lines = homework_course.summarize([*graded["results"].values()])
    assert any(re.search(r"\d+ x The double of", line) for line in lines)


def test_the_table_of_a_class_is_that_of_its_script():
    """The script says what each of its submissions must earn, and checks it."""
    from tests import homework_class

    text = (ROOT / "chapters" / "homework" / "README.md").read_text("utf-8")
    assert len(homework_class.STUDENTS) == 30
    for name, (kind, what, points, change) in homework_class.STUDENTS.items():
        assert f"| {name} | {kind} | {what} | {points} |" in text
        change(homework_class.Submission())  # what it changes is there


# --- The rest --------------------------------------------------------------


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


def tiny_release():
    """The students' version of the tiny assignment, made without nbgrader."""
    import jupytext

    notebook = jupytext.reads(TINY, fmt="py:percent")
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
    monkeypatch.setattr(homework, "_CELL_SECONDS", 4)
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
def test_an_interrupted_class_keeps_its_marks(nbgrader, tmp_path):
    (tmp_path / "hw").mkdir()
    (tmp_path / "hw" / "hw0_tiny.py").write_text(TINY)
    (tmp_path / "class").mkdir()
    notebook = submit(tiny_release(), {"double": RIGHT, "total": TOTAL})
    for student in ("ann", "bob"):
        nbformat.write(notebook, tmp_path / "class" / f"{student}.ipynb")

    def interrupt(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        homework_course.grade(
            tmp_path / "class",
            tmp_path / "grades.csv",
            tmp_path / "hw",
            unprotected=True,
            progress=interrupt,
        )
    with open(tmp_path / "grades.csv", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert rows["ann"]["automatic points"] == "5.0" and "bob" not in rows


def test_check_wants_an_assignment(tmp_path):
    path = tmp_path / "other.ipynb"
    path.write_text("{}")
    with pytest.raises(ValueError, match="must be a notebook of an assignment"):
        homework.check(path)


def test_sources_are_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="not part of the installed"):
        homework.sources(tmp_path)


def test_submissions_are_found_in_both_forms(tmp_path):
    names = ["hw1_tokens", "hw2_decoder"]
    for path in ("ann/hw1_tokens/hw1_tokens.ipynb", "ann/hw1_tokens/old.ipynb",
                 "bob/hw1_tokens.ipynb", "hw1_tokens_cem.ipynb",
                 "dan/.ipynb_checkpoints/hw1_tokens.ipynb"):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    (tmp_path / "eve.ipynb").symlink_to("/etc/passwd")
    name, found, notes = homework_course.find_submissions(tmp_path, names)
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
    name, found, notes = homework_course.find_submissions(
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
    name, _, _ = homework_course.find_submissions(tmp_path, names)
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
    (result,), _ = homework_course.grade(
        tmp_path / "class",
        tmp_path / "grades.csv",
        tmp_path / "hw",
        "hw1_tiny",
        unprotected=True,
    )
    assert result.total == 5
    assert "graded hw1_tiny (1).ipynb, not hw1_tiny (2).ipynb" in result.notes


def test_grading_needs_landlock(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "landlock_version", lambda: 0)
    with pytest.raises(RuntimeError, match="needs Landlock .* Received: .*"):
        homework_course.grade(tmp_path, tmp_path / "grades.csv")


def test_grade_wants_submissions(tmp_path):
    with pytest.raises(ValueError, match="must hold submissions of one"):
        homework_course.grade(
            tmp_path, tmp_path / "grades.csv", unprotected=True
        )


def test_of_a_submission_only_the_text_is_taken():
    released = tiny_release()
    notebook = submit(released, {"double": RIGHT, "test_double": "pass"})
    notebook.cells[2].metadata.tags = ["raises-exception"]
    notebook.cells.pop()
    rebuilt = homework_course.rebuild(notebook, released)
    by_id = {
        each.metadata.nbgrader.grade_id: each
        for each in rebuilt.cells
        if "nbgrader" in each.metadata
    }
    assert by_id["double"].source == RIGHT
    assert "tags" not in by_id["double"].metadata
    assert "The double of 1 is 2." in by_id["test_double"].source
    assert rebuilt.cells[-1].metadata.nbgrader.grade_id == "picture"


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
        "uses enable_lora, which is forbidden",
        "uses lora_rank, which is forbidden",
        "uses use_cache, which is forbidden",
    ]


@pytest.mark.parametrize(
    "line",
    ["%time x = Ready(1)", "    %timeit -n 1 Ready(1)", "%%capture Ready(1)",
     "!echo Ready", "%time 1\nx = Ready(1)"],
)  # fmt: skip
def test_a_magic_hides_no_name(line):
    source = f"if True:\n{line}" if line.startswith(" ") else line
    notebook = nbformat.v4.new_notebook(cells=[cell(source)])
    notes = homework.find_notes(notebook, {"forbidden_names": ["Ready"]})
    assert "uses Ready, which is forbidden" in notes
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
    rebuilt = homework_course.rebuild(read, tiny_release())
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


@pytest.mark.once
def test_what_is_noted_is_what_is_run(nbgrader, tmp_path):
    """The submission's metadata say nothing about it."""
    (tmp_path / "hw").mkdir()
    (tmp_path / "hw" / "hw0_tiny.py").write_text(
        TINY.replace("graded:", "forbidden_names: [Ready]\n#     graded:")
    )
    (tmp_path / "class").mkdir()

    def hand_in(student, change):
        answers = {"double": f"Ready = 2\n{RIGHT}", "total": TOTAL}
        notebook = submit(tiny_release(), answers)
        (double,) = [c for c in notebook.cells if c.source.startswith("Ready")]
        change(notebook, double)
        path = tmp_path / "class" / f"{student}.ipynb"
        path.write_text(json.dumps(notebook))

    def locks(notebook, double):
        notebook.cells.insert(0, cell("Ready = 2", "unknown", "helper"))
        double.source = RIGHT

    def strange(notebook, double):
        notebook.cells.insert(0, cell("Ready = 2"))
        notebook.cells[0].metadata = {"nbgrader": 1}
        double.source = RIGHT

    hand_in("locks", locks)
    hand_in("relabels", lambda _, double: double.update(cell_type="markdown"))
    hand_in("strange", strange)
    results, _ = homework_course.grade(
        tmp_path / "class",
        tmp_path / "grades.csv",
        tmp_path / "hw",
        unprotected=True,
    )
    assert [result.student for result in results] == [
        "locks", "relabels", "strange"
    ]  # fmt: skip
    for result in results:
        assert result.total == 5, result
        assert result.notes == ["uses Ready, which is forbidden"], result


@pytest.mark.once
@pytest.mark.skipif(
    not sandbox.landlock_version(), reason="this system has no Landlock"
)
def test_what_is_private_is_so_below_libraries_too(
    nbgrader, tmp_path, monkeypatch
):
    libraries = tmp_path / "site-packages"
    monkeypatch.setenv("PYTHONPATH", str(libraries))
    folder = libraries / "checkout" / "chapters" / "homework"
    library = libraries / "library.py"
    private = [
        folder / "hw0_tiny.py",
        libraries / "checkout" / ".git" / "history",
        libraries / "class" / "ann.ipynb",
        libraries / "out" / "grades.csv",
        libraries / "out" / "feedback" / "ann.html",
    ]
    for path in (library, *private):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("history")
    private[0].write_text(TINY)
    for student, paths in (("ann", [library]), ("bob", private)):
        double = (
            "def double(x):\n"
            f"    for path in {[*map(str, paths)]}:\n"
            "        try:\n"
            "            return len(open(path).read(1)) * 2 * x\n"
            "        except OSError: pass"
        )
        nbformat.write(
            submit(tiny_release(), {"double": double, "total": TOTAL}),
            libraries / "class" / f"{student}.ipynb",
        )
    results, _ = homework_course.grade(
        libraries / "class", libraries / "out" / "grades.csv", folder
    )
    assert all(path.exists() for path in private)
    assert {each.student: each.total for each in results} == {
        "ann": 5, "bob": 3
    }  # fmt: skip


def test_python_may_be_installed_in_a_checkout(tmp_path, monkeypatch):
    from kerasllm import homework_kernel

    for name in ("prefix", "base_prefix", "exec_prefix"):
        monkeypatch.setattr(sys, name, str(tmp_path))
    folders = homework_kernel.library_folders()
    for path in ("chapters/homework/hw0_tiny.py", ".git/config", "grades.csv"):
        assert not any((tmp_path / path).is_relative_to(f) for f in folders)
    assert str(tmp_path / "lib") in folders


def test_grade_refuses_what_it_cannot_hide(tmp_path, monkeypatch):
    libraries = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(libraries))
    (libraries / "hw0_tiny").mkdir(parents=True)
    (libraries / "hw0_tiny" / "hw0_tiny.py").write_text(TINY)
    (libraries / "class").mkdir()
    (libraries / "class" / "ann.ipynb").write_text("{}")
    with pytest.raises(ValueError, match="need not read. Received: something"):
        homework_course.grade(
            libraries / "class",
            libraries / "grades.csv",
            libraries / "hw0_tiny",
            unprotected=True,
        )


@pytest.mark.skipif(
    not sandbox.landlock_version(), reason="this system has no Landlock"
)
def test_the_sandbox_leaves_only_what_is_named(tmp_path):
    for name in ("open/a.txt", "open/hidden/b.txt", "closed/c.txt", "own/d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    code = f"""
import json, os, pathlib, subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from kerasllm import sandbox
root = pathlib.Path({str(tmp_path)!r})
sandbox.limit(memory_gb=0.5, cpu_seconds=60)
sandbox.restrict(["/usr", "/lib", sys.prefix, sys.base_prefix, root / "open"],
                 [root / "own"], hidden=[root / "open" / "hidden"])
def can(action):
    try:
        action()
        return True
    except (OSError, MemoryError):
        return False
print(json.dumps([
    can((root / "open/a.txt").read_text),
    can(lambda: os.listdir(root / "open/hidden")),
    can(lambda: (root / "own/new").write_text("y")),
    can((root / "open/hidden/b.txt").read_text),
    can((root / "closed/c.txt").read_text),
    can(lambda: (root / "open/a.txt").write_text("y")),
    can(lambda: bytearray(10**9)),
]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.stdout, done.stderr
    answers = ast.literal_eval(
        done.stdout.replace("true", "True").replace("false", "False")
    )
    assert answers == [True, True, True, False, False, False, False]
