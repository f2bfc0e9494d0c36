"""What a submission's process may read and use."""

import ast
import importlib
import json
import os
import pathlib
import platform
import socket
import subprocess
import sys

import pytest

from kerasllm import homework
from tests.homework.tiny_course import (
    TINY,
    TOTAL,
    nbformat,
    submit,
    tiny_release,
)

pytestmark = pytest.mark.any_backend

ROOT = pathlib.Path(__file__).parents[2]
ADD_KEY = {"x86_64": 248, "aarch64": 217}.get(platform.machine())


@pytest.mark.skipif(
    not homework.landlock_version(), reason="this system has no Landlock"
)
def test_the_sandbox_leaves_only_what_is_named(tmp_path):
    for name in ("open/a.txt", "open/hidden/b.txt", "closed/c.txt", "own/d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    code = f"""
import json, os, pathlib, subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from kerasllm import homework
root = pathlib.Path({str(tmp_path)!r})
homework.limit(memory_gb=0.5, cpu_seconds=60)
homework.restrict(["/usr", "/lib", sys.prefix, sys.base_prefix, root / "open"],
                  [root / "own"], hidden=[root / "open" / "hidden"])
def can(action):
    try:
        action()
        return True
    except (OSError, MemoryError):
        return False
print(json.dumps([
    can((root / "open/a.txt").read_text),
    can(lambda: os.listdir(root / "open/hidden")),
    can(lambda: (root / "own/new").write_text("y")),
    can((root / "open/hidden/b.txt").read_text),
    can((root / "closed/c.txt").read_text),
    can(lambda: (root / "open/a.txt").write_text("y")),
    can(lambda: bytearray(10**9)),
]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.stdout, done.stderr
    answers = ast.literal_eval(
        done.stdout.replace("true", "True").replace("false", "False")
    )
    assert answers == [True, True, True, False, False, False, False]


@pytest.mark.once
@pytest.mark.skipif(
    not homework.landlock_version(), reason="this system has no Landlock"
)
def test_what_is_private_is_so_below_libraries_too(
    nbgrader, tmp_path, monkeypatch
):
    from kerasllm.homework import _autograder

    monkeypatch.setattr(
        _autograder, "_PREPARE", "tests.homework.jobs:prepare_with_libraries"
    )
    libraries = tmp_path / "site-packages"
    folder = libraries / "checkout" / "chapters" / "homework"
    library = libraries / "library.py"
    private = [
        folder / "hw0_tiny.py",
        libraries / "checkout" / ".git" / "history",
        libraries / "class" / "ann.ipynb",
        libraries / "out" / "grades.csv",
        libraries / "out" / "feedback" / "ann.html",
    ]
    for path in (library, *private):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("history")
    private[0].write_text(TINY)
    for student, paths in (("ann", [library]), ("bob", private)):
        double = (
            "def double(x):\n"
            f"    for path in {[*map(str, paths)]}:\n"
            "        try:\n"
            "            return len(open(path).read(1)) * 2 * x\n"
            "        except OSError: pass"
        )
        nbformat.write(
            submit(tiny_release(), {"double": double, "total": TOTAL}),
            libraries / "class" / f"{student}.ipynb",
        )
    results, _ = homework.grade(
        libraries / "class",
        libraries / "out" / "grades.csv",
        folder,
        force=True,
    )
    assert all(path.exists() for path in private)
    assert {each.student: each.total for each in results} == {
        "ann": 5, "bob": 3
    }  # fmt: skip


@pytest.mark.skipif(
    not homework.landlock_version(), reason="this system has no Landlock"
)
@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"),
    reason="the numbers of system calls are not known here",
)
def test_nothing_reaches_or_outlives_the_sandbox(tmp_path):
    """Neither by memory that nobody has, nor by a socket that is a file."""
    address = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()
        said = in_a_process(f"""if True:
            import ctypes, os, pathlib, resource, socket, sys, time
            from kerasllm import homework
            homework.limit(memory_gb=1, cpu_seconds=60)
            homework.restrict(
                ["/usr", "/lib", "/lib64", sys.prefix, sys.base_prefix,
                 "/proc"], [{str(tmp_path)!r}])
            libc = ctypes.CDLL(None, use_errno=True)
            def call(name, *arguments):
                if getattr(libc, name)(*arguments) < 0:
                    raise OSError(ctypes.get_errno(), name)
            parent = os.getppid()
            file = socket.socket(socket.AF_UNIX)
            tries = {{
                "connect": lambda: file.connect({str(address)!r}),
                "sysv memory": lambda: call("shmget", 0, 4096, 0o1600),
                "sysv semaphore": lambda: call("semget", 0, 1, 0o1600),
                "sysv queue": lambda: call("msgget", 0, 0o1600),
                "memory file": lambda: os.memfd_create("x"),
                "key": lambda: call("syscall", {ADD_KEY}, b"user", b"kerasllm",
                                    b"x", 1, -4),
                "limit": lambda: resource.prlimit(
                    parent, resource.RLIMIT_CPU, (1, 1)),
                "priority": lambda: os.setpriority(0, parent, 19),
                "trace": lambda: call("ptrace", 16, parent, 0, 0),
                "clock": lambda: time.clock_settime(0, 1e9),
                "proc": lambda: open("/proc/self/oom_score_adj", "w"),
                "memory of another": lambda: open(f"/proc/{{parent}}/mem"),
                "files": lambda: resource.setrlimit(
                    resource.RLIMIT_NOFILE, (10**5, 10**5)),
            }}
            for name, attempt in tries.items():
                try:
                    attempt()
                    print(name, "works")
                except (OSError, ValueError):
                    pass
            # And what numerical libraries and kernels need works.
            resource.getrlimit(resource.RLIMIT_NOFILE)
            os.setpriority(os.PRIO_PROCESS, 0, 19)
            file.bind({str(tmp_path / "own")!r})
            socket.socketpair()
            os.waitpid(os.fork() or os._exit(0), 0)
            print("done")
        """)
    assert said.splitlines() == ["done"]


def test_python_may_be_installed_in_a_checkout(tmp_path, monkeypatch):
    for name in ("prefix", "base_prefix", "exec_prefix"):
        monkeypatch.setattr(sys, name, str(tmp_path))
    folders = homework.library_folders()
    for path in ("chapters/homework/hw0_tiny.py", ".git/config", "grades.csv"):
        assert not any((tmp_path / path).is_relative_to(f) for f in folders)
    assert str(tmp_path / "lib") in folders


def test_grade_refuses_what_it_cannot_hide(tmp_path, monkeypatch):
    libraries = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(libraries))
    (libraries / "hw0_tiny").mkdir(parents=True)
    (libraries / "hw0_tiny" / "hw0_tiny.py").write_text(TINY)
    (libraries / "class").mkdir()
    (libraries / "class" / "ann.ipynb").write_text("{}")
    with pytest.raises(ValueError, match="need not read. Received: something"):
        homework.grade(
            libraries / "class",
            libraries / "grades.csv",
            libraries / "hw0_tiny",
            unprotected=True,
        )


def in_a_process(code):
    """Run code without the modules of the tests; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_files_of_modules_are_found_without_importing_them():
    """What is imported may start threads, and the sandbox allows none."""
    said = in_a_process("""if True:
        import json, os, sys
        from kerasllm import homework
        names = ["kerasllm", "kerasllm.homework._notes", "keras.layers",
                 "statistics", "json", "kerasllm.nothing", "nothing.at.all"]
        print(json.dumps([homework.module_files([name]) for name in names]))
        print(os.listdir("/proc/self/task").__len__())
        print("keras" in sys.modules, "kerasllm.homework._notes" in sys.modules)
    """)
    files, threads, imported = said.splitlines()
    ours, notes, layers, one, package, *nothing = json.loads(files)
    # All of kerasllm, where modules that have moved are forwarded, too.
    assert ours == [str(ROOT / "kerasllm"), str(ROOT / "kerasllm" / "_moved")]
    assert str(ROOT / "kerasllm" / "homework" / "_notes.py") in notes
    assert pathlib.Path(layers[0]).parts[-2:] == ("keras", "layers")
    assert pathlib.Path(one[0]).name == "statistics.py"
    assert pathlib.Path(package[0]).name == "json"
    assert nothing == [[], []]
    assert threads == "1" and imported == "False False"


def test_the_package_is_light_until_it_is_used():
    said = in_a_process("""if True:
        import sys
        import kerasllm.homework
        print(sorted(n for n in sys.modules if n.startswith("kerasllm")))
        for name in dir(kerasllm.homework):
            if name not in ("Judge", "JudgedExecute", "StudentKernelManager"):
                getattr(kerasllm.homework, name)
        heavy = {"keras", "jax", "tensorflow", "torch", "nbgrader", "IPython"}
        print(sorted(heavy & set(sys.modules)))
    """)
    assert said.splitlines() == ["['kerasllm', 'kerasllm.homework']", "[]"]


def test_what_is_not_published_has_no_name():
    assert set(homework.__all__) <= set(dir(homework))
    with pytest.raises(AttributeError, match="no attribute 'grades'. Its nam"):
        _ = homework.grades


@pytest.mark.parametrize(
    "old, names",
    [
        ("homework_course", "find_submissions grade rebuild release summarize"
         " write_csv"),
        ("homework_kernel", "Forbidden library_folders main module_files"),
        ("homework_remote", "LONGEST_MESSAGE SERVANT RemoteObject Student"
         " decode encode serve"),
        ("sandbox", "landlock_version limit restrict"),
    ],
)  # fmt: skip
def test_the_first_versions_modules_are_found(old, names):
    module = importlib.import_module(f"kerasllm.{old}")
    assert all(hasattr(module, name) for name in names.split())


def test_what_has_moved_is_forbidden_by_its_present_name(tmp_path):
    """Its old file only forwards to the code, which could be read."""
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "ann.ipynb").write_text("{}")
    (tmp_path / "hw0_tiny.py").write_text(
        TINY.replace("statistics", "kerasllm.homework_course")
    )
    with pytest.raises(
        homework.HomeworkError,
        match="names that they have now. Received: .*kerasllm.homework_course",
    ):
        homework.grade(
            tmp_path / "class",
            tmp_path / "grades.csv",
            tmp_path,
            unprotected=True,
        )
