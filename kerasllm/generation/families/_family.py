"""What the families share: the pass over the blocks of a model."""

import keras
from keras import ops

from kerasllm.generation.families._parts import score


class Family:
    """Reads tokens with the weights of a KerasHub model; see `Plain`.

    A subclass has `own_pass`, the `call_with_cache` of KerasHub's class, and
    the methods `embed` and `_read_block`.

    Args:
        causal_lm: a model for which `reads` is true.
        head_dim: int. Size of a head.
        num_key_heads: int. Heads of the keys and of the values.
    """

    records = takes_positions = True

    def __init__(self, causal_lm, head_dim, num_key_heads):
        self.backbone = causal_lm.backbone
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
            for _ in range(self.backbone.num_layers)
        )

    def read_prompt(self, token_ids, last, cache, vision=None):
        return self._read(token_ids, cache, 0, last)

    def read_more(self, token_ids, cache, index, last):
        return self._read(token_ids, cache, index, last)

    def read_token(self, token_ids, cache, index):
        return self._read(token_ids, cache, index)

    def _read(self, token_ids, cache, index, last=None):
        """Read tokens at `index` and after it; score the `last` of them."""
        x, turns = self.embed(token_ids, index)
        x, cache = self.read_blocks(
            self.backbone.transformer_layers, x, turns, cache, index
        )
        return self.score(x, last), cache

    @property
    def embeddings(self):
        """The layers that `embed` uses: a list."""
        return [self.backbone.token_embedding]

    def embed(self, token_ids, index=0):
        """Return hidden states and the rotations of positions, if any.

        Args:
            token_ids: int32 `(batch_size, length)`.
            index: int, int32 scalar tensor, or int32 `(batch_size,)`: the
                position of the first token.

        Returns:
            float `(batch_size, length, hidden_dim)`, and nested tensors or
            `None`.
        """
        raise NotImplementedError

    def read_blocks(self, blocks, x, turns, cache, index):
        """Return the hidden states after some blocks, and their next cache.

        Args:
            blocks: list of layers.
            x: float `(batch_size, length, hidden_dim)`.
            turns: the rotations of `embed`.
            cache: sequence, with the keys and the values of each block.
            index: as for `embed`.
        """
        next_cache = []
        for block, old in zip(blocks, cache, strict=True):
            x, new = self._read_block(block, x, old, index, turns)
            next_cache.append(new)
        return x, tuple(next_cache)

    def score(self, x, last=None):
        """Return float32 logits `(batch_size, vocabulary_size)`.

        Args:
            x: float `(batch_size, length, hidden_dim)`, after all blocks.
            last: int32 scalar tensor, the position to score. There is one
                position only if it is `None`.
        """
        if last is not None:
            x = ops.take(x, last[None], axis=1)
        x = self.backbone.layer_norm(x)
        return score(self.backbone.token_embedding, x)

    def _read_block(self, block, x, cache, index, turns):
        """Return the hidden states after a block, and its next cache."""
        raise NotImplementedError
