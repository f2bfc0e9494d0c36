"""What the best of n responses scores, and how far choosing it goes."""

import numpy as np

from kerasllm.checks import UserError, check_numbers, shown


def best_of_n_kl(n):
    """Return the bound on the KL divergence of best of n from its policy.

    The best of `n` responses of a policy, by any score, has a distribution of
    its own. Its Kullback-Leibler divergence from the policy is at most `ln n -
    (n - 1) / n`, and equal to that if no two responses have the same
    probability of being the best, as for a score that is continuous.

    Args:
        n: int, at least 1, or int array of any shape.

    Returns:
        A float in nats, or a float64 array of the shape of `n`.

    Raises:
        UserError: `n` is not a positive int.

    Source: Stiennon et al., 2020, arXiv:2009.01325, appendix G.3; Beirami et
    al., 2024, arXiv:2401.01879, who prove that it is a bound.

    Example:
    ```python
    best_of_n_kl(16)  # 1.835: ln 16 is 2.773, and 15 / 16 is 0.938
    ```
    """
    n = _check_ns("n", n).astype("float64")
    result = np.log(n) - (n - 1) / n
    return result if result.ndim else float(result)


def best_of_n_scores(proxy, true, ns):
    """Estimate what best of n scores, for many n from one pool of responses.

    Best of n draws `n` responses to a prompt and keeps the one with the
    highest proxy score, such as the reward of a reward model. The expected
    true score of the one that is kept is estimated from a pool of at least `n`
    responses: this is the mean over all subsets of `n` responses of the pool,
    computed exactly, without drawing any. It is unbiased if the pool was
    sampled from the policy. So one pool of 256 responses gives the whole curve
    from 1 to 256.

    Responses with equal proxy scores are equally likely to be kept.

    Args:
        proxy: float `(num_prompts, pool_size)`. The score to choose by.
            Infinite ones are allowed.
        true: float `(num_prompts, pool_size)`. The score to report of the
            chosen one. With `proxy` once more, the proxy score itself.
        ns: list of ints in `[1, pool_size]`.

    Returns:
        float64 `(num_prompts, len(ns))`. Curves at different `n` come from the
        same pool, so compare them by differences within each prompt.

    Raises:
        UserError: the scores are not two arrays of one such shape, or are not
            numbers; or an `n` is out of range.

    Source: Nakano et al., 2021, arXiv:2112.09332, appendix I; Gao et al.,
    2022, arXiv:2210.10760.

    Example:
    ```python
    ns = [1, 4, 16, 64, 256]
    curve = best_of_n_scores(proxy, true, ns).mean(axis=0)
    chosen_by = best_of_n_scores(proxy, proxy, ns).mean(axis=0)
    ```
    """
    proxy, true = _check_scores(proxy, true)
    pool_size = proxy.shape[1]
    ns = _check_ns("ns", ns, pool_size)
    if ns.ndim != 1:
        raise UserError(
            f"`ns` must be a list of ints. Received: ns={shown(ns.tolist())}. "
            "Put a single one in a list, too."
        )
    # From the lowest proxy score to the highest.
    ranked = np.stack(
        [_ranked(*pair) for pair in zip(proxy, true, strict=True)]
    )
    weights = np.stack([_weights(pool_size, n) for n in ns], axis=1)
    return ranked @ weights  # (num_prompts, len(ns))


def _ranked(proxy, true):
    """Sort true scores by the proxy; ties get the mean of their true scores."""
    _, group, counts = np.unique(proxy, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=true) / counts
    return means[np.sort(group)]


def _weights(pool_size, n):
    """Return the probability that a rank is the highest in a subset of n.

    That of rank i, from 1 for the lowest, is C(i - 1, n - 1) / C(pool_size,
    n): the others are chosen among the i - 1 below. From one rank to the one
    below, it changes by a factor of (i - n) / (i - 1), which never overflows.

    Returns:
        float64 `(pool_size,)`, which sums to 1.
    """
    ranks = np.arange(pool_size, 1, -1)  # pool_size, ..., 2
    factors = np.maximum(ranks - n, 0) / (ranks - 1)
    weights = n / pool_size * np.cumprod(np.concatenate([[1.0], factors]))
    return weights[::-1]


def _check_ns(name, ns, largest=None):
    try:
        array = np.asarray(ns)
    except ValueError:  # lists of unequal lengths
        array = np.zeros(0)
    fits = array.size and array.dtype.kind in "iu" and (array >= 1).all()
    if fits and (largest is None or (array <= largest).all()):
        return array
    if largest is None:
        rule, cure = "a positive int", "1 is a single response."
    else:
        rule = f"a list of ints in [1, {largest}]"
        cure = f"The pool has {largest} responses for each prompt."
    raise UserError(
        f"`{name}` must be {rule}. Received: {name}={shown(ns)}. {cure}"
    )


def _check_scores(proxy, true):
    arrays = [check_numbers("proxy", proxy), check_numbers("true", true)]
    shapes = [array.shape for array in arrays]
    if shapes[0] != shapes[1] or arrays[0].ndim != 2 or not arrays[0].size:
        raise UserError(
            "`proxy` and `true` must have one shape, (num_prompts, pool_size). "
            f"Received: shapes {shapes[0]} and {shapes[1]}. Score the same "
            "responses with both, equally many for each prompt."
        )
    proxy, true = (array.astype("float64") for array in arrays)
    if np.isnan(proxy).any() or not np.isfinite(true).all():
        raise UserError(
            "`proxy` must not be NaN, and `true` must be finite. Received: "
            f"{np.isnan(proxy).sum()} values of `proxy` and "
            f"{(~np.isfinite(true)).sum()} of `true` that are not. Give a "
            "response without a score a low one."
        )
    return proxy, true
