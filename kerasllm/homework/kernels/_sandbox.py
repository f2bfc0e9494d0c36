"""Limits that a process sets on itself before it runs code it cannot trust.

`limit` limits memory, file sizes, and time with `setrlimit`. `restrict` shuts
off files, the network, and other processes with Landlock and a filter of
system calls, which need no privileges and cannot be undone. Linux has had
Landlock since 5.13, and its rules for the network since 6.7. On other systems,
only `limit` works.
"""

import contextlib
import ctypes
import os
import pathlib
import platform
import struct

MOST_THREADS = 1024  # numerical libraries start some for each core
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38

# linux/landlock.h: bits 0 to 15 are rights to files, by kernel version.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_TRUNCATE, _IOCTL_DEVICE = 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_FOR_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_NUM_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # 16 from version 5 on
_CONNECT_TCP = 2
_SCOPES = 0b11  # abstract sockets and signals do not leave the sandbox
_MOST_FILES = 4096  # that a process may have open

# linux/audit.h: a processor's number, and its column in the calls below.
_PROCESSORS = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_REFUSED = {
    # Landlock allows connections to socket files and over UDP.
    "connect": (42, 203),
    # These objects belong to no process: they remain when it ends, and nobody
    # counts their memory.
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186),
    "mq_open": (240, 180), "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    # The filter does not see calls that are made through this ring.
    "io_uring_setup": (425, 425),
}  # fmt: skip
# Refused unless the argument of this number has this value.
_REFUSED_UNLESS = {
    "prlimit64": ((302, 261), 0, 0),  # of the process itself
    "setpriority": ((141, 140), 1, 0),
}
_SET_FILTER = 22
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # with EPERM


def landlock_version():
    """Return the version of Landlock that this kernel has, 0 for none."""
    try:
        return max(_syscall(_CREATE_RULESET, None, 0, 1), 0)
    except (AttributeError, OSError):
        return 0


def limit(memory_gb, cpu_seconds, file_gb=1.0):
    """Limit what this process and each of its children may use.

    Args:
        memory_gb: float, memory for data, in units of 2**30 bytes. Using more
            raises `MemoryError`.
        cpu_seconds: int, processor time, after which the process is killed.
        file_gb: float, size of each file that it writes, in the same units.
    """
    import resource  # not on Windows, where students check their homework

    limits = {
        # Not RLIMIT_AS: numerical libraries reserve far more than they use.
        resource.RLIMIT_DATA: int(memory_gb * 2**30),
        resource.RLIMIT_CPU: int(cpu_seconds),
        resource.RLIMIT_FSIZE: int(file_gb * 2**30),
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: _MOST_FILES,
    }
    if hasattr(resource, "RLIMIT_NPROC"):
        limits[resource.RLIMIT_NPROC] = MOST_THREADS + _num_threads()
    for what, most in limits.items():
        _, allowed = resource.getrlimit(what)
        if allowed != resource.RLIM_INFINITY:
            most = min(most, allowed)
        resource.setrlimit(what, (most, most))


def _num_threads():
    """Return how many threads this user has, since the limit counts them, too.

    In a user namespace of its own, the limit counts only the threads there.
    """
    count = 0
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.stat().st_uid == os.getuid():
                count += len(os.listdir(path / "task"))
    return count


def restrict(readable, writable, hidden=()):
    """Restrict this process and its children to the files that are named.

    On x86-64 and ARM64, they also cannot connect to anything, make objects that
    outlive them, or limit other processes. If the kernel's Landlock is recent
    enough, they cannot signal other processes, either. Without Landlock,
    nothing happens.

    Args:
        readable: paths of files, and of folders with everything below them.
        writable: paths, likewise. They are readable, too.
        hidden: paths below readable ones that stay unreadable.

    Returns:
        bool, whether the kernel has Landlock.

    Raises:
        OSError: the kernel has Landlock and refused.
        RuntimeError: the process has threads.
    """
    if (
        os.path.isdir("/proc/self/task")
        and len(os.listdir("/proc/self/task")) > 1
    ):
        raise RuntimeError(
            "`restrict` must be called before there are threads, which would "
            "stay free. Received: a process with threads. Call it before "
            "numerical libraries are imported."
        )
    version = landlock_version()
    if not version:
        return False
    handled = (1 << _NUM_FILE_RIGHTS.get(version, 16)) - 1
    attributes = struct.pack("Q", handled)
    if version >= 4:
        attributes += struct.pack("Q", _CONNECT_TCP)
    if version >= 6:
        attributes += struct.pack("Q", _SCOPES)
    ruleset = _syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    hidden = [os.path.realpath(path) for path in hidden]
    for path in readable:
        for part, is_whole in _parts(os.path.realpath(path), hidden):
            # Imports list folders, so the names of hidden files may be listed.
            _allow_path(ruleset, part, _READ if is_whole else _READ_DIR)
    for path in writable:
        _allow_path(ruleset, path, handled)
    _prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _drop_capabilities()
    _syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    _refuse_calls()
    return True


def _refuse_calls():
    """Make the system refuse calls, on processors whose numbers are known."""
    if platform.machine() not in _PROCESSORS:
        return
    processor, column = _PROCESSORS[platform.machine()]
    # (operation, steps to skip if true, steps to skip if false, value)
    refuse = [(_RETURN, 0, 0, _REFUSE)]
    program = [(_LOAD, 0, 0, 4), (_IF_EQUAL, 1, 0, processor), *refuse]
    program += [(_LOAD, 0, 0, 0)]
    # Here begin the numbers of x32, another way to call this kernel.
    program += [(_IF_AT_LEAST, 0, 1, 0x40000000), *refuse]
    for numbers in _REFUSED.values():
        program += [(_IF_EQUAL, 0, 1, numbers[column]), *refuse]
    for numbers, argument, value in _REFUSED_UNLESS.values():
        program += [
            (_IF_EQUAL, 0, 4, numbers[column]),
            (_LOAD, 0, 0, 16 + 8 * argument),
            (_IF_EQUAL, 0, 1, value),
            (_RETURN, 0, 0, _ALLOW),
            *refuse,
        ]
    program += [(_RETURN, 0, 0, _ALLOW)]
    steps = b"".join(struct.pack("HBBI", *step) for step in program)
    steps = ctypes.create_string_buffer(steps, len(steps))
    filter_ = struct.pack("HP", len(program), ctypes.addressof(steps))
    filter_ = ctypes.create_string_buffer(filter_, len(filter_))
    _prctl(_SET_FILTER, 2, ctypes.addressof(filter_))


def _parts(path, hidden):
    """Yield `(path, is_whole)`: a path, and its parts if some are hidden."""
    if path in hidden:
        return
    is_whole = not any(item.startswith(path + os.sep) for item in hidden)
    yield path, is_whole
    if not is_whole:
        for child in sorted(pathlib.Path(path).iterdir()):
            # The target of a link is readable if it is named itself.
            if not child.is_symlink():
                yield from _parts(str(child), hidden)


def _allow_path(ruleset, path, rights):
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _FOR_FILES
        rule = struct.pack("=Qi", rights, file)
        _syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(file)


def _syscall(number, *arguments):
    # Plain ints would be passed as 32 bits, with garbage above them.
    arguments = [
        ctypes.c_long(argument) if isinstance(argument, int) else argument
        for argument in arguments
    ]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"system call {number}: {os.strerror(error)}")
    return result


def _prctl(*arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(*(ctypes.c_ulong(argument) for argument in arguments)):
        raise OSError(ctypes.get_errno(), "prctl was refused")


def _drop_capabilities():
    """Leave root no more rights than an ordinary user has."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", 0x20080522, 0)  # version 3, this process
    if libc.capset(header, struct.pack("6I", *[0] * 6)):
        raise OSError(ctypes.get_errno(), "capset was refused")
