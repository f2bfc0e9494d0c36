"""The process that forks a worker for each job.

    python -m kerasllm.homework.kernels.apart._server SOCKET

A fork copies a process without its threads: what one of them had locked stays
locked in the child. So the program that grades, which may have threads of any
library, is not forked. It starts this process, which has none and imports once
what every worker needs.

The other side of the socket is `_workers.Workers`.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
import warnings

from kerasllm.checks import UserError
from kerasllm.homework.kernels import _namespaces

_PATIENCE = 10  # seconds that a warden has to end what is below it


def serve(number):
    """Prepare a job, then do it whenever a message asks for it.

    Args:
        number: str, of the file that is the socket.
    """
    # A grammar that takes seconds to compile, for texts nobody has here.
    sys.modules["rfc3987_syntax"] = None
    # SQLAlchemy warns about how nbgrader adds a submission.
    warnings.simplefilter("ignore")
    channel = socket.socket(fileno=int(number))
    lines = channel.makefile("rb")
    start = json.loads(lines.readline())
    answer = {}
    try:
        module, name = start["start"].split(":")
        prepare = getattr(importlib.import_module(module), name)
        job = prepare(*start["arguments"])
    except Exception as error:
        is_users = isinstance(error, UserError)
        said = f"{error}" if is_users else f"{type(error).__name__}: {error}"
        answer = {"problem": said, "is_users": is_users}
    gc.freeze()  # or else each child copies all that its collector looks at
    channel.sendall(json.dumps(answer).encode() + b"\n")
    while not answer:
        # Who asks waits for the answer before the next byte, so that nothing
        # is in `lines` yet.
        _, files, _, _ = socket.recv_fds(channel, 1, 1)
        if not files:
            return
        _do(job, json.loads(lines.readline()), files[0], channel, lines)


def _do(job, message, writing, channel, lines):
    """Run a job until whoever asked for it says that it is enough."""
    server = os.getpid()
    warden = os.fork()
    if not warden:
        lines.close()
        channel.close()
        _namespaces.end_with(lambda: _guard(job, message, writing, server))
    os.close(writing)
    lines.read(1)
    _end(warden)
    channel.sendall(b"\n")


def _guard(job, message, writing, server):
    """Be the warden: run the worker, and end when it ends."""
    way, folder = message["way"], message["folder"]

    def work():
        if way:
            size = message["disk_gb"] * 2**30
            _namespaces.mount_memory(folder, size)
        return _work(job, message, writing)

    signal.signal(signal.SIGTERM, _end_once)
    os.setsid()
    _namespaces.die_with_parent(server, signal.SIGTERM)
    # What a student's work has nbgrader say is for nobody's terminal.
    with open(os.devnull, "r+b") as null:
        for number in range(3):
            os.dup2(null.fileno(), number)
    return _namespaces.run_as_child(way, _namespaces.AROUND_ALL, work)


def _end_once(*_):
    """End this process; a second signal does not interrupt the first."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


def _work(job, message, writing):
    """Be the worker: do the job."""
    import resource

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tempfile.tempdir = os.environ["TMPDIR"] = message["folder"]
    # Not the hard limits: what is started from here has limits of its own.
    for what, most in (
        (resource.RLIMIT_DATA, message["memory_gb"] * 2**30),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(what, (int(most), hard))

    def tell(**message):
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(writing, line) :]

    try:
        job(tell, **message["arguments"])
    except BaseException as error:
        tell(error=f"{type(error).__name__}: {error}"[:1000])
    tell(is_done=True)
    return 0


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


if __name__ == "__main__":
    serve(sys.argv[1])
