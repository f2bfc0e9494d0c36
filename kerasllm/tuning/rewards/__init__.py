"""A model that scores responses, and its training on preferences."""

from kerasllm.tuning.rewards._reward_model import RewardModel
from kerasllm.tuning.rewards._reward_training import train_reward_model

__all__ = ["RewardModel", "train_reward_model"]
