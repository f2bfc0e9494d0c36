"""The model that `fit` trains: the layers of a task, without its text."""

import contextlib

import keras

from kerasllm.checks import UserError, shown


@keras.saving.register_keras_serializable(package="kerasllm")
class TokenModel(keras.Model):
    """The layers of a task, which callbacks reach through `model.causal_lm`.

    `generate`, `backbone` and `preprocessor` are those of the task. Keras must
    neither track nor save the task as a part of this model: its weights would
    count twice. So it is kept inside a function, and `dir` leaves it out,
    because that is where Keras looks for what to save.
    """

    _task = None  # also after loading from a file

    @property
    def causal_lm(self):
        """The `CausalLM` that is being trained; `None` after loading."""
        return self._task and self._task()

    @property
    def backbone(self):
        """The backbone of `causal_lm`."""
        return self.causal_lm.backbone

    @property
    def preprocessor(self):
        """The preprocessor of `causal_lm`."""
        return self.causal_lm.preprocessor

    def generate(self, *args, **kwargs):
        """Call `causal_lm.generate`."""
        return self.causal_lm.generate(*args, **kwargs)

    def __dir__(self):
        return set(super().__dir__()) - {
            "causal_lm", "backbone", "preprocessor"
        }  # fmt: skip


def check_causal_lm(causal_lm):
    """Refuse what cannot be tuned, such as a name or a `ChatModel`.

    Args:
        causal_lm: anything.

    Raises:
        UserError: it has no layers, or no preprocessor.
    """
    has_text = getattr(causal_lm, "preprocessor", None) is not None
    if not (has_text and isinstance(causal_lm, keras.Model)):
        raise UserError(
            "`causal_lm` must be a KerasHub `CausalLM` with a preprocessor. "
            f"Received: {shown(causal_lm)}. That of a `ChatModel` is its "
            "`causal_lm`, and `MiniGPTCausalLM.from_mini_gpt(model, "
            "tokenizer)` makes one from a mini-GPT."
        )


def token_model(causal_lm):
    """Return a model with the same layers and weights that takes tokens.

    `fit` of a KerasHub task tokenizes its input. This model takes batches that
    are tokenized already. The task itself stays unchanged, so it can generate
    text during training.

    Args:
        causal_lm: any `keras_hub.models.CausalLM`.

    Returns:
        A `TokenModel`, which is a `keras.Model`. Training it trains
        `causal_lm`, which is its attribute of that name.

    Raises:
        UserError: all weights are frozen.
    """
    if not isinstance(causal_lm, keras.Model):
        check_causal_lm(causal_lm)  # it says what is wrong
    model = TokenModel(causal_lm.input, causal_lm.output, name="token_model")
    model._task = lambda: causal_lm
    # `compile` asks the model whether float16 makes it scale the loss.
    model.dtype_policy = causal_lm.dtype_policy
    check_trainable(model)
    return model


def check_trainable(model):
    """Refuse a model whose weights are all frozen.

    Raises:
        UserError: none of them can be trained.
    """
    if not model.trainable_variables:
        raise UserError(
            "Something must be trainable. Received: a model whose weights are "
            "all frozen. Call `enable_lora` for adapters, or set `trainable = "
            "True` on the layers to train before they get adapters of their "
            "own."
        )


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
