"""Learning rates as functions of the training step."""

import math
import warnings

import keras
from keras import ops

from kerasllm.checks import check_positive_ints, check_real, is_int

# The numbers of the chapter's run.
CHAPTER_PARAMETERS = 41_800_768
CHAPTER_RATE = 2e-4
CHAPTER_WARMUP = 1000


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


def warmup_for(num_parameters, num_steps):
    """Return a `WarmupSchedule` for a model and the length of its training.

    The rate is the chapter's 2e-4 for the chapter's model of 41.8 million
    parameters, and for larger ones. Smaller models learn with larger steps: the
    best rate of Adam falls with the width, which here is about the square root
    of the number of parameters. The warmup takes a tenth of the run, as in
    the chapter at most 1,000 steps.

    Args:
        num_parameters: int.
        num_steps: int. Number of updates of the weights.

    Source: chapter 16, listing 16.7; Yang et al., 2022, arXiv:2203.03466, for
    the width.
    """
    width = math.sqrt(num_parameters / CHAPTER_PARAMETERS)
    rate = CHAPTER_RATE / max(min(width, 1.0), 0.1)
    return WarmupSchedule(rate, min(CHAPTER_WARMUP, num_steps // 10))


def check_learning_rate(learning_rate, cure="The chapter uses 2e-4."):
    """Refuse a learning rate that is neither a positive number nor a schedule.

    Args:
        learning_rate: number, schedule or callable.
        cure: str. A sentence on what to do.

    Raises:
        UserError: it is something else.
    """
    if not callable(learning_rate):  # a schedule is
        check_real(
            "learning_rate",
            learning_rate,
            lambda value: 0 < value < math.inf,
            "positive",
            cure=cure,
        )


def warn_of_long_warmup(learning_rate, num_steps):
    """Warn if a run ends before the learning rate has reached its value.

    Args:
        learning_rate: number or schedule.
        num_steps: int. Number of updates of the weights in the whole run.
    """
    warmup = getattr(learning_rate, "warmup_steps", 0)
    if isinstance(learning_rate, WarmupSchedule) and warmup > num_steps:
        warnings.warn(
            f"The warmup takes {warmup:,} steps, but the run has {num_steps:,}"
            ": the learning rate never exceeds "
            f"{learning_rate.rate * num_steps / warmup:.2g}, and the model "
            "hardly learns. Train longer, or pass "
            f"`WarmupSchedule({learning_rate.rate:g}, "
            f"warmup_steps={num_steps // 10})`.",
            stacklevel=3,
        )


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
