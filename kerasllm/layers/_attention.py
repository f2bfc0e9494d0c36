"""Causal self-attention with its arithmetic written out."""

import math

import keras
from keras import layers, ops

from kerasllm import backend

# Up to this many positions, reading the matrix is all that a product costs.
FEW_POSITIONS = 64


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
        # A single query reads the whole cache for one product. In this layout
        # both products read contiguous memory, and XLA needs no copy. At 2,048
        # positions it is 15 times as fast on a CPU as the layout of the
        # projections.
        query = self._split_heads(apply_dense(self._query_dense, inputs))
        keys = self._split_heads(apply_dense(self._key_dense, inputs))
        values = self._split_heads(apply_dense(self._value_dense, inputs))
        keys = ops.swapaxes(keys, 1, 2)  # (batch * heads, key_dim, targets)
        index = cache_update_index
        if not backend.is_scalar(index):  # one for each head of each sequence
            index = ops.repeat(index, self._num_heads)  # (batch * heads,)
        keys = backend.write_cache(cache[0], index, keys, axis=2)
        values = backend.write_cache(cache[1], index, values, axis=1)
        targets = ops.arange(inputs.shape[1], dtype="int32")[:, None]
        sources = ops.arange(keys.shape[-1], dtype="int32")
        if not backend.is_scalar(index):
            index = index[:, None, None]  # (batch * heads, 1, 1)
        visible = sources <= targets + index  # (..., targets, sources)
        query = query * (1 / math.sqrt(self._key_dim))
        scores = ops.matmul(query, keys)  # (batch * heads, targets, sources)
        outputs = ops.matmul(attention_weights(scores, visible), values)
        outputs = ops.reshape(
            outputs, (-1, self._num_heads, *outputs.shape[1:])
        )  # (batch, heads, targets, key_dim)
        outputs = ops.transpose(outputs, (0, 2, 1, 3))
        return apply_dense(self._output_dense, outputs), (keys, values)

    def _split_heads(self, x):
        """Map `(batch, length, heads, size)` to `(batch * heads, ...)`."""
        x = ops.transpose(x, (0, 2, 1, 3))  # (batch, heads, length, size)
        return ops.reshape(x, (-1, *x.shape[2:]))  # (batch * heads, ...)


def apply_dense(layer, inputs):
    """Return `layer(inputs)`, faster when there are only a few positions.

    Args:
        layer: a built `Dense`, or an `EinsumDense` of Keras's attention layer.
        inputs: float tensor `(batch, length, ...)`.
    """
    # Quantized and LoRA layers have other weights and other arithmetic.
    special = layer.quantization_mode or layer.lora_enabled
    if special or not are_few(inputs):
        return layer(inputs)
    positions = inputs.shape[0] * inputs.shape[1]
    x = ops.reshape(inputs, (positions, -1))  # (batch * length, size)
    kernel = ops.cast(ops.reshape(layer.kernel, (x.shape[1], -1)), x.dtype)
    outputs = backend.multiply_few_rows(x, kernel)
    # (batch, length, heads, key_dim), or (batch, length, size)
    shape = layer.compute_output_shape(inputs.shape)[2:]
    outputs = ops.reshape(outputs, (*inputs.shape[:2], *shape))
    if layer.bias is not None:
        outputs = outputs + ops.cast(layer.bias, x.dtype)
    return outputs if layer.activation is None else layer.activation(outputs)


def are_few(inputs):
    """Return whether a product with `(batch, ..., size)` is memory-bound."""
    shape = inputs.shape[:-1]
    return None not in shape and math.prod(shape) <= FEW_POSITIONS


def attention_weights(scores, mask):
    """Take a float32 softmax over the last axis, where `mask` is true.

    Args:
        scores: float tensor of any shape.
        mask: bool tensor that can be broadcast to it, or `None`.

    Returns:
        A tensor of the shape and dtype of `scores`.
    """
    weights = ops.cast(scores, "float32")
    if mask is not None:
        # This is finite, so a target without any source gets equal weights
        # instead of NaN. Such padding is never read.
        weights = ops.where(mask, weights, -1e9)
    return ops.cast(ops.softmax(weights, axis=-1), scores.dtype)
