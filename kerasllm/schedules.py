"""Learning rates as functions of the training step."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerasllm")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Raise the learning rate linearly from zero, then hold it.

    The first updates of a deep post-normalized Transformer come from
    gradients that are large and point nowhere in particular; small steps
    let them pass.

    Args:
        rate: float. The learning rate after the warmup, per step.
        warmup_steps: int. Number of steps in which it is reached; 0 for none.

    Raises:
        ValueError: `rate` is not a positive number or `warmup_steps` is
            negative.

    Source: chapter 16, "Pretraining the model", listing 16.7.
    """

    def __init__(self, rate=2e-4, warmup_steps=1000):
        if not (0 < rate < float("inf")):
            raise ValueError(
                "`rate` must be a positive number, the learning rate after "
                f"the warmup. Received: rate={rate!r}. The chapter uses 2e-4."
            )
        if not (0 <= warmup_steps < float("inf")):
            raise ValueError(
                "`warmup_steps` must be zero or more training steps. "
                f"Received: warmup_steps={warmup_steps!r}. Use 0 for no warmup."
            )
        self.rate = rate
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        """Return the learning rate, a float32 scalar, at `step`."""
        step = ops.cast(step, "float32")
        if self.warmup_steps == 0:
            return self.rate * ops.ones_like(step)
        return self.rate * ops.minimum(step / self.warmup_steps, 1.0)

    def get_config(self):
        return {"rate": self.rate, "warmup_steps": self.warmup_steps}
