"""A matrix product, and the same layer with a LoRA adapter."""

import keras
from keras import ops

from kerasllm.checks import check_positive_ints


@keras.saving.register_keras_serializable(package="kerasllm")
class Linear(keras.Layer):
    """A matrix product, the simplest trainable layer.

    Args:
        input_dim: int. Size of the last axis of the inputs.
        output_dim: int. Size of the last axis of the outputs.
        **kwargs: `name`, `dtype` and so on, as for every Keras layer.

    Raises:
        UserError: a size is not a positive int.

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


@keras.saving.register_keras_serializable(package="kerasllm")
class LoraLinear(Linear):
    """A frozen `Linear` layer with a trainable update of low rank.

    The output is `x @ kernel + (x @ alpha) @ beta * (lora_alpha / rank)`.
    `beta` starts at zero, so training starts from the frozen layer.

    Args:
        input_dim: int. Size of the last axis of the inputs.
        output_dim: int. Size of the last axis of the outputs.
        rank: int. Inner size of the update.
        lora_alpha: float. The update is multiplied by `lora_alpha / rank`.
            Defaults to `rank`, a factor of one, as in the chapter.
        **kwargs: `name`, `dtype` and so on, as for every Keras layer.

    Raises:
        UserError: a size is not a positive int.

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
