"""Moved: see `kerasllm.training`."""

from kerasllm.training import (  # noqa: F401
    CHECKPOINT_FILE,
    HISTORY_FILE,
    RUN_FILE,
    Checkpoint,
    TrainingInterrupted,
    describe_batch,
)
