"""What is checked where it enters, and the exceptions that say so.

One rule for whole numbers, one for real numbers, one for text: NumPy's numbers
count like Python's, booleans are no numbers, and every message states the
rule, then what came, then the cure.

Whoever catches these exceptions decides by their class, never by their text.
"""

import numbers


class ExplainedError(Exception):
    """An error whose message tells the user all there is to know.

    Attributes:
        exit_status: int. That of a command which ends because of it.
    """

    exit_status = 1


class UserError(ExplainedError, ValueError):
    """A mistake of the caller's: a value that breaks a rule."""

    exit_status = 2


class MissingFileError(UserError, FileNotFoundError):
    """The caller named a file or folder that is not there."""


class RunError(UserError, RuntimeError):
    """What the caller asks for does not fit what a folder already holds."""


class EnvironmentFailure(ExplainedError, OSError):
    """Disk or network failed; the same call may work later."""


class DivergedError(ExplainedError, FloatingPointError):
    """Numbers became NaN or infinite."""


def is_int(value):
    """Tell whether a value is a whole number, Python's or NumPy's."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_real(value):
    """Tell whether a value is a real number, Python's or NumPy's.

    A tensor is none, nor is a boolean. Infinity and NaN are.
    """
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_int(name, value, minimum, maximum=None, *, cure=""):
    """Refuse what is no whole number within bounds.

    Args:
        name: str. What the message calls the argument.
        value: anything.
        minimum: int, the smallest value that is allowed.
        maximum: int, the largest one, or `None` for no bound.
        cure: str. A sentence on what to do.

    Returns:
        The value as a Python int.

    Raises:
        UserError: it is not.
    """
    fits = is_int(value) and minimum <= value
    if fits and (maximum is None or value <= maximum):
        return int(value)
    if maximum is not None:
        rule = f"an int in [{minimum}, {maximum}]"
    elif minimum == 1:
        rule = "a positive int"
    else:
        rule = f"an int of at least {minimum}"
    raise UserError(
        f"`{name}` must be {rule}. Received: {name}={value!r}. {cure}".rstrip()
    )


def check_positive_ints(**sizes):
    """Refuse the first argument that is no positive int.

    Raises:
        UserError: there is one.
    """
    for name, value in sizes.items():
        check_int(name, value, 1)


def check_real(name, value, holds, rule, *, cure=""):
    """Refuse what is no real number, or one that breaks a rule.

    Args:
        name: str. What the message calls the argument.
        value: anything.
        holds: callable from a real number to a bool. NaN should fail it.
        rule: str that completes "must be ...".
        cure: str. A sentence on what to do.

    Raises:
        UserError: it is not.
    """
    if not (is_real(value) and holds(value)):
        raise UserError(
            f"`{name}` must be {rule}. Received: {name}={value!r}. "
            f"{cure}".rstrip()
        )


def check_text(name, text, cure=""):
    """Refuse what is no text that a tokenizer can read.

    Args:
        name: str. What the message calls the argument.
        text: anything.
        cure: str. A sentence on what to do.

    Raises:
        UserError: it is no `str`, or one that UTF-8 cannot write.
    """
    if not isinstance(text, str):
        raise UserError(
            f"`{name}` must be a string. Received: {type(text).__name__}. "
            f"{cure}".rstrip()
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise UserError(
            f"`{name}` must be text that UTF-8 can write. Received: "
            f"{text!r:.80} ({error}). Write it in UTF-8."
        ) from error


def check_choice(name, value, choices, *, cure=""):
    """Refuse what is none of a few values.

    Args:
        name: str. What the message calls the argument.
        value: anything.
        choices: sequence of str.
        cure: str. A sentence on what to do.

    Raises:
        UserError: it is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise UserError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}. "
            f"Received: {name}={value!r}. {cure}".rstrip()
        )
