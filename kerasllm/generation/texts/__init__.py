"""Texts while they are generated: their state, their pieces, their results."""

from kerasllm.generation.texts._results import (
    Call,
    Generation,
    Stream,
    make_result,
    make_results,
)
from kerasllm.generation.texts._sequences import (
    BatchSampler,
    Sequence,
    TokenizedPrompt,
    sequence_seeds,
    token_array,
)
from kerasllm.generation.texts._text_stream import TextStream

__all__ = [
    "BatchSampler",
    "Call",
    "Generation",
    "Sequence",
    "Stream",
    "TextStream",
    "TokenizedPrompt",
    "make_result",
    "make_results",
    "sequence_seeds",
    "token_array",
]
