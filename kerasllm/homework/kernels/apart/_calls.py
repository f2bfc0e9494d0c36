"""Calls of functions that nobody has looked at, such as a model's."""

import json
import os
import tempfile

from kerasllm.checks import UserError, check_real
from kerasllm.homework._notebooks import MachineError
from kerasllm.homework.kernels import _namespaces, _sandbox
from kerasllm.homework.kernels._kernel import library_folders
from kerasllm.homework.kernels._remote import decode, encode
from kerasllm.homework.kernels.apart._workers import Workers

_PREPARE = "kerasllm.homework.kernels.apart._calls:prepare"
_LONGEST_SOURCE = 100_000  # characters
_LONGEST_ANSWER = 2**20  # bytes of all values together
_MOST_FILES = 4096  # that may be open
_DISK_GB = 0.1
_BY_HAND = object()  # stands for a `Student`: no object is looked up here


class CodeRunner:
    """Runs code in the sandbox of the homework, and calls a function of it.

    Each source runs in a process of its own, which may read the system's
    libraries and nothing else, write to a folder that is deleted, and connect
    to nothing. It ends with all that it has started. Only plain data come
    back.

    Args:
        seconds: float. How long a source and its calls may take together.
        memory_gb: float. Memory of the process, in units of 2**30 bytes.

    Raises:
        UserError: a number is out of range.
        MachineError: this system cannot confine the code, for it has no
            Landlock; or the process that starts the others does not start.

    Example:
    ```python
    with CodeRunner(seconds=2) as run:
        run("def double(x): return 2 * x", "double", [(2,), ("a",)])
        # [4, "aa"]
    ```
    """

    def __init__(self, seconds=5.0, memory_gb=1.0):
        for name, value in (("seconds", seconds), ("memory_gb", memory_gb)):
            check_real(name, value, lambda x: 0 < x < 1e6, "above 0")
        if not _sandbox.landlock_version():
            raise MachineError(
                "Code that nobody has looked at is only run where Linux can "
                "confine it. Received: a system without Landlock. Use Linux "
                "5.13 or newer."
            )
        self.seconds, self.memory_gb = float(seconds), float(memory_gb)
        self._way = _namespaces.find_way()
        self._workers = Workers(_PREPARE)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """End the process that starts the others."""
        self._workers.close()

    def __call__(self, source, function, arguments):
        """Run a source, and call a function of it.

        Args:
            source: str.
            function: str, its name.
            arguments: list of tuples, one for each call: plain data.

        Returns:
            list, one entry for each call: the value, plain data; or a
            `RuntimeError` that says why there is none.

        Raises:
            UserError: the arguments are no plain data.
        """
        try:
            encoded = encode([tuple(given) for given in arguments], None)
        except TypeError as error:
            raise UserError(
                f"`arguments` must be plain data. Received: {error}"
            ) from None
        if len(source) > _LONGEST_SOURCE:
            return _failed(arguments, f"more than {_LONGEST_SOURCE} characters")
        job = {
            "source": source,
            "function": function,
            "arguments": encoded,
            "seconds": self.seconds,
            "memory_gb": self.memory_gb,
        }
        # The worker has as much memory as its child, and reads its answer.
        outcome = self._workers.run(job, self._way, self.memory_gb, _DISK_GB)
        if outcome.problem:
            return _failed(arguments, outcome.problem)
        try:
            values = json.loads(outcome.told["answers"])
            values = [_value_of(*value) for value in values]
        except Exception:  # whatever it is, it is no answer
            values = []
        if len(values) != len(arguments):
            return _failed(arguments, "it gave no answer that can be read")
        return values


def _failed(arguments, reason):
    return [RuntimeError(reason) for _ in arguments]


def _value_of(status, content):
    if status != "value":
        return RuntimeError(str(content)[:1000])
    value = decode(content, _BY_HAND)
    return value.tolist() if hasattr(value, "dtype") else value


def prepare():
    """Return the job: a function as `Workers` takes one."""
    return _run


def _run(tell, source, function, arguments, seconds, memory_gb):
    """Run a source in a child of this process, and tell what it answers."""
    tell(begin="running it", seconds=seconds)
    reading, writing = os.pipe()
    if not os.fork():
        _namespaces.end_with(
            lambda: _answer(
                writing, source, function, arguments, seconds, memory_gb
            )
        )
    os.close(writing)
    answer = bytearray()
    while len(answer) <= _LONGEST_ANSWER and b"\n" not in answer:
        part = os.read(reading, 2**16)
        if not part:
            break
        answer += part
    tell(answers=answer.partition(b"\n")[0].decode("utf-8", "replace"))


def _answer(writing, source, function, arguments, seconds, memory_gb):
    """Give up rights, run a source, and write the values of its calls."""
    # What is open belongs to the worker: only this one pipe is left.
    os.dup2(writing, 3)
    os.closerange(4, _MOST_FILES)
    arguments = decode(arguments)
    folder = tempfile.gettempdir()
    os.chdir(folder)
    _sandbox.limit(memory_gb, int(seconds) + 1, _DISK_GB)
    _sandbox.restrict(library_folders(), [folder, "/dev/null"])
    namespace = {"__name__": "__main__"}
    answers, error = [], None
    try:
        exec(compile(source, "response", "exec"), namespace)
    except BaseException as raised:
        error = raised
    for given in arguments:
        try:
            if error is not None:
                raise error
            value = encode(namespace[function](*given), None)
            answers.append(["value", value])
        except BaseException as raised:
            said = f"{type(raised).__name__}: {raised}"
            answers.append(["error", said[:1000]])
    line = json.dumps(answers).encode() + b"\n"
    while line:
        line = line[os.write(3, line) :]
    return 0
