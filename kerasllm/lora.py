"""Adapters: fine-tuning a model by a few weights beside it (section 16.3.3).

Keras's `Dense` and `EinsumDense` have LoRA built in, one layer at a time.
What a whole model needs is here: which layers, what stays frozen, and how the
adapters are saved, loaded, merged and counted.
"""

import dataclasses
import math
import numbers
import os

import h5py
import keras
import numpy as np
from keras import ops

from kerasllm.files import whole_file

# What KerasHub, Keras's attention and ours call these layers.
TARGETS = {
    "query": ("query", "query_dense"),
    "key": ("key", "key_dense"),
    "value": ("value", "value_dense"),
    # GPT-NeoX has the three in one kernel.
    "query_key_value": ("query_key_value",),
    "output": ("attention_output", "output_dense", "attention_output_dense"),
    "feed_forward": (
        "feed_forward_1",
        "feed_forward_2",
        "ffw_gating",
        "ffw_gating_2",
        "ffw_linear",
        "feedforward_intermediate_dense",
        "feedforward_gate_dense",
        "feedforward_output_dense",
        "mlp_intermediate_dense",  # BLOOM
        "mlp_output_dense",
        "dense_h_to_4h",  # Falcon
        "dense_4h_to_h",
    ),
}
TARGETS["attention"] = sum(
    (TARGETS[part] for part in TARGETS if part != "feed_forward"), ()
)
SUFFIX = ".lora.h5"


def enable_lora(model, rank=8, targets=("query", "value"), lora_alpha=None):
    """Freeze a model and put trainable adapters beside some of its layers.

    An adapted layer computes `x @ (kernel + A @ B * (lora_alpha / rank))`,
    with `B` zero at the start. Everything else is frozen, biases included, as
    PEFT does it. Compile the model afterwards: an optimizer that has met the
    old weights does not know the new ones.

    The chapter's own loop makes adapters of the same kind, and all functions
    of this room work with these, too: freeze the backbone, then for each block
    set `layer.attention.query_dense.trainable = True` and call its
    `enable_lora(rank=8)`. Adapters of a layer that stays frozen learn nothing.

    Args:
        model: a KerasHub backbone or task, or a `mini_gpt`.
        rank: int. Inner size of the adapters.
        targets: names from `TARGETS` (`"query"`, `"key"`, `"value"`,
            `"output"`, `"query_key_value"` where they are one kernel,
            `"attention"` for all of these, `"feed_forward"`) or of layers, if
            a model calls them otherwise. KerasHub's default is query and
            value, those of a vision encoder, too; the chapter's text says query
            and key.
        lora_alpha: float. Weight of the adapters, over `rank`. Defaults to
            `rank`, a weight of one.

    Returns:
        A `LoraReport`.

    Raises:
        ValueError: `rank` or `lora_alpha` is not positive, the model has
            adapters already, or a target is none of its layers.

    Source: chapter 16, "Low-Rank Adaptation (LoRA)"; Hu et al., 2021,
    arXiv:2106.09685.
    """
    targets = (targets,) if isinstance(targets, str) else tuple(targets)
    check_rank(rank)
    check_lora_alpha(lora_alpha)
    if adapted_layers(model):
        raise ValueError(
            "A model can have one set of adapters. Received: a model that has "
            f"{len(adapted_layers(model))} adapted layers. Call "
            "`merge_lora(model)` first, or load the model again."
        )
    found = {layer.name for _, layer in _layers(model)}
    unknown = [t for t in targets if not found.intersection(_names(t))]
    if unknown or not targets:
        raise ValueError(
            f"`targets` must name layers of the model: {', '.join(TARGETS)}, "
            f"or one of its own, {', '.join(sorted(found))}. Received: "
            f"targets={targets}, without a layer for {unknown or 'any'}."
        )
    names = {name for t in targets for name in _names(t)}
    chosen = [layer for _, layer in _layers(model) if layer.name in names]
    model.trainable = True
    for variable in model.variables:
        variable.trainable = False
    for layer in chosen:
        layer.enable_lora(rank, lora_alpha)
    _forget_compiled(model)
    return LoraReport.of(model)


def check_lora_alpha(lora_alpha):
    """Raise a `ValueError` unless it is a positive number or `None`."""
    is_number = isinstance(lora_alpha, numbers.Real)
    if lora_alpha is not None and not (is_number and 0 < lora_alpha < math.inf):
        raise ValueError(
            "`lora_alpha` must be positive. Received: lora_alpha="
            f"{lora_alpha!r}. Leave it out for a weight of one."
        )


def check_rank(rank):
    """Raise a `ValueError` unless `rank` is a positive int."""
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ValueError(
            "`rank` must be a positive int. Received: rank="
            f"{rank!r}. 8 is a good start."
        )


def adapted_layers(model):
    """Return the layers of a model that have an adapter, in order.

    Returns:
        list of pairs `(key, layer)`. The key, `"007_query"`, is the same for
        all models of one architecture, and for a task and its backbone.
    """
    return [(key, layer) for key, layer in _layers(model) if layer.lora_enabled]


def save_lora(model, path):
    """Write the adapters of a model, and nothing else, to a file.

    Args:
        model: a model with adapters.
        path: str or path that ends with `.lora.h5`.

    Raises:
        ValueError: the model has no adapters, or the name another ending.
    """
    path = _check_path(path)
    layers = _check_adapted(model)
    with whole_file(path, "w+b") as file, h5py.File(file, "w") as h5:
        for key, layer in layers:
            group = h5.create_group(key)
            group["a"] = ops.convert_to_numpy(layer.lora_kernel_a)
            group["b"] = ops.convert_to_numpy(layer.lora_kernel_b)
            group.attrs["rank"] = layer.lora_rank
            group.attrs["lora_alpha"] = float(layer.lora_alpha)
            group.attrs["kernel_shape"] = layer.kernel.shape


def load_lora(model, path):
    """Give a model the adapters that `save_lora` wrote.

    They are made if the model has none, with the rank and the weight that the
    file says; the rest of the model is frozen then.

    Args:
        model: a model of the architecture that the adapters are of.
        path: str or path.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another architecture, or the model has
            adapters of other sizes. Nothing is changed then.
    """
    path = _check_path(path)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"`path` must be a file that `save_lora` wrote. Received: {path}, "
            "which does not exist."
        )
    try:
        with h5py.File(path, "r") as h5:
            saved = {key: _read_adapter(h5[key]) for key in h5}
        if not saved:
            raise ValueError("it has no adapters")
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"`path` must be a file that `save_lora` wrote. Received: {path}, "
            f"which is none ({error}). A file of KerasHub's `save_lora_weights`"
            " is read by its `load_lora_weights`."
        ) from error
    layers = dict(_layers(model))
    for key, adapter in saved.items():
        layer = layers.get(key)
        shape = None if layer is None else tuple(layer.kernel.shape)
        if shape != adapter["kernel_shape"]:
            raise ValueError(
                "The adapters must be of a model with the same layers. "
                f"Received: {path} with an adapter {key} for a kernel of shape "
                f"{adapter['kernel_shape']}; the model's is {shape}. Load the "
                "preset that the adapters were trained on."
            )
        rank = adapter["rank"]
        found = adapter["a"].shape, adapter["b"].shape
        if found != ((*shape[:-1], rank), (rank, shape[-1])):
            raise ValueError(
                "Adapters must have the shapes of their kernels and the file's "
                f"rank. Received: {path} with {found} in {key}, for "
                f"a kernel of shape {shape} and rank {rank}. Write it again "
                "with `save_lora`."
            )
    present = {
        key: (layer.lora_rank, float(layer.lora_alpha))
        for key, layer in layers.items()
        if layer.lora_enabled
    }
    expected = {key: (a["rank"], a["lora_alpha"]) for key, a in saved.items()}
    if present and present != expected:
        first = min(
            key
            for key in present.keys() | expected.keys()
            if present.get(key) != expected.get(key)
        )
        raise ValueError(
            "The adapters of the model and of the file must be of one kind. "
            f"Received: {path} with (rank, alpha) {_kinds(expected)} in "
            f"{len(expected)} layers, a model with {_kinds(present)} in "
            f"{len(present)}; {first} is the first that differs. Load the "
            "adapters into the plain model."
        )
    if not present:
        model.trainable = True
        for variable in model.variables:
            variable.trainable = False
    for key, adapter in saved.items():
        layer = layers[key]
        if not present:
            layer.enable_lora(adapter["rank"], adapter["lora_alpha"])
        layer.lora_kernel_a.assign(adapter["a"])
        layer.lora_kernel_b.assign(adapter["b"])
    _forget_compiled(model)


def merge_lora(model):
    """Add the adapters to the weights that they adapt, and remove them.

    The outputs stay what they were, to rounding, and cost no more than those
    of the model without adapters. All weights are trainable afterwards.

    Args:
        model: a model with adapters.

    Raises:
        ValueError: the model has no adapters, or quantized weights, which
            cannot hold the sum.
    """
    layers = _check_adapted(model)
    quantized = [key for key, layer in layers if layer.quantization_mode]
    if quantized:
        raise ValueError(
            "Adapters can be merged into float weights only. Received: a model "
            f"with quantized layers ({', '.join(quantized[:3])}). Save the "
            "adapters, and merge them into the model before quantizing it."
        )
    for _, layer in layers:
        # `kernel` is the sum already; the assignment casts it to the dtype of
        # the weights.
        layer._kernel.assign(layer.kernel)
        layer._tracker.unlock()
        for name in ("lora_kernel_a", "lora_kernel_b"):
            layer._untrack_variable(getattr(layer, name))
            # What `del` does, but for a collection of all garbage each time,
            # half a second.
            super(keras.layers.Layer, layer).__delattr__(name)
        layer._tracker.lock()
        layer.lora_enabled = False
    model.trainable = True
    for variable in model.variables:
        # Seed states and counters never are.
        is_float = keras.backend.is_float_dtype(variable.dtype)
        variable.trainable = is_float
    _forget_compiled(model)


@dataclasses.dataclass(frozen=True)
class LoraReport:
    """What adapters save: parameters and bytes, with and without them.

    Attributes:
        trainable_parameters: int. Those of the adapters.
        total_parameters: int. Those of the model, without adapters.
        adapter_bytes: int. Size of the adapters, in memory; a file has some
            thousand bytes more.
        model_bytes: int. Size of the model's weights.
        optimizer_bytes: int. Adam's two moments for what is trainable.
        full_optimizer_bytes: int. The same for the whole model.
    """

    trainable_parameters: int
    total_parameters: int
    adapter_bytes: int
    model_bytes: int
    optimizer_bytes: int
    full_optimizer_bytes: int

    @classmethod
    def of(cls, model):
        """Count the weights of a model with adapters."""
        trainable = model.trainable_variables
        trainable_ids = {id(variable) for variable in trainable}
        frozen = [v for v in model.weights if id(v) not in trainable_ids]
        adapters = {
            id(variable)
            for _, layer in adapted_layers(model)
            for variable in (layer.lora_kernel_a, layer.lora_kernel_b)
        }
        own = frozen + [v for v in trainable if id(v) not in adapters]
        return cls(
            trainable_parameters=_size(trainable),
            total_parameters=_size(own),
            adapter_bytes=_bytes([v for v in trainable if id(v) in adapters]),
            model_bytes=_bytes(own),
            optimizer_bytes=2 * _bytes(trainable),
            full_optimizer_bytes=2 * _bytes(own),
        )

    @property
    def trainable_share(self):
        """Trainable parameters over those of the model: a float."""
        return self.trainable_parameters / self.total_parameters

    def __str__(self):
        rows = [
            ("trainable", self.trainable_parameters, self.total_parameters),
            ("trained, bytes", self.adapter_bytes, self.model_bytes),
            ("Adam, bytes", self.optimizer_bytes, self.full_optimizer_bytes),
        ]
        lines = [f"{'':16}{'with LoRA':>16}{'without':>16}{'share':>9}"]
        for name, some, all_ in rows:
            share = some / all_
            lines.append(f"{name:16}{some:16,}{all_:16,}{share:9.2%}")
        return "\n".join(lines)


def _forget_compiled(model):
    """Drop the functions that Keras and KerasHub compiled of other weights.

    TensorFlow would go on calling them: with adapters that are merged, or
    without those that are new. Not so the training step, which `compile` makes.
    """
    for name in ("predict_function", "test_function", "generate_function"):
        if hasattr(model, name):
            setattr(model, name, None)


def _layers(model):
    """Return all layers that can have an adapter, each with a key."""
    # Keras counts the blocks of a backbone forwards, and backwards those of a
    # backbone in a task. Here they have one order, that of the task.
    outermost = model._layers if hasattr(model, "backbone") else [model]
    layers = [
        layer
        for layer in _walk(outermost)
        if hasattr(layer, "enable_lora")
        and hasattr(layer, "kernel_initializer")  # no embedding, no backbone
    ]
    unique = list({id(layer): layer for layer in layers}.values())
    return [(f"{i:03}_{layer.name}", layer) for i, layer in enumerate(unique)]


def _walk(layers):
    """Yield layers at all depths, in the order of `_flatten_layers`."""
    for layer in layers:
        yield layer
        yield from _walk(reversed(layer._layers))


def _names(target):
    """Return the names of layers that a target stands for."""
    return TARGETS.get(target, (target,))


def _check_adapted(model):
    layers = adapted_layers(model)
    if not layers:
        raise ValueError(
            "The model must have adapters. Received: a model without. Call "
            "`enable_lora(model, rank=8)` first."
        )
    return layers


def _check_path(path):
    path = os.fspath(path)
    if not path.endswith(SUFFIX):
        raise ValueError(
            f"`path` must end with {SUFFIX}, as KerasHub's. Received: {path!r}."
        )
    return path


def _read_adapter(group):
    attributes = group.attrs
    return {
        "a": np.array(group["a"]),
        "b": np.array(group["b"]),
        "rank": int(attributes["rank"]),
        "lora_alpha": float(attributes["lora_alpha"]),
        "kernel_shape": tuple(int(n) for n in attributes["kernel_shape"]),
    }


def _kinds(adapters):
    return sorted(set(adapters.values()))


def _size(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


def _bytes(variables):
    return sum(_size([v]) * _item_size(v.dtype) for v in variables)


def _item_size(dtype):
    return 2 if dtype in ("bfloat16", "float16") else np.dtype(dtype).itemsize


def changing_variables(model):
    """Return the variables of a model that training can change.

    Pass the function to `resumable_fit`, so that a checkpoint leaves out what
    adapters leave frozen: the weights below them, which may be gigabytes.

    Args:
        model: any Keras model, with or without adapters.

    Returns:
        list of `keras.Variable`, in a fixed order. Without adapters these are
        all of them: a frozen weight may be one that the layer itself updates.
    """
    if not adapted_layers(model):
        return model.variables
    return [
        variable
        for variable in model.variables
        if variable.trainable
        # The state of a random generator, a counter.
        or not keras.backend.is_float_dtype(variable.dtype)
    ]
