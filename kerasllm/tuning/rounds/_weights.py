"""Copies of weights: those of the start, and those of each round."""

import contextlib

import numpy as np

from kerasllm import backend, training


def copy_of(variables):
    """Return the values of variables as arrays that nothing changes."""
    # What PyTorch returns is the memory of the variable itself.
    return [np.array(backend.to_numpy(variable)) for variable in variables]


@contextlib.contextmanager
def other_weights(variables, values):
    """Give the trainable weights of a model other values inside a block.

    So a model can be compared with what it was, without a second copy of what
    is frozen. Do not train it there, nor use it in another thread.

    Args:
        variables: list of `keras.Variable`.
        values: list of arrays, one for each.
    """
    now = copy_of(variables)
    try:
        training.assign(variables, values)
        yield
    finally:
        training.assign(variables, now)
