"""Moved: see `kerasllm.generation`. A row is a sequence there."""

from kerasllm.generation import TokenizedPrompt  # noqa: F401
from kerasllm.generation._sequences import BatchSampler as RowSampler  # noqa: F401
from kerasllm.generation._sequences import Sequence as Row  # noqa: F401
from kerasllm.generation._sequences import sequence_seeds as row_seeds  # noqa: F401
from kerasllm.generation._sequences import token_array  # noqa: F401
