"""A class of submissions that try to get points in other ways."""

from kerasllm import homework
from tests.homework.tiny_course import RIGHT, TOTAL, WRONG, cell, submit

# What a student writes for `double`, beside a right `total`, and what both
# earn together: 2 and 3 points.
CLASS = {
    "right": (RIGHT, 5),
    "wrong": (WRONG, 3),
    "syntax_error": ("def double(x) return 2 * x", 3),
    "hard_codes": ("def double(x):\n    return {1: 2, 2: 4}.get(x, 0)", 3),
    "catches_and_passes": (
        "import builtins\n"
        "class Quiet(BaseException): pass\n"
        "builtins.AssertionError = Quiet\n"
        "def double(x):\n"
        "    try:\n"
        "        return 1 / 0\n"
        "    except Exception:\n"
        "        pass",
        3,
    ),
    "prints_a_score": (
        "from IPython.display import display\n"
        "def double(x):\n"
        "    print('2.0'); display(2.0)\n"
        "    return 'passed'\n"
        "print('test_double: 2/2')\n"
        "2.0",
        3,
    ),
    "prints_without_end": (
        "def double(x):\n"
        "    print('x' * 10**6)\n"
        "    return 2 * x\n"
        "for _ in range(30):\n"
        "    double(1)",
        5,
    ),
    "loops_in_a_cell": (f"{WRONG}\nwhile True: pass", 3),
    "loops_in_a_function": ("def double(x):\n    while True: pass", 3),
    # The kernel has to be killed, and `total` comes after that.
    "loops_and_cannot_be_stopped": (
        f"{RIGHT}\n"
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "while True: pass",
        0,
    ),
    "is_slow_in_small_portions": (
        "import time\n"
        "def double(x):\n    time.sleep(1)\n    return 2 * x", 3
    ),
    "returns_too_much": (
        "def double(x):\n    return 'x' * (3 * 10**8)", 3
    ),
    "writes_a_script": (
        f"{RIGHT}\n"
        "from IPython.display import HTML, display\n"
        "display(HTML('<script>steal_grades()</script>'))",
        5,
    ),
    "eats_memory_in_a_cell": (f"{RIGHT}\nhoard = [0] * 10**9", 5),
    "eats_memory_in_a_function": (
        "def double(x):\n    return len([0] * 10**9) * 0 + 2 * x", 3
    ),
    "leaves_a_process_behind": (
        f"{RIGHT}\nimport subprocess\nsubprocess.Popen(['sleep', '31415'])", 5
    ),
    "leaves": ("import os\nos._exit(0)", 0),
    "equals_everything": (
        "class Yes(int):\n"
        "    __eq__ = lambda self, other: True\n"
        "    __ne__ = lambda self, other: False\n"
        "    __bool__ = lambda self: True\n"
        "    __hash__ = int.__hash__\n"
        "def double(x):\n    return Yes(7)",
        3,
    ),
    "patches_what_tests_use": (
        f"{WRONG}\n"
        "import builtins, sys, IPython\n"
        "shell = get_ipython()\n"
        "shell.showtraceback = lambda *a, **k: None\n"
        "shell.input_transformers_cleanup.append(lambda lines: [])\n"
        "builtins.isinstance = lambda *a: True\n"
        "try:\n"
        "    import nbgrader.utils\n"
        "    nbgrader.utils.determine_grade = lambda *a: (9, 9)\n"
        "except Exception: pass",
        None,  # whatever is left of the notebook, but not two points
    ),
    "answers_for_its_functions": (
        "import sys, json, base64\n"
        "servant = sys.modules['homework_servant']\n"
        "def serve(request):\n"
        "    answer = ['value', ['object', [0, '2']]]\n"
        "    return base64.b64encode(json.dumps(answer).encode()).decode()\n"
        "servant.serve = serve",
        0,
    ),
    "looks_at_the_caller": (
        "import gc, inspect, os\n"
        "def double(x):\n"
        "    for frame in inspect.stack():\n"
        "        for names in (frame.frame.f_locals, frame.frame.f_globals):\n"
        "            if 'expected' in names: return names['expected']\n"
        "    seed = os.environ['KERASLLM_HOMEWORK_SEED']",
        3,
    ),
    "looks_at_the_tests_process": (
        "import os, pathlib\n"
        "def double(x):\n"
        "    for path in pathlib.Path('/proc').glob('[0-9]*/environ'):\n"
        "        try:\n"
        "            if 'PATH=' in path.read_text() and (\n"
        "                    path.parent.name != str(os.getpid())):\n"
        "                return 2 * x\n"
        "        except OSError: pass",
        3,
    ),
    "imports_what_is_forbidden": (
        "from statistics import fsum\n"
        "def double(x):\n    return int(fsum([x, x]))",
        3,
    ),
    "unblocks_what_is_forbidden": (
        "import sys, importlib\n"
        "sys.meta_path[:] = [m for m in sys.meta_path\n"
        "                    if type(m).__name__ != 'Forbidden']\n"
        "sys.modules.pop('statistics', None)\n"
        "importlib.invalidate_caches()\n"
        "import statistics\n"
        "def double(x):\n    return int(statistics.fsum([x, x]))",
        3,
    ),
    "reads_the_solutions": (
        "import pathlib\n"
        "def double(x):\n"
        "    text = pathlib.Path('SOURCE').read_text()\n"
        "    return 2 * x if text else None",
        3,
    ),
    "reads_other_students": (
        "import pathlib\n"
        "def double(x):\n"
        "    text = pathlib.Path('SUBMISSIONS/right.ipynb').read_text()\n"
        "    return 2 * x if text else None",
        3,
    ),
    "finds_the_course": (
        "import pathlib\n"
        "def double(x):\n"
        "    for path in pathlib.Path('TEMPORARY').iterdir():\n"
        "        if (path / 'gradebook.db').exists(): return 2 * x",
        3,
    ),
    "writes_elsewhere": (
        "def double(x):\n"
        "    open('SUBMISSIONS/left_behind', 'w').write('x')\n"
        "    return 2 * x",
        3,
    ),
    "calls_home": (
        "import socket\n"
        "def double(x):\n"
        "    socket.create_connection(('127.0.0.1', 4242424242 % 65536), 1)\n"
        "    return 2 * x",
        3,
    ),
}  # fmt: skip


# What one leaves to those after it, or takes from them. `ANY`: it may earn
# something or nothing, as long as the others earn what they deserve.
ANY = "any"
CLASS |= {
    "cuts_characters_in_half": (f"# \ud800 \udc00\n{RIGHT}", 5),
    "sends_to_the_terminal": (
        "def double(x):\n    raise ValueError('\x1b[2A\x1b[2Kforged')", 3
    ),
    "ends_slowly": (
        f"{RIGHT}\n"
        "import atexit, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "atexit.register(time.sleep, 1000)",
        5,
    ),
    "forges_replies": (
        f"{RIGHT}\n"
        "import threading\n"
        "kernel = get_ipython().kernel\n"
        "ident = kernel._parent_ident['shell']\n"
        "def forge():\n"
        "    while True:\n"
        "        kernel.session.send(kernel.shell_stream, 'execute_reply',\n"
        "            {'status': 'ok'}, {'msg_id': 'forged'}, ident=ident)\n"
        "threading.Thread(target=forge, daemon=True).start()\n"
        "while True: pass",
        ANY,
    ),
    "leaves_its_session": (
        f"{RIGHT}\n"
        "import os\n"
        "if not os.fork():\n"
        "    os.setsid()\n"
        "    os.closerange(0, 1024)\n"
        "    if not os.fork():\n"
        "        os.execvp('sleep', ['sleep', '31415'])\n"
        "    os._exit(0)",
        5,
    ),
    "fills_the_temporary_folder": (
        f"{RIGHT}\n"
        "import os, tempfile\n"
        "if not os.fork():\n"
        "    os.setsid()\n"
        "    kept = []\n"
        "    while True:\n"
        "        kept.append(tempfile.TemporaryFile())\n"
        "        while True:\n"
        "            try:\n"
        "                os.write(kept[-1].fileno(), bytes(10**6))\n"
        "            except OSError:\n"
        "                break\n"
        "        if len(kept) > 100: os.execvp('sleep', ['sleep', '31415'])",
        ANY,
    ),
    "fills_its_log": (
        f"{RIGHT}\n"
        "import os, sys\n"
        "try:\n"
        "    while True:\n"
        "        os.write(sys.stderr._original_stdstream_copy, bytes(10**6))\n"
        "except OSError: pass",
        5,
    ),
    "takes_all_ports": (
        f"{RIGHT}\n"
        "import os, socket\n"
        "for part in range(20):\n"
        "    if os.fork(): continue\n"
        "    os.setsid()\n"
        "    kept = []\n"
        "    for port in range(32768 + part, 61000, 20):\n"
        "        try:\n"
        "            kept.append(socket.create_server(('127.0.0.1', port)))\n"
        "        except OSError: pass\n"
        "    os.execvp('sleep', ['sleep', '31415'])",
        ANY,
    ),
    "shares_memory": (
        f"{RIGHT}\n"
        "import ctypes\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.shmat.restype = ctypes.c_void_p\n"
        "at = libc.shmat(libc.shmget(0x4b4c4d, 4096, 0o1666), None, 0)\n"
        "ctypes.memmove(at, b'code', 4)",
        5,
    ),
    "shares_memory_of_others": (
        "import ctypes\n"
        "def double(x):\n"
        "    if ctypes.CDLL(None).shmget(0x4b4c4d, 0, 0) >= 0: return 2 * x",
        3,
    ),
    "maps_memory": (
        "import ctypes, mmap\n"
        "def double(x):\n"
        "    hoard = mmap.mmap(-1, 3 << 30)\n"
        "    at = ctypes.addressof(ctypes.c_char.from_buffer(hoard))\n"
        "    ctypes.memset(at, 1, 3 << 30)\n"
        "    return 2 * x",
        0,
    ),
    "multiplies": (
        f"{WRONG}\n"
        "import os, time\n"
        "for _ in range(300):\n"
        "    if not os.fork(): time.sleep(1000)\n"
        "time.sleep(2)\n"
        f"{RIGHT}",
        0,
    ),
}  # fmt: skip

# What reads a submission, or shows it, meets these.
TEXTS = {
    "writes_a_formula_without_end": "\\begin{a}" * 20_000,
    "writes_a_page_that_runs": (
        "<script>alert(1)</script> <img src=x onerror=alert(1)> "
        "[a link](javascript:alert(1))"
    ),
}


if homework.landlock_version() >= 6:
    CLASS["kills_the_grader"] = (
        "import os, signal\n"
        "def double(x):\n"
        "    os.kill(os.getppid(), signal.SIGKILL)\n"
        "    return 2 * x",
        3,
    )


NEEDS_LANDLOCK = {
    "looks_at_the_tests_process",
    "unblocks_what_is_forbidden", "reads_the_solutions", "finds_the_course",
    "reads_other_students", "writes_elsewhere", "calls_home",
}  # fmt: skip


def tampered(released):
    """Return submissions whose attack is on the notebook's form."""
    base = {"double": WRONG, "total": TOTAL}

    edited = submit(released, {**base, "test_double": "pass"})
    deleted = submit(released, base)
    deleted.cells = [
        each
        for each in deleted.cells
        if each.metadata.get("nbgrader", {}).get("grade_id") != "test_double"
    ]
    relabelled = submit(released, {**base, "test_double": "pass"})
    for each in relabelled.cells:
        if each.metadata.get("nbgrader", {}).get("grade_id") == "test_double":
            each.metadata.nbgrader.update(
                grade=False, solution=True, locked=False, points=1000
            )
            each.metadata.tags = ["skip-execution"]
    doubled = submit(released, base)
    doubled.cells.insert(0, cell("pass", "test_double", "test", 1000))
    doubled.cells.append(cell("pass", "extra", "test", 1000))
    kernel = submit(released, base)
    kernel.metadata.kernelspec = {"name": "bash", "language": "R"}
    kernel.metadata.kerasllm = {"graded": [], "forbidden": []}
    redefined = submit(released, {**base, "one": "def one():\n    return 3.5"})
    return {
        "edits_a_test": edited,
        "deletes_a_test": deleted,
        "relabels_a_test": relabelled,
        "repeats_a_test": doubled,
        "changes_the_kernel": kernel,
        "edits_a_helper": redefined,
    }
