"""Learning from rewards: sampling groups of completions, and their updates."""

from kerasllm.tuning.reinforcement._grpo import grpo

__all__ = ["grpo"]
