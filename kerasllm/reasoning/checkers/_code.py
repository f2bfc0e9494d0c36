"""A checker of code: calls of the function that was asked for."""

import dataclasses
import math

import numpy as np

from kerasllm.checks import (
    UserError,
    check_callable,
    check_list,
    check_text,
    shown,
)

_FENCE = "```"


@dataclasses.dataclass(frozen=True)
class CodeTask:
    """A function to write, and what it must return.

    Attributes:
        prompt: str. What is asked for.
        function: str. The name of the function.
        cases: tuple of pairs `(arguments, expected)`: a tuple of arguments,
            and what the function must return for them. Both are plain data:
            numbers, strings, and lists, tuples, sets and dicts of these. Ints
            must be equal, and floats nearly so.

    Raises:
        UserError: the name is no identifier, or there are no cases.
    """

    prompt: str
    function: str
    cases: tuple

    def __post_init__(self):
        check_text("prompt", self.prompt)
        if not str(self.function).isidentifier():
            raise UserError(
                "`function` must be the name of a function. Received: "
                f"function={shown(self.function)}."
            )
        cases = check_list("cases", self.cases, "a list of pairs")
        cases = tuple(map(_check_case, cases))
        if not cases:
            raise UserError(
                "`cases` must have at least one pair of arguments and what the "
                "function must return. Received: none. A task without a case "
                "accepts everything."
            )
        object.__setattr__(self, "cases", cases)


def _check_case(case):
    """Return a case, a tuple of arguments and what is expected of them."""
    if not isinstance(case, tuple | list) or len(case) != 2:
        raise UserError(
            "Each of `cases` must be a pair of arguments and what the "
            f"function must return. Received: {shown(case)}. Write "
            "((2, 3), 5), for example."
        )
    return tuple(check_list("cases", case[0], "pairs with a tuple")), case[1]


class CodeChecker:
    r"""Runs the code of responses, and compares what its functions return.

    The code never learns what a function should return: it gets arguments,
    and its answers are compared elsewhere. So it cannot print that it has
    passed, end the process early, or replace the comparison.

    Args:
        runner: callable `(source, function, arguments) -> list`: it runs the
            source, calls the function once for each tuple of arguments, and
            returns the values as plain data, with an exception in place of a
            value where a call failed. It must confine the code, as
            `kerasllm.homework.CodeRunner` does.
        partial: bool. Whether the reward is the share of cases that pass,
            instead of 1 if all of them do and 0 otherwise. A share can be had
            by guessing.

    Raises:
        UserError: `runner` cannot be called.

    Example:
    ```python
    task = CodeTask("Write `double(x)`.", "double", [((2,), 4), (("a",), "aa")])
    with homework.CodeRunner() as runner:
        checker = CodeChecker(runner)
        checker([task], ["def double(x):\n    return 2 * x"])  # [1.0]
    ```

    Source: Chen et al., 2021, arXiv:2107.03374 (functional correctness).
    """

    def __init__(self, runner, partial=False):
        check_callable(
            "runner", runner, "Use `kerasllm.homework.CodeRunner()`."
        )
        self.runner = runner
        self.partial = bool(partial)

    def __call__(self, tasks, responses):
        """Return the rewards of responses.

        Args:
            tasks: list of `CodeTask`.
            responses: list of str, one for each; see `find_code`.

        Returns:
            float32 array `(len(responses),)`, from 0 to 1.

        Raises:
            UserError: there is not one task for each response, or one of
                them is something else.
        """
        tasks = check_list("tasks", tasks)
        responses = check_list("responses", responses)
        if len(tasks) != len(responses):
            raise UserError(
                "There must be one task for each response. Received: "
                f"{len(tasks)} tasks and {len(responses)} responses. Repeat a "
                "task for each of its responses."
            )
        for task in tasks:
            if not isinstance(task, CodeTask):
                raise UserError(
                    "Each of `tasks` must be a `CodeTask`. Received: "
                    f"{shown(task)}."
                )
        shares = [
            self._share(task, find_code(response))
            for task, response in zip(tasks, responses, strict=True)
        ]
        if not self.partial:
            shares = [share == 1 for share in shares]
        return np.array(shares, "float32")

    def _share(self, task, source):
        """Return the share of a task's cases that code passes."""
        if source is None:
            return 0.0
        arguments = [given for given, _ in task.cases]
        values = self.runner(source, task.function, arguments)
        if len(values) != len(arguments):
            return 0.0
        passed = [
            _is_equal(value, expected)
            for value, (_, expected) in zip(values, task.cases, strict=True)
        ]
        return sum(passed) / len(passed)


def find_code(response):
    """Return the code of a response.

    Args:
        response: str. If it has code between fences of three backticks, that
            is the code, and otherwise all of it.

    Returns:
        str, or `None` if there is no code, or more than one fenced part, or
        one that is cut off: a response has one answer.
    """
    check_text("response", response, "A response is what a model wrote.")
    parts, part = [], None
    for line in response.split("\n"):
        mark = line.strip()
        if part is None:
            if mark.startswith(_FENCE) and "`" not in mark[len(_FENCE) :]:
                part = []
        elif mark == _FENCE:
            parts.append("".join(part))
            part = None
        else:
            part.append(f"{line}\n")
    is_cut_off = part is not None
    if is_cut_off or len(parts) > 1 or (not parts and _FENCE in response):
        return None
    source = parts[0] if parts else response
    return source if source.strip() else None


def _is_equal(value, expected):
    """Return whether plain data are equal, floats nearly so."""
    if isinstance(value, BaseException):
        return False
    if _is_number(value) and _is_number(expected):
        return _is_near(value, expected)
    if type(value) is not type(expected):
        return False
    if isinstance(expected, list | tuple):
        return len(value) == len(expected) and all(
            map(_is_equal, value, expected)
        )
    if isinstance(expected, dict):
        return value.keys() == expected.keys() and all(
            _is_equal(value[key], expected[key]) for key in expected
        )
    return value == expected


def _is_near(value, expected):
    """Return whether numbers are equal: ints exactly, and floats nearly so."""
    if isinstance(value, int) and isinstance(expected, int):
        return int(value) == int(expected)  # whatever a subclass claims
    try:
        return math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-12)
    except OverflowError:  # an int that no float can be
        return False


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)
