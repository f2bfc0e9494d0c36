"""Training a reward model on comparisons of responses."""

import dataclasses
import math

import keras
from keras import ops

from kerasllm import lora, training
from kerasllm.checks import (
    UserError,
    check_lists,
    check_real,
    is_real,
    shown,
)
from kerasllm.preferences import TokenizedPairs
from kerasllm.prompts import get_template
from kerasllm.schedules import warn_of_long_warmup
from kerasllm.tuning._finetuning import check_positions, check_tuning
from kerasllm.tuning._identity import (
    describe_model,
    describe_preferences,
    noting_the_end,
)
from kerasllm.tuning._model import frozen_encoder
from kerasllm.tuning.losses import reward_losses
from kerasllm.tuning.rewards._reward_model import RewardModel


def train_reward_model(
    reward_model,
    preferences,
    validation_preferences=None,
    *,
    template="auto",
    epochs=3,
    batch_size=8,
    learning_rate=1e-3,
    sequence_length=256,
    center_coefficient=0.0,
    seed=0,
    directory=None,
    callbacks=(),
    verbose="auto",
):
    """Train a reward model to give preferred responses higher rewards.

    The loss is `reward_loss`, with the margins of the preferences. Both
    responses of a pair are read in one forward pass. This trains all trainable
    weights: the adapters after `kerasllm.enable_lora(reward_model)`, and
    otherwise the whole model. The head is trained in any case.

    Args:
        reward_model: `RewardModel`.
        preferences: list of `kerasllm.preferences.Preference`.
        validation_preferences: held-out ones, for measuring after each epoch.
        template: `PromptTemplate` or the name of one, which the reward model
            then keeps. `"auto"` for the one that it has.
        epochs: int.
        batch_size: int. Pairs in a batch.
        learning_rate: float or schedule. For adapters, a rate ten times that
            of training all weights is common.
        sequence_length: int. Pairs in which the prompt and one of the
            responses have more tokens are left out and counted in a warning.
            At most the length of the model's position table, if it has one.
        center_coefficient: float, at least 0. See `reward_loss`. 0.01 keeps
            the rewards around zero.
        seed: int. The order of the pairs.
        directory: str or path. The folder for checkpoints. After an
            interruption, the same call with the same directory continues the
            run, and it may ask for more epochs. `None` writes no checkpoints.
            The model itself is saved with `reward_model.save`.
        callbacks: more Keras callbacks. At the end of an epoch, they may call
            `reward_model`.
        verbose: as for `fit`.

    Returns:
        A list of dicts, one per epoch: `loss`, `accuracy` and, with
        `validation_preferences`, `val_loss` and `val_accuracy`. The accuracy
        is the share of pairs whose chosen response has the higher reward.
        Equal rewards are wrong. Losses are means over batches, as in every
        `fit`.

    Raises:
        UserError: preferences or numbers do not fit the model.
        RunError: `directory` holds a run of another model, of other
            preferences or of other arguments; says what differs. It has had
            more epochs already, or another process is at work there.

    Source: chapter 16, section 16.4.1; Ouyang et al., 2022, arXiv:2203.02155.
    """
    _check_arguments(reward_model, center_coefficient)
    check_tuning(epochs, batch_size, learning_rate, sequence_length, seed)
    directory, callbacks = training.check_run(directory, callbacks, verbose)
    check_positions(reward_model, sequence_length)
    # NumPy's ints have other ideas of their dtype in `tf.data`.
    batch_size = int(batch_size)
    preferences, validation_preferences = check_lists(
        preferences=preferences, validation_preferences=validation_preferences
    )
    if is_real(learning_rate):
        learning_rate = float(learning_rate)  # NumPy's, too, for the file
    if template == "auto":
        template = reward_model.template
    template = get_template(template)
    pairs = TokenizedPairs.of_both(
        preferences,
        validation_preferences,
        reward_model.preprocessor,
        template,
        sequence_length,
    )
    train = pairs["preferences"]
    validation = pairs.get("validation_preferences")
    reward_model.template = template
    # `enable_lora` freezes the head by its weights. On TensorFlow, to set the
    # layer's own `trainable` from true to true does nothing.
    for variable in reward_model.head.variables:
        variable.trainable = True
    identity = None
    if directory is not None:
        identity = {
            **describe_preferences(preferences, validation_preferences),
            "learning_rate": keras.saving.serialize_keras_object(learning_rate),
            "batch_size": int(batch_size),
            "sequence_length": int(sequence_length),
            "center_coefficient": float(center_coefficient),
            "seed": int(seed),
            "template": dataclasses.asdict(template),
            **describe_model(reward_model, directory),
        }
    names = list(reward_model.input)
    if validation is not None:
        validation = _for_fit(validation.dataset(batch_size), names)
    steps = train.num_batches(batch_size)
    warn_of_long_warmup(learning_rate, epochs * steps)
    with noting_the_end(reward_model), frozen_encoder(reward_model.backbone):
        return training.resumable_fit(
            _compiled(reward_model, learning_rate, center_coefficient),
            _for_fit(train.endless(batch_size, seed), names),
            validation,
            directory=directory,
            identity=identity,
            epochs=epochs,
            steps_per_epoch=steps,
            tokens_in_a_batch=train.num_tokens / steps,
            variables=lora.changing_variables,
            perplexity=False,
            callbacks=callbacks,
            verbose=verbose,
        )


def _check_arguments(reward_model, center_coefficient):
    if not isinstance(reward_model, RewardModel):
        raise UserError(
            "`reward_model` must be a `RewardModel`. Received: "
            f"{shown(reward_model)}. Make one with `RewardModel(causal_lm)`."
        )
    check_real(
        "center_coefficient",
        center_coefficient,
        lambda value: 0 <= value < math.inf,
        "at least 0 and finite",
    )


def _for_fit(dataset, names):
    """Leave only those inputs in the batches of pairs that a model takes."""
    return dataset.map(
        lambda x, margins, weights: (
            {name: x[name] for name in names},
            margins,
            weights,
        )
    )


class _PairLoss(keras.losses.Loss):
    """The loss of rewards `(batch_size, 2)` and margins `(batch_size,)`."""

    def __init__(self, center_coefficient):
        # A pair that fills a batch weighs nothing.
        super().__init__("reward_loss", reduction="mean_with_sample_weight")
        self.center_coefficient = center_coefficient

    def call(self, margins, rewards):
        return reward_losses(
            rewards[:, 0], rewards[:, 1], margins, self.center_coefficient
        )


def _is_right(margins, rewards):
    """Return 1 where the chosen response has the higher reward, or else 0."""
    return ops.cast(rewards[:, 0] > rewards[:, 1], "float32")


def _compiled(reward_model, learning_rate, center_coefficient):
    """Return a model of pairs with the layers of a reward model."""
    # The two responses of a pair stand side by side in its batch.
    pairs = ops.reshape(reward_model.output, (-1, 2))  # (batch_size, 2)
    model = keras.Model(reward_model.input, pairs, name="pairs")
    model.dtype_policy = reward_model.dtype_policy
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=_PairLoss(center_coefficient),
        weighted_metrics=[
            keras.metrics.MeanMetricWrapper(_is_right, name="accuracy")
        ],
    )
    return model
