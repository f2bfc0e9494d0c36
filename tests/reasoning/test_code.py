"""The checker of code, with runners that the tests play."""

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.reasoning import CodeChecker, CodeTask, find_code

pytestmark = pytest.mark.any_backend

DOUBLE = CodeTask("Double a value.", "double", (((2,), 4), (("a",), "aa")))


class Runner:
    """Returns what it is told to, and remembers what it was asked."""

    def __init__(self, *values):
        self.values, self.calls = list(values), []

    def __call__(self, *call):
        self.calls.append(call)
        return self.values


def reward(*values, task=DOUBLE, **options):
    rewards = CodeChecker(Runner(*values), **options)([task], ["pass"])
    assert rewards.dtype == np.float32
    return rewards.tolist()[0]


def test_all_cases_must_pass():
    assert reward(4, "aa") == 1
    assert reward(4, "a") == 0
    assert reward(4, "a", partial=True) == 0.5
    assert reward(4, RuntimeError("no")) == 0
    assert reward() == reward(4) == reward(4, "aa", 4) == 0
    runner = Runner(4, "aa")
    CodeChecker(runner)([DOUBLE], ["```python\nx = 1\n```"])
    # It is not told what is expected.
    assert runner.calls == [("x = 1\n", "double", [(2,), ("a",)])]


@pytest.mark.parametrize(
    ("value", "expected", "is_equal"),
    [
        (4, 4, 1), (4.0, 4, 1), (0.1 + 0.2, 0.3, 1), (0.31, 0.3, 0),
        (True, 1, 0), (1, True, 0), (True, True, 1), ("4", 4, 0), (None, 4, 0),
        (None, None, 1), ([1, 2], [1, 2], 1), ((1, 2), [1, 2], 0),
        ([1, 2], [1], 0), ({"a": 0.1 + 0.2}, {"a": 0.3}, 1), ({1}, {1}, 1),
        ({"a": 1}, {"b": 1}, 0), ([[0.5]], [[0.5]], 1),
        (float("nan"), 1.0, 0), (float("inf"), 1.0, 0),
        # A float is rounded, and an int is not.
        (10**9 + 1, 10**9, 0), (10**30, 10**30, 1), (1e9 + 1, 10**9, 1),
        # No float is so large.
        (10**400, 1.0, 0), (10**400, 1, 0), (1.0, 10**400, 0),
        (10**400, 10**400, 1),
    ],
)  # fmt: skip
def test_values_are_compared_as_plain_data(value, expected, is_equal):
    task = CodeTask("Do it.", "f", [((), expected)])
    assert reward(value, task=task) == is_equal


def test_a_value_that_claims_to_equal_everything_does_not():
    class Liar(int):
        def __eq__(self, other):
            return True

        __hash__ = int.__hash__

    task = CodeTask("Do it.", "f", [((), 5)])
    assert reward(Liar(6), task=task) == 0


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("x = 1", "x = 1"),
        ("Here it is:\n```python\nx = 1\n```\nDone.", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 1\n```\nor\n```python\nx = 2\n```", None),
        ("```python\r\nx = 1\r\n```\r\n", "x = 1\r\n"),
        ("Not `x` but\n  ```\nx = 1\n  ```", "x = 1\n"),
        ("```python\nx = 1", None),  # cut off
        ("```python\nx = 1\n```\n```python\nx = 2", None),
        ("```a\n" * 10**5, None),  # which does not take long
        ("", None),
        ("```\n\n```", None),
    ],
)
def test_a_response_has_one_code(response, code):
    assert find_code(response) == code
    if code is None:
        assert CodeChecker(Runner(4, "aa"))([DOUBLE], [response]) == [0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CodeChecker(None), "`runner` must be callable.*CodeRunner"),
        (lambda: CodeTask("a", "1x", [((), 1)]), "name of a function.*'1x'"),
        (lambda: CodeTask("a", "f", []), "at least one pair"),
        (lambda: CodeChecker(Runner())([DOUBLE], []), "1 tasks and 0 resp"),
        (lambda: CodeChecker(Runner())(["a"], ["b"]), "must be a `CodeTask`"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(UserError, match=message):
        call()
