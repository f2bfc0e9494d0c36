"""Compiled functions under JAX."""

import functools

import jax

from kerasllm.backend._compiled import Compiled, shapes_of


def choose(has_variables, donates, record, shared):
    """Return the class of a compiled function, always the same on JAX."""
    return JaxFunction


class JaxFunction(Compiled):
    """`jax.jit`, with the weights as ordinary arguments."""

    def __init__(self, function, variables, donate):
        super().__init__(function, variables, donate)
        self._jit = jax.jit(
            functools.partial(self._stateless, self._counted),
            donate_argnums=[position + 1 for position in donate],
        )

    def bind(self, variables=None):
        variables = self._variables if variables is None else variables
        values = [variable.value for variable in variables]
        is_compiled = False

        def run(*arguments):
            nonlocal is_compiled
            if is_compiled:
                return self._jit(values, *arguments)
            _, results = self._first_call(
                shapes_of(arguments),
                lambda: self._jit,
                lambda jit: jit(values, *arguments),
            )
            is_compiled = True
            return results

        return run
