"""Training: a `fit` that survives a kill, its checkpoints, and the losses.

`resumable_fit` trains any compiled Keras model. `kerasllm.pretrain` and
fine-tuning call it. `training_model` computes the loss of a language model in
parts, so that the logits of a batch never exist all at once. This package does
not generate text: samples after each epoch come from a callable.
"""

from kerasllm.files import (
    CHECKPOINT_FILE,
    HISTORY_FILE,
    MODEL_FILE,
    RUN_FILE,
    read_run,
)
from kerasllm.training._checkpoint_file import (
    SavedState,
    assign,
    read_state,
    write_history,
    write_state,
)
from kerasllm.training._checkpoints import Checkpoint
from kerasllm.training._first_batch import describe_batch
from kerasllm.training._fit import resumable_fit
from kerasllm.training._interrupts import TrainingInterrupted
from kerasllm.training._losses import (
    NextTokenLoss,
    accuracy,
    next_token_objective,
    token_loss,
    training_model,
    with_labels,
)
from kerasllm.training._run_folder import (
    check_run,
    claim,
    claim_for_model,
    write_run,
)

__all__ = [
    "CHECKPOINT_FILE",
    "HISTORY_FILE",
    "MODEL_FILE",
    "RUN_FILE",
    "Checkpoint",
    "NextTokenLoss",
    "SavedState",
    "TrainingInterrupted",
    "accuracy",
    "assign",
    "check_run",
    "claim",
    "claim_for_model",
    "describe_batch",
    "next_token_objective",
    "read_run",
    "read_state",
    "resumable_fit",
    "token_loss",
    "training_model",
    "with_labels",
    "write_history",
    "write_run",
    "write_state",
]
