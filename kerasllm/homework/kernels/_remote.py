"""Calls from the tests in one process to a student's functions in another.

Tests and students share no process. What a test knows (oracles, hidden inputs,
the expected answer, the score) is out of reach of the code that it tests, and
nothing but data comes back. Data is what `encode` writes: JSON, in which each
list is `[kind, content]`. Pickle would run code of the other side.

The student's process runs this file by itself, so it imports nothing from
kerasllm. It raises only built-in exceptions, because only these are handed on
to the tests.
"""

import base64
import builtins
import collections.abc
import functools
import json
import sys
import types

import numpy as np

# The name under which the student's process has this module.
SERVANT = "homework_servant"
_PLAIN = (type(None), bool, int, float, str)
_SEQUENCES = {kind.__name__: kind for kind in (list, tuple, set, frozenset)}
# Students may return these where a list is asked for.
_ITERATORS = (
    types.GeneratorType,
    map,
    zip,
    filter,
    range,
    collections.deque,
    collections.abc.MappingView,
)
LONGEST_MESSAGE = 1000


class RemoteObject:
    """Stands for an object of the submission that is not data.

    The object stays in its process; calls and attributes are forwarded.
    Arguments arrive there as copies: a function that changes its argument does
    not change ours.
    """

    def __init__(self, student, target, description):
        self._student = student
        self._target = target
        self._description = description

    def __call__(self, *args, **kwargs):
        return self._student.ask(self._target, args, kwargs)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return self._student.ask(["attribute", self._target, name])

    def __repr__(self):
        return f"<{self._description} of the submission>"


class Student:
    """The functions of a running notebook, to call from elsewhere.

    Args:
        connection_file: path of the connection file of its kernel.
        timeout: seconds that one call may take.
    """

    def __init__(self, connection_file, timeout):
        from jupyter_client import BlockingKernelClient

        self.timeout = timeout
        self.client = BlockingKernelClient(connection_file=connection_file)
        self.client.load_connection_file()
        self.client.start_channels()

    def function(self, name):
        """Return a stand-in for what the notebook calls `name`."""
        return RemoteObject(self, ["name", name], f"`{name}`")

    def lend(self, sources, names):
        """Put other functions in place of the student's; see `lend`."""
        self.ask(["lend", None], [sources, names], {})

    def ask(self, target, args=None, kwargs=None):
        """Call `target`, or only fetch it if there are no arguments.

        Raises:
            TimeoutError: the call takes too long.
            ArithmeticError, LookupError, ValueError, TypeError, NameError: the
                call raised this error, or a built-in one derived from it.
            RuntimeError: the call raised another error, or its answer cannot
                be read.
        """
        request = json.dumps(
            [encode(value, None) for value in (target, args, kwargs)]
        )
        request = base64.b64encode(request.encode()).decode()
        try:
            message = self.client.execute(
                "pass",
                silent=True,
                user_expressions={
                    "answer": f"__import__('sys').modules['{SERVANT}']"
                    f".serve('{request}')"
                },
                reply=True,
                timeout=self.timeout,
            )
        except TimeoutError:
            raise TimeoutError(
                f"A call must return within {self.timeout} s. Received: no "
                f"answer from `{_describe(target)}`. Look for a loop without "
                "an end."
            ) from None
        return self._read(message, target)

    def _read(self, message, target):
        try:
            answer = message["content"]["user_expressions"]["answer"]
            text = answer["data"]["text/plain"].strip("'\"")
            status, *content = json.loads(base64.b64decode(text))
            if status == "value":
                return decode(content[0], self)
            # `serve` shortens this, too, but the student can replace `serve`.
            name, said = (str(part)[:LONGEST_MESSAGE] for part in content)
        except Exception:
            # Only a notebook that tampers with its kernel gets here.
            raise RuntimeError(
                f"`{_describe(target)}` must return data. Received: an answer "
                "that cannot be read."
            ) from None
        raise _exception_type(name)(
            f"`{_describe(target)}` raised {name}: {said}"
        )


def _describe(target):
    return str(target[1] if target[0] == "name" else target[-1])


def _exception_type(name):
    kind = getattr(builtins, name, None)
    # Not StopIteration, which would silently end a loop of a test.
    known = (ArithmeticError, LookupError, ValueError, TypeError, NameError)
    usable = isinstance(kind, type) and issubclass(kind, known)
    # UnicodeDecodeError and similar classes need more than a message.
    return kind if usable and "Unicode" not in name else RuntimeError


def serve(request):
    """Answer a request, in the student's process.

    Args:
        request: str, base64 of JSON, as `Student.ask` writes it.

    Returns:
        str, base64 of JSON: `["value", data]` or `["error", type, message]`.
    """
    try:
        target, args, kwargs = (
            decode(part) for part in json.loads(base64.b64decode(request))
        )
        value = _resolve(target)
        if args is not None:
            value = value(*args, **kwargs)
        answer = ["value", encode(value, _OBJECTS)]
    except Exception as error:
        said = str(error)[:LONGEST_MESSAGE]
        answer = ["error", type(error).__name__, said]
    return base64.b64encode(json.dumps(answer).encode()).decode()


# The objects that a `RemoteObject` stands for, by number.
_OBJECTS = []
# The student's own functions that others replace at the moment, by name.
_OWN = {}


def lend(sources, names, namespace=None):
    """Put functions in place of the student's, until the next call.

    Args:
        sources: list of str, code that defines them.
        names: list of str, the functions to replace. An empty list restores
            all of the student's own.
        namespace: dict, the student's; by default the notebook's.
    """
    if namespace is None:
        namespace = sys.modules["__main__"].__dict__
    for name in list(_OWN):
        namespace.pop(name, None)
        namespace.update(_OWN.pop(name))
    lent = {"__name__": "__main__"}
    for source in sources:
        exec(source, lent)
    for name in names:
        _OWN[name] = {name: namespace[name]} if name in namespace else {}
        namespace[name] = lent[name]


def _resolve(target):
    kind, first, *rest = target
    if kind == "lend":
        return lend
    if kind == "object":
        return _OBJECTS[first]
    if kind == "attribute":
        return getattr(_resolve(first), rest[0])
    namespace = sys.modules["__main__"].__dict__
    if first not in namespace:
        raise NameError(
            f"The notebook must define `{first}`. Received: no such name. Did "
            "its cell run without an error?"
        )
    value = namespace[first]
    origin = getattr(value, "__module__", "__main__")
    is_made_here = isinstance(value, functools.partial | np.vectorize)
    if callable(value) and origin != "__main__" and not is_made_here:
        raise NameError(
            f"`{first}` must be written in the notebook. Received: one from "
            f"{origin}. Write it yourself."
        )
    return value


def encode(value, objects):
    """Turn a value into types that JSON can write.

    Only Python's own types arrive. For example, an int whose class claims that
    it equals everything arrives as a plain number.

    Args:
        value: None, bool, int, float, str, bytes, an array or a tensor, or
            lists, tuples, sets and dicts of them. Iterators become lists.
        objects: list to keep values of any other type in; `None` refuses
            them.

    Raises:
        TypeError: a value is refused.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, RemoteObject):
        return ["stand-in", encode(value._target, objects)]
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        array = _as_numpy(value)
        if array.dtype.kind in "biuf":
            content = base64.b64encode(array.tobytes()).decode()
            return ["array", [array.dtype.str, list(array.shape), content]]
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, bytes):
        return ["bytes", base64.b64encode(value).decode()]
    if isinstance(value, dict):
        pairs = [
            [encode(key, objects), encode(item, objects)]
            for key, item in value.items()
        ]
        return ["dict", pairs]
    for kind in (*_SEQUENCES.values(), _ITERATORS):
        if isinstance(value, kind):
            name = "list" if kind is _ITERATORS else kind.__name__
            return [name, [encode(item, objects) for item in value]]
    if objects is None:
        raise TypeError(
            "An argument of a test must be data. Received: an object of type "
            f"{type(value).__name__}."
        )
    objects.append(value)
    return ["object", [len(objects) - 1, type(value).__name__]]


def _as_numpy(value):
    if (
        not isinstance(value, np.ndarray | np.generic)
        and "keras" in sys.modules
    ):
        # Tensors of all backends, on all devices, with or without gradients.
        value = sys.modules["keras"].ops.convert_to_numpy(value)
    array = np.asarray(value)
    # bfloat16 has no name that NumPy alone would know on the other side.
    return array.astype("float32") if array.dtype.kind == "V" else array


def decode(value, student=None):
    """Turn what `encode` returned back into a value.

    Args:
        value: JSON's types.
        student: the `Student` whom objects belong to.

    Raises:
        ValueError, TypeError, KeyError: `encode` would not write such a value.
    """
    if type(value) in _PLAIN:
        return value
    kind, content = value
    if kind in _SEQUENCES:
        return _SEQUENCES[kind](decode(item, student) for item in content)
    if kind == "dict":
        return {
            decode(key, student): decode(item, student) for key, item in content
        }
    if kind == "bytes":
        return base64.b64decode(content)
    if kind == "array":
        name, shape, data = content
        dtype = np.dtype(str(name))
        if dtype.kind not in "biuf":
            raise ValueError(f"unknown kind of array: {name!r}")
        array = np.frombuffer(base64.b64decode(data), dtype).reshape(shape)
        return array.copy()[()]
    if kind == "stand-in" and student is None:
        return _resolve(decode(content))
    if kind == "object" and student is not None:
        number, name = content
        return RemoteObject(student, ["object", int(number)], str(name))
    raise ValueError(f"unknown kind of data: {kind!r}")
