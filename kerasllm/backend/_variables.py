"""Values of variables, random states, and companions of models."""

import threading
import weakref

import keras
import numpy as np
from keras import ops

from kerasllm.backend._devices import name

# Held while a companion is found or made.
_FINDING = threading.RLock()


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


def state_of(variables):
    """Return what tells whether variables have got other values.

    Training, loading and assigning give them others. What is returned for the
    same variables, before and after, is then no longer equal.

    Args:
        variables: sequence of Keras variables.
    """
    if name() == "jax":
        return _Arrays([variable.value for variable in variables])
    # These change an array in place. Their sums, and those of their squares,
    # cost about as much as reading one token.
    values = [ops.cast(variable.value, "float32") for variable in variables]
    sums = [(ops.sum(x), ops.sum(ops.square(x))) for x in values]
    return ops.convert_to_numpy(ops.stack(keras.tree.flatten(sums))).tolist()


class _Arrays:
    """Arrays that are never changed, only replaced; it keeps none alive."""

    def __init__(self, arrays):
        self._references = [weakref.ref(array) for array in arrays]

    def __eq__(self, other):
        one, another = self._references, other._references
        return len(one) == len(another) and all(
            a() is not None and a() is b()
            for a, b in zip(one, another, strict=True)
        )


class LoadedValues(keras.StatelessScope):
    """A block in which a model is made and its weights are loaded.

    Within the block, new variables have no values. When it ends, each gets
    the value that was assigned to it, or else its initial one. So no initial
    values are drawn that loading would replace. On JAX, that saves most of the
    time to load a small model: drawing random numbers is compiled for each
    shape.

    An optimizer cannot be made in the block.

    Example:
    ```python
    with backend.LoadedValues():
        backbone = keras_hub.models.Backbone.from_preset("gemma3_1b")
    ```
    """

    def __init__(self):
        super().__init__()
        self._older = []

    def add_update(self, update):
        """Note an assignment; Keras calls this for each."""
        variable, value = update
        super().add_update(update)
        if variable._initializer is None:  # it has its initial value
            self._older.append(update)
        else:
            variable._initializer = _Constant(value)

    def read_later(self, variable, read):
        """Let a variable have a value that is read when the block ends.

        Of many variables, one value at a time is in memory twice.

        Args:
            variable: `keras.Variable` that was made in the block.
            read: a function without arguments that returns an array.
        """
        variable._initializer = lambda shape, dtype=None: read()

    def __exit__(self, *arguments):
        # Each value is held by its variable alone, and let go when copied.
        self.state_mapping.clear()
        super().__exit__(*arguments)
        for variable, value in self._older:
            variable.assign(value)


class _Constant:
    """An initializer that returns a value which is there already."""

    def __init__(self, value):
        self.value = value

    def __call__(self, shape, dtype=None):
        # PyTorch would train the caller's tensor, which two may share.
        return ops.copy(self.value) if name() == "torch" else self.value


def companion_of(model, attribute, make):
    """Return what `make` makes of a model, and keep it with the model.

    It is made once, such as for its compiled functions, and lives as long as
    the model. It is made again if the model gets other variables, for example
    through LoRA. New values of the same variables do not matter.

    Args:
        model: a Keras model.
        attribute: str. The attribute of the model that keeps it.
        make: callable from the model and the previous companion, or `None`,
            to the new one.
    """
    with _FINDING:
        kept = getattr(model, attribute, None)
        if kept is None or not kept.fits(model.variables):
            previous = kept and kept.companion
            kept = _Kept(make(model, previous), list(model.variables))
            setattr(model, attribute, kept)
        return kept.companion


class _Kept:
    """A companion of a model, and the variables that the model had then.

    Keras would track a list or a tuple of variables as weights of the model.
    """

    def __init__(self, companion, variables):
        self.companion, self._variables = companion, variables

    def fits(self, variables):
        """Return whether these are still the same variables."""
        return len(variables) == len(self._variables) and all(
            a is b for a, b in zip(variables, self._variables, strict=True)
        )
