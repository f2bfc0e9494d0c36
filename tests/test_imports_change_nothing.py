"""Importing the package leaves the process as it was.

What the packages change that it imports (Keras, TensorFlow and so on) is done
first and does not count. A command sets itself up by one explicit call.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parent.parent
BACKENDS = ("jax", "tensorflow", "torch")
# Runs in a process of its own, which imports what is the same on all backends
# and copies itself for each of them. A copy prints what has changed.
PROGRAM = """
import ctypes, gc, importlib, json, logging, os, pkgutil, random, resource
import signal, sys, threading, warnings

backends, before_keras, with_keras = json.loads(sys.argv[1])
for name in before_keras:
    importlib.import_module(name)
for backend in backends:
    if os.fork():
        os.wait()
        continue
    os.environ["KERAS_BACKEND"] = backend
    break
else:
    os._exit(0)
for name in with_keras:
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
print(json.dumps([keras.config.backend(), count, said]), flush=True)
os._exit(0)
"""
# TensorFlow imports Keras.
WITH_KERAS = ("keras", "keras_hub", "tensorflow", "tensorflow_datasets")
BEFORE_KERAS = (
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


@pytest.fixture(scope="module")
def changes():
    """Return how many modules were imported, and what that changed."""
    modules = [filter(is_installed, n) for n in (BEFORE_KERAS, WITH_KERAS)]
    backends = filter(is_installed, BACKENDS)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(ROOT), os.getenv("PYTHONPATH")])
        ),
    }
    arguments = json.dumps(list(map(list, [backends, *modules])))
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    return result.stderr, {
        backend: (count, said)
        for backend, count, said in map(json.loads, result.stdout.splitlines())
    }


@pytest.mark.slow
@pytest.mark.any_backend
@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
@pytest.mark.parametrize("backend", BACKENDS)
def test_imports_leave_the_process_as_it_was(backend, changes):
    if not is_installed(backend):
        pytest.skip(f"{backend} is not installed")
    errors, changes = changes
    assert backend in changes, errors[-2000:]
    count, said = changes[backend]
    assert count > 60, "modules of the package"
    assert said == []
