"""Functions of arrays, compiled once for each set of their shapes.

JAX and TensorFlow compile with XLA. PyTorch has no compiler that needs no C++
compiler beside it; there the operations are recorded once and played back,
which saves what Python and Keras do between them. A file for each backend has
its way; what they share is here.

All of it may be used by several threads at the same time.
"""

import importlib
import threading

import keras
import numpy as np
from keras import ops

from kerasllm.backend._devices import name


def compiled(function, variables=(), donate=None, record=True):
    """Return a function that is compiled when it is first called.

    Args:
        function: callable of (nested tuples of) arrays, without side effects.
            Called with other shapes or dtypes it is compiled again.
        variables: sequence of Keras variables that `function` uses: the
            weights of a model. Their values are read at each call (see
            `Compiled.bind`), so they may change.
        donate: dict from the position of an argument to that of the result
            which may take over its memory. The caller must not use these
            arrays again.
        record: bool. Whether PyTorch records `function`. It must not if any
            number in it comes from the value of an array: the recording would
            have that number forever.

    Returns:
        A `Compiled`.
    """
    module = importlib.import_module(f"kerasllm.backend._compiled_{name()}")
    kind = module.choose(bool(variables), bool(donate), record)
    return kind(function, variables, donate or {})


class Compiled:
    """A function of arrays that is compiled once for each set of shapes.

    Attributes:
        count: int. How often it was compiled so far.
    """

    def __init__(self, function, variables, donate):
        self.count = 0
        self._function = function
        # Held, not named by their `id`: an address is used again when what
        # was there is gone.
        self._variables = list(variables)
        self._donate = donate
        self._versions = {}  # what is compiled, by the shapes of arguments
        self._lock = threading.RLock()  # one thread compiles at a time

    def __call__(self, *arguments):
        return self.bind()(*arguments)

    def bind(self):
        """Return the function with the values that the variables have now.

        To collect hundreds of weights for each token of a text would take
        time. All calls of what is returned must have arguments of the same
        shapes, and come from one thread.
        """
        raise NotImplementedError

    def _version(self, shapes, make):
        """Return what is compiled for these shapes, after `make()` if new."""
        version = self._versions.get(shapes)
        if version is None:
            with self._lock:
                # Another thread may have been faster.
                version = self._versions.get(shapes)
                if version is None:
                    version = self._versions[shapes] = make()
        return version

    def _counted(self, *arguments):
        """Call the function, as the compiler does, and count it."""
        self.count += 1  # with the lock, as all compilation
        return self._function(*arguments)

    def _stateless(self, values, *arguments):
        """Call it with other values in the place of the variables'."""
        pairs = zip(self._variables, values, strict=True)
        with keras.StatelessScope(state_mapping=list(pairs)):
            return self._counted(*arguments)


def shapes_of(arguments):
    """Return what a function of nested tuples of arrays is compiled for."""
    flat = keras.tree.flatten(arguments)
    return tuple((a.shape, a.dtype) for a in flat if a is not None)


def to_tensors(arguments):
    """Make tensors of all NumPy arrays in nested tuples."""
    return keras.tree.map_structure(
        lambda array: (
            ops.convert_to_tensor(array)
            if isinstance(array, np.ndarray | np.generic)
            else array
        ),
        arguments,
    )
