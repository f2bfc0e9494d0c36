"""Causal self-attention with its arithmetic written out."""

import math

import keras
from keras import layers, ops

from kerasllm import backend
from kerasllm.layers._cached import (
    apply_dense,
    apply_together,
    attend,
    attention_weights,
    split_heads,
)


@keras.saving.register_keras_serializable(package="kerasllm")
class Dropout(layers.Dropout):
    """`keras.layers.Dropout` with masks that are cheap on every backend."""

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        return backend.dropout(inputs, self.rate, self.seed_generator)


@keras.saving.register_keras_serializable(package="kerasllm")
class SelfAttention(layers.MultiHeadAttention):
    """`keras.layers.MultiHeadAttention` with its arithmetic written out.

    Weights, arguments and results are those of the Keras layer. Scores and
    softmax are computed in float32, whatever the layer's compute dtype. In
    half precision, nearby scores of a long context would become equal.

    Source: Vaswani et al., 2017, arXiv:1706.03762, section 3.2.
    """

    def _build_attention(self, rank):
        super()._build_attention(rank)
        self._dropout_layer = Dropout(self._dropout, dtype=self.dtype_policy)

    def _compute_attention(
        self,
        query,
        key,
        value,
        attention_mask=None,
        training=None,
        return_attention_scores=False,
    ):
        """Average `value`, weighted by how well each `query` fits each `key`.

        Args:
            query: `(batch, targets, num_heads, key_dim)`.
            key: `(batch, sources, num_heads, key_dim)`.
            value: `(batch, sources, num_heads, key_dim)`.
            attention_mask: bool `(1 or batch, targets, sources)`, `True`
                where a target may attend. With `None`, it attends everywhere.
            training: bool. Whether to drop attention weights at random.
            return_attention_scores: ignored; the weights are always returned.

        Returns:
            `(batch, targets, num_heads, key_dim)` and the attention weights,
            `(batch, num_heads, targets, sources)`.
        """
        # With the heads in front, each product is a product of plain matrices.
        # On XLA's CPU this saves a fifth of the time of both passes.
        query, key, value = (
            ops.transpose(x, (0, 2, 1, 3))  # (batch, heads, length, key_dim)
            for x in (query, key, value)
        )
        query = query * (1 / math.sqrt(self._key_dim))
        scores = ops.einsum("bnth,bnsh->bnts", query, key)
        if attention_mask is not None:
            attention_mask = attention_mask[:, None]  # for all heads
        weights = attention_weights(scores, attention_mask)
        dropped = self._dropout_layer(weights, training=training)
        outputs = ops.einsum("bnts,bnsh->bnth", dropped, value)
        return ops.transpose(outputs, (0, 2, 1, 3)), weights

    def call_with_cache(self, inputs, cache, cache_update_index):
        """Attend from new positions to themselves and to all earlier ones.

        Args:
            inputs: float tensor `(batch, targets, hidden_dim)`, the new
                positions only.
            cache: a pair of the keys `(batch * num_heads, key_dim,
                max_length)` and the values `(batch * num_heads, max_length,
                key_dim)`. Its memory may be reused for the returned cache.
            cache_update_index: int or int32 scalar tensor, the position of
                the first of `inputs`; or int32 `(batch,)`, one position for
                each sequence, each with a single target.

        Returns:
            A tensor with the shape of `inputs`, and the cache with the keys
            and values of the new positions in it. Later positions in the
            cache are never read.
        """
        projections = (self._query_dense, self._key_dense, self._value_dense)
        query, key, value = map(
            split_heads, apply_together(projections, inputs)
        )
        query = query * (1 / math.sqrt(self._key_dim))
        outputs, cache = attend(query, key, value, cache, cache_update_index)
        return apply_dense(self._output_dense, outputs), cache
