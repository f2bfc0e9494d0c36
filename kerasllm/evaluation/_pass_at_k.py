"""How often at least one of several attempts is right."""

import numpy as np

from kerasllm.checks import UserError, check_int, shown


def pass_at_k(n, c, k):
    """Estimate the probability that one of `k` attempts is right.

    Of `n` attempts at a problem, `c` were right. If `k` of them are drawn
    without replacement, the probability that all are wrong is the number of
    ways to draw from the wrong ones, divided by the number of all ways. The
    estimate is unbiased. `1 - (1 - c / n) ** k` is not: it is too low.

    Args:
        n: int, the number of attempts at a problem, or int `(num_problems,)`.
        c: int, how many of them were right, or int `(num_problems,)`.
        k: int in `[1, n]`.

    Returns:
        A float, or float64 `(num_problems,)`.

    Raises:
        UserError: `c` is not in `[0, n]`, or `k` not in `[1, n]`, or the
            shapes differ.

    Source: Chen et al., 2021, arXiv:2107.03374, equation 1.
    """
    k = check_int("k", k, 1)
    try:
        counts = np.broadcast_arrays(n, c)
    except ValueError as error:  # of other shapes, or no arrays at all
        raise UserError(
            "`n` and `c` must have the same shape, one number for each "
            f"problem. Received: n={shown(n)}, c={shown(c)} ({error})."
        ) from error
    if any(array.dtype.kind not in "iu" for array in counts):
        raise UserError(
            "`n` and `c` must be ints, or arrays of ints. Received: "
            f"n={shown(n)}, c={shown(c)}."
        )
    n, c = (array.astype("int64") for array in counts)
    if (c < 0).any() or (c > n).any():
        raise UserError(
            "`c` must be in [0, n], the right ones of n attempts. Received: "
            f"c={shown(c.tolist())}, n={shown(n.tolist())}."
        )
    if (n < k).any():
        raise UserError(
            f"`k` must be at most n={n.min()}. Received: k={k}. Make at least "
            "`k` attempts at each problem."
        )
    # C(n - c, k) / C(n, k) is a product of k factors, which never overflows.
    drawn = np.arange(k)
    wrong = np.maximum(n - c, 0)[..., None] - drawn  # (..., k)
    factors = np.maximum(wrong, 0) / (n[..., None] - drawn)
    result = 1 - factors.prod(axis=-1)
    return result if result.ndim else float(result)
