"""Pure functions from logits to logits that restrict the choice of tokens.

A filter sets what it removes to `-inf`, and `-inf` stays `-inf`, so filters and
masks can be combined. The logits of each position need at least one finite
value and no NaN; otherwise the result is undefined. A check here would cost a
transfer from the device for every token, so samplers check them, and the
generators those that they fetch anyway.

Everything here is plain `keras.ops` with static shapes and can be compiled.
Temperatures, probabilities, penalties and `k` may be scalar tensors, so that a
compiled loop can change them. Their ranges are then not checked.
"""

import math

import keras
import numpy as np
from keras import ops

from kerasllm.checks import (
    MIN_P,
    PENALTY,
    TEMPERATURE,
    TOP_P,
    UserError,
    check_numbers,
    check_real,
    is_int,
    is_real,
    shown,
)

# Dividing by a smaller number overflows, or gives NaN if it is flushed to zero.
COLDEST = float(np.finfo("float32").tiny)


def top_k_filter(logits, k):
    """Keep the `k` largest logits along the last axis and remove the rest.

    Args:
        logits: float tensor `(..., vocabulary_size)`.
        k: int in `[1, vocabulary_size]`. Of tied logits the first ones are
            kept, so that exactly `k` remain. (Hugging Face keeps all of them.)

    Returns:
        A tensor of the same shape and dtype, removed logits set to `-inf`.

    Raises:
        UserError: `k` is out of range.

    Source: Fan et al., 2018, arXiv:1805.04833; chapter 16, section "Sampling
    strategies".
    """
    logits = _float_tensor(logits)
    check_k("k", k, logits.shape[-1])
    if is_real(k):
        smallest_kept = ops.top_k(logits, int(k))[0][..., -1:]  # (..., 1)
        return _keep_largest(logits, smallest_kept, k)
    # `ops.top_k` takes plain numbers only, and sorting is slower than a search.
    k = ops.cast(k, "int32")
    smallest_kept = _largest_threshold(
        logits,
        lambda kept: ops.sum(ops.cast(kept, "int32"), -1, keepdims=True) >= k,
    )
    return _keep_largest(logits, smallest_kept, k)


def top_p_filter(logits, p):
    """Keep the fewest likely tokens whose cumulative probability reaches `p`.

    These tokens are called the nucleus.

    Args:
        logits: float tensor `(..., vocabulary_size)`.
        p: float in `(0, 1]`. The most likely token is always kept. Of tied
            logits at the edge of the nucleus, the first ones are kept.

    Returns:
        A tensor of the same shape and dtype, removed logits set to `-inf`.

    Raises:
        UserError: `p` is out of range.

    Source: Holtzman et al., 2020, arXiv:1904.09751.
    """
    logits = _float_tensor(logits)
    check("p", p, TOP_P)
    if not is_real(p):
        return _top_p_by_search(logits, p)
    ordered = ops.sort(logits, axis=-1)  # smallest first
    # Summing from the smallest value up rounds least, as in Hugging Face.
    cumulative = ops.cumsum(ops.softmax(ops.cast(ordered, "float32")), axis=-1)
    removed = ops.cast(cumulative <= 1.0 - p, "int32")
    vocabulary_size = logits.shape[-1]
    count = vocabulary_size - ops.sum(removed, axis=-1, keepdims=True)
    count = ops.maximum(count, 1)  # (..., 1)
    smallest_kept = ops.take_along_axis(
        ordered, vocabulary_size - count, axis=-1
    )
    return _keep_largest(logits, smallest_kept, count)


def _top_p_by_search(logits, p):
    """`top_p_filter` without sorting the vocabulary."""
    probabilities = ops.softmax(ops.cast(logits, "float32"))

    def probability(kept):
        return ops.sum(ops.where(kept, probabilities, 0.0), -1, keepdims=True)

    smallest_kept = _largest_threshold(
        logits, lambda kept: probability(kept) >= p
    )
    above, tied = logits > smallest_kept, logits == smallest_kept
    each = ops.max(ops.where(tied, probabilities, 0.0), axis=-1, keepdims=True)
    needed = ops.ceil((p - probability(above)) / each)
    count = ops.sum(ops.cast(above, "int32"), axis=-1, keepdims=True)
    count = count + ops.cast(ops.maximum(needed, 1.0), "int32")
    # A rounded sum may reach 1 before the last token, but p=1 keeps all tokens.
    return ops.where(
        p >= 1.0, logits, _keep_largest(logits, smallest_kept, count)
    )


def min_p_filter(logits, p):
    """Keep the tokens at least `p` times as likely as the most likely one.

    Args:
        logits: float tensor `(..., vocabulary_size)`.
        p: float in `[0, 1]`.

    Returns:
        A tensor of the same shape and dtype, removed logits set to `-inf`.

    Raises:
        UserError: `p` is out of range.

    Source: Nguyen et al., 2024, arXiv:2407.01082.
    """
    logits = _float_tensor(logits)
    check("p", p, MIN_P)
    probabilities = ops.softmax(ops.cast(logits, "float32"))
    best = ops.max(probabilities, axis=-1, keepdims=True)
    return ops.where(probabilities >= p * best, logits, -math.inf)


def apply_penalties(logits, token_ids, frequency=0.0, presence=0.0):
    """Lower the logits of tokens that already occur in the text.

    If token `j` occurs `c[j]` times in `token_ids`, then
    `c[j] * frequency + (c[j] > 0) * presence` is subtracted from logit `j`.

    All of `token_ids` counts, so the caller decides whether the prompt does:
    `generate` passes every token so far, including the prompt. Ids outside the
    vocabulary are not counted, so pad sequences of different lengths with -1.

    Args:
        logits: float tensor `(vocabulary_size,)` or
            `(batch_size, vocabulary_size)`.
        token_ids: int tensor `(length,)` or `(batch_size, length)`.
        frequency: float. A negative value encourages repetition.
        presence: float. A negative value encourages repetition.

    Returns:
        A tensor of the same shape and dtype as `logits`.

    Raises:
        UserError: a penalty is not finite or above 1e30, or the shapes do not
            match.

    Source: OpenAI's API guide, "Frequency and presence penalties".
    """
    logits = _float_tensor(logits)
    token_ids = ops.cast(number_tensor("token_ids", token_ids), "int32")
    check("frequency", frequency, PENALTY)
    check("presence", presence, PENALTY)
    if (
        len(logits.shape) not in (1, 2)
        or len(token_ids.shape) != len(logits.shape)
        or token_ids.shape[:-1] != logits.shape[:-1]
    ):
        raise UserError(
            "`token_ids` must be (length,) for logits (vocabulary_size,) and "
            "(batch_size, length) for logits (batch_size, vocabulary_size). "
            f"Received: token_ids of shape {tuple(token_ids.shape)}, logits "
            f"of shape {tuple(logits.shape)}. Pad shorter sequences with -1."
        )
    counts = _count_tokens(token_ids, logits.shape[-1])
    penalties = counts * frequency + ops.cast(counts > 0, "float32") * presence
    penalized = ops.cast(logits, "float32") - penalties
    return ops.cast(penalized, logits.dtype)


def divide_by_temperature(logits, temperature):
    """Divide logits by the temperature; at 0, keep only the first largest one.

    Args:
        logits: float tensor `(..., vocabulary_size)`.
        temperature: float, at least 0.

    Returns:
        A tensor of the same shape, with 0 as its largest logit.

    Raises:
        UserError: `temperature` is negative or above 1e30.
    """
    check("temperature", temperature, TEMPERATURE)
    # This shift does not change the softmax. With it, a tiny temperature gives
    # large negative numbers instead of inf - inf.
    logits = _float_tensor(logits)
    logits = logits - ops.max(logits, axis=-1, keepdims=True)
    if is_real(temperature) and temperature >= COLDEST:
        return logits / float(temperature)
    # XLA's `argmax` takes ten times as long as a minimum on a CPU.
    size = logits.shape[-1]
    indices = ops.arange(size, dtype="int32")
    best = ops.where(logits < 0, size, indices)
    others = indices != ops.min(best, axis=-1, keepdims=True)
    is_cold = temperature < COLDEST
    divided = logits / ops.where(is_cold, 1.0, temperature)
    return ops.where(is_cold & others, -math.inf, divided)


def _largest_threshold(logits, is_enough):
    """Return the largest threshold that keeps enough of the logits.

    Floats have the same order as their bits read as integers. (Negative floats
    have the opposite order.) So the threshold is found bit by bit. The result
    is exact and takes 32 passes over the logits, while sorting takes as long
    as hundreds of passes.

    Args:
        logits: float tensor `(..., vocabulary_size)`.
        is_enough: function from a mask of the kept logits, a bool tensor like
            `logits`, to a bool tensor `(..., 1)`. If a mask is enough, any
            larger mask must be enough, too. If no mask is enough, the
            smallest finite logit is returned.
    """
    bits = ops.view(ops.cast(logits, "float32"), "int32")
    order = ops.where(bits < 0, ops.bitwise_xor(bits, 2**31 - 1), bits)
    finite = ops.where(ops.isfinite(logits), order, 2**31 - 1)
    low = ops.min(finite, axis=-1, keepdims=True)  # is enough
    high = ops.max(order, axis=-1, keepdims=True)

    def halve(_, bounds):
        low, high = bounds
        # The mean, rounded up. Adding the two directly could overflow.
        odd = ops.bitwise_and(ops.bitwise_or(low, high), 1)
        middle = ops.right_shift(low, 1) + ops.right_shift(high, 1) + odd
        enough = is_enough(order >= middle)
        return (
            ops.where(enough, middle, low),
            ops.where(enough, high, middle - 1),
        )

    low, _ = ops.fori_loop(0, 32, halve, (low, high))
    # `low` is now the order of a logit, and `low + 1` would not be enough.
    bits = ops.where(low < 0, ops.bitwise_xor(low, 2**31 - 1), low)
    return ops.cast(ops.view(bits, "float32"), logits.dtype)


def _keep_largest(logits, smallest_kept, count):
    """Keep `count` logits; of those equal to the smallest, the first ones."""
    above = logits > smallest_kept
    tied = logits == smallest_kept
    room = count - ops.sum(ops.cast(above, "int32"), axis=-1, keepdims=True)
    tied_so_far = ops.cumsum(ops.cast(tied, "int32"), axis=-1)
    return ops.where(above | (tied & (tied_so_far <= room)), logits, -math.inf)


def _count_tokens(token_ids, vocabulary_size):
    """Count each token: int32 `(..., length)` to float32 `(..., vocab)`."""
    if len(token_ids.shape) == 1:
        return _count_tokens(token_ids[None], vocabulary_size)[0]
    batch_size = ops.shape(token_ids)[0]
    # Ids outside the vocabulary are counted in an extra column that is cut off.
    width = vocabulary_size + 1
    inside = (token_ids >= 0) & (token_ids < vocabulary_size)
    columns = ops.where(inside, token_ids, vocabulary_size)
    cells = columns + width * ops.arange(batch_size, dtype="int32")[:, None]
    cells = ops.reshape(cells, (-1,))
    counts = ops.segment_sum(
        ops.ones_like(cells, dtype="float32"), cells, batch_size * width
    )
    return ops.reshape(counts, (batch_size, width))[:, :-1]


def _float_tensor(logits):
    """Return logits as a float tensor, which can hold `-inf`."""
    logits = number_tensor("logits", logits)
    if not len(logits.shape) or logits.shape[-1] == 0:
        raise UserError(
            "`logits` must be (..., vocabulary_size), of at least one token. "
            f"Received: logits of shape {tuple(logits.shape)}. Pass those of "
            "all tokens."
        )
    if keras.backend.is_float_dtype(logits.dtype):
        return logits
    return ops.cast(logits, "float32")


def number_tensor(name, values):
    """Return numbers as a tensor, or refuse what is none.

    Args:
        name: str. Name of the argument, for the message.
        values: tensor, array, number, or a list of these.

    Raises:
        UserError: they are something else.
    """
    if not (ops.is_tensor(values) or isinstance(values, keras.KerasTensor)):
        is_list = not hasattr(values, "dtype")
        values = check_numbers(name, values)
        if values.dtype == "uint64":  # not every backend has it
            values = values.astype("int64")
        if is_list and values.dtype.kind == "f":
            values = values.astype(keras.config.floatx())
    return ops.convert_to_tensor(values)


def is_zero(value):
    """Return whether a value is the plain number zero."""
    return is_real(value) and value == 0


def check_k(name, k, vocabulary_size=None):
    """Check the number of tokens to keep, unless it is a tensor."""
    most = math.inf if vocabulary_size is None else vocabulary_size
    if not (ops.is_tensor(k) or (is_int(k) and 1 <= k <= most)):
        size = "" if vocabulary_size is None else f"={vocabulary_size}"
        raise UserError(
            f"`{name}` must be an int in [1, vocabulary_size{size}]. "
            f"Received: {name}={shown(k)}."
            f" Use `greedy_search` for the most likely "
            "token, or `random_sample` to draw from all of them."
        )


def check(name, value, rule):
    """Check a number against a rule of `checks`, unless it is a tensor."""
    if not ops.is_tensor(value):
        holds, words, cure = rule
        check_real(name, value, holds, words, cure=cure)
