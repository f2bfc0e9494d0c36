"""Requests and answers to learn from (section 16.3.2).

Examples come from a JSONL file, from databricks-dolly-15k or from the small
world. They are split before anything is shuffled, and become batches in which
only the response counts, because a model should learn to answer, not to ask.
"""

import importlib

from kerasllm.instructions._example import Instruction
from kerasllm.instructions._reading import (
    DOLLY_URL,
    IMAGE_KEYS,
    KEYS,
    dolly,
    read_jsonl,
)
from kerasllm.instructions._splitting import split_examples

# Reading and splitting need no backend. What does is imported when it is used.
_NEED_A_BACKEND = (
    "SHORTEST_BUCKET",
    "TokenizedInstructions",
    "instruction_dataset",
)


def split_rows(rows, validation_fraction=0.1, seed=0):
    """Return what `split_examples` returns: its name in the first version."""
    return split_examples(rows, validation_fraction, seed)


__all__ = [
    "DOLLY_URL",
    "IMAGE_KEYS",
    "KEYS",
    "SHORTEST_BUCKET",
    "Instruction",
    "TokenizedInstructions",
    "dolly",
    "instruction_dataset",
    "read_jsonl",
    "split_examples",
    "split_rows",
]


def __getattr__(name):
    if name in _NEED_A_BACKEND:
        tokenized = importlib.import_module(f"{__name__}._tokenized")
        return getattr(tokenized, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
