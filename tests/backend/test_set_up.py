"""What a process does once `set_up` has been called, and does not before."""

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

ready, go = threading.Event(), threading.Event()
thread = threading.Thread(target=step)
if "keep" in sys.argv[1]:
    backend.set_up()
if "thread" in sys.argv[1]:
    thread.start()
    ready.wait()
before = resident()
go.set()
if "thread" in sys.argv[1]:
    thread.join()
else:
    step()
print(resident() - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries do not do this"
)
@pytest.mark.parametrize("what", ["keep", "give back", "keep in a thread"])
def test_memory_is_kept_for_the_next_step(what):
    if "thread" in what and keras.backend.backend() != "jax":
        pytest.skip("the other backends reuse the memory of their threads")
    # Nobody else has told the C library what to do.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MALLOC_", "GLIBC_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, what],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    megabytes = float(done.stdout)
    assert 280 < megabytes < 320 if "keep" in what else megabytes < 20


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


COMPILING = """if True:
    import sys
    import jax, jax.numpy as jnp
    from kerasllm import backend
    backend.set_up()
    events = []
    note = lambda name, **others: events.append(name)
    jax.monitoring.register_event_listener(note)
    # A function that takes a while to compile.
    f = lambda x: sum(jnp.sin(x @ x + i) for i in range(40))
    jax.jit(f)(jnp.ones((8, 8)))
    print(sum(name.endswith("cache_hits") for name in events))
"""


def hits(home, **others):
    """Return how many functions a new process finds compiled."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("JAX_")
    }
    done = subprocess.run(
        [sys.executable, "-c", COMPILING],
        capture_output=True,
        text=True,
        check=True,
        env=environment | {"KERAS_HOME": str(home)} | others,
    )
    return int(done.stdout)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX's alone")
def test_what_was_compiled_is_found_by_the_next_process(tmp_path):
    home, own = tmp_path / "home", tmp_path / "own"
    assert hits(home) == 0 < hits(home)
    assert list((home / "kerasllm" / "compiled").iterdir()) != []
    # The user's own settings come first.
    hits(tmp_path / "none", JAX_COMPILATION_CACHE_DIR=str(own))
    hits(tmp_path / "none", JAX_ENABLE_COMPILATION_CACHE="false")
    assert not (tmp_path / "none" / "kerasllm").exists()


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX's alone")
def test_without_a_folder_nothing_is_kept(tmp_path):
    (tmp_path / "file").write_text("")
    assert hits(tmp_path / "file") == 0


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
