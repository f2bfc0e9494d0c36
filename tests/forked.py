"""Processes for the programs of `several_devices`, each forked when it starts.

They are forked from a process that has imported everything and has started
nothing: to import takes longer than most of the programs.
"""

import atexit
import importlib
import multiprocessing.forkserver
import os
import pathlib
import socket
import tempfile
import traceback
import unittest.mock

ROOT = pathlib.Path(__file__).parent.parent
PROGRAMS = "tests.several_devices"


class Program:
    """A function of `PROGRAMS` that runs in a process of its own.

    Args:
        name: str, the function's.
        arguments: list of what it takes.
        variables: dict of str, for its environment.
    """

    def __init__(self, name, arguments, variables):
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [f"{self._folder.name}/{n}" for n in ("out", "err")]
        # JAX is what the process that it is forked from has started.
        needed = {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
        environment = os.environ | needed | variables
        self._process = FORKS.Process(
            target=_run, args=(name, arguments, environment, self._outputs)
        )
        with unittest.mock.patch.dict(os.environ, needed):
            multiprocessing.forkserver.ensure_running()
        self._process.start()

    def finish(self):
        """Return its status, stdout and stderr when it has ended."""
        self._process.join(280)
        self._process.kill()
        self._process.join()
        out, err = (pathlib.Path(path).read_text() for path in self._outputs)
        self._folder.cleanup()
        return self._process.exitcode, out, err


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([PROGRAMS])


def _run(name, arguments, environment, outputs):
    """Do what Python does for a program that is started anew."""
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    # Tests run on a core each; two processes on one wait for each other.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count()))
    try:
        getattr(importlib.import_module(PROGRAMS), name)(*arguments)
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None
    finally:
        atexit._run_exitfuncs()  # JAX leaves the others in good order


def start(name, *arguments, devices=1, flags=None, **variables):
    """Start one of the programs with a number of devices."""
    if flags is None:
        flags = os.environ.get("XLA_FLAGS", "")
        flags += f" --xla_force_host_platform_device_count={devices}"
    return Program(name, arguments, {"XLA_FLAGS": flags} | variables)


def start_two(name, arguments, other_arguments=None):
    """Start a program as two processes; return both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        start(
            name,
            *of_one,
            KERAS_DISTRIBUTION_JOB_ADDRESSES=f"127.0.0.1:{port}",
            KERAS_DISTRIBUTION_NUM_PROCESSES="2",
            KERAS_DISTRIBUTION_PROCESS_ID=str(index),
        )
        for index, of_one in enumerate(
            (arguments, other_arguments or arguments)
        )
    ]
