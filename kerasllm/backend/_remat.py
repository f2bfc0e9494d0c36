"""Gradient checkpointing: recompute what is too large to keep in memory."""

import keras
from keras import ops

from kerasllm.backend._devices import name


def remat(function):
    """Return a function that recomputes its intermediate values on demand.

    This is gradient checkpointing. It is `keras.remat`, except on JAX. There,
    XLA's CPU compiler does not keep the order that `jax.checkpoint` asks for:
    it recomputes all blocks of a model at once and so holds all of them in
    memory after all. Here each block waits for the gradients that need it.

    Args:
        function: callable of (nested) tensors, without side effects. The last
            argument must be float, and everything worth recomputing must
            depend on it. The function returns a tuple whose first element is
            a float tensor.

    Returns:
        A function with the same results and gradients.
    """
    if name() != "jax":
        return keras.remat(function)
    import jax

    @jax.custom_vjp
    def forgetful(*arguments):
        return function(*arguments)

    def forward(*arguments):
        return function(*arguments), arguments

    def backward(arguments, gradients):
        # Adding zero times a gradient makes the recomputation wait for that
        # gradient. XLA cannot remove the product, because zero times infinity
        # is not zero.
        *others, last = arguments
        wait = (0 * gradients[0].ravel()[0]).astype(last.dtype)
        return jax.vjp(function, *others, last + wait)[1](gradients)

    forgetful.defvjp(forward, backward)
    return forgetful


def remat_in_turn(function, *arrays):
    """Apply a function to slices of arrays, one at a time, with checkpointing.

    The intermediate values of a slice are discarded and computed again in the
    backward pass. The backward pass also handles one slice at a time,
    beginning with the last. Gradients of variables are summed along the way.

    Args:
        function: callable of tensors. The first one must be float, and only
            it receives a gradient. The function returns a float tensor.
        *arrays: tensors `(count, ...)`, sliced along the first axis.

    Returns:
        A tensor `(count, ...)` of the results.
    """
    if name() == "jax":
        import jax

        # If the calls were written one after another, XLA would work on all
        # slices at once and hold the intermediate values of all in memory.
        return jax.lax.map(lambda parts: keras.remat(function)(*parts), arrays)
    all_parts = list(zip(*map(ops.unstack, arrays), strict=True))
    if name() == "torch":
        return ops.stack([keras.remat(function)(*p) for p in all_parts])
    from kerasllm.backend import _remat_tensorflow

    return _remat_tensorflow.remat_in_turn(function, all_parts)
