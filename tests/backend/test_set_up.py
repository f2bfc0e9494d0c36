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
