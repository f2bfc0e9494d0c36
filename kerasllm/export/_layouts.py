"""Which variable of a model is which weight of Transformers."""

import dataclasses
import os
from collections.abc import Callable

import keras_hub
import numpy as np

from kerasllm import backend, gguf, lora
from kerasllm.checks import UserError, check_path

_GEMMA_OUTER = {
    "embed_tokens.weight": "token_embedding/embeddings",
    "norm.weight": "final_normalization/scale",
}
# In each block: Transformers' layer, and KerasHub's variable.
_GEMMA_INNER = {
    "input_layernorm": "pre_attention_norm/scale",
    "self_attn.q_proj": "attention/query/kernel",
    "self_attn.k_proj": "attention/key/kernel",
    "self_attn.v_proj": "attention/value/kernel",
    "self_attn.q_norm": "attention/query_norm/scale",
    "self_attn.k_norm": "attention/key_norm/scale",
    "self_attn.o_proj": "attention/attention_output/kernel",
    "post_attention_layernorm": "post_attention_norm/scale",
    "pre_feedforward_layernorm": "pre_ffw_norm/scale",
    "mlp.gate_proj": "ffw_gating/kernel",
    "mlp.up_proj": "ffw_gating_2/kernel",
    "mlp.down_proj": "ffw_linear/kernel",
    "post_feedforward_layernorm": "post_ffw_norm/scale",
}
_HEADS_FIRST = ("q_proj.weight", "k_proj.weight", "v_proj.weight")


@dataclasses.dataclass(frozen=True)
class Layout:
    """A model as Transformers sees it.

    Attributes:
        variables: dict from Transformers' names to `keras.Variable`s.
        to_transformers: a function from a name and an array of KerasHub's to
            Transformers' array.
    """

    variables: dict
    to_transformers: Callable

    def arrays(self):
        """Yield pairs of a name and a float32 array, one at a time."""
        for name, variable in self.variables.items():
            array = backend.to_numpy(variable).astype("float32")
            array = self.to_transformers(name, array)
            yield name, np.ascontiguousarray(array)


def layout_of(causal_lm):
    """Return the `Layout` of a model.

    Raises:
        UserError: it is of a family that is not known here.
    """
    backbone = getattr(causal_lm, "backbone", None)
    if isinstance(backbone, gguf.GGUFBackbone):
        return Layout(gguf.transformers_names(backbone), gguf.to_transformers)
    if isinstance(backbone, keras_hub.models.Gemma3Backbone):
        return Layout(_gemma_names(backbone), _gemma_to_transformers)
    raise UserError(
        "`causal_lm` must be a Llama that came from a GGUF file, or a Gemma 3. "
        f"Received: a {type(causal_lm).__name__}. Save another model with "
        "`causal_lm.save_to_preset(folder)`."
    )


def _gemma_names(backbone):
    """Return the variables of Gemma's text model by Transformers' names."""
    stem = "model.language_model" if backbone.vision_encoder else "model"
    paths = {f"{stem}.{name}": path for name, path in _GEMMA_OUTER.items()}
    for i in range(backbone.num_layers):
        for layer, path in _GEMMA_INNER.items():
            name = f"{stem}.layers.{i}.{layer}.weight"
            paths[name] = f"decoder_block_{i}/{path}"
    variables = {variable.path: variable for variable in backbone.weights}
    return {
        name: variables[path]
        for name, path in paths.items()
        if path in variables  # some norms are optional
    }


def _gemma_to_transformers(name, array):
    if name.endswith("embed_tokens.weight") or array.ndim == 1:
        return array
    if name.endswith(_HEADS_FIRST):  # (num_heads, hidden_dim, head_dim)
        return np.swapaxes(array, 1, 2).reshape(-1, array.shape[1])
    return array.reshape(-1, array.shape[-1]).T


def check_merged(causal_lm):
    """Refuse a model with adapters, which would be left out.

    Raises:
        UserError: the model has adapters.
    """
    if lora.adapted_layers(causal_lm):
        raise UserError(
            "A model must be exported without adapters beside its weights. "
            f"Received: {len(lora.adapted_layers(causal_lm))} adapted layers. "
            "Call `merge_lora(causal_lm)` first, or export the adapters alone "
            "with `to_peft`."
        )


def check_is_new(path):
    """Refuse to write over something, and return a `pathlib.Path`.

    Raises:
        UserError: something is there already.
    """
    path = check_path("out", path)
    if os.path.lexists(path):
        raise UserError(
            f"`out` must be a new path. Received: {path}, which is there. "
            "Choose another, or remove it."
        )
    return path
