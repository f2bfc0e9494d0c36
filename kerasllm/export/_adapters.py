"""Adapters in the format of PEFT."""

import json

import numpy as np
from keras import ops
from safetensors.numpy import save_file

from kerasllm import files, lora
from kerasllm.checks import UserError
from kerasllm.export._layouts import check_is_new, layout_of

_SMALLEST = 1e-6  # of the largest singular value


def to_peft(causal_lm, out, base=""):
    """Write the adapters of a model in the format of PEFT.

    For a kernel with heads, Keras's adapter has one matrix for all heads,
    which PEFT's format cannot express. The exported adapter has the same
    product with a larger rank: up to the number of heads times the rank of the
    original.

    Args:
        causal_lm: a model with adapters; see `to_hugging_face` for which.
        out: str or path of a new folder, for `adapter_config.json` and
            `adapter_model.safetensors`.
        base: str. The folder or name of the model that they belong to, as
            `to_hugging_face` wrote it.

    Raises:
        UserError: the model has no adapters or is of another family, or `out`
            is there already.

    Source: Hu et al., 2021, arXiv:2106.09685; Hugging Face, PEFT.
    """
    out = check_is_new(out)
    layout = layout_of(causal_lm)
    adapted = lora.adapted_layers(causal_lm)
    if not adapted:
        raise UserError(
            "The model must have adapters. Received: a model without. Call "
            "`enable_lora(model, rank=8)`, or `load_lora`."
        )
    factors = _factors(adapted, layout)
    rank = max(len(a) for a, _ in factors.values())
    tensors = {}
    for name, (a, b) in factors.items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        more = rank - len(a)  # zeros: one rank for all
        tensors[f"{module}.lora_A.weight"] = np.pad(a, ((0, more), (0, 0)))
        tensors[f"{module}.lora_B.weight"] = np.pad(b, ((0, 0), (0, more)))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(n.removesuffix(".weight") for n in factors),
        "inference_mode": True,
    }
    with files.explaining_disk_errors(out), files.whole_folder(out) as folder:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(config, indent=2), "utf-8")
        save_file(
            tensors,
            folder / "adapter_model.safetensors",
            metadata={"format": "pt"},
        )


def _factors(adapted, layout):
    """Return the two factors of each adapter, by Transformers' names."""
    names = {id(v): name for name, v in layout.variables.items()}
    factors = {}
    for _, layer in adapted:
        if id(layer._kernel) not in names:
            raise UserError(
                "Adapters must be beside layers of the text model. Received: "
                f"one at {layer.path}. PEFT has no name for it."
            )
        name = names[id(layer._kernel)]
        factors[name] = _factor(layout.to_transformers(name, _change(layer)))
    return factors


def _change(layer):
    """Return what an adapter adds to its kernel: a float array."""
    a, b = (
        ops.convert_to_numpy(ops.cast(factor, "float32")).astype("float64")
        for factor in (layer.lora_kernel_a, layer.lora_kernel_b)
    )
    return a @ b * (layer.lora_alpha / layer.lora_rank)


def _factor(change):
    """Return two matrices whose product `b @ a` is a matrix, as thin as can be.

    Args:
        change: float array `(outputs, inputs)`.

    Returns:
        float32 arrays `(rank, inputs)` and `(outputs, rank)`.
    """
    left, sizes, right = np.linalg.svd(change, full_matrices=False)
    rank = max(1, int(np.sum(sizes > _SMALLEST * sizes[0])))
    root = np.sqrt(sizes[:rank])
    a, b = root[:, None] * right[:rank], left[:, :rank] * root
    return (
        np.ascontiguousarray(a, "float32"),
        np.ascontiguousarray(b, "float32"),
    )
