"""Numbers as people write them, read without rounding."""

import dataclasses
import fractions
import math
import re

from kerasllm.checks import UserError, check_text, is_int, is_real, shown

MOST_DIGITS = 40  # of a number that is read; nobody means a longer one
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
# The symbols of currencies, for a set of a pattern.
CURRENCIES = "$£¥\u20a0-\u20cf"
_CURRENCY = rf"(?:[{CURRENCIES}]\s?)?"
# Not the "2" of "m2", nor the "5" of "x5".
NUMBER = re.compile(
    rf"""(?<![A-Za-z_])
    {_CURRENCY}(?P<sign>[-+−]?){_CURRENCY}
    (?:(?P<whole>[0-9]+)[ ](?=[0-9]+/[0-9]))?
    (?P<value>(?:{_DIGITS}(?:\.[0-9]+)?|\.[0-9]+))
    (?P<power>[eE][-+]?[0-9]{{1,2}}(?![0-9]))?
    (?:\s?/\s?(?P<below>[0-9]+)(?![0-9.,]*[0-9]))?
    (?P<percent>\s?(?:%|per\s?cent\b))?""",
    re.VERBOSE,
)
_FRACTION = re.compile(r"(?:([0-9])\s?)?\\[dt]?frac\{(-?[0-9]+)\}\{([0-9]+)\}")
_LATEX = re.compile(
    r"\\(?P<blank>[()\[\]!,;]|(?:left|right)(?![a-z]))|\{(?P<comma>,)\}"
    r"|\\(?P<sign>[$%])|\\(?:text|math)[a-z]*\{(?P<text>[^{}\\]*)\}"
    r"|\\(?P<operator>times|cdot|div)(?![a-z])|\^\{?(?P<degree>\\circ)\}?"
)
_LATEX_OPERATORS = {"times": "×", "cdot": "·", "div": "÷"}


@dataclasses.dataclass(frozen=True)
class Number:
    """A number in a text.

    Attributes:
        value: int or `fractions.Fraction`. Of `50%`, it is 50.
        is_percent: bool.
        start: int. Where it begins in the text.
        end: int. Where it ends.
    """

    value: int | fractions.Fraction
    is_percent: bool
    start: int
    end: int


def read_number(text):
    """Return the number that a text consists of, exactly.

    It may have a sign, a currency symbol, commas between thousands, decimals,
    or a percent sign, and may be a fraction such as `3/4` or `1 1/2`.

    Args:
        text: str.

    Returns:
        An int or a `fractions.Fraction`; `None` if the text is anything else,
        such as a number word, two numbers, or a number with a unit.
    """
    check_text("text", text)
    match = NUMBER.fullmatch(text.strip())
    number = match and _number_of(match)
    return number.value if number else None


def without_latex(text):
    """Return a text whose numbers are in plain notation instead of LaTeX."""
    if "\\" not in text and "{,}" not in text:
        return text
    return _LATEX.sub(_without_command, _FRACTION.sub(_with_slash, text))


def _with_slash(match):
    whole, above, below = match.groups()
    return f"{f'{whole} ' if whole else ''}{above}/{below}"


def _without_command(match):
    kind, found = match.lastgroup, match[match.lastgroup]
    if kind == "operator":
        return _LATEX_OPERATORS[found]
    if kind == "degree":
        return "°"
    return "" if kind == "blank" else found


def find_numbers(text):
    """Return the numbers in a text, in order: a list of int or `Fraction`."""
    return [number.value for number in numbers_in(text)]


def numbers_in(text):
    """Yield the `Number`s in a text. One that has no value is left out."""
    for match in NUMBER.finditer(text):
        number = _number_of(match)
        if number is not None:
            yield number


def number_at(text, start):
    """Return the `Number` that begins at a position, or `None`."""
    match = NUMBER.match(text, start)
    return match and _number_of(match)


def as_number(value, name="answer"):
    """Return a right answer as an exact number.

    Args:
        value: int, float, `fractions.Fraction`, one of NumPy's numbers, or a
            str that `read_number` can read. A float is the decimal number
            that Python shows for it, so that `0.1` is a tenth.
        name: str. What the message calls it.

    Returns:
        An int or a `fractions.Fraction`.

    Raises:
        UserError: it is no finite number.
    """
    if isinstance(value, str):
        number = read_number(value)
        if number is not None:
            return number
    elif is_int(value):
        return int(value)
    elif isinstance(value, fractions.Fraction):
        return _plain(value)
    elif is_real(value) and math.isfinite(value):
        return _plain(fractions.Fraction(str(value)))
    raise UserError(
        f"`{name}` must be a finite number, or text that is one. Received: "
        f"{name}={shown(value)}. Write it in digits, without a unit."
    )


def _number_of(match):
    """Return the `Number` of a match, or `None` if it has no value."""
    digits = match["value"].replace(",", "")
    below, whole = match["below"], match["whole"]
    if any(len(part or "") > MOST_DIGITS for part in (digits, below, whole)):
        return None
    value = fractions.Fraction(digits + (match["power"] or ""))
    if below is not None:
        if not int(below):
            return None
        value /= int(below)
    value += int(whole or 0)
    if match["sign"] in ("-", "−"):
        value = -value
    return Number(
        _plain(value), bool(match["percent"]), match.start(), match.end()
    )


def _plain(value):
    """Return a `Fraction` as an int, if it is a whole number."""
    return int(value) if value.denominator == 1 else value
