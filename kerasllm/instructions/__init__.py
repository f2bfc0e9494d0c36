"""Requests and answers for instruction tuning (section 16.3.2).

Examples come from a JSONL file, from databricks-dolly-15k, or from the small
world. They are split before anything is shuffled. In their batches, only the
tokens of responses count in the loss, because a model should learn to answer
and not to ask.
"""

from kerasllm import lazy
from kerasllm.instructions._conversations import (
    find_system,
    split_conversation,
)
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
_FILE_OF = {
    "Bucketed": "_batches",
    "SHORTEST_BUCKET": "_batches",
    "TokenizedInstructions": "_tokenized",
    "instruction_dataset": "_tokenized",
}


def split_rows(rows, validation_fraction=0.1, seed=0):
    """Return what `split_examples` returns: its name in the first version."""
    return split_examples(rows, validation_fraction, seed)


__all__ = [
    "DOLLY_URL",
    "IMAGE_KEYS",
    "KEYS",
    "SHORTEST_BUCKET",
    "Bucketed",
    "Instruction",
    "TokenizedInstructions",
    "dolly",
    "find_system",
    "instruction_dataset",
    "read_jsonl",
    "split_conversation",
    "split_examples",
    "split_rows",
]

__getattr__, __dir__ = lazy.names_of(__name__, _FILE_OF, __all__)
