"""Process-wide settings for speed, applied by one explicit call.

Importing this package changes nothing. A program that wants the speed calls
`kerasllm.backend.set_up()`.
"""

import contextlib
import ctypes
import functools
import os
import platform

from kerasllm import files
from kerasllm.backend._devices import gpu, name

# Files of NVIDIA's driver, of the driver in Windows' Linux, and of AMD's.
GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
CACHE_BYTES = 2**28  # 256 MiB; one small model takes a few megabytes


@functools.cache
def set_up():
    """Set up this process for fast training and generation.

    Call it once, early. It does four things, which last as long as the
    process:

    - On a machine with a GPU, it keeps TensorFlow, which reads the text on
      every backend, off the GPUs when another backend computes
      (`keep_tensorflow_off_gpus`).
    - On JAX, it keeps compiled functions in a folder for the next process
      (`keep_compiled_functions`).
    - On a CPU with glibc and JAX, it lets all threads share one memory arena.
    - On a CPU with glibc, it keeps the memory that a training step frees
      (`keep_freed_memory`). This saves up to a third of a step on JAX. The
      process then holds as much memory as it needed at its peak.

    Without this call, everything works and gives the same results. The
    commands of `kerasllm` and the chapters call it, and your program may too.
    """
    _share_memory_among_threads()
    keep_compiled_functions()
    if _may_have_gpu():
        keep_tensorflow_off_gpus()
    keep_freed_memory()


def keep_tensorflow_off_gpus():
    """Leave the GPUs to the running backend, unless that is TensorFlow.

    TensorFlow tokenizes and batches the text on every backend. Its first
    operation would otherwise take nearly all the memory of every GPU.
    """
    if name() == "tensorflow":
        return
    import tensorflow as tf

    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:  # TensorFlow already uses them, on someone's request
        pass


def _may_have_gpu():
    """Return whether the process may use a GPU, without starting JAX.

    Once JAX has started, the number of CPU devices and the number of
    processes can no longer be set.
    """
    if name() == "jax":
        return any(map(os.path.exists, GPU_FILES))
    return gpu() is not None


def _mallopt(option, value):
    """Set an option of `malloc` if the C library is glibc; see `mallopt(3)`."""
    if platform.system() == "Linux":
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)
        if set_option is not None:  # musl does not have it
            set_option(option, value)


def _share_memory_among_threads():
    """Let all threads take memory from one arena, where it can be kept.

    glibc gives each thread an arena of its own, with room for blocks of up to
    64 MB. It returns larger blocks to Linux, even after `keep_freed_memory`. A
    thread stays with its first arena, so this call must come before JAX starts
    its threads. It does nothing where the files of a GPU driver exist: many
    threads may prepare text there and would wait for one another.
    """
    if name() == "jax" and not _may_have_gpu():
        _mallopt(-8, 1)  # M_ARENA_MAX in <malloc.h>


@functools.cache
def keep_freed_memory():
    """Let the C library keep the memory that a training step frees.

    A step takes and frees hundreds of megabytes. glibc returns large blocks
    to Linux, which must clear their pages each time they are taken again. On
    JAX this costs a third of a training step on a CPU. After this call, the
    process keeps all the memory that it needed at its peak. The call does
    nothing where there may be a GPU, or where the C library is not glibc.
    """
    if _may_have_gpu():
        return
    # The numbers are from <malloc.h>.
    _mallopt(-4, 0)  # M_MMAP_MAX: no block has pages of its own,
    _mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap's end is never cut off,
    _mallopt(-2, 2**28)  # M_TOP_PAD: and it grows in large pieces


def make_devices_of_cores(count):
    """Let JAX treat the CPU as several devices, unless it has started already.

    XLA gives much of a training step to a single core, such as loops over
    products of one head each. Several devices work on their parts at the same
    time. GPUs are not affected, and the user's own settings are kept.

    Args:
        count: int. Number of devices.
    """
    import jax

    is_set = jax.config.jax_num_cpu_devices != -1 or (
        "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    )
    if not is_set:
        with contextlib.suppress(RuntimeError):  # JAX has already started
            jax.config.update("jax_num_cpu_devices", count)


def keep_compiled_functions():
    """Keep what JAX compiles on disk, so that the next start is faster.

    The folder is `$KERAS_HOME/kerasllm/compiled` (`KERAS_HOME` defaults to
    `~/.keras`). It may be deleted at any time. What was not used for the
    longest time is removed when it exceeds 256 MiB. Without a folder that can
    be written to, nothing is kept. JAX's own settings come first: with
    `JAX_COMPILATION_CACHE_DIR` or `JAX_ENABLE_COMPILATION_CACHE=false` this
    call changes nothing. Other backends have no such cache.
    """
    if name() != "jax":
        return
    import jax

    if (
        jax.config.jax_compilation_cache_dir is not None
        or not jax.config.jax_enable_compilation_cache
    ):
        return
    try:
        folder = files.cache_dir("compiled")
    except OSError:
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
    # JAX's own limit of a second leaves out nearly all of a small model.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_compilation_cache_dir", str(folder))
