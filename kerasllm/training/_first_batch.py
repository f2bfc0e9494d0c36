"""The first batch of the data, which reveals when the data have changed."""

import hashlib

import keras
import numpy as np

from kerasllm import backend
from kerasllm.checks import RunError

# Files of the first version use this name, so it must stay.
DIGESTS = "rows"


def describe_batch(batch, shares=1):
    """Describe a batch so that a different one can be recognized.

    Args:
        batch: tuple `(x, y)` that one process reads, ints
            `(num_sequences, length)`. `x` may be a dict with `token_ids`.
        shares: int. Number of processes that share a whole batch.

    Returns:
        A dict for JSON: `shape` of the token ids in the whole batch, and
        `rows`, the first digits of the SHA-256 of each sequence that this
        process reads.
    """
    x = batch[0]
    count, length = (x["token_ids"] if isinstance(x, dict) else x).shape
    arrays = [np.asarray(array) for array in keras.tree.flatten(batch)]
    # The number of images may differ from the number of texts.
    arrays = [array for array in arrays if len(array) == count]
    digests = []
    for sequence in zip(*arrays, strict=True):
        content = b"".join(part.tobytes() for part in sequence)
        digests.append(hashlib.sha256(content).hexdigest()[:16])
    return {"shape": [count * shares, length], DIGESTS: digests}


def check_same_data(found, here, directory):
    """Check that the data begin as they did when the run began.

    This comes before all other checks. Other data may also change the number
    of steps or the vocabulary, but then the data are the cause to report.

    Args:
        found: the result of `describe_batch` when the run began, or `None`.
        here: the result now, or `None` to skip the check.
        directory: path of the run.

    Raises:
        RunError: the first batch differs.
    """
    differs = False
    # The file describes what process 0 reads. With another number of
    # processes, it reads more or fewer sequences of the same batch.
    if found and here and backend.process()[0] == 0:
        count = min(len(found[DIGESTS]), len(here[DIGESTS]))
        differs = (
            found["shape"] != here["shape"]
            or found[DIGESTS][:count] != here[DIGESTS][:count]
        )
    if not backend.of_all_processes(differs).any():
        return
    received = "the same shape, but other tokens"
    if found["shape"] != here["shape"]:
        received = f"the shape {here['shape']}, not {found['shape']}"
    raise RunError(
        "A run must continue with the data that it began with, in the same "
        "batches and in the same order each time that they are read. "
        f"Received: a first batch with {received}, for the run in {directory}. "
        "Use the original text, vocabulary and batch size. Do not shuffle, or "
        "shuffle with a `seed` and `reshuffle_each_iteration=False`. Or use "
        "another directory for a new run."
    )
