"""What a process is set up with before it computes, by one explicit call.

Importing this package changes nothing. A program that wants the speed asks
for it: `kerasllm.backend.set_up()`.
"""

import contextlib
import ctypes
import functools
import os
import platform

from kerasllm.backend._devices import gpu, name

# Of NVIDIA's driver, of that in Windows' Linux, of AMD's.
GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


@functools.cache
def set_up():
    """Set this process up to train and generate fast; call it once, early.

    It does three things, and what they do lasts as long as the process:

    - It keeps TensorFlow, which reads the text on every backend, off the GPUs
      when another backend computes (`keep_tensorflow_off_gpus`).
    - On a CPU with glibc and JAX it has all threads share one memory arena.
    - On a CPU with glibc it has the process keep the memory that a training
      step frees (`keep_freed_memory`): up to a third of a step on JAX. The
      process then holds as much memory as its largest moment needed.

    Without it everything works and gives the same results. The commands of
    `kerasllm` and the chapters call it; a program of yours may.
    """
    _share_memory_among_threads()
    keep_tensorflow_off_gpus()
    keep_freed_memory()


def keep_tensorflow_off_gpus():
    """Leave the GPUs to the running backend, if that is not TensorFlow.

    Text is tokenized and batched by TensorFlow on every backend. At its first
    operation it would take nearly all the memory of every GPU for that.
    """
    if name() == "tensorflow":
        return
    import tensorflow as tf

    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:  # it has them already; somebody wanted that
        pass


def _may_have_gpu():
    """Tell whether a GPU may compute, without starting JAX.

    Once JAX has started, nobody can tell it how many devices a CPU has, or
    that there are other processes.
    """
    if name() == "jax":
        return any(map(os.path.exists, GPU_FILES))
    return gpu() is not None


def _mallopt(option, value):
    """Set an option of `malloc`, where that is glibc's; see `mallopt(3)`."""
    if platform.system() == "Linux":
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)
        if set_option is not None:  # musl has none
            set_option(option, value)


def _share_memory_among_threads():
    """Have all threads take memory from one place, where it can be kept.

    glibc gives threads arenas of their own, with room for blocks up to 64 MB.
    Larger ones it returns to Linux whatever `keep_freed_memory` says. A thread
    stays with the arena that it began with, so this must come before JAX
    starts its threads. Where there are files of a GPU it is left out: there
    many threads may prepare text, and would wait for one another.
    """
    if name() == "jax" and not _may_have_gpu():
        _mallopt(-8, 1)  # M_ARENA_MAX in <malloc.h>


@functools.cache
def keep_freed_memory():
    """Have the C library keep the memory that a training step frees.

    A step takes and frees hundreds of megabytes. glibc gives large blocks back
    to Linux, which clears their pages each time that they are taken again: on
    JAX a third of a step on a CPU. From here on this process takes memory for
    its largest moment and keeps it. Nothing happens where there may be a GPU,
    nor where there is no glibc.
    """
    if _may_have_gpu():
        return
    # Numbers from <malloc.h>.
    _mallopt(-4, 0)  # M_MMAP_MAX: no block has pages of its own,
    _mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap's end is never cut off,
    _mallopt(-2, 2**28)  # M_TOP_PAD: and it grows in large pieces


def make_devices_of_cores(count):
    """Have JAX take its CPU for so many devices, unless it has started.

    Much of a training step XLA gives to one core only, such as loops over
    products of one head each. Devices work on their parts at the same time.
    GPUs stay what they are, and so does what the user has set.

    Args:
        count: int.
    """
    import jax

    is_set = jax.config.jax_num_cpu_devices != -1 or (
        "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    )
    if not is_set:
        with contextlib.suppress(RuntimeError):  # that is: it has started
            jax.config.update("jax_num_cpu_devices", count)
