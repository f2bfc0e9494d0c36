"""Llama, Llama 3 and what GGUF files hold (Touvron et al., 2023)."""

import keras_hub
from keras import ops

from kerasllm.generation.families._family import Family
from kerasllm.generation.families._parts import (
    frequencies_of,
    project,
    rotate,
    rotation,
    scale_of,
)
from kerasllm.layers import apply_dense, apply_together, attend


class Llama(Family):
    """Reads tokens of a Llama."""

    own_pass = keras_hub.models.LlamaCausalLM.call_with_cache

    def __init__(self, causal_lm):
        backbone = causal_lm.backbone
        head_dim = backbone.hidden_dim // backbone.num_query_heads
        super().__init__(causal_lm, head_dim, backbone.num_key_value_heads)
        first = backbone.transformer_layers[0]._self_attention_layer
        self._frequencies = frequencies_of(
            first.rotary_embedding_layer, head_dim
        )

    def embed(self, token_ids, index=0):
        x = self.backbone.token_embedding(token_ids)
        return x, rotation(self._frequencies, index, x.shape[1], x.dtype)

    def _read_block(self, block, x, cache, index, turns):
        residual = x
        x = _normalize(block._self_attention_layernorm, x)
        attention = block._self_attention_layer
        query, key, value = project(attention, x)
        query = rotate(query, turns) * scale_of(self._head_dim)
        x, cache = attend(query, rotate(key, turns), value, cache, index)
        x = residual = apply_dense(attention._output_dense, x) + residual
        x = _normalize(block._feedforward_layernorm, x)
        gate, x = apply_together(
            (
                block._feedforward_gate_dense,
                block._feedforward_intermediate_dense,
            ),
            x,
        )
        # KerasHub computes the activation in float32.
        gate = block.activation(ops.cast(gate, "float32"))
        x = x * ops.cast(gate, x.dtype)
        return apply_dense(block._feedforward_output_dense, x) + residual, cache


def _normalize(layer, x):
    """Return `layer(x)`, in fewer operations on PyTorch.

    Args:
        layer: a `LlamaLayerNorm`, which computes in float32.
        x: float tensor `(batch, length, hidden_dim)`.
    """
    y = ops.rms_normalization(
        ops.cast(x, "float32"), layer.scale, epsilon=layer.epsilon
    )
    return ops.cast(y, layer.compute_dtype)
