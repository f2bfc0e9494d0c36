"""A class of submissions that try to get points in other ways."""

from kerasllm import homework
from tests.homework.harmful import HARMFUL
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

CLASS |= HARMFUL

if homework.landlock_version() >= 6:
    CLASS["kills_the_grader"] = (
        "import os, signal\n"
        "def double(x):\n"
        "    os.kill(os.getppid(), signal.SIGKILL)\n"
        "    return 2 * x",
        3,
    )

# What these do, they do in a function that is called, or in their own cell, and
# the kernel is as good as before. So one notebook has them all.
IN_ONE_NOTEBOOK = [
    name
    for name in CLASS
    if name in {
        "syntax_error", "hard_codes", "catches_and_passes", "prints_a_score",
        "eats_memory_in_a_cell", "eats_memory_in_a_function",
        "equals_everything", "looks_at_the_caller",
        "looks_at_the_tests_process", "unblocks_what_is_forbidden",
        "reads_the_solutions", "reads_other_students", "finds_the_course",
        "writes_elsewhere", "calls_home", "limits_the_grader",
        "shares_memory_of_others", "finds_the_key_of_others",
        "kills_the_grader",
    }
]  # fmt: skip


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
