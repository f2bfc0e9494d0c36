"""Pretraining: `compile`, `fit`, and what a run of hours needs around them.

`pretrain` is the chapter's listing 16.8 with checkpoints: kill it at any
moment, call it again with the same arguments, and it goes on at the batch
after its last checkpoint and ends where it would have ended.
`pretrain_mini_gpt` goes all the way from shards of text to a folder with a
trained model in it, which `PretrainedModel.load` reads.
"""

from kerasllm.pretraining._mini_gpt import pretrain_mini_gpt
from kerasllm.pretraining._pretrain import pretrain
from kerasllm.pretraining._pretrained_model import (
    VOCABULARY_FILE,
    PretrainedModel,
)

# The first version had these here.
from kerasllm.training import (
    CHECKPOINT_FILE,
    MODEL_FILE,
    RUN_FILE,
    Checkpoint,
    claim,
    claim_for_model,
    describe_batch,
    resumable_fit,
)

__all__ = [
    "CHECKPOINT_FILE",
    "MODEL_FILE",
    "RUN_FILE",
    "VOCABULARY_FILE",
    "Checkpoint",
    "PretrainedModel",
    "claim",
    "claim_for_model",
    "describe_batch",
    "pretrain",
    "pretrain_mini_gpt",
    "resumable_fit",
]
