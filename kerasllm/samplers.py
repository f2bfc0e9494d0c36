"""From a row of logits to the id of the next token.

A sampler is any callable of logits: `(vocabulary_size,)` to one id, or
`(batch_size, vocabulary_size)` to one id a row. Bind its numbers with
`functools.partial(top_k, k=5)`, or combine them with `chain`.

A filter is a pure function from logits to logits. What it removes it sets to
`-inf`, and `-inf` stays `-inf`, so filters and masks can follow each other.
A row needs at least one finite logit and no NaN; no backend promises anything
for other rows, and looking would cost a transfer from the device for every
token, so the generators look once, at the logits they fetch anyway.

`seed` is an int, a `keras.random.SeedGenerator` or `None` (Keras's global
generator). An int gives the same draw at every call: fine for one draw, wrong
inside a loop, where a `SeedGenerator` gives a new draw each time.

Everything here is plain `keras.ops` with static shapes and can be compiled.
Temperatures, probabilities, penalties and `k` may be scalar tensors, so that a
compiled loop can change them; their ranges are then not checked.
"""

import functools
import math
import numbers

import keras
import numpy as np
from keras import ops

# Dividing by less than this overflows or, flushed to zero, makes NaN.
_COLDEST = float(np.finfo("float32").tiny)


def greedy_search(preds, seed=None):
    """Take the most likely token, the first one of equals.

    Args:
        preds: float tensor or array, logits `(vocabulary_size,)` or
            `(batch_size, vocabulary_size)`.
        seed: ignored. It is here so that all samplers are called alike.

    Returns:
        int32 tensor, `()` or `(batch_size,)`.

    Source: chapter 16, listing 16.9 and section "Sampling strategies".
    """
    return ops.cast(ops.argmax(_sampler_logits(preds), axis=-1), "int32")


def random_sample(preds, temperature=1.0, seed=None):
    """Draw a token from the softmax of the logits.

    Args:
        preds: float tensor or array, logits `(vocabulary_size,)` or
            `(batch_size, vocabulary_size)`. Half precision is computed in
            float32.
        temperature: float, at least 0. The logits are divided by it: below 1
            the likely tokens gain, above 1 the unlikely ones. 0 is
            `greedy_search`.
        seed: int, `keras.random.SeedGenerator` or `None`.

    Returns:
        int32 tensor, `()` or `(batch_size,)`.

    Raises:
        ValueError: `temperature` is negative or not finite.

    Source: chapter 16, section "Sampling strategies".
    """
    return chain(temperature=temperature)(preds, seed=seed)


def top_k(preds, k=5, temperature=1.0, seed=None):
    """Draw a token from the `k` most likely ones.

    Args:
        preds: logits, as in `random_sample`.
        k: int in `[1, vocabulary_size]`; see `top_k_filter`.
        temperature: float; see `random_sample`.
        seed: int, `keras.random.SeedGenerator` or `None`.

    Returns:
        int32 tensor, `()` or `(batch_size,)`.

    Raises:
        ValueError: `k` or `temperature` is out of range.

    Source: Fan et al., 2018, arXiv:1805.04833; chapter 16, section "Sampling
    strategies".
    """
    preds = _sampler_logits(preds)
    _check_k("k", k, preds.shape[-1])
    return chain(temperature=temperature, top_k=k)(preds, seed=seed)


def top_p(preds, p=0.9, temperature=1.0, seed=None):
    """Draw a token from the fewest likely ones that hold the mass `p`.

    This sorts the vocabulary, which on a CPU can cost as much as the model
    itself; `chain(top_k=100, top_p=0.9)` sorts 100 candidates.

    Args:
        preds: logits, as in `random_sample`.
        p: float in `(0, 1]`; see `top_p_filter`.
        temperature: float; see `random_sample`. It is applied before `p`.
        seed: int, `keras.random.SeedGenerator` or `None`.

    Returns:
        int32 tensor, `()` or `(batch_size,)`.

    Raises:
        ValueError: `p` or `temperature` is out of range.

    Source: Holtzman et al., 2020, arXiv:1904.09751.
    """
    _check("p", p, _TOP_P)
    return chain(temperature=temperature, top_p=p)(preds, seed=seed)


def min_p(preds, p=0.05, temperature=1.0, seed=None):
    """Draw a token from those at least `p` times as likely as the best one.

    Args:
        preds: logits, as in `random_sample`.
        p: float in `[0, 1]`; see `min_p_filter`.
        temperature: float; see `random_sample`. It is applied before `p`.
        seed: int, `keras.random.SeedGenerator` or `None`.

    Returns:
        int32 tensor, `()` or `(batch_size,)`.

    Raises:
        ValueError: `p` or `temperature` is out of range.

    Source: Nguyen et al., 2024, arXiv:2407.01082.
    """
    _check("p", p, _MIN_P)
    return chain(temperature=temperature, min_p=p)(preds, seed=seed)


def chain(
    temperature=1.0,
    top_k=None,
    top_p=None,
    min_p=None,
    frequency_penalty=0.0,
    presence_penalty=0.0,
):
    """Make one sampler of several steps.

    The order is fixed: penalties on the raw logits, then temperature, top-k,
    top-p and min-p, as in Hugging Face's `generate`. `None` leaves a step out.

    Args:
        temperature: float, at least 0; see `random_sample`. At 0 the most
            likely token after the penalties is taken.
        top_k: int or `None`; see `top_k_filter`.
        top_p: float or `None`; see `top_p_filter`.
        min_p: float or `None`; see `min_p_filter`.
        frequency_penalty: float; see `apply_penalties`.
        presence_penalty: float; see `apply_penalties`.

    Returns:
        `sampler(logits, token_ids=None, seed=None)`, a `functools.partial`
        whose keywords are the arguments above. `token_ids` are the tokens so
        far, as for `apply_penalties`; only penalties need them.

    Raises:
        ValueError: a number is out of range. A `top_k` over the vocabulary
            shows when the sampler meets its first logits.

    Source: chapter 16, section "Sampling strategies".
    """
    _check("temperature", temperature, _TEMPERATURE)
    if top_k is not None:
        _check_k("top_k", top_k)
    if top_p is not None:
        _check("top_p", top_p, _TOP_P)
    if min_p is not None:
        _check("min_p", min_p, _MIN_P)
    _check("frequency_penalty", frequency_penalty, _PENALTY)
    _check("presence_penalty", presence_penalty, _PENALTY)
    return functools.partial(
        _sample,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty,
    )


def top_k_filter(logits, k):
    """Keep the `k` largest logits of each row and set the rest to `-inf`.

    Args:
        logits: float tensor `(..., vocabulary_size)`.
        k: int in `[1, vocabulary_size]`. Of tied logits the first ones are
            kept, exactly so many that `k` remain. (Hugging Face keeps all of
            them.)

    Returns:
        A tensor of the same shape and dtype.

    Raises:
        ValueError: `k` is out of range.

    Source: Fan et al., 2018, arXiv:1805.04833; chapter 16, section "Sampling
    strategies".
    """
    logits = _float_tensor(logits)
    _check_k("k", k, logits.shape[-1])
    if _is_number(k):
        smallest_kept = ops.top_k(logits, int(k))[0][..., -1:]  # (..., 1)
        return _keep_largest(logits, smallest_kept, k)
    # `ops.top_k` takes numbers only; a tensor picks from the sorted row.
    ordered = ops.sort(logits, axis=-1)  # smallest first
    place = ops.zeros_like(ordered[..., :1], dtype="int32") + (
        logits.shape[-1] - ops.cast(k, "int32")
    )
    smallest_kept = ops.take_along_axis(ordered, place, axis=-1)
    return _keep_largest(logits, smallest_kept, ops.cast(k, "int32"))


def top_p_filter(logits, p):
    """Keep the fewest likely tokens whose probabilities sum to `p` or more.

    Args:
        logits: float tensor `(..., vocabulary_size)`.
        p: float in `(0, 1]`. The most likely token always stays. Of tied
            logits at the edge the first ones are kept.

    Returns:
        A tensor of the same shape and dtype, removed logits set to `-inf`.

    Raises:
        ValueError: `p` is out of range.

    Source: Holtzman et al., 2020, arXiv:1904.09751.
    """
    logits = _float_tensor(logits)
    _check("p", p, _TOP_P)
    ordered = ops.sort(logits, axis=-1)  # smallest first
    # Summed from the smallest up, as that rounds least. Hugging Face does too.
    mass = ops.cumsum(ops.softmax(ops.cast(ordered, "float32")), axis=-1)
    removed = ops.cast(mass <= 1.0 - p, "int32")
    vocabulary_size = logits.shape[-1]
    count = vocabulary_size - ops.sum(removed, axis=-1, keepdims=True)
    count = ops.maximum(count, 1)  # (..., 1)
    smallest_kept = ops.take_along_axis(
        ordered, vocabulary_size - count, axis=-1
    )
    return _keep_largest(logits, smallest_kept, count)


def min_p_filter(logits, p):
    """Keep the tokens at least `p` times as likely as the most likely one.

    Args:
        logits: float tensor `(..., vocabulary_size)`.
        p: float in `[0, 1]`.

    Returns:
        A tensor of the same shape and dtype, removed logits set to `-inf`.

    Raises:
        ValueError: `p` is out of range.

    Source: Nguyen et al., 2024, arXiv:2407.01082.
    """
    logits = _float_tensor(logits)
    _check("p", p, _MIN_P)
    probabilities = ops.softmax(ops.cast(logits, "float32"))
    best = ops.max(probabilities, axis=-1, keepdims=True)
    return ops.where(probabilities >= p * best, logits, -math.inf)


def apply_penalties(logits, token_ids, frequency=0.0, presence=0.0):
    """Lower the logits of the tokens that the text already has.

    Where token `j` occurs `c[j]` times in `token_ids`, logit `j` loses
    `c[j] * frequency + (c[j] > 0) * presence`.

    All of `token_ids` counts, so the caller decides whether the prompt does:
    `generate` passes every token so far, the prompt included. Ids outside the
    vocabulary count for nothing; pad rows of different lengths with -1.

    Args:
        logits: float tensor `(vocabulary_size,)` or
            `(batch_size, vocabulary_size)`.
        token_ids: int tensor `(length,)` or `(batch_size, length)`.
        frequency: float. A negative one encourages repetition.
        presence: float. A negative one encourages repetition.

    Returns:
        A tensor of the same shape and dtype as `logits`.

    Raises:
        ValueError: a penalty is not finite, or the shapes do not match.

    Source: OpenAI's API guide, "Frequency and presence penalties".
    """
    logits = _float_tensor(logits)
    token_ids = ops.convert_to_tensor(token_ids, dtype="int32")
    _check("frequency", frequency, _PENALTY)
    _check("presence", presence, _PENALTY)
    if (
        len(logits.shape) not in (1, 2)
        or len(token_ids.shape) != len(logits.shape)
        or token_ids.shape[:-1] != logits.shape[:-1]
    ):
        raise ValueError(
            "`token_ids` must be (length,) for logits (vocabulary_size,) and "
            "(batch_size, length) for logits (batch_size, vocabulary_size). "
            f"Received: token_ids of shape {tuple(token_ids.shape)}, logits "
            f"of shape {tuple(logits.shape)}. Pad shorter rows with -1."
        )
    counts = _count_tokens(token_ids, logits.shape[-1])
    penalties = counts * frequency + ops.cast(counts > 0, "float32") * presence
    penalized = ops.cast(logits, "float32") - penalties
    return ops.cast(penalized, logits.dtype)


def check_sampler(sampler, vocabulary_size):
    """Refuse a sampler whose `k` is over the vocabulary.

    The sampler says the same when it meets its first logits. A generator asks
    here before it spends time on computing them.

    Args:
        sampler: any callable. Those of other rooms pass unseen.
        vocabulary_size: int.

    Raises:
        ValueError: `k` is out of range.
    """
    if not isinstance(sampler, functools.partial):
        return
    if sampler.func is top_k:
        _check_k("k", sampler.keywords.get("k", 5), vocabulary_size)
    elif sampler.func is _sample and sampler.keywords["top_k"] is not None:
        _check_k("top_k", sampler.keywords["top_k"], vocabulary_size)


def _sample(
    logits,
    token_ids=None,
    seed=None,
    *,
    temperature,
    top_k,
    top_p,
    min_p,
    frequency_penalty,
    presence_penalty,
):
    """Draw one token a row; `chain` describes the arguments."""
    logits = _sampler_logits(logits)
    if not (_is_zero(frequency_penalty) and _is_zero(presence_penalty)):
        if token_ids is None:
            raise ValueError(
                "Penalties need the tokens so far. Received: token_ids=None. "
                "Call the sampler as `sampler(logits, token_ids=token_ids)`."
            )
        logits = apply_penalties(
            logits, token_ids, frequency_penalty, presence_penalty
        )
    if top_k is not None:
        _check_k("top_k", top_k, logits.shape[-1])
    if _is_number(temperature) and temperature < _COLDEST:
        return greedy_search(logits)
    logits = _divide_by_temperature(logits, temperature)
    candidates = None
    if _is_number(top_k):
        # What follows looks at k candidates instead of the vocabulary.
        logits, candidates = ops.top_k(logits, int(top_k))  # (..., k) twice
    elif top_k is not None:
        logits = top_k_filter(logits, top_k)
    if top_p is not None:
        logits = top_p_filter(logits, top_p)
    if min_p is not None:
        logits = min_p_filter(logits, min_p)
    choice = _draw(logits, seed)
    if candidates is None:
        return choice
    token_ids = ops.take_along_axis(candidates, choice[..., None], axis=-1)
    return ops.cast(token_ids[..., 0], "int32")


def _draw(logits, seed):
    """Draw from the softmax of each row: `(..., size)` to int32 `(...)`."""
    if len(logits.shape) == 1:
        return _draw(logits[None], seed)[0]
    return keras.random.categorical(logits, 1, dtype="int32", seed=seed)[:, 0]


def _divide_by_temperature(logits, temperature):
    """Divide by the temperature; at 0 leave the first of the best alone."""
    # The softmax does not see this shift, and a tiny temperature then makes
    # large negative numbers instead of inf - inf.
    logits = logits - ops.max(logits, axis=-1, keepdims=True)
    if _is_number(temperature):
        return logits / float(temperature)
    best = ops.argmax(logits, axis=-1, keepdims=True)
    others = ops.arange(logits.shape[-1], dtype=best.dtype) != best
    is_cold = temperature < _COLDEST
    divided = logits / ops.where(is_cold, 1.0, temperature)
    return ops.where(is_cold & others, -math.inf, divided)


def _keep_largest(logits, smallest_kept, count):
    """Keep `count` logits a row; of those equal to the smallest, the first."""
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
    # Ids outside the vocabulary go to one more column, which is cut off.
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
    """Return logits as a tensor that can hold `-inf`."""
    logits = ops.convert_to_tensor(logits)
    if keras.backend.is_float_dtype(logits.dtype):
        return logits
    return ops.cast(logits, "float32")


def _sampler_logits(preds):
    """Return logits as a float32 tensor, one row or a batch of rows."""
    logits = ops.cast(ops.convert_to_tensor(preds), "float32")
    if len(logits.shape) not in (1, 2):
        raise ValueError(
            "A sampler takes logits (vocabulary_size,) or (batch_size, "
            f"vocabulary_size). Received: shape {tuple(logits.shape)}. Pass "
            "the logits of one position, such as `logits[:, -1]`."
        )
    return logits


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_zero(value):
    return _is_number(value) and value == 0


def _check_k(name, k, vocabulary_size=None):
    """Refuse a number of tokens that cannot be kept; trust a tensor."""
    most = math.inf if vocabulary_size is None else vocabulary_size
    is_int = isinstance(k, numbers.Integral) and not isinstance(k, bool)
    if not (ops.is_tensor(k) or (is_int and 1 <= k <= most)):
        size = "" if vocabulary_size is None else f"={vocabulary_size}"
        raise ValueError(
            f"`{name}` must be an int in [1, vocabulary_size{size}]. "
            f"Received: {name}={k!r}. Use `greedy_search` for the most likely "
            "token, or `random_sample` to draw from all of them."
        )


def _check(name, value, rule):
    """Refuse a number that breaks one of the rules below; trust a tensor."""
    holds, words, cure = rule
    if not (ops.is_tensor(value) or (_is_number(value) and holds(value))):
        raise ValueError(
            f"`{name}` must be {words}. Received: {name}={value!r}. {cure}"
        )


_TEMPERATURE = (
    lambda value: 0 <= value < math.inf,
    "a finite number that is not negative",
    "Use 0 for the most likely token, 1 for the model's own distribution.",
)
_TOP_P = (
    lambda value: 0 < value <= 1,
    "a probability in (0, 1]",
    "Use `greedy_search` for the most likely token, 1 to keep all of them.",
)
_MIN_P = (
    lambda value: 0 <= value <= 1,
    "a ratio of probabilities in [0, 1]",
    "Use 0 to keep all tokens.",
)
_PENALTY = (math.isfinite, "a finite number", "Use 0 for no penalty.")
