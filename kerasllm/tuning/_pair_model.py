"""What `dpo` trains: a model of pairs, its loss and its metrics.

The output of the model and the labels have the same shape and meaning: the
log-probabilities of the two responses of each pair, under the policy and under
the reference.
"""

import dataclasses
import functools

import keras
from keras import ops

from kerasllm.checks import check_real
from kerasllm.tuning._logprobs import next_token_logprobs
from kerasllm.tuning._model import check_trainable
from kerasllm.tuning.losses import check_dpo, pair_losses

# Differences up to this, relative to the log-probabilities, are rounding.
ROUNDING = 1e-5
# Of how many positions together logits are left out; see `PairModel`.
PARTS = 8


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is minimized; see `dpo` for the attributes.

    Raises:
        UserError: one of them is out of range.
    """

    beta: float
    loss_type: str
    label_smoothing: float
    sft_weight: float

    def __post_init__(self):
        check_dpo(self.beta, self.loss_type, self.label_smoothing)
        check_real(
            "sft_weight",
            self.sft_weight,
            lambda value: 0 <= value < float("inf"),
            "at least 0",
            cure="0 is the loss of DPO alone.",
        )
        for name in ("beta", "label_smoothing", "sft_weight"):
            # NumPy's, too, for the file that tells one run from another.
            object.__setattr__(self, name, float(getattr(self, name)))

    def select(self, logprobs):
        """Return what the loss takes: sums, or means for `"sigmoid_norm"`.

        Args:
            logprobs: float tensor `(batch_size, 2, 2)`, see `PairModel`.

        Returns:
            float tensor `(batch_size, 2)`.
        """
        return logprobs[:, :, 1 if self.loss_type == "sigmoid_norm" else 0]

    def log_ratios(self, references, logprobs):
        """Return the log-ratios of both responses: `(batch_size, 2)`."""
        return self.select(logprobs) - self.select(references)


class PairModel(keras.Model):
    """A `CausalLM` that scores the two responses of each pair.

    Args:
        causal_lm: any `keras_hub.models.CausalLM`. Training this model trains
            `causal_lm`, which is its attribute of that name.
        shortest_prompt: int. Tokens at the start of every sequence that are
            the prompt's. No logits are computed for most of them.

    Raises:
        UserError: all weights are frozen.
    """

    def __init__(self, causal_lm, shortest_prompt=1):
        super().__init__(name="pair_model")
        self.causal_lm = causal_lm
        # The last token of the prompt predicts the first of a response. What
        # is left must still divide into many parts.
        self.start = (shortest_prompt - 1) // PARTS * PARTS
        # `compile` asks the model whether float16 makes it scale the loss.
        self.dtype_policy = causal_lm.dtype_policy
        self.built = True
        check_trainable(self)

    def call(self, inputs):
        """Return log-probabilities of the responses.

        Args:
            inputs: dict of tensors, the `x` of `TokenizedPairs.dataset`
                without the `numbers`. Sequence `2 * i` is the chosen response
                of pair `i` with its prompt, the next one the rejected one.

        Returns:
            float32 `(batch_size, 2, 2)`: of the chosen and the rejected
            response, the sum over its tokens and the mean, in nats.
        """
        inputs = dict(inputs)
        # At each position, is the token after it one of the response? What
        # comes around to the last position is a prompt's first token.
        mask = ops.cast(inputs.pop("response_mask"), "float32")
        mask = ops.roll(mask, -1, axis=1)[:, self.start :]
        labels = ops.roll(inputs["token_ids"], -1, axis=1)
        scores = next_token_logprobs(
            self.causal_lm, inputs, labels, start=self.start
        )
        sums = ops.sum(scores * mask, axis=1)  # (2 * batch_size,)
        logprobs = ops.stack([sums, sums / ops.sum(mask, axis=1)], axis=-1)
        return ops.reshape(logprobs, (-1, 2, 2))  # (batch_size, 2, 2)


class DPOLoss(keras.losses.Loss):
    """The loss of pairs, by the output of a `PairModel`.

    Args:
        objective: `Objective`.
    """

    def __init__(self, objective):
        super().__init__(name="dpo_loss", reduction="mean_with_sample_weight")
        self.objective = objective

    def call(self, y_true, y_pred):
        """Return the loss of each pair: `(batch_size,)`."""
        objective = self.objective
        ratios = objective.log_ratios(y_true, y_pred)
        losses = pair_losses(
            ratios[:, 0] - ratios[:, 1],
            objective.beta,
            objective.loss_type,
            objective.label_smoothing,
        )
        # The mean over the tokens of the chosen response.
        return losses - objective.sft_weight * y_pred[:, 0, 1]


def metrics_of(objective):
    """Return the metrics of `dpo`; see there."""

    def reward(y_true, y_pred, which):
        return objective.beta * objective.log_ratios(y_true, y_pred)[:, which]

    def margin(y_true, y_pred):
        return reward(y_true, y_pred, 0) - reward(y_true, y_pred, 1)

    def accuracy(y_true, y_pred):
        size = ops.sum(ops.abs(objective.select(y_true)), axis=1)
        tie = objective.beta * ROUNDING * (1 + size)
        return ops.cast(margin(y_true, y_pred) > tie, "float32")

    def logprob(y_true, y_pred, which):
        return y_pred[:, which, 0]

    functions = {
        "chosen_reward": functools.partial(reward, which=0),
        "rejected_reward": functools.partial(reward, which=1),
        "margin": margin,
        "accuracy": accuracy,
        "chosen_logprob": functools.partial(logprob, which=0),
        "rejected_logprob": functools.partial(logprob, which=1),
    }
    return [
        keras.metrics.MeanMetricWrapper(function, name=name)
        for name, function in functions.items()
    ]
