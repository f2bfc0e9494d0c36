"""Rewards of completions: one function, or several with weights."""

import numpy as np

from kerasllm.checks import UserError, check_real, shown
from kerasllm.generation import scores_of


class Rewards:
    """Scores completions with one function or several.

    Args:
        functions: callable `(prompts, responses) -> (batch_size,)` floats, of
            two lists of str; or a list of such callables.
        weights: list of floats, one for each function; `None` for ones.

    Attributes:
        names: list of str, what logs call the functions.
        weights: list of floats.

    Raises:
        UserError: a function cannot be called, or there is not one weight for
            each.
    """

    def __init__(self, functions, weights=None):
        if callable(functions):
            functions = [functions]
        self._functions = list(functions) if np.iterable(functions) else []
        if not self._functions or not all(map(callable, self._functions)):
            raise UserError(
                "`reward_fn` must be a function `(prompts, responses) -> "
                "rewards`, or a list of them. Received: reward_fn="
                f"{shown(functions)}. A reward model and a checker are such "
                "functions."
            )
        self.names = _names(self._functions)
        self.weights = [1.0] * len(self.names)
        if weights is not None:
            self.weights = _check_weights(weights, len(self.names))

    def __call__(self, prompts, responses):
        """Return the rewards of responses to prompts.

        Args:
            prompts: list of str.
            responses: list of str.

        Returns:
            The weighted sums, float64 `(len(responses),)`, and a dict of the
            arrays of each function by its name.

        Raises:
            UserError: a function does not return a finite number for each
                response.
        """
        # Copies, since a function may sort or shorten what it gets.
        rewards = {
            name: scores_of(function, list(prompts), list(responses), name)
            for name, function in zip(self.names, self._functions, strict=True)
        }
        arrays = zip(self.weights, rewards.values(), strict=True)
        return sum(weight * array for weight, array in arrays), rewards


def _names(functions):
    """Return a name for each function, all of them different."""
    names = [
        getattr(function, "__name__", type(function).__name__).strip("<>")
        for function in functions
    ]
    counts = [names[:i].count(name) for i, name in enumerate(names)]
    return [
        f"{name}_{count + 1}" if count else name
        for name, count in zip(names, counts, strict=True)
    ]


def _check_weights(weights, count):
    weights = list(weights) if np.iterable(weights) else [weights]
    for weight in weights:
        check_real(
            "reward_weights",
            weight,
            lambda value: abs(value) < float("inf"),
            "finite numbers, one for each reward",
        )
    if len(weights) != count:
        raise UserError(
            "`reward_weights` must have one number for each reward. Received: "
            f"{len(weights)} weights for {count} functions. Leave them out for "
            "equal weights."
        )
    return [float(weight) for weight in weights]
