"""More than one device: which part of the work is whose.

Keras computes on several devices by itself, on JAX, once it is told how:
`data_parallel` gives every device the whole model and a part of each batch,
`model_parallel` also divides the weights. What is here says so in the terms of
this package, and refuses early what would fail late.

Several processes, on one machine or on many, call `initialize` and then do the
same as one. Each reads text of its own; the first one writes.

Source: https://keras.io/guides/distribution; Shoeybi et al., 2019,
arXiv:1909.08053 (how to divide the weights of a Transformer).
"""

import contextlib
import functools
import math
import os
import pathlib
import secrets

import keras

from kerasllm import backend, files
from kerasllm.checks import check_positive_ints

BATCH, MODEL = "batch", "model"  # the axes of a mesh of devices
MOST_CORES = 4  # that are devices unasked: each has a copy of the model


def initialize(job_addresses=None, num_processes=None, process_id=None):
    """Make this process one of several that train together.

    It must come before anything is computed. Processes find each other at the
    address of the first one; on CPUs they talk over gloo, on GPUs over NCCL.

    Args:
        job_addresses: str, `"host:port"` of process 0, the same for all.
            Defaults to `$KERAS_DISTRIBUTION_JOB_ADDRESSES`.
        num_processes: int. Defaults to `$KERAS_DISTRIBUTION_NUM_PROCESSES`.
        process_id: int in `[0, num_processes)`. Defaults to
            `$KERAS_DISTRIBUTION_PROCESS_ID`. Where neither argument nor
            variable says it, JAX asks the scheduler (Slurm, Open MPI, TPUs).

    Raises:
        ValueError: the backend is not JAX.
    """
    backend.check_several("Several processes")
    keras.distribution.initialize(job_addresses, num_processes, process_id)
    # Who has drawn random numbers before is connected only when all first
    # compute together, and gives up after half a minute of waiting there.
    # Here all come at once; later one may be busy for long with its own.
    backend.of_all_processes(False)


def process_index():
    """Return which process this is, an int. The first one, 0, writes."""
    return backend.process()[0]


def num_processes():
    """Return how many processes train together, an int."""
    return backend.process()[1]


@contextlib.contextmanager
def first_process_first():
    """Let process 0 run a block before the others, for what it leaves there.

    A vocabulary that it has trained need not be trained by them.

    Raises:
        RuntimeError: the block failed in another process.
    """
    if process_index() != 0:
        wait_for_all()
    try:
        yield
    except BaseException:
        backend.of_all_processes(True)
        raise
    if process_index() == 0:
        wait_for_all()
    wait_for_all()


@contextlib.contextmanager
def failing_together():
    """Run a block in all processes; an error in one ends it in all.

    What one process does for all, such as writing a file, may fail in it
    alone. The others would wait for it where they next compute together. So
    the block itself must not compute together.

    Raises:
        RuntimeError: the block failed in another process.
    """
    try:
        yield
    except BaseException:
        backend.of_all_processes(True)
        raise
    wait_for_all()


def wait_for_all():
    """Return when all processes have called it.

    Raises:
        RuntimeError: one of them failed in `first_process_first` or in
            `failing_together`.
    """
    failed = backend.of_all_processes(False)
    if failed.any():
        raise RuntimeError(
            "All processes of a run must go on together. Received: an error "
            f"in process {failed.argmax()}. See what it printed, and start "
            "all of them again."
        )


def check_directory(directory):
    """Check that process 0 can write to a folder and that all see it.

    Args:
        directory: str or path. It is made if need be.

    Raises:
        OSError: nothing can be written there.
        RuntimeError: another process cannot see what process 0 writes, or
            process 0 cannot write.
    """
    # A name that nobody has asked for yet: network file systems remember for
    # a while what was not there.
    number = backend.of_all_processes(secrets.randbits(31))[0]
    sign = pathlib.Path(directory, f".sign.{number}.partial")
    with failing_together():
        if process_index() == 0:
            files.check_writable(directory)
            files.remove_partial(sign.with_name("sign"))  # after a kill here
            sign.touch()
    sees = backend.of_all_processes(os.path.exists(sign))
    if process_index() == 0:
        sign.unlink(missing_ok=True)
    if not sees.all():
        raise RuntimeError(
            "All processes must see the folder that the first one writes to. "
            f"Received: directory={str(directory)!r}, in which process "
            f"{sees.argmin()} does not see a file of process 0. Use a folder "
            "on a file system that all of them share, by its full path."
        )


@contextlib.contextmanager
def only_run_in(directory):
    """Keep other runs out of a folder while a block runs.

    Args:
        directory: str or path. It is made if need be. `None` for no folder.

    Raises:
        OSError: nothing can be written there.
        RuntimeError: another run is at work there.
    """
    with contextlib.ExitStack() as stack:
        with failing_together():
            if directory is not None and process_index() == 0:
                files.check_writable(directory)
                stack.enter_context(files.locked(directory))
        yield


def data_parallel(devices="auto"):
    """Give every device the whole model and an equal part of each batch.

    Args:
        devices: `"auto"` for all devices of each process, or an int, how many
            of them.

    Returns:
        A `keras.distribution.DataParallel`, for `pretrain(distribution=...)`.
        Data sets are taken to hold what this process reads, not all.

    Raises:
        ValueError: the backend is not JAX, or there are not as many devices.
    """
    return keras.distribution.DataParallel(
        devices=_choose_devices(devices), auto_shard_dataset=False
    )


def from_options(devices, batch_size):
    """Return the distribution that command line and environment ask for.

    Cores of a CPU become devices here, if this is the only process and JAX has
    not started. It is faster, and each of them has a copy of the model.

    Args:
        devices: str, `"auto"` or a number of devices in each process. With
            `"auto"` a CPU counts for as many of its cores as can share a
            batch evenly, at most `MOST_CORES`.
        batch_size: int. Rows in a batch.

    Returns:
        A `DataParallel`, or `None` for a single device.

    Raises:
        ValueError: as `data_parallel`.
    """
    cores = backend.num_cores()
    if any(name.startswith("KERAS_DISTRIBUTION_") for name in os.environ):
        initialize()
    elif backend.has_several_devices():
        count = max(
            n
            for n in range(1, min(cores, MOST_CORES) + 1)
            if batch_size % n == 0
        )
        if devices.isdecimal() and 1 <= int(devices) <= cores:
            count = int(devices)
        backend.make_devices_of_cores(count)
    if devices == "1" and num_processes() == 1:
        return None
    found = data_parallel(int(devices) if devices.isdecimal() else devices)
    return found if found.device_mesh.devices.size > 1 else None


def describe(distribution):
    """Name what computes: `"8 devices in 2 processes: NVIDIA H100"`."""
    if distribution is None:
        return backend.device_name()
    count = f"{distribution.device_mesh.devices.size} devices"
    if num_processes() > 1:
        count += f" in {num_processes()} processes"
    return f"{count}: {backend.device_name()}"


def mini_gpt_layout_map(device_mesh):
    """Say along which axis each weight of a mini-GPT is divided.

    Attention is divided by heads and the feed-forward layer by its hidden
    units, so each half of a block needs one sum over the devices. The
    embeddings are divided by tokens, so that no device ever holds the scores
    of all of them. The rest, below one percent, is everywhere.

    Args:
        device_mesh: `keras.distribution.DeviceMesh` with the axes `"batch"`
            and `"model"`.

    Returns:
        A `keras.distribution.LayoutMap`.

    Source: Shoeybi et al., 2019, arXiv:1909.08053, section 3.
    """
    layout_map = keras.distribution.LayoutMap(device_mesh)
    layout_map[".*embedding/[a-z]+_embeddings/embeddings"] = (MODEL, None)
    attention = ".*self_attention[^/]*/"
    layout_map[f"{attention}(query|key|value)/kernel"] = (None, MODEL, None)
    layout_map[f"{attention}(query|key|value)/bias"] = (MODEL, None)
    layout_map[f"{attention}attention_output/kernel"] = (MODEL, None, None)
    layout_map[".*feed_forward_1/kernel"] = (None, MODEL)
    layout_map[".*feed_forward_1/bias"] = (MODEL,)
    layout_map[".*feed_forward_2/kernel"] = (MODEL, None)
    return layout_map


def model_parallel(
    model_devices, layout_map=mini_gpt_layout_map, devices="auto"
):
    """Divide the weights among some devices, and batches among such groups.

    Args:
        model_devices: int. How many devices share the weights.
        layout_map: callable from a `keras.distribution.DeviceMesh` to a
            `keras.distribution.LayoutMap`. For Gemma take KerasHub's
            `keras_hub.models.GemmaBackbone.get_layout_map`, whose names are
            Gemma 3's too.
        devices: see `data_parallel`.

    Returns:
        A `keras.distribution.ModelParallel`. A weight whose axis does not
        divide evenly (Gemma 3 1B has a single head of keys) is kept whole
        along that axis.

    Raises:
        ValueError: as `data_parallel`, or groups do not come out even.
    """
    check_positive_ints(model_devices=model_devices)
    names = _choose_devices(devices)
    own = len(names) // num_processes()
    groups_in_processes = own % model_devices == 0
    processes_in_groups = model_devices % own == len(names) % model_devices == 0
    if not groups_in_processes and not processes_in_groups:
        raise ValueError(
            "`model_devices` must divide the devices of each process, or be a "
            "multiple of them that divides all. Received: model_devices="
            f"{model_devices}, with {len(names)} devices, {own} in a process. "
            f"Use {math.gcd(own, model_devices)}, for one."
        )
    mesh = keras.distribution.DeviceMesh(
        (len(names) // model_devices, model_devices), (BATCH, MODEL), names
    )
    return _ModelParallel(
        layout_map=layout_map(mesh),
        batch_dim_name=BATCH,
        auto_shard_dataset=False,
    )


class _ModelParallel(keras.distribution.ModelParallel):
    """`ModelParallel` that keeps whole what does not divide evenly."""

    def get_variable_layout(self, variable):
        layout = super().get_variable_layout(variable)
        mesh = self.device_mesh
        sizes = dict(zip(mesh.axis_names, mesh.shape, strict=True))
        axes = [
            axis if axis and length % sizes[axis] == 0 else None
            for axis, length in zip(layout.axes, variable.shape, strict=True)
        ]
        return keras.distribution.TensorLayout(axes, mesh)


def data_share():
    """Return which part of each batch this process reads, and of how many.

    Processes that hold parts of the same copy of the model read the same.

    Returns:
        Two ints for `pretraining_dataset(host_index=..., num_hosts=...)`,
        under the current distribution.
    """
    distribution = keras.distribution.distribution()
    # Of a data set that Keras divides every process has all of it.
    if distribution is None or distribution.auto_shard_dataset:
        return 0, 1
    shares = min(distribution.num_processes, distribution.num_model_replicas)
    return distribution.data_shard_id, shares


def distributed(function):
    """Make the argument `distribution` of a function the current one in it.

    Without the argument the current one stays, if there is one. Afterwards it
    is what it was before.
    """

    @functools.wraps(function)
    def run(*arguments, distribution=None, **options):
        with use(distribution or keras.distribution.distribution()):
            return function(*arguments, distribution=distribution, **options)

    return run


@contextlib.contextmanager
def use(distribution):
    """Make a distribution, or `None` for none, the current one in a block."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(distribution)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def check_model(model):
    """Check that the variables of a model lie where the batches will.

    Raises:
        ValueError: the model was built for other devices.
    """
    distribution = keras.distribution.distribution()
    expected = set(backend.devices()[process_index()][:1])
    if distribution is not None:
        expected = set(distribution.device_mesh.devices.flat)
    found = set().union(*map(backend.devices_of, model.variables))
    if distribution is None and len(found) == 1:  # any one will do
        return
    if found != expected:
        raise ValueError(
            "A model must be built on the devices that train it. Received: "
            f"variables on {_list(found)}, to be trained on {_list(expected)}. "
            "Build the model in `with distribution.scope():`, and train it "
            "with `pretrain(..., distribution=distribution)`."
        )


def check_batch_size(rows):
    """Check that a batch divides evenly among the current devices.

    Args:
        rows: int, of all processes together; `None` if batches may differ.

    Raises:
        ValueError: it does not.
    """
    distribution = keras.distribution.distribution()
    parts = distribution.num_model_replicas if distribution else 1
    if distribution is not None and (rows is None or rows % parts):
        raise ValueError(
            "With several devices all batches must have the same size, a "
            f"multiple of {parts}. Received: batches of "
            f"{'different sizes' if rows is None else f'{rows} rows'}. Use "
            "such a `batch_size` with `drop_remainder=True`."
        )


def check_batches(dataset):
    """Do so for a `tf.data.Dataset` of what this process reads, or `None`."""
    if dataset is not None:
        rows = keras.tree.flatten(dataset.element_spec)[0].shape[0]
        check_batch_size(rows and rows * data_share()[1])


def _choose_devices(devices):
    """Return the names of the first so many devices of each process."""
    backend.check_several("More than one device")
    available = backend.devices()
    most = min(map(len, available))
    if devices == "auto":
        devices = most
    if not isinstance(devices, int) or not 1 <= devices <= most:
        raise ValueError(
            f'`devices` must be "auto" or an int in [1, {most}], as this '
            f"machine has {most}. Received: devices={devices!r}. "
            f"{backend.TRY_SEVERAL_DEVICES}"
        )
    return [name for names in available for name in names[:devices]]


def _list(names):
    return ", ".join(sorted(names))
