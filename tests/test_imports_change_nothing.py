"""Importing the package leaves the process as it was.

What the packages change that it imports (Keras, TensorFlow and so on) is done
first and does not count. A command sets itself up by one explicit call.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# Runs in a process of its own. It prints what has changed, a line each.
PROGRAM = """
import ctypes, gc, importlib, logging, os, pkgutil, random, resource, signal
import sys, threading, warnings

for name in sys.argv[1:]:
    importlib.import_module(name)
import jax, keras, numpy, tensorflow as tf

said = []

class Library(ctypes.CDLL):
    def __getattr__(self, name):
        if name == "mallopt":
            said.append("mallopt was looked up")
        return super().__getattr__(name)

ctypes.CDLL = Library

def state():
    cpu, = tf.config.list_physical_devices("CPU")
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "cores": os.sched_getaffinity(0),
        "limits": [resource.getrlimit(n) for n in range(10)],
        "signal handlers": [
            signal.getsignal(n) for n in sorted(signal.valid_signals())
        ],
        "Python's threads": threading.active_count(),
        "all threads": len(os.listdir("/proc/self/task")),
        "garbage collection": (
            gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()
        ),
        "sys.path": list(sys.path),
        "sys.meta_path": list(sys.meta_path),
        "sys.excepthook": sys.excepthook,
        "recursion limit": sys.getrecursionlimit(),
        "warnings' filters": list(warnings.filters),
        "handlers of logs": list(logging.getLogger().handlers),
        "random numbers": random.getstate(),
        "NumPy's random numbers": numpy.random.get_state()[1].tobytes(),
        "Keras's precision": keras.config.dtype_policy().name,
        "Keras's floats": keras.config.floatx(),
        "TensorFlow's devices": tf.config.get_visible_devices(),
        "TensorFlow's CPU": tf.config.get_logical_device_configuration(cpu),
        "JAX's CPU devices": jax.config.jax_num_cpu_devices,
    }

before = state()
import kerasllm
count = 0
for info in pkgutil.walk_packages(kerasllm.__path__, "kerasllm."):
    if info.name.endswith("__main__") or ".assets" in info.name:
        continue
    try:
        importlib.import_module(info.name)
        count += 1
    except ModuleNotFoundError as error:
        if error.name.startswith("kerasllm"):
            raise
after = state()
said += [
    f"{key}: {before[key]} became {after[key]}"
    for key in before if before[key] != after[key]
]
print(count, *said, sep="\\n")
"""
BEFORE = (
    "keras",
    "keras_hub",
    "tensorflow",
    "tensorflow_datasets",
    "jax",
    "torch",
    "torch.fx.experimental.proxy_tensor",
    "matplotlib.pyplot",
    "PIL.Image",
    "h5py",
    "safetensors",
    "sentencepiece",
    "typer",
    "rich.console",
    "jupyter_client",
    "nbclient",
    "nbconvert.exporters",
    "nbformat",
    "nbgrader.preprocessors",
)


def is_installed(name):
    return importlib.util.find_spec(name.partition(".")[0]) is not None


@pytest.mark.slow
@pytest.mark.any_backend
@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
@pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])
def test_imports_leave_the_process_as_it_was(backend):
    if not is_installed(backend):
        pytest.skip(f"{backend} is not installed")
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(ROOT), os.getenv("PYTHONPATH")])
        ),
    }
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)]
        + [name for name in BEFORE if is_installed(name)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    count, *changes = result.stdout.splitlines()
    assert int(count) > 60, "modules of the package"
    assert changes == []
