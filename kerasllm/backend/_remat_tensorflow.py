"""Gradient checkpointing of one slice at a time, for TensorFlow.

A TensorFlow graph is ordered by data dependencies only, so it would start all
slices at once. Control dependencies make each slice wait for the previous one.
"""

import functools

import tensorflow as tf


def remat_in_turn(function, all_parts):
    """Apply a function to one slice at a time; see `backend.remat_in_turn`.

    Args:
        function: see `backend.remat_in_turn`.
        all_parts: list of tuples of tensors, the arguments of each call.

    Returns:
        A tensor `(count, ...)` of the results.
    """
    xs = [x for x, *_ in all_parts]
    parts = _Parts(function, [others for _, *others in all_parts])
    return tf.stack(tf.custom_gradient(parts.forward)(*xs))


class _Parts:
    """A function and, for each slice, the arguments without a gradient."""

    def __init__(self, function, all_others):
        self.function = function
        self.all_others = all_others

    def forward(self, *xs):
        """Return the results and a function for the backward pass."""
        results = []
        for x, others in zip(xs, self.all_others, strict=True):
            results.append(self.function(_after(results[-1:], x), *others))
        return results, functools.partial(self.backward, xs, results[-1])

    def backward(self, xs, last_result, *upstream, variables=()):
        """Return the gradients of `xs` and the summed gradients of variables.

        `tf.recompute_grad` for each slice would create one gradient of each
        variable per slice and keep all of them in memory until the end.
        """
        totals, dxs = [tf.zeros_like(v) for v in variables], []
        for x, others, dy in reversed(
            list(zip(xs, self.all_others, upstream, strict=True))
        ):
            x = _after([dy, last_result, *dxs[-1:], *totals], x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                result = self.function(x, *others)
            dx, *parts = tape.gradient(
                result, [x, *variables], dy, unconnected_gradients="zero"
            )
            dxs.append(dx)
            totals = [a + b for a, b in zip(totals, parts, strict=True)]
        return dxs[::-1], totals


def _after(earlier, x):
    """Return `x` once all tensors in a list have been computed."""
    with tf.control_dependencies(tf.nest.flatten(earlier)):
        return tf.identity(x)
