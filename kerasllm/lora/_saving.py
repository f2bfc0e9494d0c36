"""Saving and loading adapters, without the rest of the model."""

import os

import h5py
import numpy as np
from keras import ops

from kerasllm import files
from kerasllm.checks import MissingFileError, UserError, check_path, shown
from kerasllm.lora import _provenance
from kerasllm.lora._base import (
    check_base,
    check_template,
    sample_kernel,
    template_record,
)
from kerasllm.lora._layers import (
    adaptable_layers,
    check_adapted,
    forget_compiled,
    freeze,
)
from kerasllm.prompts import get_template

SUFFIX = ".lora.h5"


def save_lora(model, path, template=None):
    """Write the adapters of a model, and nothing else, to a file.

    The file also records some of the weights below the adapters, so that they
    are not loaded into the wrong model by mistake.

    Args:
        model: a model with adapters.
        path: str or path that ends with `.lora.h5`.
        template: the `PromptTemplate` that they were trained with, to be
            recorded, or `None`.

    Raises:
        UserError: the model has no adapters, or the name ends differently.
    """
    path = _check_path(path)
    template = None if template is None else get_template(template)
    layers = check_adapted(model)
    with files.whole_file(path, "w+b") as file, h5py.File(file, "w") as h5:
        if template is not None:
            h5.attrs["template"] = template_record(template)
        for key, layer in layers:
            group = h5.create_group(key)
            group.attrs["base"] = sample_kernel(layer)
            group["a"] = ops.convert_to_numpy(layer.lora_kernel_a)
            group["b"] = ops.convert_to_numpy(layer.lora_kernel_b)
            group.attrs["rank"] = layer.lora_rank
            group.attrs["lora_alpha"] = float(layer.lora_alpha)
            group.attrs["kernel_shape"] = layer.kernel.shape


def load_lora(model, path, template=None):
    """Load adapters that `save_lora` wrote into a model.

    If the model has no adapters, they are added with the rank and the scale
    that the file records, and the rest of the model is frozen.

    Args:
        model: the model that the adapters were trained on.
        path: str or path. Files of the first version do not record the model
            and the template, and are not compared with them.
        template: the `PromptTemplate` in use, or `None`.

    Raises:
        MissingFileError: there is no such file.
        UserError: the file is of another architecture, of other weights or
            another template, or the model has adapters of other sizes.
            Nothing is changed then.
    """
    path = _check_path(path)
    template = None if template is None else get_template(template)
    saved, record = _read_adapters(path)
    layers = dict(adaptable_layers(model))
    _check_shapes(saved, layers, path)
    has_adapters = _check_kinds(saved, layers, path)
    check_base(saved, layers, path)
    check_template(record, template, path)
    if not has_adapters:
        freeze(model)
    for key, adapter in saved.items():
        layer = layers[key]
        if not has_adapters:
            layer.enable_lora(adapter["rank"], adapter["lora_alpha"])
        layer.lora_kernel_a.assign(adapter["a"])
        layer.lora_kernel_b.assign(adapter["b"])
    _provenance.note_loaded(model, files.sha256(path))
    forget_compiled(model)


def _check_path(path):
    check_path("path", path)
    path = os.fspath(path)
    if not path.endswith(SUFFIX):
        raise UserError(
            f"`path` must end with {SUFFIX}, as KerasHub's. "
            f"Received: {shown(path, 200)}."
        )
    return path


def _read_adapters(path):
    """Return the adapters in a file, and the record of their template.

    Returns:
        dict of dicts, by the keys of the layers, and a str or `None`.
    """
    if not os.path.exists(path):
        raise MissingFileError(
            f"`path` must be a file that `save_lora` wrote. Received: {path}, "
            "which does not exist."
        )
    try:
        with h5py.File(path, "r") as h5:
            record = h5.attrs.get("template")
            saved = {key: _read_adapter(h5[key]) for key in h5}
        if not saved:
            raise ValueError("it has no adapters")
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"`path` must be a file that `save_lora` wrote. Received: {path}, "
            f"which is none ({error}). A file of KerasHub's `save_lora_weights`"
            " is read by its `load_lora_weights`."
        ) from error
    return saved, record


def _read_adapter(group):
    attributes = group.attrs
    return {
        "a": np.array(group["a"]),
        "b": np.array(group["b"]),
        "base": np.array(attributes.get("base", ())),
        "rank": int(attributes["rank"]),
        "lora_alpha": float(attributes["lora_alpha"]),
        "kernel_shape": tuple(int(n) for n in attributes["kernel_shape"]),
    }


def _check_shapes(saved, layers, path):
    """Check that each adapter of a file fits the layer that it is for."""
    for key, adapter in saved.items():
        layer = layers.get(key)
        shape = None if layer is None else tuple(layer.kernel.shape)
        if shape != adapter["kernel_shape"]:
            raise UserError(
                "The adapters must be of a model with the same layers. "
                f"Received: {path} with an adapter {key} for a kernel of shape "
                f"{adapter['kernel_shape']}; the model's is {shape}. Load the "
                "preset that the adapters were trained on."
            )
        rank = adapter["rank"]
        found = adapter["a"].shape, adapter["b"].shape
        if found != ((*shape[:-1], rank), (rank, shape[-1])):
            raise UserError(
                "Adapters must have the shapes of their kernels and the file's "
                f"rank. Received: {path} with {found} in {key}, for "
                f"a kernel of shape {shape} and rank {rank}. Write it again "
                "with `save_lora`."
            )


def _check_kinds(saved, layers, path):
    """Tell whether the model has adapters; they must be of the file's kind."""
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
        raise UserError(
            "The adapters of the model and of the file must be of one kind. "
            f"Received: {path} with (rank, alpha) "
            f"{sorted(set(expected.values()))} in {len(expected)} layers, a "
            f"model with {sorted(set(present.values()))} in {len(present)}; "
            f"{first} is the first that differs. Load the adapters into the "
            "plain model."
        )
    return bool(present)
