"""Gemma 3 (Gemma Team, 2025, arXiv:2503.19786)."""

import keras
import keras_hub
from keras import ops

from kerasllm.generation.families._family import Family
from kerasllm.generation.families._parts import (
    frequencies_of,
    rotate,
    rotation,
    scale_of,
)
from kerasllm.generation.families._plain import Plain
from kerasllm.layers import (
    apply_dense,
    apply_together,
    are_few,
    attend,
    split_heads,
)


class Gemma3(Family):
    """Reads tokens of a Gemma 3.

    Prompts with images are read by KerasHub's own code, where image tokens see
    each other in both directions.
    """

    own_pass = keras_hub.models.Gemma3CausalLM.call_with_cache

    def __init__(self, causal_lm):
        backbone = causal_lm.backbone
        super().__init__(
            causal_lm, backbone.head_dim, backbone.num_key_value_heads
        )
        self._plain = Plain(causal_lm)
        # Layers with a window turn faster than the others.
        self._frequencies = {}
        for block in backbone.transformer_layers:
            kind = block.attention.use_sliding_window_attention
            if kind not in self._frequencies:
                self._frequencies[kind] = frequencies_of(
                    block.attention.rope_layer, self._head_dim
                )

    @classmethod
    def reads(cls, causal_lm):
        """Return whether a model reads tokens as this class does."""
        return (
            super().reads(causal_lm)
            and not causal_lm.backbone.use_bidirectional_attention
            # There KerasHub clips what a layer adds.
            and causal_lm.compute_dtype != "float16"
        )

    def read_prompt(self, token_ids, last, cache, vision=None):
        if vision is None:
            return super().read_prompt(token_ids, last, cache)
        length = cache[0][0].shape[-1]
        own = keras.tree.map_structure(
            lambda array: ops.zeros(array.shape, array.dtype),
            self._plain.cache_spec(token_ids.shape[0], length),
        )
        logits, own = self._plain.read_prompt(token_ids, last, own, vision)
        return logits, tuple(
            (_flat(ops.transpose(k, (0, 2, 3, 1))), _flat(split_heads(v)))
            for k, v in own
        )

    def embed(self, token_ids, index=0):
        x = self.backbone.token_embedding(token_ids)
        x = x * ops.cast(ops.sqrt(self.backbone.hidden_dim), x.dtype)
        turns = {
            kind: rotation(frequencies, index, x.shape[1], x.dtype)
            for kind, frequencies in self._frequencies.items()
        }
        return x, turns

    def _read_block(self, block, x, cache, index, turns):
        turn = turns[block.attention.use_sliding_window_attention]
        residual = x
        x = block.pre_attention_norm(x)
        x, cache = self._attend(block.attention, x, cache, index, turn)
        if block.use_post_attention_norm:
            x = block.post_attention_norm(x)
        x = residual = x + residual
        x = block.pre_ffw_norm(x)
        gate, x = apply_together((block.gating_ffw, block.gating_ffw_2), x)
        x = keras.activations.gelu(gate, approximate=True) * x
        x = apply_dense(block.ffw_linear, x)
        if block.use_post_ffw_norm:
            x = block.post_ffw_norm(x)
        return x + residual, cache

    def _attend(self, layer, x, cache, index, turn):
        query = _project(layer.query_dense, x)  # (batch, heads, length, size)
        key = _project(layer.key_dense, x)
        value = _project(layer.value_dense, x)
        if layer.use_query_key_norm:
            query, key = layer.query_norm(query), layer.key_norm(key)
        size = self._head_dim
        if not layer.query_head_dim_normalize:
            size = layer.hidden_dim // layer.num_query_heads
        query = rotate(query, turn) * scale_of(size)
        window = None
        if layer.use_sliding_window_attention:
            window = layer.sliding_window_size
        x, cache = attend(
            query,
            rotate(key, turn),
            value,
            cache,
            index,
            window,
            layer.logit_soft_cap,
        )
        return apply_dense(layer.output_dense, x), cache


def _project(dense, x):
    """Return the heads of a few positions, in the order of Gemma's kernels.

    Args:
        dense: an `EinsumDense` with a kernel `(heads, hidden_dim, size)`.
        x: `(batch, length, hidden_dim)`.

    Returns:
        `(batch, heads, length, size)`.
    """
    if dense.quantization_mode or dense.lora_enabled or not are_few(x):
        return split_heads(dense(x))
    batch, length, hidden_dim = x.shape
    x = ops.reshape(x, (1, batch * length, hidden_dim))
    kernel = ops.cast(dense.kernel, x.dtype)
    heads = ops.matmul(x, kernel)  # (heads, batch * length, size)
    heads = ops.reshape(heads, (kernel.shape[0], batch, length, -1))
    return ops.transpose(heads, (1, 0, 2, 3))


def _flat(x):
    """Map `(batch, heads, ...)` to `(batch * heads, ...)`."""
    return ops.reshape(x, (-1, *x.shape[2:]))
