"""Functions of arrays, compiled once for each set of argument shapes.

JAX and TensorFlow compile, mostly with XLA. PyTorch's own compiler needs a C++
compiler, so there the operations are recorded once and replayed, which avoids
the overhead of Python and Keras. Each backend has a file of its own, and this
file has what they share.

Several threads may use all of this at the same time.
"""

import importlib
import threading

import keras
import numpy as np
from keras import ops

from kerasllm.backend._devices import name


def shares_compiled():
    """Return whether layers of one kind can share a compiled function.

    Under PyTorch they cannot: the weights are part of a recording.
    """
    return name() != "torch"


def compiled(function, variables=(), donate=None, record=True, shared=False):
    """Return a function that is compiled when it is first called.

    Args:
        function: callable of (nested tuples of) arrays, without side effects.
            It is compiled again for other shapes or dtypes.
        variables: sequence of Keras variables that `function` uses: the
            weights of a model. Their values are read at each call (see
            `Compiled.bind`), so they may change.
        donate: dict from the index of an argument to the index of the result
            that may reuse its memory. The caller must not use a donated array
            again.
        record: bool. Whether PyTorch may record `function`. Pass `False` if
            the function reads a number from an array: the recording would
            replay that number forever.
        shared: bool. Whether `bind` gets other variables than these.

    Returns:
        A `Compiled`.
    """
    module = importlib.import_module(f"kerasllm.backend._compiled_{name()}")
    kind = module.choose(bool(variables), bool(donate), record, shared)
    return kind(function, variables, donate or {})


class Compiled:
    """A function of arrays that is compiled once for each set of shapes.

    Attributes:
        count: int. Number of times that it has been compiled.
        waits: int. Number of calls that waited while another thread compiled.
    """

    def __init__(self, function, variables, donate):
        self.count = 0
        self.waits = 0
        self._function = function
        # We hold the variables themselves rather than their `id`s, because
        # an address is reused once its object is gone.
        self._variables = list(variables)
        self._donate = donate
        self._versions = {}  # compiled functions, by argument shapes
        self._lock = threading.RLock()  # one thread compiles at a time

    def __call__(self, *arguments):
        return self.bind()(*arguments)

    def bind(self, variables=None):
        """Return the function with the current values of the variables.

        It takes time to collect hundreds of weights for each token of a text,
        so they are collected once here. All calls of the returned function
        must have arguments of the same shapes, and come from one thread at a
        time.

        Args:
            variables: Keras variables of the same shapes and dtypes to use
                instead, if `shares_compiled` and the function is `shared`.
        """
        raise NotImplementedError

    def bind_once(self, variables=None):
        """Return the function for a single call, with the values of variables.

        To compile a function takes longer than to call it. TensorFlow can also
        run its operations one by one, so there nothing is compiled.

        Args:
            variables: see `bind`.
        """
        return self.bind(variables)

    def _first_call(self, shapes, make, run):
        """Call the version for these shapes, and make it if it is new.

        Backends compile at the first call, or finish it there, so the first
        call of a version is made by one thread while the others wait.

        Args:
            shapes: what `shapes_of` returned.
            make: callable that returns a new version.
            run: callable from a version to the results of the call.

        Returns:
            The version and the results.
        """
        version = self._versions.get(shapes)
        if version is None:
            with self._lock:
                version = self._versions.get(shapes)
                if version is None:
                    version = make()
                    results = run(version)
                    self._versions[shapes] = version
                    return version, results
                self.waits += 1
        return version, run(version)

    def _counted(self, *arguments):
        """Call the function on behalf of the compiler, and count the call."""
        self.count += 1  # under the lock, like all compilation
        return self._function(*arguments)

    def _stateless(self, function, values, *arguments):
        """Call a function with other values for the variables."""
        pairs = zip(self._variables, values, strict=True)
        with keras.StatelessScope(state_mapping=list(pairs)):
            return function(*arguments)


def shapes_of(arguments):
    """Return the shapes and dtypes for which a function is compiled."""
    flat = keras.tree.flatten(arguments)
    return tuple((a.shape, a.dtype) for a in flat if a is not None)


def to_tensors(arguments):
    """Convert all NumPy arrays in nested tuples to tensors."""
    return keras.tree.map_structure(
        lambda array: (
            ops.convert_to_tensor(array)
            if isinstance(array, np.ndarray | np.generic)
            else array
        ),
        arguments,
    )
