"""Where backends differ: the only room that asks which one runs.

Keras hides most differences between JAX, TensorFlow and PyTorch. What it
leaves (which precision a device is good at, what a random mask costs) is
settled here, so that the other rooms read the same on all three.
"""

import functools
import os
import pathlib
import platform

import keras
import numpy as np
from keras import ops


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
    cores = (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count()
    )
    return f"CPU ({platform.machine()}), {cores} cores"


def best_dtype_policy():
    """Choose the precision in which this device trains fastest.

    The rule, measured rather than guessed (`tests/benchmarks/NOTES.md`):

    - an NVIDIA GPU of the Ampere generation or later (compute capability
      8.0) multiplies bfloat16 at several times the speed of float32;
    - older ones (a T4 is 7.5) do so for float16, which needs loss scaling,
      and Keras does that by itself under `"mixed_float16"`;
    - a CPU with AMX tiles gains from bfloat16 under TensorFlow and PyTorch;
      JAX's CPU compiler does not use the tiles;
    - everything else is best off with float32.

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


def dropout(inputs, rate, seed):
    """Set a random share `rate` of `inputs` to zero and scale up the rest.

    On JAX a mask costs as much as a matrix product: `keras.random.dropout`
    draws a 32-bit word for each element, and each word takes twenty rounds
    of integer mixing. To keep or to drop needs fewer bits than that, so here
    one word decides for two elements. The other backends draw masks cheaply
    and keep Keras's own.

    Args:
        inputs: float tensor of any shape.
        rate: float in `[0, 1)`. On JAX it is rounded to a multiple of
            `2**-16`; the scale uses the rounded rate, so that the
            expectation is exact.
        seed: a `keras.random.SeedGenerator`.

    Returns:
        A tensor of the shape and dtype of `inputs`.
    """
    if name() != "jax":
        return keras.random.dropout(inputs, rate, seed=seed)
    import jax

    levels = 2**16
    keep = round((1 - rate) * levels)
    size = inputs.size
    words = jax.random.bits(seed.next(), ((size + 1) // 2, 1), "uint32")
    # XLA fuses this broadcast shift into the mixing; stacking the two halves
    # instead would write every word to memory first.
    halves = (words >> np.array([0, 16], "uint32")) & (levels - 1)
    mask = ops.reshape(ops.reshape(halves, -1)[:size] < keep, inputs.shape)
    return ops.where(mask, inputs * (levels / keep), 0)


def random_state():
    """Return the state of the generator behind `dropout`, for a checkpoint.

    JAX and TensorFlow draw from Keras's `SeedGenerator`s, which are variables
    of the model. PyTorch draws from one generator of the whole process.

    Returns:
        uint8 array; empty where the model's variables say it all.
    """
    if name() != "torch":
        return np.zeros(0, "uint8")
    import torch

    if gpu() and torch.cuda.is_available():
        return torch.cuda.get_rng_state().numpy()
    return torch.get_rng_state().numpy()


def set_random_state(state):
    """Set the generator to what `random_state` returned, if it fits here.

    Args:
        state: uint8 array. One from another backend or kind of device is
            passed over: masks then differ, and nothing else.
    """
    if state.size == random_state().size and name() == "torch":
        import torch

        on_gpu = gpu() and torch.cuda.is_available()
        generator = torch.cuda if on_gpu else torch
        generator.set_rng_state(torch.from_numpy(state))


@functools.cache
def _cpu_flags():
    """Return the CPU's feature flags; empty where Linux does not list them."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith("flags"))
    return frozenset(next(lines, "").split())
