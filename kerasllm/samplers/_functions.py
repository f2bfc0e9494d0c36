"""The samplers of the chapter as plain functions, and a few more."""

import dataclasses
import functools

from kerasllm.checks import UserError, shown
from kerasllm.logit_filters import MIN_P, TOP_P, check, check_k
from kerasllm.samplers._chain import (
    Chain,
    chain,
    checked_logits,
    likeliest,
    sampler_logits,
    warn_of_caller,
)


def greedy_search(preds, seed=None):
    """Choose the most likely token, the first one of ties.

    Args:
        preds: float tensor or array, logits `(vocabulary_size,)` or
            `(batch_size, vocabulary_size)`.
        seed: ignored. It lets all samplers be called in the same way.

    Returns:
        int32 tensor, `()` or `(batch_size,)`.

    Raises:
        UserError: a sequence has a NaN or no finite logit.

    Source: chapter 16, listing 16.9 and section "Sampling strategies".
    """
    warn_of_caller()
    return likeliest(checked_logits(preds))


def random_sample(preds, temperature=1.0, seed=None):
    """Draw a token from the softmax of the logits.

    Args:
        preds: float tensor or array, logits `(vocabulary_size,)` or
            `(batch_size, vocabulary_size)`. Half precision is computed in
            float32.
        temperature: float, at least 0. The logits are divided by it. Below 1
            likely tokens become more likely, above 1 less so. 0 is the same
            as `greedy_search`.
        seed: int, `keras.random.SeedGenerator` or `None`.

    Returns:
        int32 tensor, `()` or `(batch_size,)`.

    Raises:
        UserError: `temperature` is negative or not finite, or a sequence has
            a NaN or no finite logit.

    Source: chapter 16, section "Sampling strategies".
    """
    return chain(temperature=temperature)(preds, seed=seed)


def top_k(preds, k=5, temperature=1.0, seed=None):
    """Draw a token from the `k` most likely tokens.

    Args:
        preds: logits, as in `random_sample`.
        k: int in `[1, vocabulary_size]`; see `top_k_filter`.
        temperature: float; see `random_sample`.
        seed: int, `keras.random.SeedGenerator` or `None`.

    Returns:
        int32 tensor, `()` or `(batch_size,)`.

    Raises:
        UserError: `k` or `temperature` is out of range.

    Source: Fan et al., 2018, arXiv:1805.04833; chapter 16, section "Sampling
    strategies".
    """
    preds = sampler_logits(preds)
    check_k("k", k, preds.shape[-1])
    return chain(temperature=temperature, top_k=k)(preds, seed=seed)


def top_p(preds, p=0.9, temperature=1.0, seed=None):
    """Draw from the fewest tokens whose cumulative probability reaches `p`.

    This is nucleus sampling. It sorts the vocabulary, which on a CPU can cost
    as much as the model itself. `chain(top_k=100, top_p=0.9)` sorts only 100
    candidates.

    Args:
        preds: logits, as in `random_sample`.
        p: float in `(0, 1]`; see `top_p_filter`.
        temperature: float; see `random_sample`. It is applied before `p`.
        seed: int, `keras.random.SeedGenerator` or `None`.

    Returns:
        int32 tensor, `()` or `(batch_size,)`.

    Raises:
        UserError: `p` or `temperature` is out of range.

    Source: Holtzman et al., 2020, arXiv:1904.09751.
    """
    check("p", p, TOP_P)
    return chain(temperature=temperature, top_p=p)(preds, seed=seed)


def min_p(preds, p=0.05, temperature=1.0, seed=None):
    """Draw from the tokens at least `p` times as likely as the most likely one.

    Args:
        preds: logits, as in `random_sample`.
        p: float in `[0, 1]`; see `min_p_filter`.
        temperature: float; see `random_sample`. It is applied before `p`.
        seed: int, `keras.random.SeedGenerator` or `None`.

    Returns:
        int32 tensor, `()` or `(batch_size,)`.

    Raises:
        UserError: `p` or `temperature` is out of range.

    Source: Nguyen et al., 2024, arXiv:2407.01082.
    """
    check("p", p, MIN_P)
    return chain(temperature=temperature, min_p=p)(preds, seed=seed)


# Our functions, their defaults under `chain`'s names, and those of their
# arguments that have another name in `chain`.
_AS_CHAINS = {
    greedy_search: ({"temperature": 0.0}, {}),
    random_sample: ({}, {}),
    top_k: ({"top_k": 5}, {"k": "top_k"}),
    top_p: ({"top_p": 0.9}, {"p": "top_p"}),
    min_p: ({"min_p": 0.05}, {"p": "min_p"}),
}


def as_chain(sampler):
    """Return the `Chain` that is equivalent to a sampler.

    Args:
        sampler: any callable.

    Returns:
        A `Chain` for a `Chain`, for a function of this module, and for either
        in a `functools.partial` with numbers or a `seed`. `None` for any other
        callable.

    Raises:
        UserError: a number is out of range.
    """
    function, keywords = sampler, {}
    if isinstance(sampler, functools.partial) and not sampler.args:
        function, keywords = sampler.func, sampler.keywords
    numbers = {key: v for key, v in keywords.items() if key != "seed"}
    if isinstance(function, Chain):
        if not numbers.keys() <= function.keywords.keys():
            return None
        return dataclasses.replace(function, **numbers)
    # Compare by identity, because not every callable can be hashed.
    ours = [entry for key, entry in _AS_CHAINS.items() if key is function]
    if not ours:
        return None
    ((defaults, names),) = ours
    given = {names.get(key, key): value for key, value in numbers.items()}
    if not given.keys() <= {"temperature", *names.values()}:
        return None
    return Chain(**defaults | given)


def check_sampler(sampler, vocabulary_size):
    """Check that a sampler is callable and its `k` is within the vocabulary.

    The sampler would raise the same error for its first logits. A generator
    checks here before it spends time on computing them.

    Args:
        sampler: any callable. `k` is checked only for our own samplers.
        vocabulary_size: int.

    Raises:
        UserError: the sampler is not callable, or `k` is out of range.
    """
    if not callable(sampler):
        raise UserError(
            "`sampler` must be a callable from logits to a token id. "
            f"Received: {shown(sampler)}. Pass a function, such as "
            "`kerasllm.greedy_search` or what `kerasllm.chain` returns."
        )
    ours = as_chain(sampler)
    if ours is not None and ours.top_k is not None:
        function = getattr(sampler, "func", sampler)
        name = "k" if function is top_k else "top_k"
        check_k(name, ours.top_k, vocabulary_size)
