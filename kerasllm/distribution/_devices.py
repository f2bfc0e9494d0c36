"""Distributions: data parallel, and weights divided among devices."""

import math
import os

import keras

from kerasllm import backend
from kerasllm.checks import UserError, check_positive_ints, is_int, shown
from kerasllm.distribution._processes import initialize, num_processes

BATCH, MODEL = "batch", "model"  # the axes of a mesh of devices
MOST_CORES = 4  # used by default, since each has its own copy of the model


def data_parallel(devices="auto"):
    """Give every device the whole model and an equal part of each batch.

    Args:
        devices: `"auto"` for all devices of each process, or an int, the
            number of devices to use.

    Returns:
        A `keras.distribution.DataParallel`, for `pretrain(distribution=...)`.
        It assumes that a dataset holds only what this process reads.

    Raises:
        UserError: the running backend has only one device, or there are fewer
            devices.
    """
    return keras.distribution.DataParallel(
        devices=_choose_devices(devices), auto_shard_dataset=False
    )


def from_options(devices, batch_size):
    """Return the distribution for the options of a command.

    The cores of a CPU become devices here, if this is the only process and the
    backend has not started. This is faster, but each core then has a copy of
    the model.

    Args:
        devices: str, `"auto"` or a number of devices in each process. With
            `"auto"`, a CPU counts as the number of its cores that can share a
            batch evenly, at most `MOST_CORES`.
        batch_size: int. Sequences in a batch.

    Returns:
        A `DataParallel`, or `None` for a single device.

    Raises:
        UserError: as for `data_parallel`.
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
    """Describe the devices, as in `"8 devices in 2 processes: NVIDIA H100"`."""
    if distribution is None:
        return backend.device_name()
    count = f"{distribution.device_mesh.devices.size} devices"
    if num_processes() > 1:
        count += f" in {num_processes()} processes"
    return f"{count}: {backend.device_name()}"


def mini_gpt_layout_map(device_mesh):
    """Return the axis along which each weight of a mini-GPT is divided.

    Attention is divided by heads and the feed-forward layer by its hidden
    units, so each of the two needs one sum over the devices. The embeddings
    are divided by tokens, so that no device ever holds the scores of all
    tokens. The other weights, less than one percent, are on every device.

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
    """Divide the weights among groups of devices, and batches among groups.

    Args:
        model_devices: int. Number of devices that share the weights.
        layout_map: callable from a `keras.distribution.DeviceMesh` to a
            `keras.distribution.LayoutMap`. For Gemma, use KerasHub's
            `keras_hub.models.GemmaBackbone.get_layout_map`. Its names also fit
            Gemma 3.
        devices: see `data_parallel`.

    Returns:
        A `keras.distribution.ModelParallel`. A weight whose axis does not
        divide evenly is kept whole along that axis. (Gemma 3 1B, for example,
        has a single key head.)

    Raises:
        UserError: as for `data_parallel`, or the groups are uneven.
    """
    check_positive_ints(model_devices=model_devices)
    names = _choose_devices(devices)
    own = len(names) // num_processes()
    groups_in_processes = own % model_devices == 0
    processes_in_groups = model_devices % own == len(names) % model_devices == 0
    if not groups_in_processes and not processes_in_groups:
        raise UserError(
            "`model_devices` must divide the devices of each process, or be a "
            "multiple of them that divides all. Received: model_devices="
            f"{model_devices}, with {len(names)} devices, {own} in a process. "
            f"Use {math.gcd(own, model_devices)}, for example."
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
    """A `ModelParallel` that keeps weights whole if they divide unevenly."""

    def get_variable_layout(self, variable):
        layout = super().get_variable_layout(variable)
        mesh = self.device_mesh
        sizes = dict(zip(mesh.axis_names, mesh.shape, strict=True))
        axes = [
            axis if axis and length % sizes[axis] == 0 else None
            for axis, length in zip(layout.axes, variable.shape, strict=True)
        ]
        return keras.distribution.TensorLayout(axes, mesh)


def _choose_devices(devices):
    """Return the names of the first `devices` devices of each process."""
    backend.check_several("More than one device")
    available = backend.devices()
    most = min(map(len, available))
    if devices == "auto":
        devices = most
    if not is_int(devices) or not 1 <= devices <= most:
        raise UserError(
            f'`devices` must be "auto" or an int in [1, {most}], as this '
            f"machine has {most}. Received: devices={shown(devices)}. "
            f"{backend.TRY_SEVERAL_DEVICES}"
        )
    return [name for names in available for name in names[:devices]]
