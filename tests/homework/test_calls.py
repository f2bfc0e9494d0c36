"""Calls of code that nobody has looked at."""

import pathlib

import pytest

from kerasllm import homework
from kerasllm.checks import UserError
from kerasllm.reasoning import CodeChecker, CodeTask

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.skipif(
        not homework.landlock_version(), reason="this system has no Landlock"
    ),
]

CHILD = "left_behind"  # what a process calls itself
SECRET = pathlib.Path(__file__)
TASK = CodeTask("Double a value.", "double", [((2,), 4), (("a",), "aa")])
RIGHT = "def double(x):\n    return 2 * x"
# None of these is right, whatever it does.
WRONG = {
    "nothing": "",
    "another name": "def twice(x): return 2 * x",
    "a mistake": "def double(x): return x / 0",
    "no Python": "Let me think.",
    "the end": f"{RIGHT}\nimport os; os._exit(0)",
    "a polite end": f"{RIGHT}\nraise SystemExit(0)",
    "words": "print('passed')\ndef double(x): print('passed')",
    "an equal of all": "class A(int):\n    __eq__ = lambda *_: True\n"
    "def double(x): return A(0)",
    "an object": "def double(x): return object()",
    "a stand-in": "import json\njson.dumps = lambda *_: "
    """'[["value", ["stand-in", ["list", ["name", "TASK"]]]]] '\n"""
    "def double(x): pass",
    "forged answers": "import os\ndef double(x):\n    for i in range(50):\n"
    '        try: os.write(i, b\'{"answers": "[[4], [4]]"}\\n\')\n'
    "        except OSError: pass",
    "a secret": f"double = lambda x: open({str(SECRET)!r}).read() and 2 * x",
    "a deep answer": "import json\njson.dumps = lambda *_: '[' * 10**5\n"
    "def double(x): pass",
    "memory": "def double(x): return len(bytearray(10**10)) and 2 * x",
}


@pytest.fixture(scope="module")
def runner():
    with homework.CodeRunner(seconds=10, memory_gb=0.5) as runner:
        yield runner


def test_only_right_code_is_right(runner):
    checker = CodeChecker(runner)
    fenced = f"It is simple.\n```python\n{RIGHT}\n```"
    assert checker([TASK] * 2, [RIGHT, fenced]).tolist() == [1, 1]
    rewards = checker([TASK] * len(WRONG), WRONG.values())
    assert dict(zip(WRONG, rewards.tolist(), strict=True)) == dict.fromkeys(
        WRONG, 0
    )
    # And after all these, others run as before.
    assert checker([TASK], [RIGHT]).tolist() == [1]


def test_values_are_plain_data(runner):
    source = """if True:
        import numpy as np
        def f(x):
            if x == 0:
                return np.arange(3.0)
            if x == 1:
                return {"a": (1, [2.5, None]), 3: {4}}
            raise KeyError("nothing here")
    """
    values = runner(source, "f", [(0,), (1,), (2,)])
    assert values[:2] == [[0, 1, 2], {"a": (1, [2.5, None]), 3: {4}}]
    assert str(values[2]) == "KeyError: 'nothing here'"
    with pytest.raises(UserError, match="plain data"):
        runner(source, "f", [(object(),)])


def test_it_ends_in_time(runner):
    with homework.CodeRunner(seconds=0.5) as hasty:
        (error,) = hasty("while True: pass", "f", [()])
        assert "more than 0.5 s" in str(error)
    child = (
        "import ctypes, os, time\n"
        "if not os.fork():\n"
        f"    ctypes.CDLL(None).prctl(15, b'{CHILD}')\n"
        "    time.sleep(1000)\n"
        "time.sleep(0.1)\n"
    )
    assert runner(f"{child}{RIGHT}", "double", [(3,)]) == [6]
    assert CHILD not in map(_name_of, pathlib.Path("/proc").glob("[0-9]*"))


def _name_of(process):
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return ""


@pytest.mark.parametrize("bounds", [{"seconds": 0}, {"memory_gb": "much"}])
def test_bounds_are_positive(bounds):
    with pytest.raises(UserError, match=f"`{next(iter(bounds))}` must be"):
        homework.CodeRunner(**bounds)


def test_where_nothing_confines_code_none_is_run(monkeypatch):
    from kerasllm.homework.kernels.apart import _calls

    monkeypatch.setattr(_calls._sandbox, "landlock_version", lambda: 0)
    with pytest.raises(homework.MachineError, match="without Landlock"):
        homework.CodeRunner()
