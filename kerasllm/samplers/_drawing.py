"""Drawing tokens with random numbers that the caller provides."""

import math

from keras import ops

from kerasllm import backend
from kerasllm.logit_filters import COLDEST
from kerasllm.samplers._chain import filter_logits

# Filters look at this many of the most likely tokens, if these are enough.
NUM_CANDIDATES = 1024
# Of a smaller vocabulary, filtering all tokens takes no longer.
SMALLEST_VOCABULARY = 4 * NUM_CANDIDATES
# Tokens of a group in `draw_at`.
GROUP = 32


def draw_at(logits, uniforms):
    """Draw tokens with random numbers that the caller provides.

    This is inverse transform sampling. The tokens divide the line from 0 to 1
    into segments as long as their probabilities. The token whose segment
    contains the random number is drawn. A cumulative sum over a vocabulary
    takes long, so first a group of neighboring tokens is found, and then the
    token in it.

    Args:
        logits: float tensor `(batch_size, vocabulary_size)`.
        uniforms: float32 tensor `(batch_size,)`, in `[0, 1)`.

    Returns:
        int32 tensor `(batch_size,)`.
    """
    batch_size, vocabulary_size = logits.shape
    logits = ops.cast(logits, "float32")
    # The line may have any length, so nothing is divided by the sum.
    weights = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
    size = min(GROUP, vocabulary_size)
    if vocabulary_size % size:
        weights = ops.pad(weights, ((0, 0), (0, -vocabulary_size % size)))
    groups = ops.reshape(weights, (batch_size, -1, size))
    sums = ops.sum(groups, axis=-1)  # (batch_size, number of groups)
    place = ops.convert_to_tensor(uniforms)[:, None]
    place = place * ops.sum(sums, axis=-1, keepdims=True)
    group, start = _segment_at(sums, place)
    weights = ops.take_along_axis(groups, group[:, :, None], axis=1)[:, 0]
    token, _ = _segment_at(weights, place - start)
    return (group * size + token)[:, 0]


def _segment_at(lengths, place):
    """Return the segment of a line that contains a place, and its start.

    Args:
        lengths: float32 tensor `(batch_size, number of segments)`.
        place: float32 tensor `(batch_size, 1)`.

    Returns:
        int32 and float32 tensors `(batch_size, 1)`.
    """
    ends = ops.cumsum(lengths, axis=-1)
    indices = ops.arange(lengths.shape[-1], dtype="int32")
    # Rounding must not lead to a segment without a length, nor past the last
    # one that has a length. The sums of JAX may even fall by a bit.
    has_length = lengths > 0
    last = ops.max(ops.where(has_length, indices, 0), axis=-1, keepdims=True)
    contains = ops.where(has_length & (place < ends), indices, last)
    index = ops.min(contains, axis=-1, keepdims=True)
    return index, ops.take_along_axis(ends - lengths, index, axis=-1)


def draw_filtered(logits, uniforms, with_logprobs=False, **numbers):
    """Draw what `draw_at(filter_logits(logits, **numbers), uniforms)` draws.

    Filters usually keep a few tokens of a large vocabulary. So they look at
    the most likely tokens only. If they keep the last one of these, or one that
    is as likely, they might keep others, and are applied to all tokens.

    Args:
        logits: float32 tensor `(batch_size, vocabulary_size)`, after the
            penalties.
        uniforms: float32 tensor `(batch_size,)`, in `[0, 1)`.
        with_logprobs: bool. Whether to return log-probabilities, too.
        **numbers: `temperature`, `top_k`, `top_p` and `min_p` of `chain`, as
            numbers or scalar tensors. What is left out is not used.

    Returns:
        A list of the tokens, int32 `(batch_size,)`, and, `with_logprobs`, their
        log-probabilities after the filters, float32 `(batch_size,)`.
    """
    logits = ops.convert_to_tensor(logits)

    def from_all():
        filtered = filter_logits(logits, **numbers)
        return _draw(filtered, uniforms, with_logprobs)

    temperature = numbers.get("temperature", 1.0)
    filters = {k: v for k, v in numbers.items() if k != "temperature"}
    if not filters or logits.shape[-1] < SMALLEST_VOCABULARY:
        return from_all()
    values, token_ids = _candidates(logits)
    largest = values[:, :1]
    is_warm = ops.convert_to_tensor(temperature, "float32") >= COLDEST
    divisor = ops.where(is_warm, temperature, 1.0)
    total = ops.sum(ops.exp((logits - largest) / divisor), -1, keepdims=True)
    values = (values - largest) / divisor
    kept = _kept(values, ops.exp(values) / total, **filters)

    def from_candidates():
        # In the order of the vocabulary, the same random number draws the same
        # token from the candidates as from all tokens.
        filtered = ops.where(kept, values, -math.inf)
        filtered, ordered = _sorted(filtered, token_ids, token_ids)
        choices, *logprobs = _draw(filtered, uniforms, with_logprobs)
        choices = ops.take_along_axis(ordered, choices[:, None], axis=-1)
        return [ops.cast(choices[:, 0], "int32"), *logprobs]

    may_be_more = ops.any(kept & (values <= values[:, -1:]))
    are_enough = is_warm & ops.logical_not(may_be_more)
    if "top_k" in filters:
        are_enough = are_enough & (filters["top_k"] < NUM_CANDIDATES)
    return ops.cond(are_enough, from_candidates, from_all)


def _candidates(logits):
    """Return the largest logits first, and of equal ones the first one.

    Returns:
        Logits and int32 token ids, each `(batch_size, NUM_CANDIDATES)`.
    """
    values, token_ids = ops.top_k(logits, NUM_CANDIDATES)
    # PyTorch returns equal ones in any order, and `argsort` keeps their order.
    values, token_ids = _sorted(values, token_ids, token_ids)
    return _sorted(values, token_ids, -values)


def _sorted(values, token_ids, keys):
    order = ops.argsort(keys, axis=-1)
    return (
        ops.take_along_axis(values, order, axis=-1),
        ops.take_along_axis(token_ids, order, axis=-1),
    )


def _kept(values, probabilities, top_k=None, top_p=None, min_p=None):
    """Return which candidates the filters keep.

    Args:
        values: logits `(batch_size, NUM_CANDIDATES)`, the largest first.
        probabilities: of the same shape, as shares of all tokens.
        top_k: int, int32 scalar tensor or `None`, as for `chain`.
        top_p: float, scalar tensor or `None`.
        min_p: float, scalar tensor or `None`.

    Returns:
        bool tensor of the same shape.
    """
    kept = values > -math.inf
    if top_k is not None:
        kept = kept & (ops.arange(values.shape[-1], dtype="int32") < top_k)
        probabilities = ops.where(kept, probabilities, 0.0)
        whole = ops.sum(probabilities, axis=-1, keepdims=True)
        probabilities = probabilities / whole
    if top_p is not None:
        # The first token is always kept, even if `top_p` is rounded to zero.
        before = ops.cumsum(probabilities, axis=-1) - probabilities
        is_first = ops.arange(values.shape[-1], dtype="int32") == 0
        kept = kept & (is_first | (before < top_p) | (top_p >= 1.0))
    if min_p is not None:
        kept = kept & (probabilities >= min_p * probabilities[:, :1])
    return kept


def _draw(filtered, uniforms, with_logprobs):
    choices = draw_at(filtered, uniforms)
    if not with_logprobs:
        return [choices]
    return [choices, backend.token_logprobs(filtered, choices)]
