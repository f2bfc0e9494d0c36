"""Llama, Llama 3 and what GGUF files hold (Touvron et al., 2023)."""

import keras_hub
from keras import ops

from kerasllm.generation.families._attention import (
    attend,
    cache_spec,
    frequencies_of,
    rotate,
    rotation,
    scale_of,
    score,
    split_heads,
)
from kerasllm.generation.families._plain import is_keras_hubs
from kerasllm.layers import apply_dense

_OWN = keras_hub.models.LlamaCausalLM.call_with_cache


class Llama:
    """Reads tokens of a Llama; see `Plain` for the methods.

    Args:
        causal_lm: a model for which `reads` is true.
    """

    records = takes_positions = True

    def __init__(self, causal_lm):
        self._backbone = backbone = causal_lm.backbone
        self._dtype = causal_lm.compute_dtype
        self._size = backbone.hidden_dim // backbone.num_query_heads
        first = backbone.transformer_layers[0]._self_attention_layer
        self._frequencies = frequencies_of(
            first.rotary_embedding_layer, self._size
        )

    @staticmethod
    def reads(causal_lm):
        """Return whether a model is of this family."""
        return is_keras_hubs(causal_lm, _OWN)

    def cache_spec(self, batch_size, cache_length):
        backbone = self._backbone
        heads = batch_size * backbone.num_key_value_heads
        shape = (heads, self._size, cache_length)
        return cache_spec(shape, backbone.num_layers, self._dtype)

    def read_prompt(self, token_ids, last, cache, vision=None):
        return self._read(token_ids, cache, 0, last)

    def read_more(self, token_ids, last, cache, index):
        return self._read(token_ids, cache, index, last)

    def read_token(self, token_ids, cache, index):
        return self._read(token_ids, cache, index)

    def _read(self, token_ids, cache, index, last=None):
        x = self._backbone.token_embedding(token_ids)  # (batch, length, dim)
        turn = rotation(self._frequencies, index, x.shape[1], x.dtype)
        next_cache = []
        for block, old in zip(
            self._backbone.transformer_layers, cache, strict=True
        ):
            x, new = self._block(block, x, old, index, turn)
            next_cache.append(new)
        if last is not None:
            x = ops.take(x, last[None], axis=1)
        x = self._backbone.layer_norm(x)
        return score(self._backbone.token_embedding, x), tuple(next_cache)

    def _block(self, block, x, cache, index, turn):
        residual = x
        x = block._self_attention_layernorm(x)
        attention = block._self_attention_layer
        query = split_heads(apply_dense(attention._query_dense, x))
        key = split_heads(apply_dense(attention._key_dense, x))
        value = split_heads(apply_dense(attention._value_dense, x))
        query = rotate(query, turn) * scale_of(self._size)
        x, cache = attend(query, rotate(key, turn), value, cache, index)
        x = residual = apply_dense(attention._output_dense, x) + residual
        x = block._feedforward_layernorm(x)
        gate = apply_dense(block._feedforward_gate_dense, x)
        # KerasHub computes the activation in float32.
        gate = block.activation(ops.cast(gate, "float32"))
        x = apply_dense(block._feedforward_intermediate_dense, x)
        x = x * ops.cast(gate, x.dtype)
        return apply_dense(block._feedforward_output_dense, x) + residual, cache
