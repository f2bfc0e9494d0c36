"""What the families share: the pass over the blocks of a model."""

import keras
from keras import ops

from kerasllm.generation.families._parts import score


class Family:
    """Reads tokens with the weights of a KerasHub model; see `Plain`.

    A subclass has `own_pass`, the `call_with_cache` of KerasHub's class, and
    the methods `_embed` and `_read_block`.

    Args:
        causal_lm: a model for which `reads` is true.
        head_dim: int. Size of a head.
        num_key_heads: int. Heads of the keys and of the values.
    """

    records = takes_positions = True

    def __init__(self, causal_lm, head_dim, num_key_heads):
        self._backbone = causal_lm.backbone
        self._dtype = causal_lm.compute_dtype
        self._head_dim, self._num_key_heads = head_dim, num_key_heads

    @classmethod
    def reads(cls, causal_lm):
        """Return whether a model reads tokens as KerasHub's class does.

        It does not if somebody has given it a pass or blocks of their own.
        """
        method = getattr(causal_lm.call_with_cache, "__func__", None)
        return method is cls.own_pass and all(
            type(block).__module__.startswith("keras_hub.")
            for block in causal_lm.backbone.transformer_layers
        )

    def cache_spec(self, batch_size, cache_length):
        heads = batch_size * self._num_key_heads
        keys = (heads, self._head_dim, cache_length)
        values = (heads, cache_length, self._head_dim)
        return tuple(
            tuple(keras.KerasTensor(s, self._dtype) for s in (keys, values))
            for _ in range(self._backbone.num_layers)
        )

    def read_prompt(self, token_ids, last, cache, vision=None):
        return self._read(token_ids, cache, 0, last)

    def read_more(self, token_ids, cache, index, last):
        return self._read(token_ids, cache, index, last)

    def read_token(self, token_ids, cache, index):
        return self._read(token_ids, cache, index)

    def _read(self, token_ids, cache, index, last=None):
        """Read tokens at `index` and after it; score the `last` of them."""
        backbone = self._backbone
        x, turns = self._embed(token_ids, index)  # (batch, length, hidden_dim)
        next_cache = []
        for block, old in zip(backbone.transformer_layers, cache, strict=True):
            x, new = self._read_block(block, x, old, index, turns)
            next_cache.append(new)
        if last is not None:
            x = ops.take(x, last[None], axis=1)
        x = backbone.layer_norm(x)
        return score(backbone.token_embedding, x), tuple(next_cache)

    def _embed(self, token_ids, index):
        """Return hidden states and the rotations of positions, if any."""
        raise NotImplementedError

    def _read_block(self, block, x, cache, index, turns):
        """Return the hidden states after a block, and its next cache."""
        raise NotImplementedError
