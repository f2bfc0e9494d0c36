"""Equations in solutions: which there are, and which of them hold."""

from fractions import Fraction

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.reasoning import (
    find_equations,
    read_number,
    right_steps,
    word_problems,
)
from kerasllm.reasoning.checkers import as_number

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("13 + 3 = 16", [True]),
        ("13 + 3 = 17", [False]),
        ("13 + 3 = 16 + 4 = 20 answer 20", [True, True]),
        ("13 + 3 = 16 + 4 = 21", [True, False]),
        ("13 + 3 = 15 + 4 = 19", [False, True]),
        ("3 * 4 = 12 . 2 * 6 = 12 . 12 + 12 = 24", [True] * 3),
        ("13 + 3 = 16\n16 + 4 = 20", [True, True]),
        ("First 48/2 = 24 clips, so 48+24 = 72 clips.", [True, True]),
        ("$5 x 3 = $15, and 12/60 = $0.2 a minute", [True, True]),
        ("5 red apples + 3 apples = 8 apples", [True]),
        ("(2 + 3) * 4 = 20 and 2 + 3 * 4 = 14", [True, True]),
        ("(2 + 3) * 4 = 14", [False]),
        ("It is 20 (13 + 7 = 20).", [True]),
        ("**2 + 2 = 4**", [True]),
        ("10 − 4 = 6; 10 × 4 = 40; 10 ÷ 4 = 2.5", [True] * 3),
        ("1,000 - 1 = 999", [True]),
        (r"\(3 \times 4 = 12\), $12 \div 2 = \frac{12}{2}$", [True, True]),
        (r"\$1{,}000 \cdot 2 = \$2{,}000", [True]),
        ("50% * 30 = 15", [True]),
        ("-3 + 5 = 2 and 5 - -3 = 8", [True, True]),
        ("3 + 4 = 2 + 5", [True]),
        ("10 / 3 = 3.33", [False]),  # not exactly
        ("4 / 0 = 0", [False]),
        ("3 = 3 + 4", [False]),
        ("3 + 4 =", []),
        ("x = 5 + 3 = 8", [True]),
        ("2-page letter = 5", []),
        ("20 = 20", []),  # nothing is computed
        ("20 apples", []),
        ("1. 2 + 2 = 4\n2. 4 * 2 = 8", [True, True]),
        ("Step 1: 2 + 2 = 4", [True]),
        ("12 cards. 3 + 4 = 7", [True]),
        ("", []),
        ("(" * 5000 + "1 + 1 = 2", []),
    ],
)
def test_equations_are_found_and_computed(text, holds):
    assert [equation.holds for equation in find_equations(text)] == holds
    share = sum(holds) / len(holds) if holds else 0.0
    assert right_steps(text) == share


def test_an_equation_has_operands_and_a_result():
    first, second = find_equations("13 + 3 = 16 + 0.5 = 16.5")
    assert first.operands == (13, 3) and first.result == 16
    assert second.operands == (16, Fraction(1, 2))
    assert second.result == Fraction(33, 2)


@pytest.mark.parametrize(
    ("text", "is_trivial"),
    [
        ("20 + 0 = 20", True), ("0 + 20 = 20", True), ("20 - 0 = 20", True),
        ("20 * 1 = 20", True), ("1 * 20 = 20", True), ("20 / 1 = 20", True),
        ("20 * 1 + 0 = 20", True), ("20 - 1 = 19", False),
        ("1 + 1 = 2", False), ("4 - 2 = 2", False), ("20 = 20 + 0", True),
    ],
)  # fmt: skip
def test_adding_nothing_is_no_step(text, is_trivial):
    (equation,) = find_equations(text)
    assert equation.is_trivial == is_trivial


def test_our_own_solutions_have_right_steps():
    for notation in ("words", "notes"):
        for problem in word_problems(200, seed=3, notation=notation):
            equations = find_equations(problem.solution)
            assert len(equations) == problem.num_steps
            assert right_steps(problem.solution) == 1
            assert equations[-1].result == problem.answer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("42", 42), (" 42 ", 42), ("-7", -7), ("−7", -7), ("+7", 7),
        ("1,234", 1234), ("1,234,567.5", Fraction("1234567.5")),
        ("0.1", Fraction(1, 10)), (".5", Fraction(1, 2)), ("3.0", 3),
        ("3/4", Fraction(3, 4)), ("-3/4", Fraction(-3, 4)), ("6 / 8",
        Fraction(3, 4)), ("1 1/2", Fraction(3, 2)), ("$5", 5), ("-$5", -5),
        ("$-5", -5), ("€ 5", 5), ("50%", 50), ("1e3", 1000),
        ("2.5e-1", Fraction(1, 4)),
        ("", None), ("four", None), ("4 5", None), ("4 cards", None),
        ("1,23", None), ("1,2345", None), ("1/0", None), ("nan", None),
        ("inf", None), ("9" * 5000, None), ("1e999999", None), ("٤٢", None),
        ("½", None), ("--4", None), ("0x10", None),
    ],
)  # fmt: skip
def test_numbers_are_read_exactly(text, number):
    assert read_number(text) == number


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (42, 42), (0.1, Fraction(1, 10)), (np.int32(3), 3), (3.0, 3),
        (np.float32(0.1), Fraction(1, 10)), (Fraction(4, 2), 2), ("3/4",
        Fraction(3, 4)), (1e22, 10**22),
    ],
)  # fmt: skip
def test_right_answers_are_exact(value, number):
    assert as_number(value) == number
    assert type(as_number(value)) is type(number)


@pytest.mark.parametrize("value", [None, True, "four", float("inf"), [4], ""])
def test_a_right_answer_is_a_number(value):
    with pytest.raises(UserError, match="`answer` must be a finite number"):
        as_number(value)
