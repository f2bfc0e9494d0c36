"""Checkers: programs that say whether a response is right."""

from kerasllm.reasoning.checkers._answers import (
    MARKER,
    AnswerChecker,
    check_marker,
)
from kerasllm.reasoning.checkers._code import CodeChecker, CodeTask, find_code
from kerasllm.reasoning.checkers._equations import (
    Equation,
    find_equations,
    right_steps,
)
from kerasllm.reasoning.checkers._numbers import (
    as_number,
    find_numbers,
    read_number,
)

__all__ = [
    "MARKER",
    "AnswerChecker",
    "CodeChecker",
    "CodeTask",
    "Equation",
    "as_number",
    "check_marker",
    "find_code",
    "find_equations",
    "find_numbers",
    "read_number",
    "right_steps",
]
