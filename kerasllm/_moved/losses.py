"""Moved: see `kerasllm.training`."""

from kerasllm.training import (  # noqa: F401
    NextTokenLoss,
    accuracy,
    next_token_objective,
    token_loss,
    training_model,
    with_labels,
)
