"""The grader's side: it asks for jobs and waits for them."""

import contextlib
import dataclasses
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time

from kerasllm.homework._notebooks import HomeworkError, MachineError
from kerasllm.homework.kernels import _resources
from kerasllm.homework.kernels._manager import environment, last_words

_SERVER = "kerasllm.homework.kernels.apart._server"
_LONGEST = 100 * 2**20  # bytes that a worker may tell
_START_SECONDS = 120  # that a server has to prepare
_END_SECONDS = 20  # that it has to end a job; it kills after 10
_LONGEST_FOLDER = 60  # bytes; a socket's path may have some 100


@dataclasses.dataclass
class Outcome:
    """What became of a job.

    Args:
        told: dict, everything that the job told.
        problem: str, why the job did not finish; "" if it did.
    """

    told: dict = dataclasses.field(default_factory=dict)
    problem: str = ""


class Workers:
    """Does jobs, one after another.

    Args:
        start: str, `"module:function"`. The server calls this function once
            and gets the job: a function that takes a function `tell` and the
            arguments of `run`. `tell(key=value)` sends a value that JSON can
            write to the grader. `tell(begin=what, seconds=n)` says what comes
            next and how long it may take.
        *arguments: arguments of the function, which JSON can write.

    Raises:
        HomeworkError: the function raised a `UserError`.
        MachineError: the server could not start.
    """

    def __init__(self, start, *arguments):
        self._begin_with = {"start": start, "arguments": arguments}
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = self._channel = None
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """End the server."""
        if self._process is not None:
            self._channel.close()
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def run(self, arguments, way, memory_gb, disk_gb):
        """Do the job and wait for it.

        Args:
            arguments: dict, arguments of the job, which JSON can write.
            way: str, as `find_way` returns it.
            memory_gb: float, memory of the worker itself, in units of 2**30
                bytes.
            disk_gb: float, total size of the files in its temporary folder, in
                the same units. Without namespaces, there is no such limit.

        Returns:
            An `Outcome`.
        """
        if self._process.poll() is not None:  # somebody has killed it
            self._channel.close()
            self._begin()
        before = _resources.shared_objects()
        reading, writing = os.pipe()
        folder = tempfile.mkdtemp(dir=_parent_of_folders())
        message = {
            "arguments": arguments,
            "way": way,
            "memory_gb": memory_gb,
            "disk_gb": disk_gb,
            "folder": folder,
        }
        try:
            with contextlib.suppress(OSError):  # `_listen` reports it
                socket.send_fds(self._channel, [b"\n"], [writing])
                self._send(message)
            os.close(writing)
            return _listen(reading)
        finally:
            self._end()
            os.close(reading)
            _resources.remove_folder(folder)
            if not way:
                made = _resources.shared_objects() - before
                _resources.remove_shared_objects(made)

    def _begin(self):
        """Start the server and wait until it has prepared the job."""
        folder = self._folder.name
        self._channel, theirs = socket.socketpair()
        with theirs, open(f"{folder}/log", "wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", _SERVER, str(theirs.fileno())
                ],
                pass_fds=[theirs.fileno()],
                cwd=folder,
                # Numerical libraries should start no threads.
                env=environment(folder)
                | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the grader
            )  # fmt: skip
        self._channel.settimeout(_START_SECONDS)
        try:
            self._send(self._begin_with)
            with self._channel.makefile("rb") as lines:
                answer = json.loads(lines.readline())
        except (OSError, ValueError) as error:
            said = last_words(f"{folder}/log") or f"{error}"
            answer = {"problem": said, "is_users": False}
        self._channel.settimeout(None)
        if answer and answer["is_users"]:
            raise HomeworkError(answer["problem"])
        if answer:
            raise MachineError(
                "The process that grades must start on this machine. "
                f"Received: {answer['problem'][:1000]}. Mend the machine, and "
                "grade again."
            )

    def _send(self, message):
        self._channel.sendall(json.dumps(message).encode() + b"\n")

    def _end(self):
        """Have the server end the job, and wait until nothing is left of it."""
        self._channel.settimeout(_END_SECONDS)
        with contextlib.suppress(OSError):
            self._channel.sendall(b"\n")
            if self._channel.recv(1):
                self._channel.settimeout(None)
                return
        # Without the server, the warden ends, too.
        self._process.kill()
        self._process.wait()


def _parent_of_folders():
    """Return where folders are made, or `None` for the usual folder.

    Kernels have sockets there, whose paths must be short.
    """
    usual = os.fsencode(tempfile.gettempdir())
    return "/tmp" if len(usual) > _LONGEST_FOLDER else None


def _listen(reading):
    """Read what the worker tells until it is done or its time is over."""
    outcome, text = Outcome(), bytearray()
    doing, deadline, seconds = "starting", time.monotonic() + 60, 60
    with selectors.DefaultSelector() as selector:
        selector.register(reading, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0, deadline - time.monotonic())):
                outcome.problem = f"{doing} took more than {seconds} s"
                return outcome
            part = os.read(reading, 2**16)
            if not part:
                outcome.problem = f"its process was killed while {doing}"
                return outcome
            text += part
            if len(text) > _LONGEST:
                outcome.problem = f"{doing} gave too much"
                return outcome
            if b"\n" not in part:
                continue
            *lines, text = text.split(b"\n")
            for message in map(json.loads, lines):
                if "begin" in message:
                    doing, seconds = message["begin"], message["seconds"]
                    deadline = time.monotonic() + seconds
                outcome.told |= message
            if "error" in outcome.told:
                outcome.problem = f"{doing} failed ({outcome.told['error']})"
            if "is_done" in outcome.told:
                return outcome
