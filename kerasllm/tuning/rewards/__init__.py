"""A model that scores responses, and its training on preferences."""

from kerasllm.tuning.rewards._reward_model import (
    LastToken,
    RewardModel,
    copy_backbone,
)
from kerasllm.tuning.rewards._reward_training import train_reward_model

__all__ = ["LastToken", "RewardModel", "copy_backbone", "train_reward_model"]
