"""Pretraining: `compile` and `fit`, made robust for runs that take hours.

`pretrain` is the chapter's listing 16.8 with checkpoints. You can kill it at
any moment and call it again with the same arguments. It resumes after its last
checkpoint and ends with the same result as an uninterrupted run.
`pretrain_mini_gpt` covers the whole way from shards of text to a folder with a
trained model, which `PretrainedModel.load` reads.
"""

from kerasllm.pretraining._mini_gpt import pretrain_mini_gpt
from kerasllm.pretraining._pretrain import pretrain
from kerasllm.pretraining._pretrained_model import (
    VOCABULARY_FILE,
    PretrainedModel,
)

# The first version of this package had these names here.
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
