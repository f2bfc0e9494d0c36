"""Moved: see `kerasllm.generation`. A row is a sequence there."""

from kerasllm.generation import TokenizedPrompt  # noqa: F401
from kerasllm.generation.texts import BatchSampler as RowSampler  # noqa: F401
from kerasllm.generation.texts import Sequence as Row  # noqa: F401
from kerasllm.generation.texts import sequence_seeds as row_seeds  # noqa: F401
from kerasllm.generation.texts import token_array  # noqa: F401
