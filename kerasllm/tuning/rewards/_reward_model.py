"""A reward model: a language model that scores responses."""

import dataclasses

import keras
import keras_hub
import numpy as np
from keras import ops

from kerasllm import backend, lora
from kerasllm.checks import UserError, check_int, shown
from kerasllm.prompts import PromptTemplate, get_template
from kerasllm.tuning._logprobs import (
    by_length,
    make_examples,
    model_inputs,
    tokenize,
)


@keras.saving.register_keras_serializable(package="kerasllm")
class LastToken(keras.Layer):
    """Picks the hidden state of the last token of each sequence.

    The padding mask tells where it is. The token ids would not, because the
    padding of many tokenizers is the end token.
    """

    def call(self, hidden_states, padding_mask):
        """Return the hidden states of the last tokens.

        Args:
            hidden_states: float `(batch_size, length, hidden_dim)`.
            padding_mask: bool or int `(batch_size, length)`, true for every
                token, on whichever side the padding is.

        Returns:
            float `(batch_size, hidden_dim)`.
        """
        positions = ops.arange(ops.shape(padding_mask)[1], dtype="int32")
        mask = ops.cast(padding_mask, "int32")
        last = ops.max(mask * positions, axis=1)  # (batch_size,)
        states = ops.take_along_axis(
            hidden_states, last[:, None, None], axis=1
        )  # (batch_size, 1, hidden_dim)
        return ops.squeeze(states, axis=1)

    def compute_output_spec(self, hidden_states, padding_mask):
        batch_size, _, hidden_dim = hidden_states.shape
        return keras.KerasTensor((batch_size, hidden_dim), hidden_states.dtype)


@keras.saving.register_keras_serializable(package="kerasllm")
class RewardModel(keras.Model):
    """A language model with a head that scores a response to a prompt.

    A linear layer maps the hidden state of the last token, the end token of
    the response, to one number, the reward. Only differences between the
    rewards of responses to the same prompt have a meaning. The layer has no
    bias, which would not change any difference, and it begins with zeros: an
    untrained model gives every response the reward 0.

    Args:
        backbone: a `keras_hub.models.CausalLM`, of which the reward model
            gets a copy, so that training the one does not change the other.
            If it has adapters, they are merged in the copy. Or a backbone,
            such as a new one with random weights, which becomes part of the
            reward model and is not copied.
        preprocessor: the preprocessor of a `CausalLM`, whose tokenizer reads
            prompts and responses. Defaults to that of the `CausalLM`.
        template: `PromptTemplate`, the name of one, or `"auto"` for the one
            whose special tokens the tokenizer has.
        **kwargs: `name` and so on, as for every Keras model.

    As a Keras model, it maps the inputs of its backbone, `token_ids` and
    `padding_mask` of shape `(batch_size, length)`, to float32 rewards
    `(batch_size,)`. Called with two lists of strings, it is a reward as
    `kerasllm.generation.best_of_n` takes one: it returns what `predict`
    returns. It puts the template around each prompt. If the prompts of a
    generator have it already, pass a scorer that uses the bare ones.

    Attributes:
        backbone: the backbone.
        head: the `Dense` layer after it.
        preprocessor: the preprocessor.
        template: the `PromptTemplate`.

    Raises:
        UserError: `backbone` is something else, or there is no preprocessor.

    Source: chapter 16, section 16.4.1; Stiennon et al., 2020,
    arXiv:2009.01325; Ouyang et al., 2022, arXiv:2203.02155.

    Example:
    ```python
    reward_model = RewardModel(causal_lm)
    train_reward_model(reward_model, preferences)
    reward_model.predict(["Say hello."], ["Hello!"])  # one float
    reward_model.save("reward.keras")
    reward_model = keras.saving.load_model("reward.keras")
    ```
    """

    def __init__(self, backbone, preprocessor=None, template="auto", **kwargs):
        if isinstance(backbone, keras_hub.models.CausalLM):
            if preprocessor is None:
                preprocessor = backbone.preprocessor
            backbone = copy_backbone(backbone.backbone)
        _check_parts(backbone, preprocessor)
        template = get_template(template, preprocessor.tokenizer)
        inputs = backbone.input
        last_states = LastToken(name="last_token")(
            backbone(inputs), inputs["padding_mask"]
        )
        head = keras.layers.Dense(
            1,
            use_bias=False,
            kernel_initializer="zeros",
            dtype="float32",
            name="reward",
        )
        rewards = ops.squeeze(head(last_states), axis=-1)  # (batch_size,)
        super().__init__(inputs=inputs, outputs=rewards, **kwargs)
        self.backbone = backbone
        self.head = head
        self.preprocessor = preprocessor
        self.template = template
        # `compile` asks the model whether float16 makes it scale the loss.
        self.dtype_policy = backbone.dtype_policy

    def __call__(self, inputs, responses=None, **kwargs):
        """Return the rewards of tokens, or of prompts and responses."""
        if responses is None:
            return super().__call__(inputs, **kwargs)
        return self.predict(inputs, responses, **kwargs)

    def predict(self, prompts, responses, template=None, batch_size=16):
        """Return the rewards of responses to prompts.

        They are tokenized as in training. Sequences of similar length share a
        batch, and the reward of one does not depend on the others.

        Args:
            prompts: list of str.
            responses: list of str, one for each prompt.
            template: `PromptTemplate` or the name of one. `None` for the
                model's own.
            batch_size: int. Sequences that are scored together.

        Returns:
            float32 NumPy array `(len(prompts),)`.

        Raises:
            UserError: there is not one response for each prompt, one of them
                is not text, or a sequence is longer than the model's position
                table.
        """
        batch_size = check_int("batch_size", batch_size, 1)
        examples = make_examples(prompts, responses)
        rewards = np.zeros(len(examples), "float32")
        if not examples:
            return rewards
        # The last token is read, and not only predicted.
        tokens, _, _ = tokenize(
            self, examples, template or self.template, num_unread=0
        )
        function = backend.companion_of(self, "_compiled_rewards", _compiled)
        for numbers in by_length(tokens, batch_size):
            inputs = model_inputs(self, [tokens[i] for i in numbers])
            scores = ops.convert_to_numpy(function(inputs))
            rewards[numbers] = scores[: len(numbers)]
        return rewards

    def get_config(self):
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "preprocessor": keras.saving.serialize_keras_object(
                self.preprocessor
            ),
            "template": dataclasses.asdict(self.template),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("backbone", "preprocessor")
        }
        template = PromptTemplate(**config["template"])
        return cls(**config | parts | {"template": template})


def _check_parts(backbone, preprocessor):
    if not isinstance(backbone, keras_hub.models.Backbone):
        raise UserError(
            "`backbone` must be a `CausalLM` or a backbone of KerasHub. "
            f"Received: {shown(backbone)}. Pass the model whose weights the "
            "reward model should begin with."
        )
    if not hasattr(preprocessor, "tokenizer"):
        raise UserError(
            "A reward model must have a preprocessor, because it reads text. "
            f"Received: preprocessor={shown(preprocessor)}. Pass that of a "
            "`CausalLM` with the same vocabulary."
        )


def copy_backbone(backbone):
    """Return a backbone of the same weights, with its adapters merged."""
    copy = backbone.from_config(backbone.get_config())
    layers = [layer for _, layer in lora.adapted_layers(backbone)]
    adapters = {
        id(variable)
        for layer in layers
        for variable in (layer.lora_kernel_a, layer.lora_kernel_b)
    }
    merged = {id(layer._kernel): layer for layer in layers}
    weights = [v for v in backbone.variables if id(v) not in adapters]
    for new, old in zip(copy.variables, weights, strict=True):
        layer = merged.get(id(old))
        # JAX would share the array, and training deletes what it replaces.
        new.assign(ops.copy(old if layer is None else layer.kernel))
    return copy


def _compiled(model, _):
    def rewards(inputs):
        return model(inputs, training=False)

    return backend.compiled(rewards, model.variables, record=False)
