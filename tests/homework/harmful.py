"""Attacks on those who come after, and on the programs that grade."""

from tests.homework.tiny_course import RIGHT, WRONG

# What one leaves to those after it, or takes from them. `ANY`: it may earn
# something or nothing, as long as the others earn what they deserve.
ANY = "any"
HARMFUL = {
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
        "number = libc.shmget(0x4b4c4d, 4096, 0o1666)\n"
        "if number >= 0:\n"
        "    ctypes.memmove(libc.shmat(number, None, 0), b'code', 4)",
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

# What others can reach or keep, or the grader's own programs stumble over.
_KEY = "libc = __import__('ctypes').CDLL(None)\n"
HARMFUL |= {
    "leaves_a_key": (
        f"{RIGHT}\n{_KEY}"
        "libc.syscall(248, b'user', b'kerasllm', b'code', 4, -4)",
        5,
    ),
    "finds_the_key_of_others": (
        f"{_KEY}"
        "def double(x):\n"
        "    if libc.syscall(250, 10, -4, b'user', b'kerasllm', 0) >= 0:\n"
        "        return 2 * x",
        3,
    ),
    "limits_the_grader": (
        "import os, resource\n"
        "def double(x):\n"
        "    resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))\n"
        "    return 2 * x",
        3,
    ),
    "digs_deep": (
        f"{RIGHT}\n"
        "import os\n"
        "here = os.getcwd()\n"
        "for _ in range(3000): os.mkdir('d'); os.chdir('d')\n"
        "os.chdir(here)",
        5,
    ),
    "answers_deeply": (
        "import sys, base64\n"
        "servant = sys.modules['homework_servant']\n"
        "serve = servant.serve\n"
        "def answer(request):\n"
        "    if b'double' in base64.b64decode(request):\n"
        "        return base64.b64encode(b'[' * 10**6).decode()\n"
        "    return serve(request)\n"
        "servant.serve = answer",
        3,
    ),
    "shows_what_no_notebook_can_hold": (
        f"{RIGHT}\n"
        "import json\n"
        "from IPython.display import Javascript, display\n"
        "kernel = get_ipython().kernel\n"
        "kernel.session.pack = lambda content: json.dumps(\n"
        "    content, default=str).encode()\n"
        "display(Javascript('alert(1)'))\n"
        "display({'text/plain': 5, 'image/png': [1, {}]}, raw=True)\n"
        "def show(kind, **content):\n"
        "    kernel.session.send(kernel.iopub_socket, kind, content,\n"
        "        parent=kernel.get_parent('shell'), ident=b'x')\n"
        "show('stream', name='stdin', text='x')\n"
        "show('stream', name='stdout', text=['x', 1])\n"
        "show('stream', name='stdout', text='half \\ud800')\n"
        "show('error', ename=1, evalue=None, traceback='x')\n"
        "show('display_data', data='x', metadata=[])\n"
        "show('execute_input', code=1, execution_count='x')\n"
        "show('comm_open', comm_id='a', target_name='jupyter.widget',\n"
        "     data={'state': {'_model_module': '@jupyter-widgets/output',\n"
        "                     '_model_name': 'OutputModel', 'msg_id': 1}})\n"
        "show('comm_msg', comm_id='a', data=5)\n"
        "show('unheard_of')",
        5,
    ),
    "kills_its_group": (f"{RIGHT}\nimport os\nos.kill(0, 9)", 0),
}  # fmt: skip

# What reads a submission, or shows it, meets these.
TEXTS = {
    "writes_a_formula_without_end": "\\begin{a}" * 20_000,
    "writes_a_page_that_runs": (
        "<script>alert(1)</script> <img src=x onerror=alert(1)> "
        "[a link](javascript:alert(1))"
    ),
}
