"""GPT-2 (Radford et al., 2019)."""

import keras_hub
from keras import ops

from kerasllm.generation.families._family import Family
from kerasllm.generation.families._parts import project, scale_of
from kerasllm.layers import apply_dense, attend


class GPT2(Family):
    """Reads tokens of a GPT-2."""

    own_pass = keras_hub.models.GPT2CausalLM.call_with_cache

    def __init__(self, causal_lm):
        backbone = causal_lm.backbone
        head_dim = backbone.hidden_dim // backbone.num_heads
        super().__init__(causal_lm, head_dim, backbone.num_heads)

    @property
    def embeddings(self):
        return [*super().embeddings, self.backbone.position_embedding]

    def embed(self, token_ids, index=0):
        x = self.backbone.token_embedding(token_ids)
        steps = ops.arange(x.shape[1], dtype="int32")
        positions = ops.reshape(index, (-1, 1)) + steps  # (1 or batch, length)
        return x + self.backbone.position_embedding(
            x, positions=positions
        ), None

    def _read_block(self, block, x, cache, index, turns):
        residual = x
        x = block._self_attention_layer_norm(x)
        attention = block._self_attention_layer
        query, key, value = project(attention, x)
        query = query * scale_of(self._head_dim)
        x, cache = attend(query, key, value, cache, index)
        x = residual = apply_dense(attention._output_dense, x) + residual
        x = block._feedforward_layer_norm(x)
        x = apply_dense(block._feedforward_intermediate_dense, x)
        return apply_dense(block._feedforward_output_dense, x) + residual, cache
