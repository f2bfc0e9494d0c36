"""A job in processes of its own: its time, its memory, and what it leaves."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from kerasllm import homework
from kerasllm.homework import _grade
from kerasllm.homework.kernels import (
    _apart,
    _namespaces,
    _resources,
    _sandbox,
)

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="elsewhere only groups end"
    ),
]

ROOT = pathlib.Path(__file__).parents[2]
HERE = _namespaces.find_way()
# Each way of this system, and what every other one has.
WAYS = sorted({HERE, ""})


@pytest.fixture(params=WAYS, ids=lambda way: way or "without namespaces")
def apart(request):
    """Run a job in this way."""
    return lambda job: _apart.run_apart(job, request.param, 1, 0.02)


def test_what_a_job_tells_arrives(apart):
    def job(tell):
        tell(text="\ud800\x1b" + "x" * 10**6, number=1)
        tell(number=2)

    outcome = apart(job)
    assert outcome.problem == "" and outcome.told["number"] == 2
    assert outcome.told["text"] == "\ud800\x1b" + "x" * 10**6


def test_a_large_program_can_grade(apart):
    """What it has in memory is not counted as the job's."""
    kept = bytearray(3 * 2**29)
    outcome = apart(lambda tell: tell(size=len(kept)))
    assert outcome.problem == "" and outcome.told["size"] == 3 * 2**29


def sleep(tell):
    tell(begin="sleeping", seconds=0.2)
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


def tell_all(tell):
    tell(begin="telling", seconds=60, text="x" * (_apart._LONGEST + 2**20))


@pytest.mark.parametrize(
    "job, problem",
    [
        (sleep, "sleeping took more than 0.2 s"),
        (search, "searching took more than 0.2 s"),
        (hoard, "hoarding failed (MemoryError: )"),
        (die, "its process was killed while dying"),
        (fail, "failing failed (RecursionError: deep)"),
    ],
)
def test_whatever_goes_wrong_is_said(apart, job, problem):
    outcome = apart(job)
    assert outcome.problem == problem
    assert "begin" in outcome.told


def test_a_job_that_tells_too_much_is_ended(apart, monkeypatch):
    monkeypatch.setattr(_apart, "_LONGEST", 2**17)
    assert apart(tell_all).problem == "starting gave too much"


def test_nothing_outlives_a_job(apart, tmp_path):
    """Not even what has left its session and its parents."""
    mark = f"{os.getpid()}.25"

    def job(tell):
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
        import ctypes

        number = ctypes.CDLL(None).shmget(0, 4096, 0o1666)
        tell(folder=str(kept.parent), shared=number)

    before = _resources.shared_objects()
    outcome = apart(job)
    assert outcome.problem == "" and outcome.told["shared"] >= 0
    assert not os.path.exists(outcome.told["folder"])
    assert _resources.shared_objects() <= before
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert mark.encode() not in path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_ctrl_c_ends_a_job(apart, monkeypatch):
    def interrupt(reading):
        os.read(reading, 1)
        raise KeyboardInterrupt

    monkeypatch.setattr(_apart, "_listen", interrupt)
    before = _namespaces.descendants()
    with pytest.raises(KeyboardInterrupt):
        apart(sleep)
    assert _namespaces.descendants() <= before


@pytest.mark.skipif(not HERE, reason="this system allows no namespaces")
def test_a_job_has_processes_files_and_a_network_of_its_own():
    own = ("pid", "ipc", "net", "mnt", "uts")

    def job(tell):
        path = pathlib.Path(tempfile.gettempdir()) / "large"
        try:
            path.write_bytes(bytes(2**25))
        except OSError as error:
            tell(error_number=error.errno)
        tell(processes=sorted(filter(str.isdigit, os.listdir("/proc"))),
             links=[os.readlink(f"/proc/self/ns/{kind}") for kind in own],
             networks=os.listdir("/proc/self/net/dev_snmp6")
             if os.path.exists("/proc/self/net/dev_snmp6") else ["lo"],
             user=os.geteuid())  # fmt: skip

    told = _apart.run_apart(job, HERE, 1, 0.02).told
    assert told["error_number"] == 28  # no space left, of 20 MB
    assert told["processes"] == ["1", "2"]
    assert told["networks"] == ["lo"] and told["user"] == os.geteuid()
    ours = [os.readlink(f"/proc/self/ns/{kind}") for kind in own]
    assert not set(told["links"]) & set(ours)


def test_a_watch_sees_memory_that_is_shared_and_many_processes(capfd):
    def mapped():
        import mmap

        hoard = mmap.mmap(-1, 2**26)
        hoard.write(bytes(2**26))
        time.sleep(1000)

    def many():
        for _ in range(_resources.MOST_PROCESSES):
            if not os.fork():
                break
        time.sleep(1000)

    def inside(run, gigabytes):
        watch = _resources.Watch(gigabytes)
        child = os.fork()
        if not child:
            _namespaces.end_with(
                lambda: _namespaces.run_as_child("", (), run, watch)
            )
        return os.waitpid(child, 0)[1]

    assert os.waitstatus_to_exitcode(inside(mapped, 0.05)) == 1
    assert "it used more than 0.05 GB of memory" in capfd.readouterr().err
    assert os.waitstatus_to_exitcode(inside(many, 8)) == 1
    assert "it had more than 64 processes" in capfd.readouterr().err


def test_a_cgroup_is_made_where_one_was_delegated(tmp_path, monkeypatch):
    """In files like those of version 2; not each system has some to give."""
    own = tmp_path / "session.slice" / "grader.scope"
    own.mkdir(parents=True)
    monkeypatch.setattr(_resources, "_ROOT", tmp_path)
    monkeypatch.setattr(
        _resources, "_own_cgroup", lambda: "/session.slice/grader.scope"
    )
    (own / "cgroup.subtree_control").write_text("")
    assert _resources.make_cgroup(1) is None
    control = own.parent / "cgroup.subtree_control"
    control.write_text("cpu memory pids\n")
    made = pathlib.Path(_resources.make_cgroup(1.5))
    assert made.parent == own.parent
    assert (made / "memory.max").read_text() == str(3 * 2**29)
    assert (made / "pids.max").read_text() == "1024"
    _resources.join_cgroup(made)
    assert (made / "cgroup.procs").read_text() == str(os.getpid())
    control.write_text("cpu\n")
    assert _resources.make_cgroup(1) is None


TABLE = {
    # system: Landlock's version, how namespaces are made, a cgroup, Linux
    "Linux with user namespaces": (7, "as a user", None, True),
    "Linux without them, a container": (7, "", None, True),
    "Linux, a delegated cgroup": (7, "as a user", "/cgroup", True),
    "macOS": (0, "", None, False),
}


def test_the_table_of_protections_is_what_grade_prints(monkeypatch):
    text = (ROOT / "chapters" / "homework" / "README.md").read_text("utf-8")
    monkeypatch.setattr(_resources, "remove_cgroup", lambda path: None)
    for system, (landlock, way, cgroup, is_linux) in TABLE.items():
        monkeypatch.setattr(
            _sandbox, "landlock_version", lambda version=landlock: version
        )
        monkeypatch.setattr(_namespaces, "find_way", lambda way=way: way)
        monkeypatch.setattr(
            _resources, "make_cgroup", lambda size, made=cgroup: made
        )
        platform = "linux" if is_linux else "darwin"
        monkeypatch.setattr(_grade.sys, "platform", platform)
        said = [line.partition(": ")[2] for line in homework.protections()]
        assert f"| {system} | {' | '.join(said)} |" in text, (system, said)
