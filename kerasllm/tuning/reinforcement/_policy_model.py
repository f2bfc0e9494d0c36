"""What `grpo` trains: a model of log-probabilities, and its loss."""

import keras
from keras import ops

from kerasllm.tuning._logprobs import next_token_logprobs
from kerasllm.tuning._model import check_trainable
from kerasllm.tuning.losses import grpo_loss


class PolicyModel(keras.Model):
    """A `CausalLM` that scores the tokens of completions.

    Args:
        causal_lm: any `keras_hub.models.CausalLM`. Training this model trains
            `causal_lm`, which is its attribute of that name.
        settings: `Settings`.

    Raises:
        UserError: all weights are frozen.
    """

    def __init__(self, causal_lm, settings):
        super().__init__(name="policy_model")
        self.causal_lm = causal_lm
        self.settings = settings
        # `compile` asks the model whether float16 makes it scale the loss.
        self.dtype_policy = causal_lm.dtype_policy
        self.built = True
        check_trainable(self)

    def call(self, inputs):
        """Return the log-probabilities of the next tokens.

        They are those of the distribution that is sampled from, so the logits
        are divided by the temperature.

        Args:
            inputs: dict of tensors; see `Batch.inputs`.

        Returns:
            float32 `(batch_size, length)`, in nats.
        """
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        return next_token_logprobs(
            self.causal_lm, inputs, labels, self.settings.temperature
        )

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """Return `grpo_loss` of a batch.

        Args:
            x: not used.
            y: dict of `logprobs` from when the tokens were sampled, `mask`
                and `advantages`, and `reference_logprobs` if `beta` is not 0;
                see `grpo_loss`.
            y_pred: what `call` returned.
            sample_weight: not used.
            training: not used.
        """
        settings = self.settings
        return grpo_loss(
            y_pred,
            y["logprobs"],
            y["advantages"],
            y["mask"],
            settings.epsilon,
            settings.epsilon_high,
            settings.beta,
            y.get("reference_logprobs"),
            settings.loss_type,
            settings.max_completion_length,
        )

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Return the loss, the mean ratio and the share of clipped tokens."""
        settings = self.settings
        mask = ops.cast(ops.convert_to_tensor(y["mask"]), "float32")
        old = ops.cast(ops.convert_to_tensor(y["logprobs"]), "float32")
        advantages = ops.convert_to_tensor(y["advantages"])[:, None]
        log_ratio = ops.stop_gradient(y_pred) - old
        ratio = ops.exp(ops.where(mask > 0, log_ratio, 0.0))
        high = settings.epsilon_high
        high = settings.epsilon if high is None else high
        too_high = (ratio > 1 + high) & (advantages > 0)
        too_low = (ratio < 1 - settings.epsilon) & (advantages < 0)
        clipped = ops.cast(too_high | too_low, "float32")
        count = ops.maximum(ops.sum(mask), 1.0)
        return {
            **super().compute_metrics(x, y, y_pred, sample_weight),
            # 1 if there is no token to learn from.
            "ratio": 1 + ops.sum((ratio - 1) * mask) / count,
            "clip_share": ops.sum(clipped * mask) / count,
        }
