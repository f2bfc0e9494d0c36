"""A job in processes of its own: its time, its memory, and what it leaves."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

import pytest

from kerasllm import homework
from kerasllm.homework import _grade
from kerasllm.homework.kernels import (
    _namespaces,
    _resources,
    _sandbox,
)
from kerasllm.homework.kernels._manager import last_words
from kerasllm.homework.kernels.apart import Workers, _workers

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="elsewhere only groups end"
    ),
]

ROOT = pathlib.Path(__file__).parents[2]
START = "tests.homework.jobs:start"
WITH, WITHOUT = "with namespaces", "without namespaces"


@pytest.fixture(scope="module")
def workers():
    with Workers(START) as workers:
        yield workers


@pytest.fixture(params=[WITH, WITHOUT])
def apart(request, workers):
    """Do a job of `jobs`, with what the system has and without."""
    way = "" if request.param == WITHOUT else _namespaces.find_way()
    if request.param == WITH and not way:
        pytest.skip("this system allows no namespaces")

    def run(name, **arguments):
        arguments = {"name": name, **arguments}
        return workers.run(arguments, way, 1, 0.02)

    return run


def test_what_a_job_tells_arrives(apart):
    outcome = apart("answer")
    assert outcome.problem == "" and outcome.told["number"] == 2
    assert outcome.told["text"] == "\ud800\x1b" + "x" * 10**6


def test_a_worker_is_no_fork_of_the_program_that_grades(apart, monkeypatch):
    """Whatever that has: threads, variables, modules."""
    monkeypatch.setenv("KERASLLM_OTHER", "x")
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    told = apart("look_around").told
    end.set()
    thread.join()
    assert told["threads"] == 1
    assert told["group"] != os.getpgid(0)
    assert "KERASLLM_OTHER" not in told["variables"]
    assert not told["has_keras"]


@pytest.mark.parametrize(
    "job, problem",
    [
        ("sleep", "sleeping took more than 0.2 s"),
        ("search", "searching took more than 0.2 s"),
        ("hoard", "hoarding failed (MemoryError: )"),
        ("die", "its process was killed while dying"),
        ("fail", "failing failed (RecursionError: deep)"),
    ],
)
def test_whatever_goes_wrong_is_said(apart, job, problem):
    outcome = apart(job)
    assert outcome.problem == problem
    assert "begin" in outcome.told


def test_a_job_that_tells_too_much_is_ended(apart, monkeypatch):
    monkeypatch.setattr(_workers, "_LONGEST", 2**17)
    assert apart("tell_all", size=2**20).problem == "starting gave too much"


def test_nothing_outlives_a_job(apart):
    """Not even what has left its session and its parents."""
    mark = f"{os.getpid()}.25"
    before = _resources.shared_objects()
    outcome = apart("leave_behind", mark=mark)
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

    before = _namespaces.descendants()  # the server
    with monkeypatch.context() as patch:
        patch.setattr(_workers, "_listen", interrupt)
        with pytest.raises(KeyboardInterrupt):
            apart("sleep")
    assert _namespaces.descendants() <= before
    assert apart("answer").problem == ""


def test_who_kills_the_server_ends_one_job_and_not_the_class(
    workers, apart, monkeypatch
):
    listen = _workers._listen

    def kill(reading):
        workers._process.kill()
        return listen(reading)

    with monkeypatch.context() as patch:
        patch.setattr(_workers, "_listen", kill)
        assert "was killed while" in apart("sleep", seconds=60).problem
    assert apart("answer").problem == ""


@pytest.mark.parametrize("kind", [WITH, WITHOUT])
def test_who_is_ended_right_after_a_fork_leaves_nobody(kind):
    """The child does nothing before its parent has ended, or is killed."""
    program = """
    import os
    import signal
    import sys
    from kerasllm.homework.kernels import _namespaces

    def in_child():
        os.close(writing)
        os.read(reading, 1)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    reading, writing = os.pipe()
    os.register_at_fork(
        after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM),
        after_in_child=in_child,
    )
    _namespaces.run_as_child(
        sys.argv[1], _namespaces.AROUND_ALL, lambda: print("alive")
    )
    """
    way = "" if kind == WITHOUT else _namespaces.find_way()
    if kind == WITH and not way:
        pytest.skip("this system allows no namespaces")
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), way],
        stdout=subprocess.PIPE,  # open until the child has ended
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (1, b"")


def test_who_is_ended_while_it_kills_leaves_nobody():
    """The worker has ended by itself, and somebody else is still there."""
    program = """
    import os
    import signal
    import sys
    from kerasllm.homework.kernels import _namespaces

    descendants = _namespaces.descendants

    def ended_meanwhile():
        os.kill(os.getpid(), signal.SIGTERM)
        return descendants()

    def leave_behind():
        if not os.fork():
            os.setsid()
            signal.pause()
        return 0

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    _namespaces.descendants = ended_meanwhile
    _namespaces.run_as_child("", (), leave_behind)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,  # open until everybody has ended
        timeout=60,
    )


def test_who_outlives_a_parent_that_ended_early_is_killed_all_the_same():
    program = """
    import os
    from kerasllm.homework.kernels._namespaces import die_with_parent

    parent = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == parent:
        os.sched_yield()
    die_with_parent(parent)
    print("alive")
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,  # open until the child has ended
        check=True,
    )
    assert ended.stdout == b""


@pytest.mark.parametrize(
    "start, kind, said",
    [
        ("kerasllm.checks:check_int", homework.HomeworkError, "`k` must be"),
        ("os:chdir", homework.MachineError, "Received: TypeError"),
        ("os:abort", homework.MachineError, "must start on this machine"),
    ],
)
def test_why_a_server_does_not_start_is_said(start, kind, said):
    before = _namespaces.descendants()
    with pytest.raises(kind, match=said):
        Workers(start, "k", "one", 1)
    assert _namespaces.descendants() <= before


def test_a_job_has_processes_files_and_a_network_of_its_own(workers):
    way = _namespaces.find_way()
    if not way:
        pytest.skip("this system allows no namespaces")
    own = ("pid", "ipc", "net", "mnt", "uts")
    arguments = {"name": "describe_namespaces", "kinds": own}
    told = workers.run(arguments, way, 1, 0.02).told
    assert told["error_number"] == 28  # no space left, of 20 MB
    assert told["processes"] == ["1", "2"]
    assert told["networks"] == ["lo"] and told["user"] == os.geteuid()
    ours = [os.readlink(f"/proc/self/ns/{kind}") for kind in own]
    assert not set(told["links"]) & set(ours)


def test_sockets_have_short_paths_whatever_the_shells_folder_is(
    apart, tmp_path, monkeypatch
):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert len(apart("dig", depth=0).told["folder"]) < 75


def test_jobs_end_though_the_shell_ignores_the_ends_of_children():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with Workers(START) as workers:
            server = workers._process
            for _ in range(2):
                outcome = workers.run({"name": "answer"}, "", 1, 0.02)
                assert outcome.problem == ""
            assert workers._process is server and server.poll() is None
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_folders_deeper_than_python_can_walk_are_removed(apart):
    """Where the grader has to, and where they are in memory."""
    folder = apart("dig", depth=3000).told["folder"]
    assert not os.path.exists(folder)


def test_of_a_log_only_the_end_is_read(tmp_path):
    """Otherwise a student's log would fill the memory of the worker."""
    log = tmp_path / "log"
    with open(log, "wb") as file:
        file.truncate(2**35)  # without a block on the disk
        file.seek(2**35)
        file.write("\nit was \u00e9\n\n".encode())
    assert last_words(log) == "it was \u00e9"
    assert last_words(tmp_path / "none") == ""


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
