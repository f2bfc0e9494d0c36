"""The steps of a solution: equations, and whether they hold."""

import dataclasses
import fractions
import re

from kerasllm.checks import check_text
from kerasllm.reasoning.checkers._numbers import (
    CURRENCIES,
    MOST_DIGITS,
    without_latex,
)

_MOST_TOKENS = 60  # of one equation, so that no text takes long
_MOST_UNIT_WORDS = 3  # "5 small red apples + 3 apples"
_TOKEN = re.compile(
    rf"""(?P<number>
            (?:[0-9]{{1,3}}(?:,[0-9]{{3}})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?
            |\.[0-9]+)(?P<percent>\s?%)?
    |(?P<operator>[-+−–*×·/÷()=])
    |(?P<times>[xX](?=\s*[{CURRENCIES}(]?\s?[0-9]))
    |(?P<word>[^\W\d_]+)
    |(?P<blank>[ \t{CURRENCIES}_`]+)
    |(?P<other>.)""",
    re.VERBOSE,
)
_OPERATORS = {"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/"}
_NEUTRAL = {"+": 0, "-": 0, "*": 1, "/": 1}


@dataclasses.dataclass(frozen=True)
class Equation:
    """One equation of a solution, such as `13 + 3 = 16`.

    Attributes:
        operands: tuple of `fractions.Fraction`, the numbers on the left side.
        result: `fractions.Fraction`, what the other side says, or `None` if
            it cannot be computed.
        holds: bool. Whether the sides are equal, exactly.
        is_trivial: bool. Whether nothing is computed, but zero is added or
            subtracted, or something multiplied or divided by one.
    """

    operands: tuple
    result: fractions.Fraction | None
    holds: bool
    is_trivial: bool


def right_steps(response):
    """Return the share of a response's equations that hold.

    A right answer may come from wrong steps. So report this share for the
    responses whose answer is right.

    Args:
        response: str.

    Returns:
        float in `[0, 1]`, 0 if there is no equation.
    """
    equations = find_equations(response)
    if not equations:
        return 0.0
    return sum(equation.holds for equation in equations) / len(equations)


def find_equations(text):
    r"""Return the equations of a text that have something to compute.

    An equation may have `+`, `-`, `*` (or `×`, `x`), `/` (or `÷`) and
    parentheses. Units after numbers are skipped, as in `5 cards + 3 cards = 8
    cards`, and LaTeX such as `\times` is read. A running total, `13 + 3 = 16 +
    4 = 20`, is two equations: the second one begins with the result of the
    first.

    Args:
        text: str.

    Returns:
        list of `Equation`.
    """
    check_text("text", text)
    equations = []
    # Two stars are emphasis in Markdown, and nobody's multiplication.
    for line in without_latex(text).replace("**", " ").splitlines():
        for run in _runs(line):
            equations += _equations_of(run)
    return equations


def _runs(line):
    """Yield the parts of a line that may be equations: lists of tokens.

    A token is a `Fraction` or one of `+-*/()=`.
    """
    run, words = [], 0
    for kind, token in _tokens(line):
        follows_value = bool(run) and _is_value(run[-1])
        if kind == "word" and follows_value and words < _MOST_UNIT_WORDS:
            words += 1
            continue
        begins = kind == "number" or token in ("(", "-")
        goes_on = kind == "number" or token == "("
        # A value follows an operator, and an operator a value.
        fits = (goes_on or token == "-") if not follows_value else not goes_on
        if kind in ("word", "other") or not (fits if run else begins):
            yield run
            run = []
        if kind not in ("word", "other") and (run or begins):
            run.append(token)
        words = 0
    yield run


def _tokens(line):
    """Yield pairs of a kind and a token."""
    for match in _TOKEN.finditer(line):
        kind, text = match.lastgroup, match[0]
        if match["number"]:
            digits = match["number"].replace(",", "")
            if len(digits) > MOST_DIGITS:
                yield "other", text
                continue
            value = fractions.Fraction(digits)
            yield "number", value / 100 if match["percent"] else value
        elif kind == "times":
            yield "operator", "*"
        elif kind == "operator":
            yield kind, _OPERATORS.get(text, text)
        elif kind != "blank":
            yield kind, text


def _is_value(token):
    return token == ")" or not isinstance(token, str)


def _equations_of(run):
    """Return the equations between the equals signs of a run: a list."""
    if "=" not in run or len(run) > _MOST_TOKENS:
        return []
    sides, side = [], []
    for token in [*run, "="]:
        if token == "=":
            sides.append(_tidy(side))
            side = []
        else:
            side.append(token)
    if not sides[-1]:  # "3 + 4 =", and no more
        sides.pop()
    values = [_evaluate(side) for side in sides]
    equations = []
    for i in range(len(sides) - 1):
        left, right = sides[i], sides[i + 1]
        if not (_computes(left) or _computes(right)):
            continue
        result = values[i + 1]
        holds = values[i] is not None and values[i] == result
        goes_on = i + 2 < len(sides) and _computes(left) and _computes(right)
        if goes_on and not holds and right[0] == values[i]:
            result, holds = right[0], True  # a running total
        if not _computes(left):  # "20 = 13 + 7"
            left, result = right, values[i]
        operands = tuple(t for t in left if not isinstance(t, str))
        equations.append(Equation(operands, result, holds, _is_trivial(left)))
    return equations


def _tidy(side):
    """Return a side without operators at its end, or half of parentheses."""
    side = list(side)
    while side and side[-1] in ("+", "-", "*", "/", "("):
        side.pop()
    while side and side[0] == "(" and side.count("(") > side.count(")"):
        del side[0]
    while side and side[-1] == ")" and side.count(")") > side.count("("):
        side.pop()
    return side


def _computes(side):
    """Return whether a side has an operator between two values."""
    return any(token in _NEUTRAL for token in side[1:])


def _is_trivial(side):
    """Return whether a side computes nothing new."""
    for i, token in enumerate(side):
        if token not in _NEUTRAL or i == 0:
            continue
        neutral = _NEUTRAL[token]
        others = side[i + 1 : i + 2]
        if token in "+*":  # the order does not matter
            others = [side[i - 1], *others]
        if neutral not in others:
            return False
    return True


def _evaluate(side):
    """Return the value of a side, or `None` if it has none."""
    tokens = side[::-1]  # the next one is the last
    try:
        value = _sum(tokens)
    except (IndexError, ZeroDivisionError, TypeError, RecursionError):
        return None
    return None if tokens else value


def _sum(tokens):
    value = _product(tokens)
    while tokens and tokens[-1] in ("+", "-"):
        sign = 1 if tokens.pop() == "+" else -1
        value += sign * _product(tokens)
    return value


def _product(tokens):
    value = _factor(tokens)
    while tokens and tokens[-1] in ("*", "/"):
        if tokens.pop() == "*":
            value *= _factor(tokens)
        else:
            value /= _factor(tokens)
    return value


def _factor(tokens):
    token = tokens.pop()
    if token == "-":
        return -_factor(tokens)
    if token == "(":
        value = _sum(tokens)
        if tokens.pop() != ")":
            raise IndexError
        return value
    if isinstance(token, str):
        raise TypeError
    return token
