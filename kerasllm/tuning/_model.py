"""The model that `fit` trains: the layers of a task, without its text."""

import contextlib

import keras

from kerasllm.checks import UserError


def token_model(causal_lm):
    """Return a model of the same layers and weights that takes tokens.

    `fit` of a KerasHub task tokenizes what it is given. This model takes
    batches that are tokenized already, while the task itself stays as it is:
    it can be asked during training.

    Args:
        causal_lm: any `keras_hub.models.CausalLM`.

    Returns:
        A `keras.Model`. Training it trains `causal_lm`.

    Raises:
        UserError: all weights are frozen.
    """
    model = keras.Model(causal_lm.input, causal_lm.output, name="token_model")
    # `compile` asks the model whether float16 makes it scale the loss.
    model.dtype_policy = causal_lm.dtype_policy
    if not model.trainable_variables:
        raise UserError(
            "Something must be trainable. Received: a model whose weights are "
            "all frozen. Call `enable_lora` for adapters, or set `trainable = "
            "True` on the layers to train before they get adapters of their "
            "own."
        )
    return model


@contextlib.contextmanager
def frozen_encoder(backbone):
    """Freeze the vision encoder, if there is one, where no image is seen.

    Its gradients would be zero, take memory in Adam, and fail on TensorFlow:
    some CPUs cannot compute them without any image.
    """
    encoder = getattr(backbone, "vision_encoder", None)
    weights = encoder.trainable_weights if encoder else []
    for weight in weights:
        weight.trainable = False
    try:
        yield
    finally:
        for weight in weights:
            weight.trainable = True
