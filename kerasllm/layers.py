"""The layers of the chapter, written to be used again.

`TransformerDecoder` and `PositionalEmbedding` are all that a GPT needs
(section 16.2.1); `Linear` and `LoraLinear` show how an adapter rides on a
frozen kernel (section 16.3.3). Attribute names are the chapter's, so its
weights map one to one.
"""

import math

import keras
from keras import layers, ops

from kerasllm import backend

PACKAGE = "kerasllm"
# Up to so many rows, a product costs what it costs to read the matrix.
FEW_ROWS = 64


@keras.saving.register_keras_serializable(package=PACKAGE)
class Dropout(layers.Dropout):
    """`keras.layers.Dropout` with masks that are cheap on every backend."""

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        return backend.dropout(inputs, self.rate, self.seed_generator)


@keras.saving.register_keras_serializable(package=PACKAGE)
class SelfAttention(layers.MultiHeadAttention):
    """`keras.layers.MultiHeadAttention` with its arithmetic in plain sight.

    Weights, arguments and results are those of the Keras layer. Scores and
    softmax are computed in float32, whatever the layer's compute dtype: with
    half of the bits, nearby scores of a long context become equal.

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
        """Mix `value` by how well each `query` fits each `key`.

        Args:
            query: `(batch, targets, num_heads, key_dim)`.
            key: `(batch, sources, num_heads, key_dim)`.
            value: `(batch, sources, num_heads, key_dim)`.
            attention_mask: bool `(1 or batch, targets, sources)`, `True`
                where a target may look. `None` lets it look everywhere.
            training: bool. Whether to drop attention weights at random.
            return_attention_scores: ignored; the scores always come back.

        Returns:
            `(batch, targets, num_heads, key_dim)` and the attention weights,
            `(batch, num_heads, targets, sources)`.
        """
        # With the heads in front each product is one of plain matrices: a
        # fifth less time on XLA's CPU, in both directions.
        query, key, value = (
            ops.transpose(x, (0, 2, 1, 3)) for x in (query, key, value)
        )
        query = query * (1 / math.sqrt(self._key_dim))
        scores = ops.einsum("bnth,bnsh->bnts", query, key)
        if attention_mask is not None:
            attention_mask = attention_mask[:, None]
        weights = _attention_weights(scores, attention_mask)
        dropped = self._dropout_layer(weights, training=training)
        outputs = ops.einsum("bnts,bnsh->bnth", dropped, value)
        return ops.transpose(outputs, (0, 2, 1, 3)), weights

    def call_with_cache(self, inputs, cache, cache_update_index):
        """Attend from new positions to themselves and to all before them.

        Args:
            inputs: float tensor `(batch, targets, hidden_dim)`, the new
                positions only.
            cache: keys `(batch * num_heads, key_dim, max_length)` and values
                `(batch * num_heads, max_length, key_dim)`, a pair. Its memory
                may be used for the cache that is returned.
            cache_update_index: int or int32 scalar tensor. The position of
                the first of `inputs`.

        Returns:
            A tensor of the shape of `inputs`, and the cache with keys and
            values of the new positions in it. What stands in the cache after
            them is never looked at.
        """
        # A single query reads all of the cache for one product. In this
        # layout both products run along contiguous memory, and XLA needs no
        # copy to get there: at 2,048 positions it is 15 times as fast on a
        # CPU as in the layout of the projections.
        query = self._split_heads(_apply_dense(self._query_dense, inputs))
        keys = self._split_heads(_apply_dense(self._key_dense, inputs))
        values = self._split_heads(_apply_dense(self._value_dense, inputs))
        keys = ops.swapaxes(keys, 1, 2)  # (batch * heads, key_dim, targets)
        keys = backend.write_cache(cache[0], cache_update_index, keys, axis=2)
        values = backend.write_cache(
            cache[1], cache_update_index, values, axis=1
        )
        targets = ops.arange(inputs.shape[1], dtype="int32")[:, None]
        sources = ops.arange(keys.shape[-1], dtype="int32")
        visible = sources <= targets + cache_update_index
        scores = ops.matmul(query * (1 / math.sqrt(self._key_dim)), keys)
        outputs = ops.matmul(_attention_weights(scores, visible), values)
        outputs = ops.reshape(
            outputs, (-1, self._num_heads, *outputs.shape[1:])
        )
        outputs = ops.transpose(outputs, (0, 2, 1, 3))
        return _apply_dense(self._output_dense, outputs), (keys, values)

    def _split_heads(self, x):
        """Map `(batch, length, heads, size)` to `(batch * heads, ...)`."""
        x = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(x, (-1, *x.shape[2:]))


def _apply_dense(layer, inputs):
    """Return `layer(inputs)`, faster where only a few positions are new.

    Args:
        layer: a built `Dense`, or an `EinsumDense` of Keras's attention.
        inputs: float tensor `(batch, length, ...)`.
    """
    # These have weights of other kinds, and ways of their own to use them.
    special = layer.quantization_mode or layer.lora_enabled
    if special or not _are_few(inputs):
        return layer(inputs)
    rows = inputs.shape[0] * inputs.shape[1]
    x = ops.reshape(inputs, (rows, -1))
    kernel = ops.reshape(layer.kernel, (x.shape[1], -1))
    outputs = backend.multiply_few_rows(x, kernel)
    outputs = ops.reshape(outputs, (*inputs.shape[:2], *layer.bias.shape))
    return layer.activation(outputs + layer.bias)


def _are_few(inputs):
    """Tell whether a product with `(batch, length, ...)` is bound by memory."""
    shape = inputs.shape[:-1]
    return None not in shape and math.prod(shape) <= FEW_ROWS


def _attention_weights(scores, mask):
    """Softmax over the last axis, in float32, of what `mask` lets through."""
    weights = ops.cast(scores, "float32")
    if mask is not None:
        # Finite: a row without any source then gives equal weights, not
        # NaN, and what such a padding row says is never read.
        weights = ops.where(mask, weights, -1e9)
    return ops.cast(ops.softmax(weights, axis=-1), scores.dtype)


@keras.saving.register_keras_serializable(package=PACKAGE)
class TransformerDecoder(keras.Layer):
    """A Transformer decoder block without cross-attention.

    Causal self-attention, then a two-layer feed-forward network with ReLU.
    Around each runs a residual connection, and LayerNorm follows the sum
    (post-normalization, as in GPT-1).

    Args:
        hidden_dim: int. Size of the vector at each position. A multiple of
            `num_heads`.
        intermediate_dim: int. Width of the feed-forward layer.
        num_heads: int. Number of attention heads, each of size
            `hidden_dim // num_heads`.
        dropout: float in `[0, 1)`. Share of attention weights and of both
            branches' outputs that training drops.
        remat: bool. Whether training keeps nothing but the inputs of the
            block, and computes all else again on the way back: less memory
            for a third more work (Chen et al., 2016, arXiv:1604.06174).
        **kwargs: `name`, `dtype` and so on, as for every Keras layer.

    Raises:
        ValueError: a size is not a positive int, `hidden_dim` is no multiple
            of `num_heads`, or `dropout` is out of range.

    Source: chapter 16, "Building the model", listing 16.4; Radford et al.,
    2018, "Improving Language Understanding by Generative Pre-Training".
    """

    def __init__(
        self,
        hidden_dim,
        intermediate_dim,
        num_heads,
        dropout=0.1,
        remat=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive_ints(
            hidden_dim=hidden_dim,
            intermediate_dim=intermediate_dim,
            num_heads=num_heads,
        )
        if hidden_dim % num_heads:
            raise ValueError(
                "`hidden_dim` must be a multiple of `num_heads`, so that each "
                f"head gets an equal share. Received: hidden_dim={hidden_dim}, "
                f"num_heads={num_heads}. Use hidden_dim="
                f"{(hidden_dim // num_heads + 1) * num_heads}, for one."
            )
        check_dropout(dropout)
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim
        self.num_heads = num_heads
        self.dropout_rate = dropout
        self.remat = remat
        self._is_in_remat = False
        own = {"dtype": self.dtype_policy}
        # Named, so that adapters can be aimed at them, and that a model which
        # was quantized and saved finds them again.
        self.self_attention = SelfAttention(
            num_heads,
            hidden_dim // num_heads,
            dropout=dropout,
            name="self_attention",
            **own,
        )
        self.self_attention_layernorm = layers.LayerNormalization(**own)
        self.feed_forward_1 = layers.Dense(
            intermediate_dim, activation="relu", name="feed_forward_1", **own
        )
        self.feed_forward_2 = layers.Dense(
            hidden_dim, name="feed_forward_2", **own
        )
        self.feed_forward_layernorm = layers.LayerNormalization(**own)
        self.dropout = Dropout(dropout, **own)

    def build(self, inputs_shape):
        if inputs_shape[-1] != self.hidden_dim:
            raise ValueError(
                "The last axis of the inputs must be hidden_dim="
                f"{self.hidden_dim}, for the residual sum. Received: inputs "
                f"of shape {tuple(inputs_shape)}. Project them, or set "
                f"hidden_dim={inputs_shape[-1]}."
            )
        self.self_attention.build(inputs_shape, inputs_shape)
        self.self_attention_layernorm.build(inputs_shape)
        self.feed_forward_1.build(inputs_shape)
        self.feed_forward_2.build((*inputs_shape[:-1], self.intermediate_dim))
        self.feed_forward_layernorm.build(inputs_shape)
        self.built = True

    def call(
        self,
        inputs,
        padding_mask=None,
        cache=None,
        cache_update_index=0,
        training=None,
    ):
        """Let each position look at itself and at those before it.

        Args:
            inputs: float tensor `(batch_size, sequence_length, hidden_dim)`.
            padding_mask: bool or int `(batch_size, sequence_length)`, true
                for tokens and false for padding, which nobody looks at. Not
                with a cache.
            cache: pair of float tensors, keys and values of the positions
                before `inputs`, of the shapes that `cache_shapes` returns;
                zeros at the start. Its memory may be used again.
            cache_update_index: int or int32 scalar tensor. With a cache, the
                position of the first of `inputs`.
            training: bool. Whether dropout is on.

        Returns:
            A tensor of the shape of `inputs`; with a cache a pair of it and
            the cache that the next call takes.
        """
        if self.remat and training and not self._is_in_remat:
            return self._call_and_forget(inputs, padding_mask)
        residual = x = inputs
        if cache is None:
            if padding_mask is not None:
                padding_mask = ops.cast(padding_mask, "bool")[:, None, :]
            x = self.self_attention(
                query=x,
                value=x,
                attention_mask=padding_mask,
                use_causal_mask=True,
                training=training,
            )
        else:
            x, cache = self.self_attention.call_with_cache(
                x, cache, cache_update_index
            )
        x = self.dropout(x, training=training)
        x = self.self_attention_layernorm(x + residual)

        residual = x
        # (batch, length, intermediate_dim), and back to hidden_dim
        for layer in (self.feed_forward_1, self.feed_forward_2):
            x = layer(x) if cache is None else _apply_dense(layer, x)
        x = self.dropout(x, training=training)
        x = self.feed_forward_layernorm(x + residual)
        return x if cache is None else (x, cache)

    def _call_and_forget(self, inputs, padding_mask):
        """Train with all but the inputs computed again on the way back.

        `keras.RematScope` would do this if dropout had no state: inside of
        what is computed twice, a generator of seeds must not move on by
        itself. So the state goes in and comes out.
        """

        def block(trainable, state, inputs):
            self._is_in_remat = True
            try:
                return self.stateless_call(
                    trainable,
                    state,
                    inputs,
                    padding_mask=padding_mask,
                    training=True,
                )
            finally:
                self._is_in_remat = False

        outputs, state = backend.remat(block)(
            [variable.value for variable in self.trainable_variables],
            # An argument, for TensorFlow would read the variables anew. It
            # warns that integers have no gradient; they need none.
            [variable.value for variable in self.non_trainable_variables],
            inputs,
        )
        for variable, value in zip(
            self.non_trainable_variables, state, strict=True
        ):
            variable.assign(value)
        return outputs

    def cache_shapes(self, batch_size, max_length):
        """Return the shapes of the keys and the values in a cache.

        Args:
            batch_size: int.
            max_length: int. Positions that there is room for.
        """
        size = self.hidden_dim // self.num_heads
        return (
            (batch_size * self.num_heads, size, max_length),
            (batch_size * self.num_heads, max_length, size),
        )

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return super().get_config() | {
            "hidden_dim": self.hidden_dim,
            "intermediate_dim": self.intermediate_dim,
            "num_heads": self.num_heads,
            "dropout": self.dropout_rate,
            "remat": self.remat,
        }


@keras.saving.register_keras_serializable(package=PACKAGE)
class PositionalEmbedding(keras.Layer):
    """Token and position embeddings, usable in both directions.

    Forwards it adds the vector of each token to the vector of its position.
    In reverse it multiplies hidden states by the token embeddings, so that
    one matrix serves at both ends of the model.

    Args:
        sequence_length: int. Number of positions that have an embedding, and
            so the longest sequence that the layer takes.
        input_dim: int. Size of the vocabulary.
        output_dim: int. Size of the embedding vectors.
        **kwargs: `name`, `dtype` and so on, as for every Keras layer.

    Raises:
        ValueError: a size is not a positive int.

    Source: chapter 16, "Building the model", listing 16.5; Press and Wolf,
    2017, arXiv:1608.05859 (tied embeddings).
    """

    def __init__(self, sequence_length, input_dim, output_dim, **kwargs):
        super().__init__(**kwargs)
        check_positive_ints(
            sequence_length=sequence_length,
            input_dim=input_dim,
            output_dim=output_dim,
        )
        self.sequence_length = sequence_length
        self.input_dim = input_dim
        self.output_dim = output_dim
        own = {"dtype": self.dtype_policy}
        self.token_embeddings = layers.Embedding(
            input_dim, output_dim, name="token_embeddings", **own
        )
        self.position_embeddings = layers.Embedding(
            sequence_length, output_dim, name="position_embeddings", **own
        )

    def build(self, inputs_shape):
        self.token_embeddings.build(inputs_shape)
        self.position_embeddings.build((inputs_shape[-1],))
        self.built = True

    def call(self, inputs, reverse=False, start_index=0):
        """Embed tokens, or score hidden states against every token.

        Args:
            inputs: int tensor `(batch_size, length)` of token ids, or with
                `reverse=True` a float tensor `(..., output_dim)`.
            reverse: bool. Which way to go.
            start_index: int or int32 scalar tensor. Position of the first
                token, where those before it are in a cache.

        Returns:
            A float tensor `(batch_size, length, output_dim)` in the compute
            dtype, or with `reverse=True` float32 logits `(..., input_dim)`.

        Raises:
            ValueError: `length` is more than `sequence_length`. (Without the
                check JAX would answer with NaN.) Or the layer was quantized
                in another way than `"int8"`.
        """
        if reverse:
            table = self.token_embeddings
            if table.quantization_mode not in (None, "int8"):
                raise ValueError(
                    "The token embeddings score hidden states as floats or "
                    "in int8. Received: an embedding quantized to "
                    f"{table.quantization_mode!r}. Use "
                    '`backbone.quantize("int8")`.'
                )
            # `value` carries the compute dtype that autocasting chose.
            weights = ops.cast(table.embeddings, self.compute_dtype)
            if len(inputs.shape) == 3 and _are_few(inputs):
                rows = ops.reshape(inputs, (-1, self.output_dim))
                logits = backend.score_few_rows(rows, weights)
                logits = ops.reshape(logits, (*inputs.shape[:2], -1))
            else:
                logits = ops.matmul(inputs, ops.transpose(weights))
            # A softmax over thousands of words needs more than 8 bits.
            logits = ops.cast(logits, "float32")
            if table.quantization_mode == "int8":
                logits = logits / ops.convert_to_tensor(table.embeddings_scale)
            return logits
        length = inputs.shape[-1]
        if length is None:  # TensorFlow may trace for any length
            length = ops.shape(inputs)[-1]
        elif length > self.sequence_length:
            raise ValueError(
                "The input must not be longer than the position table: "
                f"sequence_length={self.sequence_length}. Received: inputs of "
                f"shape {tuple(inputs.shape)}. Cut the input, or build the "
                "layer with a longer `sequence_length`."
            )
        # All rows share the positions.
        positions = ops.arange(length, dtype="int32") + start_index
        positions = self.position_embeddings(positions)
        return self.token_embeddings(inputs) + positions

    def compute_output_spec(self, inputs, reverse=False, start_index=0):
        # Keras would find the shape by trying lengths of its own choice,
        # which the check in `call` may refuse.
        if reverse:
            shape, dtype = (*inputs.shape[:-1], self.input_dim), "float32"
        else:
            shape, dtype = (*inputs.shape, self.output_dim), self.compute_dtype
        return keras.KerasTensor(shape, dtype)

    def get_config(self):
        return super().get_config() | {
            "sequence_length": self.sequence_length,
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
        }


@keras.saving.register_keras_serializable(package=PACKAGE)
class Linear(keras.Layer):
    """A matrix product, the plainest trainable layer.

    Args:
        input_dim: int. Size of the last axis of the inputs.
        output_dim: int. Size of the last axis of the outputs.
        **kwargs: `name`, `dtype` and so on, as for every Keras layer.

    Raises:
        ValueError: a size is not a positive int.

    Source: chapter 16, "Low-Rank Adaptation (LoRA)".
    """

    def __init__(self, input_dim, output_dim, **kwargs):
        super().__init__(**kwargs)
        check_positive_ints(input_dim=input_dim, output_dim=output_dim)
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.kernel = self.add_weight(
            shape=(input_dim, output_dim), name="kernel"
        )

    def call(self, inputs):
        """Map `(..., input_dim)` to `(..., output_dim)`."""
        return ops.matmul(inputs, self.kernel)

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape[:-1], self.output_dim)

    def get_config(self):
        return super().get_config() | {
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
        }


@keras.saving.register_keras_serializable(package=PACKAGE)
class LoraLinear(Linear):
    """A frozen `Linear` and beside it a trainable update of low rank.

    The output is `x @ kernel + (x @ alpha) @ beta * (lora_alpha / rank)`.
    `beta` starts at zero, so that training starts from the frozen layer.

    Args:
        input_dim: int. Size of the last axis of the inputs.
        output_dim: int. Size of the last axis of the outputs.
        rank: int. Inner size of the update.
        lora_alpha: float. Weight of the update, over `rank`. Defaults to
            `rank`, a weight of one, as in the chapter.
        **kwargs: `name`, `dtype` and so on, as for every Keras layer.

    Raises:
        ValueError: a size is not a positive int.

    Source: chapter 16, "Low-Rank Adaptation (LoRA)"; Hu et al., 2021,
    arXiv:2106.09685.
    """

    def __init__(self, input_dim, output_dim, rank, lora_alpha=None, **kwargs):
        super().__init__(input_dim, output_dim, **kwargs)
        check_positive_ints(rank=rank)
        self.rank = rank
        self.lora_alpha = rank if lora_alpha is None else lora_alpha
        self.kernel.trainable = False
        self.alpha = self.add_weight(shape=(input_dim, rank), name="alpha")
        self.beta = self.add_weight(
            shape=(rank, output_dim), initializer="zeros", name="beta"
        )

    def call(self, inputs):
        """Map `(..., input_dim)` to `(..., output_dim)`."""
        frozen = super().call(inputs)
        update = ops.matmul(ops.matmul(inputs, self.alpha), self.beta)
        return frozen + update * (self.lora_alpha / self.rank)

    def get_config(self):
        return super().get_config() | {
            "rank": self.rank,
            "lora_alpha": self.lora_alpha,
        }


def check_positive_ints(**sizes):
    """Raise `ValueError` for the first argument that is no positive int."""
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                f"`{name}` must be a positive int. Received: {name}={value!r}."
            )


def check_dropout(dropout):
    """Raise `ValueError` unless `dropout` is in `[0, 1)`."""
    if not 0 <= dropout < 1:
        raise ValueError(
            "`dropout` must be in [0, 1), the share that is dropped. "
            f"Received: dropout={dropout!r}. Use 0 for no dropout."
        )
