"""Limits on what all processes of a submission use together.

If this user has been given a cgroup of version 2, the system limits memory and
processes. Otherwise `Watch` checks them a few times a second.
"""

import contextlib
import ctypes
import os
import pathlib
import secrets
import subprocess

from kerasllm.homework.kernels import _namespaces
from kerasllm.homework.kernels._sandbox import MOST_THREADS

MOST_PROCESSES = 64
_ROOT = pathlib.Path("/sys/fs/cgroup")
_NEEDED = {"memory", "pids"}
_SYSTEM_V = pathlib.Path("/proc/sysvipc")


class Watch:
    """Says when the processes below this one use too much.

    Args:
        memory_gb: float, limit of their resident memory together, in units of
            2**30 bytes. Memory that several share is counted once.
    """

    def __init__(self, memory_gb):
        self.most_bytes = memory_gb * 2**30

    def __call__(self):
        """Return whether they use too much; if so, say what on stderr."""
        processes = _namespaces.descendants()
        if len(processes) > MOST_PROCESSES:
            said = f"it had more than {MOST_PROCESSES} processes"
        elif (
            sum(map(_resident, processes)) > self.most_bytes
            # The exact sum takes longer.
            and sum(map(_proportional, processes)) > self.most_bytes
        ):
            said = f"it used more than {self.most_bytes / 2**30:g} GB of memory"
        else:
            return False
        os.write(2, f"{said}\n".encode())
        return True


def _resident(process):
    with contextlib.suppress(OSError):
        with open(f"/proc/{process}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _proportional(process):
    """Return a process's share of memory, in bytes."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{process}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    return _resident(process)


def make_cgroup(memory_gb):
    """Make a cgroup with limits; return its path, or `None` if refused."""
    for parent in _delegated():
        path = parent / f"kerasllm-{secrets.token_hex(4)}"
        try:
            path.mkdir()
        except OSError:
            continue
        try:
            (path / "memory.max").write_text(str(int(memory_gb * 2**30)))
            (path / "pids.max").write_text(str(MOST_THREADS))
            with contextlib.suppress(OSError):  # a system without swap
                (path / "memory.swap.max").write_text("0")
            return str(path)
        except OSError:
            path.rmdir()
    return None


def _delegated():
    """Yield the cgroups below which this process may make one with limits."""
    own = _own_cgroup()
    if own is None:
        return
    path = _ROOT / own.strip("/")
    # This process's own, or the one around it: a cgroup with processes cannot
    # have limited ones below it.
    for parent in (path, path.parent):
        with contextlib.suppress(OSError):
            text = (parent / "cgroup.subtree_control").read_text()
            if _NEEDED <= set(text.split()):
                yield parent


def _own_cgroup():
    """Return the cgroup of version 2 that this process is in, or `None`."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                return line[3:]
    return None


def join_cgroup(path):
    """Put this process and its future children into a cgroup."""
    (pathlib.Path(path) / "cgroup.procs").write_text(str(os.getpid()))


def remove_cgroup(path):
    """Kill the processes in a cgroup and remove it."""
    with contextlib.suppress(OSError):
        (pathlib.Path(path) / "cgroup.kill").write_text("1")
    with contextlib.suppress(OSError):
        os.rmdir(path)


def shared_objects():
    """Return the System V objects of this user: set of `(kind, number)`.

    They belong to no process, and remain when all processes have ended.
    """
    found = set()
    for kind in ("shm", "sem", "msg"):
        with contextlib.suppress(OSError):
            head, *lines = (_SYSTEM_V / kind).read_text().splitlines()
            owner = head.split().index("uid")
            found |= {
                (kind, int(fields[1]))
                for fields in map(str.split, lines)
                if int(fields[owner]) == os.geteuid()
            }
    return found


def remove_shared_objects(objects):
    """Remove System V objects."""
    libc = ctypes.CDLL(None)
    for kind, number in objects:
        if kind == "sem":
            libc.semctl(number, 0, 0, None)
        else:
            getattr(libc, f"{kind}ctl")(number, 0, None)


def remove_folder(path):
    """Remove a folder if that is possible, whatever is in it.

    Python needs a function call and an open file for each folder in a folder,
    and gives up after some hundreds. So this runs `rm` and `chmod`.
    """
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        if not os.path.lexists(path):
            return
        subprocess.run(
            [*command, "--", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
