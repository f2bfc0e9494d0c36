"""The first batch of the data, by which a run notices other data."""

import hashlib

import keras
import numpy as np

from kerasllm import backend
from kerasllm.checks import RunError

# The name in the files of the first version, which has to stay.
DIGESTS = "rows"


def describe_batch(batch, shares=1):
    """Describe a batch so that another one can be told from it.

    Args:
        batch: tuple `(x, y)` of what one process reads, integers
            `(num_sequences, length)`. `x` may be a dict with `token_ids`.
        shares: int. Processes among which a whole batch is divided.

    Returns:
        A dict for JSON: `shape` of the token ids in the whole batch, and
        `rows`, the first digits of the SHA-256 of each sequence that this
        process reads.
    """
    x = batch[0]
    count, length = (x["token_ids"] if isinstance(x, dict) else x).shape
    arrays = [np.asarray(array) for array in keras.tree.flatten(batch)]
    # There need not be as many images as texts.
    arrays = [array for array in arrays if len(array) == count]
    digests = []
    for sequence in zip(*arrays, strict=True):
        content = b"".join(part.tobytes() for part in sequence)
        digests.append(hashlib.sha256(content).hexdigest()[:16])
    return {"shape": [count * shares, length], DIGESTS: digests}


def check_same_data(found, here, directory):
    """Check that the data begin as in the run so far.

    It comes before all other checks: other data may also mean other epochs or
    another vocabulary, but they are the reason.

    Args:
        found: what `describe_batch` said when the run began, or `None`.
        here: what it says now, or `None` to trust the caller.
        directory: path of the run.

    Raises:
        RunError: they do not.
    """
    differs = False
    # What process 0 reads is in the file. With another number of processes it
    # reads more sequences of the same batch, or fewer.
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
        "A run must go on with the data that it began with, in the same "
        "batches and in the same order each time that they are read. "
        f"Received: a first batch with {received}, for the run in {directory}. "
        "Use the former text, vocabulary and batch size, shuffled not at all "
        "or with a `seed` and `reshuffle_each_iteration=False`; or another "
        "directory for a new run."
    )
