"""The numbers of a run of `grpo`, and when it has collapsed."""

import dataclasses
import math

from kerasllm.checks import (
    LARGEST_SEED,
    UserError,
    check_choice,
    check_int,
    check_real,
    is_int,
    shown,
)
from kerasllm.tuning.losses import SCALES, check_grpo

# A single step may fall through a floor by chance.
STEPS_BELOW = 3

INTS = (
    *("num_generations", "num_iterations", "max_completion_length"),
    *("batch_size", "minibatch_size", "seed"),
)
FLOATS = ("beta", "epsilon", "epsilon_high", "temperature")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides a run beside the model, the prompts and the rewards.

    See `grpo` for the attributes.

    Raises:
        UserError: one of them is out of range.
    """

    num_generations: int
    beta: float
    epsilon: float
    epsilon_high: float | None
    scale_rewards: str
    loss_type: str
    num_iterations: int
    temperature: float
    mask_truncated_completions: bool
    max_completion_length: int
    batch_size: int
    minibatch_size: int | None
    seed: int

    def __post_init__(self):
        check_int(
            "num_generations",
            self.num_generations,
            2,
            cure="A completion is compared with others of the same prompt.",
        )
        check_grpo(self.epsilon, self.epsilon_high, self.beta, self.loss_type)
        check_choice("scale_rewards", self.scale_rewards, SCALES)
        check_real(
            "temperature",
            self.temperature,
            lambda value: 0 < value < math.inf,
            "positive and finite",
            cure="At 0, all completions of a prompt would be the same. Use 1 "
            "for the model's own distribution.",
        )
        for name in ("num_iterations", "max_completion_length", "batch_size"):
            check_int(name, getattr(self, name), 1)
        check_int("seed", self.seed, 0, LARGEST_SEED)
        self._check_minibatches()
        self._settle()

    def _check_minibatches(self):
        size, count = self.minibatch_size, self.num_completions
        if size is None:
            return
        if not is_int(size) or size < 1 or count % size:
            raise UserError(
                "`minibatch_size` must divide the number of completions in a "
                f"step, batch_size * num_generations = {count}. Received: "
                f"minibatch_size={shown(size)}. Leave it out for one update "
                "with all of them."
            )

    def _settle(self):
        """Convert NumPy's numbers, for the file that tells runs apart."""
        for kind, names in ((int, INTS), (float, FLOATS)):
            for name in names:
                value = getattr(self, name)
                if value is not None:
                    object.__setattr__(self, name, kind(value))

    @property
    def num_completions(self):
        """Completions that are sampled in a step: an int."""
        return self.batch_size * self.num_generations

    @property
    def update_size(self):
        """Completions in an update: an int."""
        return self.minibatch_size or self.num_completions


@dataclasses.dataclass(frozen=True)
class Floors:
    """Below which a run has collapsed; `None` for no floor.

    Attributes:
        entropy: float, in nats per token.
        completion_length: float, in tokens.
        reward: float.

    Raises:
        UserError: one of them is no number.
    """

    entropy: float | None
    completion_length: float | None
    reward: float | None

    def __post_init__(self):
        for name, floor in vars(self).items():
            if floor is not None:
                check_real(
                    f"min_{name}",
                    floor,
                    math.isfinite,
                    "a finite number or None",
                    cure="None never stops the run.",
                )

    def what_collapsed(self, history):
        """Tell what has fallen through its floor, a str, or `None`.

        Args:
            history: list of dicts, the logs of the steps so far.
        """
        latest = [logs for logs in history if "reward" in logs][-STEPS_BELOW:]
        if len(latest) < STEPS_BELOW:
            return None
        for name, floor in vars(self).items():
            values = [logs[name] for logs in latest]
            if floor is not None and max(values) < floor:
                return (
                    f"`{name}` must stay at {floor} or above. Received: "
                    f"{', '.join(f'{value:.3g}' for value in values)} in the "
                    f"last {STEPS_BELOW} steps"
                )
        return None
