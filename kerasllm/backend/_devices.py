"""The running backend, its devices and their capabilities."""

import contextlib
import functools
import os
import pathlib
import platform

import keras
import numpy as np
from keras import ops

from kerasllm import checks

CPU_QUOTA = "/sys/fs/cgroup/cpu.max"  # "200000 100000" or "max 100000"


def name():
    """Return the running backend: `"jax"`, `"tensorflow"` or `"torch"`."""
    return keras.backend.backend()


@functools.cache
def gpu():
    """Describe the first GPU by its name and compute capability.

    Returns:
        `None` without a GPU, else `(name, compute_capability)`, where
        `compute_capability` is a float such as `7.5` for a T4 and `None`
        for a device that is not made by NVIDIA.
    """
    if name() == "jax":
        import jax

        try:
            device = jax.devices("gpu")[0]
        except RuntimeError:  # this is how JAX reports that there is no GPU
            return None
        capability = getattr(device, "compute_capability", None)
        return device.device_kind, float(capability) if capability else None
    if name() == "tensorflow":
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        if not devices:
            return None
        details = tf.config.experimental.get_device_details(devices[0])
        capability = details.get("compute_capability")
        return (
            details.get("device_name", "GPU"),
            float(".".join(map(str, capability))) if capability else None,
        )
    import torch

    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability(0)
        return torch.cuda.get_device_name(0), float(f"{major}.{minor}")
    if torch.backends.mps.is_available():
        return "Apple GPU", None
    return None


def device_name():
    """Return a device name for reports: `"NVIDIA A100"`, `"CPU, 2 cores"`."""
    if gpu() is not None:
        return gpu()[0]
    cores = num_cores()
    return f"CPU ({platform.machine()}), {cores} core{'s' * (cores > 1)}"


def num_cores():
    """Return the number of CPU cores that this process may use, an int."""
    cores = os.cpu_count()
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    # A container sees all cores, but its quota may cover only a few.
    with contextlib.suppress(OSError, ValueError):
        quota, period = pathlib.Path(CPU_QUOTA).read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def best_dtype_policy():
    """Choose the precision for training on this device.

    The rule:

    - an NVIDIA GPU of the Ampere generation or later (compute capability
      8.0) multiplies bfloat16 at several times the speed of float32;
    - older ones (a T4 is 7.5) do so for float16, which needs loss scaling;
      Keras adds it automatically under `"mixed_float16"`;
    - a CPU with AMX tiles gains from bfloat16 under TensorFlow and PyTorch;
      JAX's CPU compiler does not use the tiles;
    - everything else gets float32. TensorFlow and PyTorch also gain from a
      CPU's AVX-512 instructions for bfloat16 (`tests/benchmarks/NOTES.md`).
      That choice is left to the user, because float32 results are comparable.

    Returns:
        `"mixed_bfloat16"`, `"mixed_float16"` or `"float32"`, for
        `keras.config.set_dtype_policy`.
    """
    if gpu() is not None:
        capability = gpu()[1]
        if capability is None:
            return "float32"
        return "mixed_bfloat16" if capability >= 8 else "mixed_float16"
    if name() != "jax" and "amx_bf16" in _cpu_flags():
        return "mixed_bfloat16"
    return "float32"


def process():
    """Return the index of this process and the number of processes in the run.

    Returns:
        A pair of ints. It is `(0, 1)` for a process that runs alone, which is
        always the case on TensorFlow and PyTorch.
    """
    if name() != "jax":
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def devices():
    """Return the names of all devices, one list per process.

    Only JAX can have more than one here. `keras.distribution` accepts these
    names, such as `"gpu:0"`.
    """
    if name() != "jax":
        return [["gpu:0" if gpu() else "cpu:0"]]
    import jax

    return [
        [_device_name(device) for device in jax.local_devices(index)]
        for index in range(jax.process_count())
    ]


def devices_of(variable):
    """Return the set of names of the devices that hold a Keras variable."""
    if name() != "jax":
        return set(devices()[0])
    return {_device_name(d) for d in variable.value.sharding.device_set}


def _device_name(device):
    return f"{device.platform}:{device.id}"


def to_numpy(variable):
    """Return the whole value of a variable as a NumPy array.

    If a variable is split over several processes, each must receive the parts
    of the others, so all processes of a run must call this function.

    Args:
        variable: Keras variable.
    """
    if name() == "jax" and not (
        variable.value.is_fully_addressable
        or variable.value.is_fully_replicated
    ):
        return _gather(variable.value)
    return ops.convert_to_numpy(variable)


def of_all_processes(number):
    """Return an array of the numbers that all processes have passed.

    Each process waits until all of them have called this function.

    Args:
        number: int.
    """
    if process()[1] == 1:
        return np.array([number])
    return _gather(np.array([number]))


def _gather(array):
    """Stack the values that all processes have for a JAX or NumPy array."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


@functools.cache
def _cpu_flags():
    """Return the CPU's feature flags, or nothing where Linux lists none."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith("flags"))
    return frozenset(next(lines, "").split())


# The part of an error message that tells users how to emulate several devices.
TRY_SEVERAL_DEVICES = (
    '`XLA_FLAGS="--xla_force_host_platform_device_count=8"` emulates eight '
    "devices on a CPU."
)


def has_several_devices():
    """Return whether the running backend can compute on several devices."""
    return name() == "jax"


def check_several(what):
    """Raise an error if the backend cannot use several devices or processes.

    Args:
        what: str that starts the message, such as `"Several processes"`.

    Raises:
        UserError: the running backend computes on one device only.
    """
    if not has_several_devices():
        raise checks.UserError(
            f"{what} can be used with the backend jax only. Received: "
            f"{name()}. Set KERAS_BACKEND=jax (on the command line "
            "--backend jax), or use one process and one device, which write "
            "the same files."
        )


class _LateTensorFlow:
    """TensorFlow, imported when something in it is first used.

    `tf.data` reads and batches text on every backend. But to generate text
    with another backend takes no TensorFlow, and its import takes seconds.
    """

    def __getattr__(self, name):
        import tensorflow

        return getattr(tensorflow, name)


tf = _LateTensorFlow()
