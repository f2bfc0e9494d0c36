"""One job after another, each in processes of its own that end with it.

    grader - warden - worker - what the worker starts

The grader reads what the worker tells, and has the only clock that counts. The
warden ends when the worker does, or when the grader says so, and then nothing
that was started below it is left. Where the system can (see `_namespaces`) the
worker and all below it have their own processes, network, shared memory and
files in memory of a limited size.
"""

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import sys
import tempfile
import threading
import time

from kerasllm.homework.kernels import _namespaces, _resources

_LONGEST = 100 * 2**20  # bytes that a worker may tell
_PATIENCE = 10  # seconds that a warden has to end what is below it


@dataclasses.dataclass
class Outcome:
    """What became of a job.

    Args:
        told: dict, all that the job told.
        problem: str, why it did not come to its end; "" if it did.
    """

    told: dict = dataclasses.field(default_factory=dict)
    problem: str = ""


def run_apart(job, way, memory_gb, disk_gb):
    """Run a job in a process of its own and wait for it.

    Args:
        job: function that is given a function `tell`. `tell(key=value)` hands
            what JSON can write to the grader; `tell(begin=what, seconds=n)`
            says what comes next and how long it may take.
        way: str, as `find_way` returns it.
        memory_gb: float, memory of the worker itself.
        disk_gb: float, size of the files that it leaves in its own temporary
            folder, if there are namespaces.

    Returns:
        An `Outcome`.
    """
    before = _resources.shared_objects()
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:

        def work():
            if way:
                _namespaces.mount_memory(folder, disk_gb * 2**30)
            return _work(job, writing, folder, memory_gb)

        warden = os.fork()
        if not warden:
            os.close(reading)
            _namespaces.end_with(lambda: _guard(work, way))
        os.close(writing)
        try:
            return _listen(reading)
        finally:
            _end(warden)
            os.close(reading)
            if not way:
                made = _resources.shared_objects() - before
                _resources.remove_shared_objects(made)


def _guard(work, way):
    """Be the warden: run the worker, and end when it ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.setsid()  # Ctrl-C is for the grader, which ends this one
    _namespaces.die_with_parent(signal.SIGTERM)
    # What a student's work has nbgrader say is for nobody's terminal.
    with open(os.devnull, "r+b") as null:
        for number in range(3):
            os.dup2(null.fileno(), number)
    sys.stdout = sys.stderr = open(os.devnull, "w")
    return _namespaces.run_as_child(way, _namespaces.AROUND_ALL, work)


def _work(job, writing, folder, memory_gb):
    """Be the worker: do the job."""
    import resource

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    # Not the hard limits: what is started from here has limits of its own.
    # What the grader's own program takes was there before the job.
    data = _resources.data_size() + memory_gb * 2**30
    for what, most in (
        (resource.RLIMIT_DATA, data), (resource.RLIMIT_CORE, 0)
    ):  # fmt: skip
        _, hard = resource.getrlimit(what)
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(what, (int(most), hard))

    def tell(**message):
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(writing, line) :]

    def run():
        try:
            job(tell)
        except BaseException as error:
            tell(error=f"{type(error).__name__}: {error}"[:1000])
        tell(is_done=True)

    # In a thread, for asyncio keeps its event loop where a thread begins: the
    # grader's own, if it has one, is not to be used here.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return 0


def _listen(reading):
    """Read what the worker tells until it is done, or its time is over."""
    outcome, text = Outcome(), b""
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
            *lines, text = (text + part).split(b"\n")
            if len(text) > _LONGEST:
                outcome.problem = f"{doing} gave too much"
                return outcome
            for message in map(json.loads, lines):
                if "begin" in message:
                    doing, seconds = message["begin"], message["seconds"]
                    deadline = time.monotonic() + seconds
                outcome.told |= message
            if "error" in outcome.told:
                outcome.problem = f"{doing} failed ({outcome.told['error']})"
            if "is_done" in outcome.told:
                return outcome


def _end(warden):
    """End a warden and what is below it, and wait until that is gone."""
    os.kill(warden, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(InterruptedError):
            if os.waitpid(warden, os.WNOHANG)[0]:
                return
        time.sleep(0.005)
    os.kill(warden, signal.SIGKILL)
    os.waitpid(warden, 0)
