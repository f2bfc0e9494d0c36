"""Compiled functions under TensorFlow.

TensorFlow cannot donate the memory of a tensor, but it can update a variable in
place. So a donated argument is turned into a variable and stays one.

Functions are traced without AutoGraph, which would rewrite Python's `if` and
`for` first. Models that run on every backend use neither on tensors.
"""

import keras
import tensorflow as tf

from kerasllm.backend._compiled import Compiled, shapes_of, to_tensors


def choose(has_variables, donates, record, shared):
    """Return the class of a compiled function.

    Passing the weights as arguments makes the many calls of a decoding step
    cheap, but the first call expensive. A function that has variables but no
    donated arguments is called less often, so it captures the weights, unless
    layers share it.
    """
    if has_variables and not donates and not shared:
        return CapturingFunction
    return FlatFunction


class CapturingFunction(Compiled):
    """A `tf.function` that captures the weights, without XLA."""

    def __init__(self, function, variables, donate):
        super().__init__(function, variables, donate)
        # XLA would take twice as long to compile it, and gain nothing for the
        # large products of a prompt.
        self._graph = tf.function(self._counted, autograph=False)

    def bind(self, variables=None):
        return self._run

    def _run(self, *arguments):
        arguments = _read_variables(to_tensors(arguments))
        # TensorFlow would do the same, but warn about many shapes.
        _, results = self._first_call(
            shapes_of(arguments),
            lambda: self._graph.get_concrete_function(*arguments),
            lambda version: version(*arguments),
        )
        return results


class FlatFunction(Compiled):
    """A `tf.function` of weights and arrays, called with little overhead."""

    def __init__(self, function, variables, donate):
        super().__init__(function, variables, donate)
        # As in `CapturingFunction`, what reads a prompt is not for XLA.
        use_xla = bool(donate) or not variables
        self._graph = tf.function(
            self._assigning, jit_compile=use_xla, autograph=False
        )

    def _assigning(self, values, *arguments):
        """Assign each result to the donated argument whose memory it reuses."""
        results = self._stateless(
            self._counted, values, *_read_variables(arguments)
        )
        if self._donate:
            results = list(results)
        for taken, given in self._donate.items():
            variables = keras.tree.flatten(arguments[taken])
            new = keras.tree.flatten(results[given])
            for variable, value in zip(variables, new, strict=True):
                variable.assign(value)
            results[given] = ()
        return results

    def bind_once(self, variables=None):
        if self._donate:
            return self.bind(variables)
        values = self._values_of(variables)

        def run(*arguments):
            arguments = _read_variables(to_tensors(arguments))
            return self._stateless(self._function, values, *arguments)

        return run

    def _values_of(self, variables):
        variables = self._variables if variables is None else variables
        return [tf.convert_to_tensor(variable.value) for variable in variables]

    def bind(self, variables=None):
        values = self._values_of(variables)
        version = None

        def run(*arguments):
            nonlocal version
            arguments = self._prepare(arguments)
            if version is not None:
                return self._call(version, values, arguments)
            version, results = self._first_call(
                shapes_of(arguments),
                lambda: self._graph.get_concrete_function(values, *arguments),
                lambda version: self._call(version, values, arguments),
            )
            return results

        return run

    def _prepare(self, arguments):
        """Convert donated arguments to variables and the rest to tensors."""
        return [
            _as_variables(argument)
            if position in self._donate
            # An argument may be a variable because another call donated it.
            else _read_variables(to_tensors(argument))
            for position, argument in enumerate(arguments)
        ]

    def _call(self, version, values, arguments):
        flat = [a for a in keras.tree.flatten(arguments) if a is not None]
        handles = [getattr(array, "handle", array) for array in flat]
        # The public way to call it sorts 150 arguments by name, which takes a
        # quarter of the time of a decoding step.
        results = version._call_flat(
            [*values, *handles], version.captured_inputs
        )
        for taken, given in self._donate.items():
            results[given] = arguments[taken]
        return results


def _read_variables(arguments):
    """Return the values of all TensorFlow variables in nested tuples."""
    return keras.tree.map_structure(
        lambda array: (
            array.read_value() if isinstance(array, tf.Variable) else array
        ),
        arguments,
    )


def _as_variables(arrays):
    """Return TensorFlow variables with the values of nested tensors."""
    if isinstance(keras.tree.flatten(arrays)[0], tf.Variable):
        return arrays
    return keras.tree.map_structure(tf.Variable, arrays)
