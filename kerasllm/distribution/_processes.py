"""Processes that train together: their indices, and how they wait."""

import contextlib
import contextvars
import os
import pathlib
import secrets

import keras

from kerasllm import backend, files
from kerasllm.checks import RunError

# The folders that the code in progress keeps other runs out of.
_OURS = contextvars.ContextVar("_OURS", default=frozenset())


def initialize(job_addresses=None, num_processes=None, process_id=None):
    """Make this process one of several that train together.

    Call it before anything is computed. Processes find each other at the
    address of the first one. On CPUs they communicate over gloo, on GPUs over
    NCCL.

    Args:
        job_addresses: str, `"host:port"` of process 0, the same for all.
            Defaults to `$KERAS_DISTRIBUTION_JOB_ADDRESSES`.
        num_processes: int. Defaults to `$KERAS_DISTRIBUTION_NUM_PROCESSES`.
        process_id: int in `[0, num_processes)`. Defaults to
            `$KERAS_DISTRIBUTION_PROCESS_ID`. If neither the argument nor the
            variable is set, the scheduler is asked (Slurm, Open MPI, TPUs).

    Raises:
        UserError: the running backend does not support several processes.
    """
    backend.check_several("Several processes")
    keras.distribution.initialize(job_addresses, num_processes, process_id)
    # A process that has drawn random numbers connects to the others only when
    # all first compute together, and it waits there for half a minute at most.
    # Connect now, while no process is busy with its own work.
    backend.of_all_processes(False)


def process_index():
    """Return the index of this process, an int. Process 0 writes files."""
    return backend.process()[0]


def num_processes():
    """Return the number of processes that train together, an int."""
    return backend.process()[1]


@contextlib.contextmanager
def first_process_first():
    """Let process 0 run a block before the others.

    The others can then use its results, such as a trained vocabulary.

    Raises:
        RunError: the block failed in another process.
    """
    if process_index() != 0:
        wait_for_all()
    try:
        yield
    except BaseException:
        backend.of_all_processes(True)
        raise
    if process_index() == 0:
        wait_for_all()
    wait_for_all()


@contextlib.contextmanager
def failing_together():
    """Run a block in all processes; an error in one stops all of them.

    If one process does work for all, such as writing a file, only that process
    may fail. The others would wait for it at their next joint computation. For
    this reason, the block itself must not contain a joint computation.

    Raises:
        RunError: the block failed in another process.
    """
    try:
        yield
    except BaseException:
        backend.of_all_processes(True)
        raise
    wait_for_all()


def wait_for_all():
    """Wait until all processes have called this function.

    Raises:
        RunError: one of them failed in `first_process_first` or
            `failing_together`.
    """
    failed = backend.of_all_processes(False)
    if failed.any():
        raise RunError(
            "All processes of a run must go on together. Received: an error "
            f"in process {failed.argmax()}. See its output, and start all of "
            "them again."
        )


def check_directory(directory):
    """Check that process 0 can write to a folder and that all see it.

    Args:
        directory: str or path. It is created if necessary.

    Raises:
        OSError: the folder is not writable; see `files.check_writable`.
        RunError: another process cannot see what process 0 writes, or
            process 0 cannot write.
    """
    # Use a new name: network file systems remember for a while that a file
    # did not exist.
    number = backend.of_all_processes(secrets.randbits(31))[0]
    sign = pathlib.Path(directory, f".sign.{number}.partial")
    with failing_together():
        if process_index() == 0:
            files.check_writable(directory)
            files.remove_partial(sign.with_name("sign"))  # after a kill here
            sign.touch()
    sees = backend.of_all_processes(os.path.exists(sign))
    if process_index() == 0:
        sign.unlink(missing_ok=True)
    if not sees.all():
        raise RunError(
            "All processes must see the folder that the first one writes to. "
            f"Received: directory={str(directory)!r}, in which process "
            f"{sees.argmin()} does not see a file of process 0. Use the full "
            "path of a folder on a file system that all of them share."
        )


@contextlib.contextmanager
def only_run_in(directory):
    """Keep other runs out of a folder while a block runs.

    Blocks for the same folder may be nested, as a function that calls another
    one needs it. Other threads and processes are kept out.

    Args:
        directory: str or path. It is created if necessary. `None` means no
            folder.

    Raises:
        OSError: the folder is not writable; see `files.check_writable`.
        RunError: another run is using the folder.
    """
    path = None if directory is None else os.path.realpath(directory)
    if path in _OURS.get():
        yield
        return
    with contextlib.ExitStack() as stack:
        with failing_together():
            if directory is not None and process_index() == 0:
                files.check_writable(directory)
                stack.enter_context(files.locked(directory))
        stack.callback(_OURS.reset, _OURS.set(_OURS.get() | {path}))
        yield
