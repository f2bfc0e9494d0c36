"""GPT-2 (Radford et al., 2019)."""

import keras_hub
from keras import ops

from kerasllm.generation.families._attention import (
    attend,
    cache_spec,
    scale_of,
    score,
    split_heads,
)
from kerasllm.generation.families._plain import is_keras_hubs
from kerasllm.layers import apply_dense

_OWN = keras_hub.models.GPT2CausalLM.call_with_cache


class GPT2:
    """Reads tokens of a GPT-2; see `Plain` for the methods.

    Args:
        causal_lm: a model for which `reads` is true.
    """

    records = takes_positions = True

    def __init__(self, causal_lm):
        self._backbone = backbone = causal_lm.backbone
        self._dtype = causal_lm.compute_dtype
        self._size = backbone.hidden_dim // backbone.num_heads

    @staticmethod
    def reads(causal_lm):
        """Return whether a model is of this family."""
        return is_keras_hubs(causal_lm, _OWN)

    def cache_spec(self, batch_size, cache_length):
        heads = batch_size * self._backbone.num_heads
        shape = (heads, self._size, cache_length)
        return cache_spec(shape, self._backbone.num_layers, self._dtype)

    def read_prompt(self, token_ids, last, cache, vision=None):
        return self._read(token_ids, cache, 0, last)

    def read_more(self, token_ids, last, cache, index):
        return self._read(token_ids, cache, index, last)

    def read_token(self, token_ids, cache, index):
        return self._read(token_ids, cache, index)

    def _read(self, token_ids, cache, index, last=None):
        backbone = self._backbone
        x = backbone.token_embedding(token_ids)  # (batch, length, hidden_dim)
        steps = ops.arange(x.shape[1], dtype="int32")
        positions = ops.reshape(index, (-1, 1)) + steps  # (1 or batch, length)
        x = x + backbone.position_embedding(x, positions=positions)
        next_cache = []
        for block, old in zip(backbone.transformer_layers, cache, strict=True):
            x, new = self._block(block, x, old, index)
            next_cache.append(new)
        if last is not None:
            x = ops.take(x, last[None], axis=1)
        return score(backbone.token_embedding, backbone.layer_norm(x)), tuple(
            next_cache
        )

    def _block(self, block, x, cache, index):
        residual = x
        x = block._self_attention_layer_norm(x)
        attention = block._self_attention_layer
        query = split_heads(apply_dense(attention._query_dense, x))
        key = split_heads(apply_dense(attention._key_dense, x))
        value = split_heads(apply_dense(attention._value_dense, x))
        query = query * scale_of(self._size)
        x, cache = attend(query, key, value, cache, index)
        x = residual = apply_dense(attention._output_dense, x) + residual
        x = block._feedforward_layer_norm(x)
        x = apply_dense(block._feedforward_intermediate_dense, x)
        return apply_dense(block._feedforward_output_dense, x) + residual, cache
