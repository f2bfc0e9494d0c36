"""What a store asks of an embedder."""

import functools

import numpy as np

from kerasllm.checks import RunError, UserError

# Its vector tells two embedders of the same name apart.
PROBE = "The quick brown fox jumps over the lazy dog."
# Between the vectors of one embedder in float32 and in bfloat16, or on two
# backends. Other weights are further apart.
_LEAST_SIMILARITY = 0.99


def name_of(embedder):
    """Return the name of an embedder: its `name`, or that of its class."""
    while isinstance(embedder, functools.partial):
        embedder = embedder.func
    if hasattr(embedder, "encode_text"):
        # A `TextEmbedder` of KerasHub. Keras numbers the names of models.
        return type(embedder).__name__
    for attribute in ("name", "__qualname__"):
        name = getattr(embedder, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type(embedder).__qualname__


def embed(embedder, texts):
    """Return the vectors of texts, checked and scaled to length 1.

    Args:
        embedder: callable from a list of str to float `(n, dim)`, or a
            `TextEmbedder` of KerasHub.
        texts: list of str.

    Returns:
        float32 `(len(texts), dim)`. A vector of zeros stays one.

    Raises:
        UserError: the embedder returned something else, infinity or NaN.
    """
    if hasattr(embedder, "encode_text"):
        vectors = embedder.encode_text(list(texts), verbose=0)
    else:
        vectors = embedder(list(texts))
    vectors = np.asarray(vectors)
    is_number = vectors.dtype.kind in "fiu" or vectors.dtype.name == "bfloat16"
    has_shape = vectors.ndim == 2 and vectors.shape[0] == len(texts)
    if not (is_number and has_shape and vectors.shape[1]):
        raise UserError(
            "`embedder` must return floats of shape (n, dim), a vector for "
            f"each text. Received: {vectors.dtype} of shape {vectors.shape} "
            f"for {len(texts)} texts, from {name_of(embedder)}. Return "
            "float32 of that shape."
        )
    vectors = vectors.astype("float64")
    if not np.isfinite(vectors).all():
        raise UserError(
            "`embedder` must return finite numbers. Received: infinity or NaN "
            f"from {name_of(embedder)}. Look for an overflow in it."
        )
    # First to a largest entry of 1: the square of 1e-200 is zero.
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    vectors = vectors / np.where(largest > 0, largest, 1)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype("float32")


def check_same(embedder, probe, path):
    """Check that an embedder makes the vectors that a store holds.

    Args:
        embedder: callable.
        probe: float32 `(dim,)`. The vector of `PROBE` in the store.
        path: path of the store, for the message.

    Raises:
        RunError: it returns other vectors.
    """
    (vector,) = embed(embedder, [PROBE])
    if vector.shape != probe.shape:
        found = f"vectors of {len(vector)} numbers, not {len(probe)}"
    elif not (vector.any() or probe.any()):
        return
    elif vector @ probe < _LEAST_SIMILARITY:
        found = "other vectors, of cosine similarity " + format(
            float(vector @ probe), ".2f"
        )
    else:
        return
    raise RunError(
        "A store must be used with the embedder that has filled it. "
        f"Received: another one named {name_of(embedder)}, which makes "
        f"{found}, for {path}. Use that embedder, or fill a new store."
    )
