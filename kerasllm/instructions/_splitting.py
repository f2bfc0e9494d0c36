"""Held-out examples: chosen before anything is shuffled."""

import hashlib
import math

from kerasllm.checks import UserError, check_int, check_list, check_real
from kerasllm.images import digest_of_image
from kerasllm.instructions._example import check_examples


def split_examples(examples, validation_fraction=0.1, seed=0):
    """Hold out some of the examples, before anything is shuffled.

    A hash of the request, with its context and images, decides where an
    example goes. So the same request is never on both sides, however often it
    occurs and in whatever order the examples come. In a conversation, the
    first request decides, so that all of its answers are on the same side.

    Args:
        examples: list of `Instruction`.
        validation_fraction: float in `(0, 1)`. The fraction that is held out,
            approximately.
        seed: int. Another one holds out others.

    Returns:
        Two lists of `Instruction`: to train on, and held out.

    Raises:
        UserError: the fraction is out of range, one of the examples is no
            `Instruction`, or one side would be empty.
    """
    examples = check_list("examples", examples)
    check_examples(examples)
    check_real(
        "validation_fraction",
        validation_fraction,
        lambda value: 0 < value < 1,
        "between 0 and 1",
    )
    check_int("seed", seed, 0, math.inf)
    train, held_out = [], []
    for example in examples:
        is_held_out = _draw(example, seed) < validation_fraction
        (held_out if is_held_out else train).append(example)
    if not train or not held_out:
        raise UserError(
            "Both sides of a split must have examples. Received: "
            f"{len(examples)} examples, {len(train)} to train on and "
            f"{len(held_out)} held out. Choose another `validation_fraction` "
            "or `seed`, or bring more examples."
        )
    return train, held_out


def _draw(example, seed):
    """Return a number in `[0, 1)` that a request decides: a float."""
    said = [text for role, text in example.messages if role == "user"]
    parts = [str(seed), (said or [example.instruction])[0]]
    if example.context is not None:
        parts.append(example.context)
    parts += map(digest_of_image, example.images)
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
