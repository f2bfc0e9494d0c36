"""Compiled functions under TensorFlow.

TensorFlow gives no memory away, but variables are written in place. So a
donated argument comes as a variable and stays one.
"""

import keras
import tensorflow as tf

from kerasllm.backend._compiled import Compiled, shapes_of, to_tensors


def choose(has_variables, donates, record):
    """Return the class of a compiled function.

    As arguments the weights make the many calls of a decoding step cheap, but
    the first one dear. What is called once in a while finds them by itself.
    """
    if has_variables and not donates:
        return CapturingFunction
    return FlatFunction


class CapturingFunction(Compiled):
    """A `tf.function` that finds the weights by itself."""

    def __init__(self, function, variables, donate):
        super().__init__(function, variables, donate)
        self._graph = tf.function(self._counted, jit_compile=True)

    def bind(self):
        return self._run

    def _run(self, *arguments):
        arguments = _read_variables(to_tensors(arguments))
        # By itself TensorFlow would do the same, and warn of many shapes.
        version = self._version(
            shapes_of(arguments),
            lambda: self._graph.get_concrete_function(*arguments),
        )
        return version(*arguments)


class FlatFunction(Compiled):
    """A `tf.function` of weights and arrays, called without ceremony."""

    def __init__(self, function, variables, donate):
        super().__init__(function, variables, donate)
        self._graph = tf.function(self._assigning, jit_compile=True)

    def _assigning(self, values, *arguments):
        """Assign the results that take over the memory of arguments."""
        results = self._stateless(values, *_read_variables(arguments))
        if self._donate:
            results = list(results)
        for taken, given in self._donate.items():
            variables = keras.tree.flatten(arguments[taken])
            new = keras.tree.flatten(results[given])
            for variable, value in zip(variables, new, strict=True):
                variable.assign(value)
            results[given] = ()
        return results

    def bind(self):
        values = [
            tf.convert_to_tensor(variable.value) for variable in self._variables
        ]
        version = None

        def run(*arguments):
            nonlocal version
            arguments = self._prepare(arguments)
            if version is None:
                version = self._version(
                    shapes_of(arguments),
                    lambda: self._graph.get_concrete_function(
                        values, *arguments
                    ),
                )
            return self._call(version, values, arguments)

        return run

    def _prepare(self, arguments):
        """Make variables of what is donated, tensors of the rest."""
        return [
            _as_variables(argument)
            if position in self._donate
            # Somebody else's donation may have been a variable, too.
            else _read_variables(to_tensors(argument))
            for position, argument in enumerate(arguments)
        ]

    def _call(self, version, values, arguments):
        flat = [a for a in keras.tree.flatten(arguments) if a is not None]
        handles = [getattr(array, "handle", array) for array in flat]
        # The public way in sorts 150 arguments by name, for a quarter of the
        # time of a decoding step.
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
