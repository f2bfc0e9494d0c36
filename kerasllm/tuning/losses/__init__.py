"""What is minimized, as functions of log-probabilities and rewards."""

from kerasllm.tuning.losses._policies import (
    SCALES,
    check_grpo,
    group_advantages,
    grpo_loss,
)
from kerasllm.tuning.losses._preferences import (
    check_dpo,
    dpo_loss,
    pair_losses,
    reward_loss,
    reward_losses,
)

__all__ = [
    "SCALES",
    "check_dpo",
    "check_grpo",
    "dpo_loss",
    "group_advantages",
    "grpo_loss",
    "pair_losses",
    "reward_loss",
    "reward_losses",
]
