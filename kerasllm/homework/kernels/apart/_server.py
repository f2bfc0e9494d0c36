"""The process that forks a worker for each job.

    python -m kerasllm.homework.kernels.apart._server SOCKET

A fork copies a process without its other threads, and what one of them had
locked stays locked in the child. So the program that grades, which may have
threads of any library, is not forked. It starts this process, which has no
threads, and which imports once what every worker needs.

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
        number: str, the file descriptor of the socket.
    """
    # This module compiles a grammar for seconds, and nothing here needs it.
    sys.modules["rfc3987_syntax"] = None
    # SQLAlchemy warns about how nbgrader adds a submission.
    warnings.simplefilter("ignore")
    # Where it is ignored, nobody can wait for a child.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
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
    gc.freeze()  # otherwise each child copies what its collector looks at
    channel.sendall(json.dumps(answer).encode() + b"\n")
    while not answer:
        # The other side waits for the answer before it sends the next byte, so
        # `lines` has read nothing ahead.
        _, files, _, _ = socket.recv_fds(channel, 1, 1)
        if not files:
            return
        _do(job, json.loads(lines.readline()), files[0], channel, lines)


def _do(job, message, writing, channel, lines):
    """Run a job until the other side says that it should end."""
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
    """Run the worker as its warden, and end when it ends."""
    way, folder = message["way"], message["folder"]

    def work():
        if way:
            size = message["disk_gb"] * 2**30
            _namespaces.mount_memory(folder, size)
        return _work(job, message, writing)

    signal.signal(signal.SIGTERM, _end_once)
    os.setsid()
    _namespaces.die_with_parent(server, signal.SIGTERM)
    # What nbgrader says about a student's work should reach no terminal.
    with open(os.devnull, "r+b") as null:
        for number in range(3):
            os.dup2(null.fileno(), number)
    return _namespaces.run_as_child(way, _namespaces.AROUND_ALL, work)


def _end_once(*_):
    """End this process; a second signal does not interrupt the first."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


def _work(job, message, writing):
    """Do the job, as the worker."""
    import resource

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tempfile.tempdir = os.environ["TMPDIR"] = message["folder"]
    # Only the soft limits, because the kernels set limits of their own.
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
    """End a warden and everything below it, and wait until it is gone."""
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
