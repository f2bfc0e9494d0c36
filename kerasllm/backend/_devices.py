"""Which backend runs, on which devices, and what they are good at."""

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
    """Describe the first GPU, as far as precision is concerned.

    Returns:
        `None` without a GPU, else `(name, compute_capability)`, where
        `compute_capability` is a float such as `7.5` for a T4 and `None`
        for a device that is not NVIDIA's.
    """
    if name() == "jax":
        import jax

        try:
            device = jax.devices("gpu")[0]
        except RuntimeError:  # JAX has no other way to say "no GPU"
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
    """Name what computes, for reports: `"NVIDIA A100..."`, `"CPU, 2 cores"`."""
    if gpu() is not None:
        return gpu()[0]
    return f"CPU ({platform.machine()}), {num_cores()} cores"


def num_cores():
    """Return on how many cores of the CPU this process may run, an int."""
    cores = os.cpu_count()
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    # A container sees all cores, and may have the time of a few.
    with contextlib.suppress(OSError, ValueError):
        quota, period = pathlib.Path(CPU_QUOTA).read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def best_dtype_policy():
    """Choose the precision to train in on this device.

    The rule:

    - an NVIDIA GPU of the Ampere generation or later (compute capability
      8.0) multiplies bfloat16 at several times the speed of float32;
    - older ones (a T4 is 7.5) do so for float16, which needs loss scaling,
      and Keras does that by itself under `"mixed_float16"`;
    - a CPU with AMX tiles gains from bfloat16 under TensorFlow and PyTorch;
      JAX's CPU compiler does not use the tiles;
    - everything else gets float32. TensorFlow and PyTorch also gain from a
      CPU's AVX-512 instructions for bfloat16 (`tests/benchmarks/NOTES.md`);
      there it is left to the user, for float32 is what can be compared.

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
    """Return which process of a run this is, and how many there are.

    Returns:
        `(0, 1)` for a process that is alone, which on TensorFlow and PyTorch
        every process is.
    """
    if name() != "jax":
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def devices():
    """Return the names of all devices, a list for each process.

    Only JAX has more than one here. A name is one that `keras.distribution`
    takes, such as `"gpu:0"`.
    """
    if name() != "jax":
        return [["gpu:0" if gpu() else "cpu:0"]]
    import jax

    return [
        [_device_name(device) for device in jax.local_devices(index)]
        for index in range(jax.process_count())
    ]


def devices_of(variable):
    """Return the names of the devices that hold a Keras variable, a set."""
    if name() != "jax":
        return set(devices()[0])
    return {_device_name(d) for d in variable.value.sharding.device_set}


def _device_name(device):
    return f"{device.platform}:{device.id}"


def to_numpy(variable):
    """Return the whole value of a variable, wherever its parts are.

    All processes of a run must call it: a part that lies in one has to be
    sent to the others.

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
    """Return the number that each process has passed, an array of them.

    No process goes on before all have called it.

    Args:
        number: int.
    """
    if process()[1] == 1:
        return np.array([number])
    return _gather(np.array([number]))


def _gather(array):
    """Return what all processes have of a JAX or NumPy array, side by side."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


@functools.cache
def _cpu_flags():
    """Return the CPU's feature flags; empty where Linux does not list them."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith("flags"))
    return frozenset(next(lines, "").split())


# How a message tells users to try out several devices without having them.
TRY_SEVERAL_DEVICES = (
    '`XLA_FLAGS="--xla_force_host_platform_device_count=8"` makes eight of a '
    "CPU, to try things out."
)


def has_several_devices():
    """Tell whether the running backend can compute on several devices."""
    return name() == "jax"


def check_several(what):
    """Refuse several devices or processes where the backend has but one.

    Args:
        what: str that begins the message, such as `"Several processes"`.

    Raises:
        UserError: the running backend computes on one device.
    """
    if not has_several_devices():
        raise checks.UserError(
            f"{what} can be used with the backend jax only. Received: "
            f"{name()}. Set KERAS_BACKEND=jax (on the command line "
            "--backend jax), or use one process and one device: what they "
            "write is the same."
        )
