"""What a submission may still do when its time is nearly over, or over."""

import time
import types

import pytest

pytest.importorskip(
    "nbgrader", reason='grading needs `pip install -e ".[instructor]"`'
)

from nbformat import v4

from kerasllm.homework._notebooks import STOPPED
from kerasllm.homework.kernels import _judge

# With what grading needs, which the suites on three backends lack.
pytestmark = [pytest.mark.once, pytest.mark.any_backend]

ENDED = "The notebook was stopped: it ran for more than 7 s."


@pytest.fixture
def judged():
    """Return a function that makes a submission with that many seconds left."""
    stopped = []

    async def shut_down(now):
        stopped.append(now)

    def make(seconds):
        execute = _judge.JudgedExecute(
            total_seconds=7,
            timeout=3,
            tests={"a_test": {"source": "assert f()", "is_test": True}},
        )
        execute.ended, execute.timeouts = None, 0
        execute.loans = _judge.Loans({"tests": {}, "functions": {}})
        execute.deadline = time.monotonic() + seconds
        execute.km = types.SimpleNamespace(shutdown_kernel=shut_down)
        execute.judge = types.SimpleNamespace(run=None)
        execute.stopped, execute.own_folder = stopped, "/nowhere"
        return execute

    return make


def cells():
    own, test = v4.new_code_cell("f()"), v4.new_code_cell("assert f()")
    test.metadata.nbgrader = {"grade_id": "a_test"}
    return [own, test, v4.new_code_cell("g()")]


def test_nothing_runs_after_the_time_of_a_submission(judged):
    """Its cells and its tests fail alike, and its kernel is ended once."""
    execute = judged(-1)
    for index, cell in enumerate(cells()):
        execute.preprocess_cell(cell, {}, index)
        (output,) = cell.outputs
        assert (output.ename, output.evalue) == (STOPPED, ENDED)
    assert execute.stopped == [True]


@pytest.mark.parametrize(
    "left, cell, test", [(100, 3, 6), (4, 3, 4), (2, 2, 2)]
)
def test_nothing_gets_more_time_than_is_left(
    judged, monkeypatch, left, cell, test
):
    """A cell gets its own time, and a test that of two cells, at most."""
    given = []

    def within(seconds, awaitable):
        given.append(seconds - _judge._GRACE)
        awaitable.close()

    monkeypatch.setattr(_judge, "_within", within)
    execute = judged(left)
    execute.judge.run = lambda cell, seconds: given.append(seconds)
    execute._forget_messages = lambda: None  # there is no kernel
    for index, each in enumerate(cells()[:2]):
        execute.preprocess_cell(each, {}, index)
    assert given == pytest.approx([cell, test], abs=0.9)
