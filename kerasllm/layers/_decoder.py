"""The Transformer decoder block, from which a GPT is built."""

import keras
from keras import layers, ops

from kerasllm import backend
from kerasllm.checks import UserError, check_positive_ints, check_real
from kerasllm.layers._attention import Dropout, SelfAttention
from kerasllm.layers._cached import apply_dense


@keras.saving.register_keras_serializable(package="kerasllm")
class TransformerDecoder(keras.Layer):
    """A Transformer decoder block without cross-attention.

    The block applies causal self-attention, then a two-layer feed-forward
    network with ReLU. Each has a residual connection around it, and LayerNorm
    follows the sum (post-normalization, as in GPT-1).

    Args:
        hidden_dim: int. Size of the vector at each position. A multiple of
            `num_heads`.
        intermediate_dim: int. Width of the feed-forward layer.
        num_heads: int. Number of attention heads, each of size
            `hidden_dim // num_heads`.
        dropout: float in `[0, 1)`. Fraction of the attention weights and of
            both branches' outputs that is dropped in training.
        remat: bool. Whether to use gradient checkpointing: training keeps only
            the inputs of the block and recomputes the rest in the backward
            pass. This takes less memory and a third more computation (Chen et
            al., 2016, arXiv:1604.06174).
        **kwargs: `name`, `dtype` and so on, as for every Keras layer.

    Raises:
        UserError: a size is not a positive int, `hidden_dim` is not a multiple
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
        check_block(hidden_dim, intermediate_dim, num_heads, dropout)
        # Keras refuses NumPy's ints, and JSON cannot write them.
        hidden_dim, num_heads = int(hidden_dim), int(num_heads)
        self.hidden_dim = hidden_dim
        self.intermediate_dim = intermediate_dim = int(intermediate_dim)
        self.num_heads = num_heads
        self.dropout_rate = dropout = float(dropout)
        self.remat = remat
        self._is_in_remat = False
        own = {"dtype": self.dtype_policy}
        # The names let adapters find these layers. A model that was quantized
        # and saved finds its weights by them, too.
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
            raise UserError(
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
        """Let each position attend to itself and to all earlier positions.

        Args:
            inputs: float tensor `(batch_size, sequence_length, hidden_dim)`.
            padding_mask: bool or int `(batch_size, sequence_length)`, true
                for tokens and false for padding, which is not attended to. It
                cannot be combined with a cache.
            cache: pair of float tensors, the keys and values of earlier
                positions, in the shapes that `cache_shapes` returns. Begin
                with zeros. Its memory may be reused.
            cache_update_index: int or int32 scalar tensor. With a cache, the
                position of the first of `inputs`; or int32 `(batch_size,)`,
                one position for each sequence, each with a single input.
            training: bool. Whether dropout is on.

        Returns:
            A tensor with the shape of `inputs`. With a cache, a pair of this
            tensor and the cache for the next call.
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
            x = layer(x) if cache is None else apply_dense(layer, x)
        x = self.dropout(x, training=training)
        x = self.feed_forward_layernorm(x + residual)
        return x if cache is None else (x, cache)

    def _call_and_forget(self, inputs, padding_mask):
        """Train while keeping only the inputs, and recompute everything else.

        `keras.RematScope` would do this if dropout had no state. A seed
        generator must not advance inside a block that is computed twice, so
        its state is an argument and a result of the block.
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
            # They are an argument because TensorFlow would otherwise read the
            # variables again. It warns that integers have no gradient, but
            # they do not need one.
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
            max_length: int. Number of positions to make room for.
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


def check_block(hidden_dim, intermediate_dim, num_heads, dropout):
    """Raise an error if there is no `TransformerDecoder` of such sizes."""
    check_positive_ints(
        hidden_dim=hidden_dim,
        intermediate_dim=intermediate_dim,
        num_heads=num_heads,
    )
    if hidden_dim % num_heads:
        raise UserError(
            "`hidden_dim` must be a multiple of `num_heads`, so that each "
            f"head gets an equal share. Received: hidden_dim={hidden_dim}, "
            f"num_heads={num_heads}. Use hidden_dim="
            f"{(hidden_dim // num_heads + 1) * num_heads}, for example."
        )
    check_dropout(dropout)


def check_dropout(dropout):
    """Raise an error if a dropout rate is not in `[0, 1)`."""
    check_real(
        "dropout",
        dropout,
        lambda value: 0 <= value < 1,
        "in [0, 1), the share that is dropped",
        cure="Use 0 for no dropout.",
    )
