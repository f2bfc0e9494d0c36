"""What a process does once `set_up` has been called, and does not before."""

import json
import os
import platform
import subprocess
import sys

import keras
import pytest

MEMORY = """
import ctypes, sys, threading
from kerasllm import backend

def resident():
    with open("/proc/self/status") as status:
        return int(status.read().split("VmRSS:")[1].split()[0]) / 1024

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def step():
    libc.free(libc.malloc(10))  # gives a thread its arena
    ready.set()
    go.wait()
    blocks = [libc.malloc(100 * 2**20) for _ in range(3)]
    for block in blocks:
        ctypes.memset(ctypes.c_void_p(block), 1, 100 * 2**20)
    for block in blocks:
        libc.free(block)

def kept(in_thread):
    thread = threading.Thread(target=step)
    if in_thread:
        thread.start()
        ready.wait()
    before = resident()
    go.set()
    if in_thread:
        thread.join()
    else:
        step()
    return resident() - before

ready, go = threading.Event(), threading.Event()
if sys.argv[1] == "main":
    print(kept(in_thread=False))
ready, go = threading.Event(), threading.Event()
backend.set_up()
print(kept(in_thread=sys.argv[1] == "thread"))
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries do not do this"
)
@pytest.mark.parametrize(
    "where", [pytest.param("main", marks=pytest.mark.any_backend), "thread"]
)
def test_memory_is_kept_for_the_next_step(where):
    """After `set_up`, and not before it."""
    if where == "thread" and keras.backend.backend() != "jax":
        pytest.skip("the other backends reuse the memory of their threads")
    # Nobody else has told the C library what to do.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MALLOC_", "GLIBC_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, where],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    *given_back, kept = map(float, done.stdout.split())
    assert 280 < kept < 320
    assert len(given_back) == (where == "main")
    assert all(megabytes < 20 for megabytes in given_back)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX's alone")
def test_set_up_leaves_jax_to_be_told_of_its_devices():
    code = """if True:
        from kerasllm import backend
        backend.set_up()
        backend.make_devices_of_cores(3)
        print(len(backend.devices()[0]))
    """
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout == "3\n"


COMPILING = """
import json, os, sys
import jax, jax.numpy as jnp
from kerasllm import backend

def count_hits(home, settings):
    os.environ["KERAS_HOME"] = home
    for name, value in settings.items():
        jax.config.update(name, value)
    backend.set_up()
    events = []
    note = lambda name, **others: events.append(name)
    jax.monitoring.register_event_listener(note)
    # A function that takes a while to compile.
    f = lambda x: sum(jnp.sin(x @ x + i) for i in range(60))
    jax.jit(f)(jnp.ones((8, 8)))
    return sum(name.endswith("cache_hits") for name in events)

for case in json.loads(sys.argv[1]):
    child = os.fork()  # nothing is compiled yet
    if child == 0:
        print(count_hits(*case), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX's alone")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are copied")
def test_what_was_compiled_is_found_by_the_next_process(tmp_path):
    home, none, own = (str(tmp_path / name) for name in ("home", "none", "own"))
    (tmp_path / "file").write_text("")
    cases = [
        (home, {}),
        (home, {}),
        # The user's own settings come first.
        (none, {"jax_compilation_cache_dir": own}),
        (none, {"jax_enable_compilation_cache": False}),
        # Without a folder nothing is kept.
        (str(tmp_path / "file"), {}),
    ]
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JAX_", "XLA_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", COMPILING, json.dumps(cases)],
        capture_output=True,
        text=True,
        env=environment,
    )
    hits = [int(line) for line in done.stdout.split()]
    assert len(hits) == len(cases), done.stderr
    assert hits[0] == 0 < hits[1]
    assert hits[2:] == [0, 0, 0]
    assert list((tmp_path / "home" / "kerasllm" / "compiled").iterdir()) != []
    assert not (tmp_path / "none" / "kerasllm").exists()


@pytest.mark.any_backend  # nor does a chat, in `test_private_names.py`
@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="it is TensorFlow"
)
def test_nothing_but_text_to_be_read_imports_tensorflow():
    """Neither `set_up` nor the rooms of this package do."""
    code = """if True:
        import sys
        sys.modules["tensorflow"] = None  # KerasHub goes without
        import kerasllm
        from kerasllm import backend, chat, evaluation, tuning
        if not backend.gpu():
            backend.set_up()
        assert sys.modules["tensorflow"] is None
        del sys.modules["tensorflow"]
        print(backend.tf.constant(3).numpy(), "tensorflow" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 True\n"
