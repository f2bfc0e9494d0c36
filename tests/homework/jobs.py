"""What a server of these tests does; see `kernels.apart.Workers`."""

import ctypes
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time


def start():
    """Return the job: the function of this file that is asked for."""
    return lambda tell, name, **arguments: globals()[name](tell, **arguments)


def answer(tell):
    tell(text="\ud800\x1b" + "x" * 10**6, number=1)
    tell(number=2)


def look_around(tell):
    """Tell how the worker came to be."""
    tell(
        threads=len(os.listdir("/proc/self/task")),
        group=os.getpgid(0),
        variables=dict(os.environ),
        has_keras="keras" in sys.modules,
    )


def sleep(tell, seconds=0.2):
    tell(begin="sleeping", seconds=seconds)
    time.sleep(1000)


def search(tell):
    """In C, where nothing but a signal interrupts it."""
    tell(begin="searching", seconds=0.2)
    re.match("(a+)+$", "a" * 50 + "b")


def hoard(tell):
    tell(begin="hoarding", seconds=60)
    bytearray(3 * 2**30)


def die(tell):
    tell(begin="dying", seconds=60)
    os.kill(os.getpid(), signal.SIGKILL)


def fail(tell):
    tell(begin="failing", seconds=60)
    raise RecursionError("deep")


def tell_all(tell, size):
    tell(begin="telling", seconds=60, text="x" * size)


def leave_behind(tell, mark):
    """Leave a process, a file and shared memory."""
    # A group of its own in a session of its own, and no parent.
    code = (
        "import os, sys\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        os.execvp('sleep', ['sleep', '{mark}'])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    kept = pathlib.Path(tempfile.gettempdir()) / "kept"
    kept.write_text("x")
    number = ctypes.CDLL(None).shmget(0, 4096, 0o1666)
    tell(folder=str(kept.parent), shared=number)


def dig(tell, depth):
    """Make folders in each other, more than a path can name."""
    tell(folder=tempfile.gettempdir())
    os.chdir(tempfile.gettempdir())
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")


def describe_namespaces(tell, kinds):
    path = pathlib.Path(tempfile.gettempdir()) / "large"
    try:
        path.write_bytes(bytes(2**25))
    except OSError as error:
        tell(error_number=error.errno)
    devices = pathlib.Path("/proc/self/net/dev_snmp6")
    tell(
        processes=sorted(filter(str.isdigit, os.listdir("/proc"))),
        links=[os.readlink(f"/proc/self/ns/{kind}") for kind in kinds],
        networks=os.listdir(devices) if devices.exists() else ["lo"],
        user=os.geteuid(),
    )


def prepare_without_kernels(*arguments):
    """As grading does, where no kernel starts."""
    from kerasllm.homework.kernels import _judge, _worker

    said = "import sys; sys.exit('no kernel today')"
    _judge.StudentKernelManager.format_kernel_cmd = lambda *_, **__: [
        sys.executable, "-c", said
    ]  # fmt: skip
    return _worker.prepare(*arguments)


def prepare_with_libraries(root, name, source, limits):
    """As grading does, with libraries in the folder around the class."""
    from kerasllm.homework.kernels import _judge, _worker

    (submissions,) = [
        path for path in limits["private"] if path.endswith("/class")
    ]
    libraries = os.path.dirname(submissions)
    variables = _judge.environment

    def with_libraries(*arguments):
        environment = variables(*arguments)
        environment["PYTHONPATH"] += f"{os.pathsep}{libraries}"
        return environment

    _judge.environment = with_libraries
    return _worker.prepare(root, name, source, limits)
