"""The state of the random number generator, for checkpoints."""

import numpy as np

from kerasllm.backend._devices import name


def random_state():
    """Return the state of the generator behind `dropout`, for a checkpoint.

    JAX and TensorFlow draw from Keras's `SeedGenerator`s, which are variables
    of the model. PyTorch draws from one generator of the whole process.

    Returns:
        uint8 array; empty where the model's variables hold the whole state.
    """
    if name() != "torch":
        return np.zeros(0, "uint8")
    return _torch_generator().get_rng_state().numpy()


def set_random_state(state):
    """Restore the generator to a state from `random_state`, if it fits here.

    Args:
        state: uint8 array. A state from another backend or kind of device is
            ignored. Dropout masks then differ, and nothing else does.
    """
    if state.size == random_state().size and name() == "torch":
        import torch

        _torch_generator().set_rng_state(torch.from_numpy(state))


def _torch_generator():
    """Return the PyTorch module whose generator Keras's dropout uses."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda
    return torch.mps if torch.backends.mps.is_available() else torch
