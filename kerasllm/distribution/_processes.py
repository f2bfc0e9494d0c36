"""Processes that train together: who they are, and how they wait."""

import contextlib
import os
import pathlib
import secrets

import keras

from kerasllm import backend, files
from kerasllm.checks import RunError


def initialize(job_addresses=None, num_processes=None, process_id=None):
    """Make this process one of several that train together.

    It must come before anything is computed. Processes find each other at the
    address of the first one; on CPUs they talk over gloo, on GPUs over NCCL.

    Args:
        job_addresses: str, `"host:port"` of process 0, the same for all.
            Defaults to `$KERAS_DISTRIBUTION_JOB_ADDRESSES`.
        num_processes: int. Defaults to `$KERAS_DISTRIBUTION_NUM_PROCESSES`.
        process_id: int in `[0, num_processes)`. Defaults to
            `$KERAS_DISTRIBUTION_PROCESS_ID`. Where neither argument nor
            variable says it, the scheduler is asked (Slurm, Open MPI, TPUs).

    Raises:
        UserError: the running backend has no several processes.
    """
    backend.check_several("Several processes")
    keras.distribution.initialize(job_addresses, num_processes, process_id)
    # Who has drawn random numbers before is connected only when all first
    # compute together, and gives up after half a minute of waiting there.
    # Here all come at once; later one may be busy for long with its own.
    backend.of_all_processes(False)


def process_index():
    """Return which process this is, an int. The first one, 0, writes."""
    return backend.process()[0]


def num_processes():
    """Return how many processes train together, an int."""
    return backend.process()[1]


@contextlib.contextmanager
def first_process_first():
    """Let process 0 run a block before the others, for what it leaves there.

    A vocabulary that it has trained need not be trained by them.

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
    """Run a block in all processes; an error in one ends it in all.

    What one process does for all, such as writing a file, may fail in it
    alone. The others would wait for it where they next compute together. So
    the block itself must not compute together.

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
    """Return when all processes have called it.

    Raises:
        RunError: one of them failed in `first_process_first` or in
            `failing_together`.
    """
    failed = backend.of_all_processes(False)
    if failed.any():
        raise RunError(
            "All processes of a run must go on together. Received: an error "
            f"in process {failed.argmax()}. See what it printed, and start "
            "all of them again."
        )


def check_directory(directory):
    """Check that process 0 can write to a folder and that all see it.

    Args:
        directory: str or path. It is made if need be.

    Raises:
        EnvironmentFailure: nothing can be written there.
        RunError: another process cannot see what process 0 writes, or
            process 0 cannot write.
    """
    # A name that nobody has asked for yet: network file systems remember for
    # a while what was not there.
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
            f"{sees.argmin()} does not see a file of process 0. Use a folder "
            "on a file system that all of them share, by its full path."
        )


@contextlib.contextmanager
def only_run_in(directory):
    """Keep other runs out of a folder while a block runs.

    Args:
        directory: str or path. It is made if need be. `None` for no folder.

    Raises:
        EnvironmentFailure: nothing can be written there.
        RunError: another run is at work there.
    """
    with contextlib.ExitStack() as stack:
        with failing_together():
            if directory is not None and process_index() == 0:
                files.check_writable(directory)
                stack.enter_context(files.locked(directory))
        yield
