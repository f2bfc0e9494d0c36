"""Where backends differ: the only room that asks which one runs.

Keras hides most differences between JAX, TensorFlow and PyTorch. What it
leaves (which precision a device is good at, what a random mask costs) is
settled here, so that the other rooms read the same on all three.
"""

import contextlib
import ctypes
import functools
import math
import os
import pathlib
import platform
import warnings

import keras
import numpy as np
from keras import ops

from kerasllm import checks

CPU_QUOTA = "/sys/fs/cgroup/cpu.max"  # "200000 100000" or "max 100000"
# Of NVIDIA's driver, of that in Windows' Linux, of AMD's.
GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


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
    starts its threads: when this room is imported. Where there are files of a
    GPU it is left out: there many threads may prepare text, and would wait for
    one another.
    """
    if name() == "jax" and not any(map(os.path.exists, GPU_FILES)):
        _mallopt(-8, 1)  # M_ARENA_MAX in <malloc.h>


_share_memory_among_threads()


@functools.cache
def keep_freed_memory():
    """Have the C library keep the memory that a training step frees.

    A step takes and frees hundreds of megabytes. glibc gives large blocks back
    to Linux, which clears their pages each time that they are taken again: on
    JAX a third of a step on a CPU. From here on this process takes memory for
    its largest moment and keeps it. Nothing happens on a GPU, nor where there
    is no glibc.
    """
    if gpu() is not None:
        return
    # Numbers from <malloc.h>.
    _mallopt(-4, 0)  # M_MMAP_MAX: no block has pages of its own,
    _mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap's end is never cut off,
    _mallopt(-2, 2**28)  # M_TOP_PAD: and it grows in large pieces


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


def remat(function):
    """Have what a function computes forgotten, and computed again when needed.

    `keras.remat`, but for JAX: XLA's compiler for CPUs does not keep the order
    that `jax.checkpoint` asks for. It computes all blocks of a model again at
    once, and then has all of them in memory as before. Here they wait for the
    gradients that they are needed for.

    Args:
        function: callable without side effects of (nested) tensors, the last
            of which is float; all that is worth forgetting depends on it. It
            returns a tuple that begins with a float tensor.

    Returns:
        A function with the same results and gradients.
    """
    if name() != "jax":
        return keras.remat(function)
    import jax

    @jax.custom_vjp
    def forgetful(*arguments):
        return function(*arguments)

    def forward(*arguments):
        return function(*arguments), arguments

    def backward(arguments, gradients):
        # Zero times a number of the gradient. XLA may not leave it out: it
        # would not be zero if that were infinite.
        *others, last = arguments
        wait = (0 * gradients[0].ravel()[0]).astype(last.dtype)
        return jax.vjp(function, *others, last + wait)[1](gradients)

    forgetful.defvjp(forward, backward)
    return forgetful


def remat_in_turn(function, *arrays):
    """Apply a function to one part of arrays after the other, forgetfully.

    What it computes for a part is forgotten, and computed again on the way
    back, there too for one part after the other, from the last. Gradients of
    variables are added up as they come.

    Args:
        function: callable of tensors, the first of which is float and the only
            one that has a gradient. It returns a float tensor.
        *arrays: tensors `(count, ...)`, whose parts it takes.

    Returns:
        A tensor `(count, ...)` of what it returned.
    """
    if name() == "jax":
        import jax

        # Written one after the other, XLA would work on all parts at once and
        # have what each of them needs in memory.
        return jax.lax.map(lambda parts: keras.remat(function)(*parts), arrays)
    all_parts = list(zip(*map(ops.unstack, arrays), strict=True))
    if name() == "torch":
        return ops.stack([keras.remat(function)(*p) for p in all_parts])
    return _remat_in_turn(function, all_parts)


def _remat_in_turn(function, all_parts):
    """Do so on TensorFlow, whose graphs know no order but that of data."""
    import tensorflow as tf

    def after(earlier, x):
        with tf.control_dependencies(tf.nest.flatten(earlier)):
            return tf.identity(x)

    @tf.custom_gradient
    def compute(*xs):
        results = []
        for x, (_, *others) in zip(xs, all_parts, strict=True):
            results.append(function(after(results[-1:], x), *others))

        def gradient(*upstream, variables=()):
            # `tf.recompute_grad` for each part would leave as many gradients
            # of each variable, in memory until the last one is there.
            totals, dxs = [tf.zeros_like(v) for v in variables], []
            for x, (_, *others), dy in reversed(
                list(zip(xs, all_parts, upstream, strict=True))
            ):
                x = after([dy, results[-1], *dxs[-1:], *totals], x)
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    result = function(x, *others)
                dx, *parts = tape.gradient(
                    result, [x, *variables], dy, unconnected_gradients="zero"
                )
                dxs.append(dx)
                totals = [a + b for a, b in zip(totals, parts, strict=True)]
            return dxs[::-1], totals

        return results, gradient

    return tf.stack(compute(*(parts[0] for parts in all_parts)))


def multiply_few_rows(x, matrix):
    """Multiply a few rows by a large matrix, as decoding does all the time.

    The time goes into reading the matrix. The plain product of one row does so
    on one core, and TensorFlow's XLA makes it part of a loop that reads the
    matrix in the wrong order. A batch of products of blocks is spared both.
    PyTorch needs it in float32 only: in bfloat16 another library multiplies.

    Args:
        x: float tensor `(rows, size)`.
        matrix: float tensor `(size, columns)`.

    Returns:
        float tensor `(rows, columns)`.
    """
    rows, size = x.shape
    if (name() == "jax" and rows > 1) or _is_torch_in_half(x):
        return ops.matmul(x, matrix)
    blocks = math.gcd(size, 2 if name() == "tensorflow" else 4)
    x = ops.reshape(x, (rows, blocks, size // blocks))
    matrix = ops.reshape(matrix, (blocks, size // blocks, -1))
    return ops.sum(ops.matmul(ops.swapaxes(x, 0, 1), matrix), axis=0)


def score_few_rows(x, embeddings):
    """Multiply a few rows by all embeddings, in the order they lie in memory.

    Args:
        x: float tensor `(rows, size)`.
        embeddings: float tensor `(vocabulary_size, size)`.

    Returns:
        float tensor `(rows, vocabulary_size)`.
    """
    rows, size = x.shape
    if (name() == "tensorflow" and rows == 1) or _is_torch_in_half(x):
        return ops.matmul(x, ops.transpose(embeddings))
    if name() == "tensorflow":
        return ops.transpose(ops.matmul(embeddings, ops.transpose(x)))
    # In blocks it runs on all cores, as in `multiply_few_rows`.
    blocks = math.gcd(embeddings.shape[0], 4)
    embeddings = ops.reshape(embeddings, (blocks, -1, size))
    x = ops.broadcast_to(ops.transpose(x), (blocks, size, rows))
    return ops.transpose(ops.reshape(ops.matmul(embeddings, x), (-1, rows)))


def _is_torch_in_half(x):
    return name() == "torch" and keras.backend.standardize_dtype(
        x.dtype
    ) not in ("float32", "float64")


def write_cache(cache, index, update, axis):
    """Write new entries into a key or value cache.

    Args:
        cache: float tensor. PyTorch writes into its memory; JAX and
            TensorFlow copy, unless it was given away to a compiled function.
        index: int or int32 scalar tensor, where to begin.
        update: float tensor of the shape of `cache` but for `axis`.
        axis: int, the axis of positions.

    Returns:
        The cache with `update` in it.
    """
    if name() == "torch":
        places = ops.arange(update.shape[axis], dtype="int64") + index
        return cache.index_copy_(axis, places, update)
    starts = [0] * len(cache.shape)
    starts[axis] = index
    return ops.slice_update(cache, starts, update)


def hide_value(number):
    """Keep XLA from compiling anew for each value of a number.

    TensorFlow's `slice` wants to know where it begins, and has the whole
    function compiled once for each value of an argument that says so. What
    comes out of a loop it takes as it is.

    Args:
        number: int32 scalar tensor, not negative.

    Returns:
        The same number.
    """
    if name() != "tensorflow":
        return number
    import tensorflow as tf

    start = [tf.zeros_like(number)]
    return tf.while_loop(lambda n: n < number, lambda n: number, start)[0]


def scalars(numbers):
    """Prepare numbers as arguments that may change without compiling anew.

    Args:
        numbers: dict of ints and floats.

    Returns:
        dict of scalar arrays; under PyTorch, which compiles nothing here and
        has faster operations for plain numbers, the numbers themselves.
    """
    if name() == "torch":
        return numbers
    return {
        key: np.array(value, "int32" if isinstance(value, int) else "float32")
        for key, value in numbers.items()
    }


class Compiled:
    """A function of arrays, compiled once for each set of their shapes.

    JAX and TensorFlow compile with XLA. PyTorch has no compiler that needs no
    C++ compiler beside it; there the operations are recorded once and played
    back, which saves what Python and Keras do between them.

    Args:
        function: callable of (nested tuples of) arrays, without side effects.
            Called anew with other shapes or dtypes it is compiled again.
        model: Keras model whose weights `function` uses.
        donate: dict from the position of an argument to that of the result
            which may take over its memory. The caller must not use these
            arrays again.
        record: bool. Whether PyTorch records `function`. It must not if any
            number in it comes from the value of an array: the recording would
            have that number forever.

    Attributes:
        count: int. How often it was compiled so far.
    """

    def __init__(self, function, model=None, donate=None, record=True):
        self.count = 0
        self._donate = donate or {}
        self._model = model
        self._record = record
        self._versions = {}

        def counted(*arguments):
            self.count += 1
            return function(*arguments)

        def stateless(values, *arguments):
            pairs = zip(self._variables(), values, strict=True)
            with keras.StatelessScope(state_mapping=list(pairs)):
                return counted(*arguments)

        self._function = counted if record else function
        if name() == "jax":
            import jax

            donated = [position + 1 for position in self._donate]
            self._call = jax.jit(stateless, donate_argnums=donated)
        elif name() == "tensorflow":
            import tensorflow as tf

            def assigning(values, *arguments):
                # TensorFlow gives no memory away, but variables are written
                # in place. A donated argument comes as one and stays one.
                results = stateless(values, *_read_variables(arguments))
                if self._donate:
                    results = list(results)
                for taken, given in self._donate.items():
                    variables = keras.tree.flatten(arguments[taken])
                    new = keras.tree.flatten(results[given])
                    for variable, value in zip(variables, new, strict=True):
                        variable.assign(value)
                    results[given] = ()
                return results

            # As arguments the weights make the many calls of a decoding step
            # cheap, but the first one dear. What is called once in a while
            # finds them by itself.
            self._captures = model is not None and not self._donate
            self._call = tf.function(
                counted if self._captures else assigning, jit_compile=True
            )

    def _variables(self):
        return self._model.variables if self._model is not None else []

    def __call__(self, *arguments):
        return self.bind()(*arguments)

    def bind(self):
        """Return the function with the weights that the model has now.

        Under JAX, and under TensorFlow if an argument is donated, weights are
        arguments like any other; to collect them for each token of a text
        would take time. All calls of
        what is returned must have arguments of the same shapes.
        """
        if name() == "torch":
            return self._run_torch
        if name() == "tensorflow" and self._captures:
            return self._run_captured
        values = [variable.value for variable in self._variables()]
        if name() == "jax":
            return functools.partial(self._call, values)
        return self._bind_tensorflow(values)

    def _run_captured(self, *arguments):
        arguments = _read_variables(_tensors(arguments))
        shapes = _shapes(arguments)
        # By itself TensorFlow would do the same, and warn of many shapes.
        if shapes not in self._versions:
            self._versions[shapes] = self._call.get_concrete_function(
                *arguments
            )
        return self._versions[shapes](*arguments)

    def _bind_tensorflow(self, values):
        import tensorflow as tf

        values = [tf.convert_to_tensor(value) for value in values]
        version = None

        def run(*arguments):
            nonlocal version
            arguments = [
                _as_variables(argument)
                if position in self._donate
                # Somebody else's donation may have been a variable, too.
                else _read_variables(_tensors(argument))
                for position, argument in enumerate(arguments)
            ]
            flat = [a for a in keras.tree.flatten(arguments) if a is not None]
            if version is None:
                shapes = _shapes(arguments)
                if shapes not in self._versions:
                    self._versions[shapes] = self._call.get_concrete_function(
                        values, *arguments
                    )
                version = self._versions[shapes]
            handles = [getattr(array, "handle", array) for array in flat]
            # The public way in sorts 150 arguments by name, for a quarter of
            # the time of a decoding step.
            results = version._call_flat(
                [*values, *handles], version.captured_inputs
            )
            for taken, given in self._donate.items():
                results[given] = arguments[taken]
            return results

        return run

    def _run_torch(self, *arguments):
        import torch

        with torch.no_grad():
            if not self._record:
                return self._function(*arguments)
            arguments = _tensors(arguments)
            shapes = _shapes(arguments)
            if shapes not in self._versions:
                self._versions[shapes] = _record(self._function, arguments)
            return self._versions[shapes](*arguments)


def _shapes(arguments):
    """Return what a function of nested tuples of arrays is compiled for."""
    flat = keras.tree.flatten(arguments)
    return tuple((a.shape, a.dtype) for a in flat if a is not None)


def _tensors(arguments):
    """Make tensors of all NumPy arrays in nested tuples."""
    return keras.tree.map_structure(
        lambda array: (
            ops.convert_to_tensor(array)
            if isinstance(array, np.ndarray | np.generic)
            else array
        ),
        arguments,
    )


def _read_variables(arguments):
    """Return the values of all TensorFlow variables in nested tuples."""
    import tensorflow as tf

    return keras.tree.map_structure(
        lambda array: (
            array.read_value() if isinstance(array, tf.Variable) else array
        ),
        arguments,
    )


def _as_variables(arrays):
    """Return TensorFlow variables with the values of nested tensors."""
    import tensorflow as tf

    if isinstance(keras.tree.flatten(arrays)[0], tf.Variable):
        return arrays
    return keras.tree.map_structure(tf.Variable, arrays)


def _record(function, arguments):
    """Return a PyTorch function as a flat list of its operations.

    Weights are part of it, and what is assigned to them later is seen.
    """
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    recorded = make_fx(
        function, tracing_mode="fake", _allow_non_fake_inputs=True
    )(*arguments)
    aten = torch.ops.aten
    views = {aten.permute, aten.unsqueeze, aten.view, aten.transpose, aten.t}
    views |= {aten.expand, aten.squeeze, aten._unsafe_view}
    constants = {aten.arange, aten.lift_fresh_copy}
    for number, node in enumerate(recorded.graph.nodes):
        packet = getattr(node.target, "overloadpacket", None)
        if packet in views | constants and all(
            source.op == "get_attr" for source in node.all_input_nodes
        ):
            # The view of a weight sees what is later assigned to the weight.
            value = node.target(
                *torch.fx.map_arg(
                    node.args, lambda source: getattr(recorded, source.target)
                ),
                **node.kwargs,
            )
            recorded.register_buffer(f"folded_{number}", value)
            with recorded.graph.inserting_before(node):
                folded = recorded.graph.get_attr(f"folded_{number}")
            node.replace_all_uses_with(folded)
    recorded.graph.eliminate_dead_code()
    recorded.recompile()
    with warnings.catch_warnings():
        # TorchScript has a successor, which needs a C++ compiler to play
        # operations back without Python; in Python they take twice as long.
        warnings.simplefilter("ignore")
        return torch.jit.trace(recorded, arguments, check_trace=False)


def random_state():
    """Return the state of the generator behind `dropout`, for a checkpoint.

    JAX and TensorFlow draw from Keras's `SeedGenerator`s, which are variables
    of the model. PyTorch draws from one generator of the whole process.

    Returns:
        uint8 array; empty where the model's variables say it all.
    """
    if name() != "torch":
        return np.zeros(0, "uint8")
    return _torch_generator().get_rng_state().numpy()


def set_random_state(state):
    """Set the generator to what `random_state` returned, if it fits here.

    Args:
        state: uint8 array. One from another backend or kind of device is
            passed over: masks then differ, and nothing else.
    """
    if state.size == random_state().size and name() == "torch":
        import torch

        _torch_generator().set_rng_state(torch.from_numpy(state))


def _torch_generator():
    """Return the module of PyTorch whose generator Keras's dropout uses."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda
    return torch.mps if torch.backends.mps.is_available() else torch


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
