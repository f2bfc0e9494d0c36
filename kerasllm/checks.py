"""Checks of arguments, and the exceptions that the package raises.

There is one rule for whole numbers, one for real numbers and one for text.
NumPy's numbers are accepted like Python's, and booleans are not numbers. Every
message states the rule, then the value received, then what to do.

Code that catches these exceptions relies on their class, never on their text.
"""

import errno
import functools
import math
import numbers
import os
import pathlib

LARGEST_FLOAT32 = 3.4028234663852886e38
LARGEST_SEED = 2**31 - 1  # PyTorch stores it as an int32
LARGEST_INT = 2**63 - 1  # what counts and sizes are computed with


class ExplainedError(Exception):
    """An error whose message tells the user everything they need to know.

    Attributes:
        exit_status: int. Exit status of a command that ends with this error.
    """

    exit_status = 1


class UserError(ExplainedError, ValueError):
    """A mistake by the caller: a value that breaks a rule."""

    exit_status = 2


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that the caller named does not exist."""


# The system's class comes first: its `__init__` sets `errno` and `filename`.
class ForbiddenPathError(PermissionError, UserError):
    """A path that the caller named may not be written to."""


class NotAFolderError(NotADirectoryError, UserError):
    """A path that the caller named goes through a file."""


class FolderIsFileError(FileExistsError, UserError):
    """A folder that the caller named is a file."""


class ImpossiblePathError(OSError, UserError):
    """A path that the caller named is too long, or a link to itself."""


_PATH_ERRORS = {
    errno.ENAMETOOLONG: ImpossiblePathError,
    errno.ELOOP: ImpossiblePathError,
    errno.EACCES: ForbiddenPathError,
    errno.EPERM: ForbiddenPathError,
    errno.ENOTDIR: NotAFolderError,
    errno.EEXIST: FolderIsFileError,
}


class RunError(UserError, RuntimeError):
    """The request does not match what a folder already contains."""


class TooLittleTextError(UserError):
    """A corpus, or the split of one, has too few tokens.

    Attributes:
        needed: int. The smallest number of tokens that is enough.
        found: int. The number of tokens that there are.
    """

    def __init__(self, message, needed, found):
        super().__init__(message)
        self.needed, self.found = needed, found


class EnvironmentFailure(ExplainedError, OSError):
    """The disk or the network failed; the same call may work later."""


class DivergedError(ExplainedError, FloatingPointError):
    """Numbers became NaN or infinite."""


# XLA multiplies by the reciprocal of a temperature. Where that is flushed to
# zero, a removed token's -inf becomes NaN. All tokens are equally likely long
# before.
HOTTEST = 1e30
# Times the length of a text, a larger one overflows.
LARGEST_PENALTY = 1e30
# The numbers of a sampler: what must hold, the rule in words, and the cure.
TEMPERATURE = (
    lambda value: 0 <= value <= HOTTEST,
    f"a finite number that is not negative, at most {HOTTEST:g}",
    "Use 0 for the most likely token, 1 for the model's own distribution.",
)
TOP_P = (
    lambda value: 0 < value <= 1,
    "a probability in (0, 1]",
    "Use `greedy_search` for the most likely token, 1 to keep all of them.",
)
MIN_P = (
    lambda value: 0 <= value <= 1,
    "a ratio of probabilities in [0, 1]",
    "Use 0 to keep all tokens.",
)
PENALTY = (
    lambda value: abs(value) <= LARGEST_PENALTY,
    f"a finite number between -{LARGEST_PENALTY:g} and {LARGEST_PENALTY:g}",
    "Use 0 for no penalty. Those in use are between -2 and 2.",
)


def path_error(error, message, path):
    """Return the error to raise when a path cannot be written to.

    Args:
        error: the `OSError` that the system raised.
        message: str.
        path: str or path that the caller named.

    Returns:
        A `UserError` that is also the system's class where the caller chose a
        wrong path, and an `EnvironmentFailure` otherwise. Both have `errno`,
        `strerror` and `filename`.
    """
    kind = _PATH_ERRORS.get(error.errno, EnvironmentFailure)
    return kind(error.errno, message, str(path))


def accept_former_names(**names):
    """Return a decorator that accepts former names of keyword arguments.

    The keywords are former names, and their values the present ones.
    """

    def decorate(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            for former, name in names.items():
                if former in kwargs and name not in kwargs:
                    kwargs[name] = kwargs.pop(former)
            return function(*args, **kwargs)

        return call

    return decorate


def is_int(value):
    """Return whether a value is a whole number, Python's or NumPy's."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_real(value):
    """Return whether a value is a real number, Python's or NumPy's.

    Infinity and NaN are real numbers here. Tensors and booleans are not.
    """
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def shown(value, limit=60):
    """Return how a message shows a value that a user passed: a short str.

    Args:
        value: anything, such as a whole book, or an image as a data URI.
        limit: int. The largest number of characters of the value.

    Returns:
        str, the `repr` of the value on one line, cut off with an ellipsis.
    """
    if isinstance(value, str | bytes | list | tuple):
        value = value[: limit + 1]  # the `repr` of all of it may be slow
    try:
        text = " ".join(repr(value).split())
    # Python refuses to write whole numbers of more than 4,300 digits.
    except ValueError:
        return f"a very large {type(value).__name__}"
    return text if len(text) <= limit + 2 else f"{text[:limit]}..."


def check_int(name, value, minimum, maximum=None, *, cure=""):
    """Check that a value is a whole number within bounds.

    Args:
        name: str. Name of the argument, for the message.
        value: anything.
        minimum: int, the smallest value that is allowed.
        maximum: int, the largest value that is allowed. `None` for the largest
            of 64 bits, `math.inf` for no bound, as for a seed.
        cure: str. A sentence on what to do.

    Returns:
        The value as a Python int.

    Raises:
        UserError: the value is not an int, or it is out of bounds.
    """
    fits = is_int(value) and minimum <= value
    if fits and value <= (LARGEST_INT if maximum is None else maximum):
        return int(value)
    if maximum is not None and maximum < math.inf:
        rule = f"an int in [{minimum}, {maximum}]"
    elif minimum == 1:
        rule = "a positive int"
    else:
        rule = f"an int of at least {minimum}"
    if fits and maximum is None:
        rule += f", and at most {LARGEST_INT}"
    raise UserError(
        f"`{name}` must be {rule}. Received: {name}={shown(value)}. "
        f"{cure}".rstrip()
    )


def check_positive_ints(**sizes):
    """Check that all arguments are positive ints.

    Raises:
        UserError: an argument is not. The message names the first one.
    """
    for name, value in sizes.items():
        check_int(name, value, 1)


def check_list(name, value, rule="a list"):
    """Return a value as a list, for which a generator gives its elements.

    Raises:
        UserError: it is no list, nor anything like it.
    """
    try:
        items = None if isinstance(value, str | bytes | dict) else iter(value)
    except TypeError:
        items = None
    if items is None:
        raise UserError(
            f"`{name}` must be {rule}. Received: {name}={shown(value)}, which "
            f"is a {type(value).__name__}. Put a single one into a list."
        )
    return list(items)


def check_lists(**values):
    """Return each of the values as `check_list` does, and `None` as such."""
    return [v if v is None else check_list(k, v) for k, v in values.items()]


def check_path(name, value):
    """Return the path that a user has named, a `pathlib.Path`.

    Raises:
        UserError: it is neither a str nor a path, or no file can have it.
    """
    try:
        path = os.fspath(value)
        fits = isinstance(path, str) and b"\0" not in os.fsencode(path)
    except (TypeError, ValueError):
        fits = False
    if not fits or not path:
        raise UserError(
            f"`{name}` must be a str or a path. Received: {name}="
            f"{shown(value)}. Write its name as a string."
        )
    return pathlib.Path(path)


def check_callable(name, value, cure=""):
    """Refuse what cannot be called; see `check_text` for the arguments."""
    if not callable(value):
        raise UserError(
            f"`{name}` must be callable. Received: {name}={shown(value)}. "
            f"{cure}".rstrip()
        )


def check_real(name, value, holds, rule, *, cure=""):
    """Check that a value is a real number that obeys a rule.

    A finite number must also be one that float32 can hold, because models
    compute with it.

    Args:
        name: str. Name of the argument, for the message.
        value: anything.
        holds: callable from a real number to a bool. It should return `False`
            for NaN.
        rule: str that completes "must be ...".
        cure: str. A sentence on what to do.

    Raises:
        UserError: the value is not a real number, or it breaks the rule.
    """
    if is_real(value):
        # NumPy's half precision cannot hold the bounds, and would warn.
        number = float(value) if hasattr(value, "dtype") else value
        if is_int(number):  # it may be larger than any float
            number = min(max(number, -(10**300)), 10**300)
        if holds(number):
            if not LARGEST_FLOAT32 < abs(number) < math.inf:
                return
            rule = f"{rule}, at most {LARGEST_FLOAT32:.2g} as float32 needs"
    raise UserError(
        f"`{name}` must be {rule}. Received: {name}={shown(value)}. "
        f"{cure}".rstrip()
    )


def check_numbers(name, values, *, cure=""):
    """Return numbers as an array, if they are numbers.

    Strings are none, even `"1"`, and neither are lists of unequal lengths.

    Args:
        name: str. Name of the argument, for the message.
        values: anything: a number, an array, a tensor, or a list of these.
        cure: str. A sentence on what to do.

    Returns:
        NumPy array of bools, ints or floats.

    Raises:
        UserError: they are something else.
    """
    import numpy as np  # other checks need neither
    from keras import ops

    try:
        array = np.asarray(ops.convert_to_numpy(values))
        if array.dtype.name == "bfloat16":  # NumPy does not know it
            array = array.astype("float32")
        if array.dtype.kind == "O":  # with PyTorch, each may be an array
            items = [getattr(x, "item", lambda x=x: x)() for x in array.flat]
            if all(map(is_real, items)):
                array = np.array(items, "float64").reshape(array.shape)
        problem = f"{array.dtype} {array.shape}"
    except (TypeError, ValueError, OverflowError) as error:
        array, problem = np.empty(0, object), str(error)
    if array.dtype.kind not in "biuf":
        raise UserError(
            f"`{name}` must be numbers. Received: {name}={shown(values)} "
            f"({problem}). {cure}".rstrip()
        )
    return array


def check_text(name, text, cure=""):
    """Check that a value is text that a tokenizer can read.

    Args:
        name: str. Name of the argument, for the message.
        text: anything.
        cure: str. A sentence on what to do.

    Raises:
        UserError: it is not a `str`, or it cannot be encoded in UTF-8.
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
            f"{shown(text)} ({error}). Write it in UTF-8."
        ) from error


def check_choice(name, value, choices, *, cure=""):
    """Check that a value is one of a few strings.

    Args:
        name: str. Name of the argument, for the message.
        value: anything.
        choices: sequence of str.
        cure: str. A sentence on what to do.

    Raises:
        UserError: the value is not one of `choices`.
    """
    if not isinstance(value, str) or value not in choices:
        raise UserError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}. "
            f"Received: {name}={shown(value)}. {cure}".rstrip()
        )
