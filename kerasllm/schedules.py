"""Learning rates as functions of the training step."""

import keras
from keras import ops

from kerasllm.checks import check_positive_ints, check_real, is_int


@keras.saving.register_keras_serializable(package="kerasllm")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Raise the learning rate linearly from zero, then hold it.

    The first updates of a deep post-normalized Transformer come from gradients
    that are large and have no consistent direction. Small steps keep these
    updates from doing harm.

    Args:
        rate: float. The learning rate after the warmup, per step.
        warmup_steps: int. Number of steps to reach that rate; 0 for no warmup.
            A step is a batch. When `pretrain` accumulates gradients, a step
            is an update of the weights.

    Raises:
        UserError: `rate` is not a positive number or `warmup_steps` is
            negative.

    Source: chapter 16, "Pretraining the model", listing 16.7.
    """

    def __init__(self, rate=2e-4, warmup_steps=1000):
        check_real(
            "rate",
            rate,
            lambda number: 0 < number < float("inf"),
            "a positive number, the learning rate after the warmup",
            cure="The chapter uses 2e-4.",
        )
        check_real(
            "warmup_steps",
            warmup_steps,
            lambda number: 0 <= number < float("inf"),
            "zero or more training steps",
            cure="Use 0 for no warmup.",
        )
        # Plain Python numbers, which can be saved with an optimizer.
        self.rate = float(rate)
        self.warmup_steps = (int if is_int(warmup_steps) else float)(
            warmup_steps
        )

    def __call__(self, step):
        """Return the learning rate, a float32 scalar, at `step`."""
        step = ops.cast(step, "float32")
        if self.warmup_steps == 0:
            return self.rate * ops.ones_like(step)
        return self.rate * ops.minimum(step / self.warmup_steps, 1.0)

    def get_config(self):
        return {"rate": self.rate, "warmup_steps": self.warmup_steps}


@keras.saving.register_keras_serializable(package="kerasllm")
class UpdateSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Count updates instead of batches under gradient accumulation.

    An optimizer that sums the gradients of several batches for one update
    passes its schedule the number of batches, so a warmup would end too early.

    Args:
        schedule: `LearningRateSchedule`, a function of the number of updates.
        gradient_accumulation_steps: int. Number of batches in one update.

    Raises:
        UserError: `gradient_accumulation_steps` is not a positive int.
    """

    def __init__(self, schedule, gradient_accumulation_steps):
        check_positive_ints(
            gradient_accumulation_steps=gradient_accumulation_steps
        )
        self.schedule = schedule
        self.gradient_accumulation_steps = int(gradient_accumulation_steps)

    def __call__(self, step):
        """Return the learning rate, a float32 scalar, after `step` batches."""
        return self.schedule(step // self.gradient_accumulation_steps)

    def get_config(self):
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }

    @classmethod
    def from_config(cls, config):
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(schedule, config["gradient_accumulation_steps"])
