"""Adapters in a model: where they go, and how they become part of it."""

import contextlib
import math

import keras
import numpy as np

from kerasllm import backend
from kerasllm.checks import UserError, check_int, check_list, check_real, shown
from kerasllm.lora import _provenance
from kerasllm.lora._layers import (
    TARGETS,
    adaptable_layers,
    adapted_layers,
    check_adapted,
    forget_compiled,
    freeze,
    layer_names,
)
from kerasllm.lora._report import LoraReport


def enable_lora(model, rank=8, targets=("query", "value"), lora_alpha=None):
    """Freeze a model and add trainable adapters to some of its layers.

    An adapted layer computes `x @ (kernel + A @ B * (lora_alpha / rank))`,
    with `B` zero at the start. Everything else is frozen, including biases, as
    in PEFT. Compile the model afterward, because an optimizer that was built
    before does not know the new weights.

    The chapter's own loop makes adapters of the same kind, which all functions
    here accept: freeze the backbone, then set `query_dense.trainable = True`
    in each block and call `query_dense.enable_lora(rank=8)`.

    Args:
        model: a KerasHub backbone or task, or a `mini_gpt`.
        rank: int. Inner size of the adapters.
        targets: names from `TARGETS` (`"query"`, `"key"`, `"value"`,
            `"output"`, `"query_key_value"` where they are one kernel,
            `"attention"` for all of these, `"feed_forward"`), or names of the
            model's own layers. KerasHub's default is query and value, those
            of a vision encoder, too; the chapter's text says query and key.
        lora_alpha: float. Weight of the adapters, over `rank`. Defaults to
            `rank`, a weight of one.

    Returns:
        A `LoraReport`.

    Raises:
        UserError: `rank` or `lora_alpha` is not positive, the model has
            adapters already, or a target is none of its layers.

    Source: chapter 16, "Low-Rank Adaptation (LoRA)"; Hu et al., 2021,
    arXiv:2106.09685.
    """
    targets = _list_of(targets)
    check_rank(rank)
    check_lora_alpha(lora_alpha)
    if adapted_layers(model):
        raise UserError(
            "A model can have one set of adapters. Received: a model that has "
            f"{len(adapted_layers(model))} adapted layers. Call "
            "`merge_lora(model)` first, or load the model again."
        )
    layers = [layer for _, layer in adaptable_layers(model)]
    found = {layer.name for layer in layers}
    unknown = [t for t in targets if not found.intersection(layer_names(t))]
    if unknown or not targets:
        raise UserError(
            f"`targets` must name layers of the model: {', '.join(TARGETS)}, "
            f"or one of its own, {', '.join(sorted(found))}. Received: "
            f"targets={shown(targets)}, without a layer for "
            f"{shown(unknown) if unknown else 'any'}."
        )
    names = {name for t in targets for name in layer_names(t)}
    freeze(model)
    for layer in layers:
        if layer.name in names:
            layer.enable_lora(int(rank), lora_alpha)
    _provenance.note_loaded(model, None)
    forget_compiled(model)
    return LoraReport.of(model)


def _list_of(targets):
    """Return targets as a list, a single one too."""
    if isinstance(targets, str):
        return [targets]
    return check_list("targets", targets, "a list of names")


def check_lora_alpha(lora_alpha):
    """Refuse what is neither a positive number nor `None`.

    Raises:
        UserError: it is neither.
    """
    if lora_alpha is not None:
        check_real(
            "lora_alpha",
            lora_alpha,
            lambda value: 0 < value < math.inf,
            "positive and finite",
            cure="Leave it out for a weight of one.",
        )


def check_rank(rank):
    """Refuse a rank that is no positive int.

    Raises:
        UserError: it is none.
    """
    check_int("rank", rank, 1, cure="8 is a good start.")


def merge_lora(model):
    """Add the adapters to the weights that they adapt, and remove them.

    The outputs stay the same up to rounding, and computing them costs no more
    than in the model without adapters. Afterward, all weights are trainable.

    Args:
        model: a model with adapters.

    Raises:
        UserError: the model has no adapters, or quantized weights, which
            cannot hold the sum.
    """
    layers = check_adapted(model)
    quantized = [key for key, layer in layers if layer.quantization_mode]
    if quantized:
        raise UserError(
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
            # As `del` does, but without half a second of garbage collection
            # each time.
            super(keras.layers.Layer, layer).__delattr__(name)
        layer._tracker.lock()
        layer.lora_enabled = False
    model.trainable = True
    for variable in model.variables:
        # Seed states and counters never are.
        is_float = keras.backend.is_float_dtype(variable.dtype)
        variable.trainable = is_float
    _provenance.note_loaded(model, None)
    forget_compiled(model)


@contextlib.contextmanager
def adapters_off(model):
    """Have a model compute, inside a block, as if it had no adapters.

    `B` is zero in the block, so that nothing needs to be compiled again. Do
    not train the model there, nor use it in another thread.

    Args:
        model: a model with adapters.

    Raises:
        UserError: the model has no adapters.
    """
    variables = [layer.lora_kernel_b for _, layer in check_adapted(model)]
    # A copy: what PyTorch returns is the memory of the variable itself.
    values = [np.array(backend.to_numpy(variable)) for variable in variables]
    try:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(np.zeros_like(value))
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
