"""Gradient checkpointing: compute again what is too large to keep."""

import keras
from keras import ops

from kerasllm.backend._devices import name


def remat(function):
    """Have what a function computes forgotten, and computed again when needed.

    `keras.remat`, but for JAX: XLA's compiler for CPUs does not keep the order
    that `jax.checkpoint` asks for. It computes all blocks of a model again at
    once, and then has all of them in memory as before. Here they wait for the
    gradients that they are needed for.

    Args:
        function: callable without side effects of (nested) tensors, the last
            of which is float; all that is worth forgetting depends on it. It
            returns a tuple that begins with a float tensor.

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
        # Zero times a number of the gradient. XLA may not leave it out: it
        # would not be zero if that were infinite.
        *others, last = arguments
        wait = (0 * gradients[0].ravel()[0]).astype(last.dtype)
        return jax.vjp(function, *others, last + wait)[1](gradients)

    forgetful.defvjp(forward, backward)
    return forgetful


def remat_in_turn(function, *arrays):
    """Apply a function to one part of arrays after the other, forgetfully.

    What it computes for a part is forgotten, and computed again on the way
    back, there too for one part after the other, from the last. Gradients of
    variables are added up as they come.

    Args:
        function: callable of tensors, the first of which is float and the only
            one that has a gradient. It returns a float tensor.
        *arrays: tensors `(count, ...)`, whose parts it takes.

    Returns:
        A tensor `(count, ...)` of what it returned.
    """
    if name() == "jax":
        import jax

        # Written one after the other, XLA would work on all parts at once and
        # have what each of them needs in memory.
        return jax.lax.map(lambda parts: keras.remat(function)(*parts), arrays)
    all_parts = list(zip(*map(ops.unstack, arrays), strict=True))
    if name() == "torch":
        return ops.stack([keras.remat(function)(*p) for p in all_parts])
    from kerasllm.backend import _remat_tensorflow

    return _remat_tensorflow.remat_in_turn(function, all_parts)
