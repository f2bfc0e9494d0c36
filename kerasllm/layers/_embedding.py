"""Token and position embeddings in one layer with two directions."""

import keras
from keras import layers, ops

from kerasllm import backend
from kerasllm.checks import UserError, check_positive_ints
from kerasllm.layers._cached import are_few


@keras.saving.register_keras_serializable(package="kerasllm")
class PositionalEmbedding(keras.Layer):
    """Token and position embeddings, usable in both directions.

    In the forward direction it adds the vector of each token to the vector of
    its position. In reverse it multiplies hidden states by the token
    embeddings, so one matrix serves as both input and output of the model.

    Args:
        sequence_length: int. Number of positions that have an embedding. This
            is the length of the longest sequence that the layer takes.
        input_dim: int. Size of the vocabulary.
        output_dim: int. Size of the embedding vectors.
        **kwargs: `name`, `dtype` and so on, as for every Keras layer.

    Raises:
        UserError: a size is not a positive int.

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
        # Keras refuses NumPy's ints.
        self.sequence_length = sequence_length = int(sequence_length)
        self.input_dim = input_dim = int(input_dim)
        self.output_dim = output_dim = int(output_dim)
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
            reverse: bool. Whether to map hidden states to logits.
            start_index: int or int32 scalar tensor. Position of the first
                token, if earlier tokens are in a cache; or int32
                `(batch_size,)`, one position for each sequence.

        Returns:
            A float tensor `(batch_size, length, output_dim)` in the compute
            dtype, or with `reverse=True` float32 logits `(..., input_dim)`.

        Raises:
            UserError: `length` is greater than `sequence_length`. (Without
                this check, JAX would return NaN.) Or the layer was quantized
                to something other than `"int8"`.
        """
        if reverse:
            table = self.token_embeddings
            if table.quantization_mode not in (None, "int8"):
                raise UserError(
                    "The token embeddings score hidden states as floats or "
                    "in int8. Received: an embedding quantized to "
                    f"{table.quantization_mode!r}. Use "
                    '`backbone.quantize("int8")`.'
                )
            # `value` carries the compute dtype that autocasting chose.
            weights = ops.cast(table.embeddings, self.compute_dtype)
            if len(inputs.shape) == 3 and are_few(inputs):
                x = ops.reshape(inputs, (-1, self.output_dim))
                logits = backend.score_few_rows(x, weights)
                # (batch_size, length, input_dim)
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
            raise UserError(
                "The input must not be longer than the position table: "
                f"sequence_length={self.sequence_length}. Received: inputs of "
                f"shape {tuple(inputs.shape)}. Cut the input, or build the "
                "layer with a longer `sequence_length`."
            )
        positions = ops.arange(length, dtype="int32")
        if not backend.is_scalar(start_index):
            start_index = start_index[:, None]  # (batch_size, 1)
        # (length,) if all sequences share it, or (batch_size, length)
        positions = self.position_embeddings(positions + start_index)
        return self.token_embeddings(inputs) + positions

    def compute_output_spec(self, inputs, reverse=False, start_index=0):
        # Keras would infer the shape by trying lengths of its own choice,
        # which the check in `call` may reject.
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
