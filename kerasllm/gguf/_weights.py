"""The weights of a Llama by the names of three libraries.

Transformers' names are in the middle: KerasHub's paths are listed beside them,
and the `gguf` package maps them to the names of its format.
"""

import gguf
import numpy as np

EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
_OUTER = {
    EMBEDDING: "token_embedding/embeddings",
    OUTPUT: "token_embedding/reverse_embeddings",
    "model.norm.weight": "sequence_output_layernorm/scale",
}
# In each block: Transformers' layer, and KerasHub's variable.
_INNER = {
    "input_layernorm": "self_attention_layernorm/scale",
    "self_attn.q_proj": "self_attention/query/kernel",
    "self_attn.k_proj": "self_attention/key/kernel",
    "self_attn.v_proj": "self_attention/value/kernel",
    "self_attn.o_proj": "self_attention/attention_output/kernel",
    "post_attention_layernorm": "feedforward_layernorm/scale",
    "mlp.gate_proj": "feedforward_gate_dense/kernel",
    "mlp.up_proj": "feedforward_intermediate_dense/kernel",
    "mlp.down_proj": "feedforward_output_dense/kernel",
}
_SPLIT_AFTER = ("q_proj.weight", "k_proj.weight", "v_proj.weight")


def transformers_names(backbone):
    """Return which variable has which name in Transformers.

    Args:
        backbone: a `Llama3Backbone` of KerasHub.

    Returns:
        dict from names, `"model.layers.0.self_attn.q_proj.weight"`, to
        `keras.Variable`s.
    """
    paths = dict(_OUTER)
    if backbone.tie_word_embeddings:
        del paths[OUTPUT]
    for i in range(backbone.num_layers):
        for layer, path in _INNER.items():
            name = f"model.layers.{i}.{layer}.weight"
            paths[name] = f"transformer_layer_{i}/{path}"
    variables = {variable.path: variable for variable in backbone.weights}
    return {name: variables[path] for name, path in paths.items()}


def gguf_names(architecture, names, num_layers):
    """Return the names in a GGUF file of weights of Transformers.

    Args:
        architecture: `gguf.MODEL_ARCH`.
        names: sequence of str.
        num_layers: int.

    Returns:
        dict from names to names.
    """
    mapped = gguf.get_tensor_name_map(architecture, num_layers)
    return {
        name: mapped.get_name(name, try_suffixes=(".weight",)) for name in names
    }


def to_keras(name, array, shape):
    """Return what KerasHub holds of a weight of Transformers.

    Args:
        name: str, that of Transformers.
        array: float array `(outputs, inputs)`, or `(size,)`.
        shape: tuple of int, that of KerasHub's variable.
    """
    return array if name == EMBEDDING else array.T.reshape(shape)


def to_transformers(name, array):
    """Return what Transformers holds of a weight of KerasHub.

    Args:
        name: str, that of Transformers.
        array: float array.
    """
    if name == EMBEDDING or array.ndim == 1:
        return array
    if name.endswith(_SPLIT_AFTER):  # (hidden_dim, num_heads, head_dim)
        return array.reshape(array.shape[0], -1).T
    return array.reshape(-1, array.shape[-1]).T


def from_rotary_order(rows, num_heads):
    """Put the rows of a query or key in the order of Transformers.

    Rotary embedding turns pairs of coordinates. ggml has those of a pair side
    by side, Transformers and KerasHub half a head apart.

    Args:
        rows: array `(num_heads * head_dim, hidden_dim)`.
        num_heads: int.
    """
    pairs = rows.reshape(num_heads, -1, 2, rows.shape[-1])
    return np.swapaxes(pairs, 1, 2).reshape(rows.shape)


def to_rotary_order(rows, num_heads):
    """Undo `from_rotary_order`."""
    halves = rows.reshape(num_heads, 2, -1, rows.shape[-1])
    return np.swapaxes(halves, 1, 2).reshape(rows.shape)
