"""Tuning any pretrained `CausalLM` (sections 16.3 and 16.4).

`finetune` is supervised fine-tuning on requests and answers: full fine-tuning,
or tuning of adapters after `kerasllm.lora.enable_lora`. `response_logprobs`
returns how likely a model finds responses. `dpo` learns from preferences with
`dpo_loss`. `train_reward_model` trains a `RewardModel`, which scores responses,
with `reward_loss`. `group_advantages` and `grpo_loss` are for learning from
rewards.
"""

from kerasllm.tuning._dpo import dpo
from kerasllm.tuning._finetuning import check_tuning, finetune
from kerasllm.tuning._logprobs import response_logprobs
from kerasllm.tuning._model import TokenModel, token_model
from kerasllm.tuning.losses import (
    dpo_loss,
    group_advantages,
    grpo_loss,
    reward_loss,
)
from kerasllm.tuning.rewards import RewardModel, train_reward_model

__all__ = [
    "RewardModel",
    "TokenModel",
    "check_tuning",
    "dpo",
    "dpo_loss",
    "finetune",
    "group_advantages",
    "grpo_loss",
    "response_logprobs",
    "reward_loss",
    "token_model",
    "train_reward_model",
]
