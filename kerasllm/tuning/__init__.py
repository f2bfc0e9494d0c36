"""Tuning any pretrained `CausalLM` (sections 16.3 and 16.4).

`finetune` is supervised fine-tuning on requests and answers: full fine-tuning,
or tuning of adapters after `kerasllm.lora.enable_lora`. `response_logprobs`
returns how likely a model finds responses. `dpo` learns from preferences with
`dpo_loss`. `train_reward_model` trains a `RewardModel`, which scores responses,
with `reward_loss`. `prefer` tunes a model in rounds on its own responses that
are scored highest, and a `RewardWatch` tells when the reward is exploited.
`self_train` does so with the solutions that a program finds right.
`grpo` learns from rewards of samples, with `group_advantages` and `grpo_loss`.
"""

from kerasllm.tuning._dpo import dpo
from kerasllm.tuning._finetuning import check_tuning, finetune
from kerasllm.tuning._identity import describe_model, noting_the_end
from kerasllm.tuning._logprobs import (
    by_length,
    model_inputs,
    response_logprobs,
)
from kerasllm.tuning._model import TokenModel, frozen_encoder, token_model
from kerasllm.tuning.losses import (
    dpo_loss,
    group_advantages,
    grpo_loss,
    reward_loss,
)
from kerasllm.tuning.reinforcement import grpo
from kerasllm.tuning.rewards import (
    LastToken,
    RewardModel,
    copy_backbone,
    train_reward_model,
)
from kerasllm.tuning.rounds import (
    BestOfEach,
    Cutoff,
    HackingEvidence,
    RewardWatch,
    StopAtRewardHacking,
    TopShare,
    compare_with_best,
    prefer,
    self_train,
)

__all__ = [
    "BestOfEach",
    "Cutoff",
    "HackingEvidence",
    "LastToken",
    "RewardModel",
    "RewardWatch",
    "StopAtRewardHacking",
    "TokenModel",
    "TopShare",
    "by_length",
    "check_tuning",
    "compare_with_best",
    "copy_backbone",
    "describe_model",
    "dpo",
    "dpo_loss",
    "finetune",
    "frozen_encoder",
    "group_advantages",
    "grpo",
    "grpo_loss",
    "model_inputs",
    "noting_the_end",
    "prefer",
    "response_logprobs",
    "reward_loss",
    "self_train",
    "token_model",
    "train_reward_model",
]
