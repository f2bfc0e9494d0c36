"""Linux namespaces: processes that see only each other, and end together.

Root makes them directly. An ordinary user first makes a user namespace, which
gives it the rights to make the others. Containers and some systems refuse
both, and other systems have neither, so `find_way` tries them.
"""

import contextlib
import ctypes
import functools
import os
import select
import signal
import subprocess
import sys
import tempfile
import time

DIRECTLY, AS_USER = "directly", "as a user"

_KINDS = {
    "mount": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000,
    "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000,
}  # fmt: skip
# Around all of one submission, and within it, around the student's process.
AROUND_ALL = ("mount", "uts", "ipc", "pid", "net")
AROUND_STUDENT = ("mount", "pid")
_NO_SUID, _NO_DEVICES, _NO_EXECUTABLES = 2, 4, 8
_RECURSIVE, _PRIVATE = 1 << 14, 1 << 18
_DIE_WITH_PARENT, _ADOPT_ORPHANS = 1, 36
_MOST_FILES = 100_000
_PAUSE = 0.2  # seconds between two looks at what a submission uses


@functools.cache
def find_way():
    """Return how this process can make namespaces, or "" if it cannot.

    A separate process, which runs this file, tries everything that grading
    does.
    """
    if not sys.platform.startswith("linux"):
        return ""
    for way in (DIRECTLY, AS_USER):
        tried = subprocess.run(
            [sys.executable, "-I", "-S", __file__, way],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if not tried.returncode:
            return way
    return ""


def _try(way):
    """Return 0 if both levels of namespaces can be made."""

    def student():
        # This process has ID 2 if `/proc` is that of the new namespace.
        return 0 if os.readlink("/proc/self") == "2" else 1

    def worker():
        mount_memory(tempfile.gettempdir(), 2**20)
        return run_as_child(way, AROUND_STUDENT, student)

    return run_as_child(way, AROUND_ALL, worker)


def run_as_child(way, kinds, run, watch=None):
    """Run a function in a process of its own and wait; return its status.

    With namespaces, that process is the second one in them. The first one only
    waits for it. When the first one ends, the system kills all that are left.

    Args:
        way: str, as `find_way` returns it. This process enters the new
            namespaces, too, except that of processes, so it should have no
            other task.
        kinds: sequence of str, the kinds of namespaces.
        run: function without arguments that returns an exit status.
        watch: function that is called again and again meanwhile, or `None`. As
            soon as it returns true, all processes are killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the inner process gets it
    # If this process ended between a fork and the wait for the child, the child
    # would be left behind. So SIGTERM has to wait until then.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    if not way:
        adopt_orphans()
        return _wait_for(_fork(run), watch)
    _unshare(way, kinds)
    reading, writing = os.pipe()  # reads as ended when this process has
    first = os.fork()
    if first:
        os.close(reading)
        return _wait_for_all(first)

    def be_first():
        os.close(writing)
        _die_with_writer(reading)
        _mount(None, "/", None, _RECURSIVE | _PRIVATE)
        flags = _NO_SUID | _NO_DEVICES | _NO_EXECUTABLES
        _mount("proc", "/proc", "proc", flags)
        return _wait_for(_fork(run), watch)

    end_with(be_first)
    return None  # is never reached


def _wait_for_all(first):
    """Wait for a namespace of processes, and end it if this is interrupted."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        return _status(os.waitpid(first, 0)[1])
    except BaseException:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)  # returns when all in it are gone
        raise


def _fork(run):
    """Run a function in a child of this process; return the child's ID."""
    parent = os.getpid()
    child = os.fork()
    if not child:
        die_with_parent(parent)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        blocked = [signal.SIGCHLD, signal.SIGTERM]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        end_with(run)
    return child


def end_with(run):
    """Run a function, then end this process with the status it returns."""
    status = 1
    try:
        status = run()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(status or 0)


def _wait_for(child, watch):
    """Wait for a child, reap orphans meanwhile; return the child's status."""
    try:
        return _wait_until_ended(child, watch)
    finally:
        kill_descendants()


def _wait_until_ended(child, watch):
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == child:
                return _status(status)
            if not ended:
                if watch is not None and watch():
                    return 1
                _pause()
    finally:
        # A signal that comes now must not interrupt the killing of the others.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _status(status):
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _unshare(way, kinds):
    """Put this process and its future children into new namespaces."""
    names = [*kinds, *(["user"] if way == AS_USER else [])]
    owner = f"{os.geteuid()} {os.geteuid()} 1"
    group = f"{os.getegid()} {os.getegid()} 1"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(ctypes.c_int(sum(_KINDS[name] for name in names))):
        raise OSError(ctypes.get_errno(), "unshare was refused")
    if way == AS_USER:
        for file, text in (
            ("setgroups", "deny"), ("uid_map", owner), ("gid_map", group)
        ):  # fmt: skip
            with open(f"/proc/self/{file}", "w") as map_file:
                map_file.write(text)


def mount_memory(folder, most_bytes):
    """Mount a folder in memory, with a size that it cannot exceed."""
    options = f"size={int(most_bytes)},nr_inodes={_MOST_FILES},mode=700"
    _mount("tmpfs", folder, "tmpfs", _NO_SUID | _NO_DEVICES, options)


def _mount(source, target, kind, flags, options=None):
    arguments = [
        each if each is None else os.fsencode(each)
        for each in (source, target, kind)
    ]
    options = None if options is None else options.encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(*arguments, ctypes.c_ulong(flags), options):
        raise OSError(ctypes.get_errno(), f"mount of {target} was refused")


def _set(option, value):
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(ctypes.c_int(option), ctypes.c_ulong(value))


def die_with_parent(parent, signal_number=signal.SIGKILL):
    """Have this process killed when its parent ends, on Linux.

    Args:
        parent: int, the process ID of the parent, read before the fork.
        signal_number: int, the signal that kills.
    """
    _set(_DIE_WITH_PARENT, signal_number)
    if os.getppid() != parent:  # it has ended already
        os.kill(os.getpid(), signal_number)


def _die_with_writer(reading):
    """Have the first process of a namespace killed when its parent ends.

    It sees no number of its parent, which is outside, so the end of a pipe
    tells that the parent ended before. And it cannot kill itself.

    Args:
        reading: int, a pipe that only the parent can write to. It is closed.
    """
    _set(_DIE_WITH_PARENT, signal.SIGKILL)
    if select.select([reading], [], [], 0)[0]:
        os._exit(1)
    os.close(reading)


def adopt_orphans():
    """Become the parent of descendants whose parent ends, on Linux."""
    _set(_ADOPT_ORPHANS, 1)


def descendants(of=None):
    """Return the IDs of all descendants of a process, on Linux.

    Args:
        of: int, the ID of the process; by default this one.
    """
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/stat", "rb") as file:
                # The name of the program, in parentheses, may be anything.
                fields = file.read().rpartition(b")")[2].split()
            parents[int(name)] = int(fields[1])
    found, new = set(), {of or os.getpid()}
    while new:
        new = {each for each, parent in parents.items() if parent in new}
        new -= found
        found |= new
    return found


def kill_descendants():
    """Kill all processes below this one, and wait until they are gone."""
    if not sys.platform.startswith("linux"):
        return
    while below := descendants():
        for each in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        _pause(0.01)


def _pause(seconds=_PAUSE):
    """Wait for a while, or until a child ends."""
    if not hasattr(signal, "sigtimedwait"):  # macOS
        time.sleep(seconds / 4)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    signal.sigtimedwait([signal.SIGCHLD], seconds)


if __name__ == "__main__":
    end_with(lambda: _try(sys.argv[1]))
