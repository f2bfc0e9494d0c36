"""Best of n from a pool, against the subsets that it stands for."""

import itertools
import math

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.evaluation import best_of_n_kl, best_of_n_scores

pytestmark = pytest.mark.any_backend


def over_all_subsets(proxy, true, n):
    """Return the mean true score of the best ones, ties shared."""
    kept = []
    for subset in itertools.combinations(range(len(proxy)), n):
        highest = max(proxy[i] for i in subset)
        tied = [true[i] for i in subset if proxy[i] == highest]
        kept.append(sum(tied) / len(tied))
    return sum(kept) / len(kept)


@pytest.mark.parametrize("levels", [2, 4, 1000])
def test_it_is_the_mean_over_all_subsets(levels):
    rng = np.random.default_rng(levels)
    proxy = rng.integers(0, levels, (3, 8))  # with ties, but for the last
    true = rng.normal(size=(3, 8))
    ns = [1, 2, 3, 5, 7, 8]
    expected = [
        [over_all_subsets(*pair, n) for n in ns]
        for pair in zip(proxy.tolist(), true.tolist(), strict=True)
    ]
    np.testing.assert_allclose(
        best_of_n_scores(proxy, true, ns), expected, rtol=1e-12
    )


def test_one_is_the_mean_and_all_is_the_best():
    proxy, true = [[3.0, 1.0, 2.0]], [[10.0, 20.0, 60.0]]
    np.testing.assert_allclose(
        best_of_n_scores(proxy, true, [1, 2, 3]),
        # Of the three pairs, the first response is the best in two.
        [[30.0, (10 + 10 + 60) / 3, 10.0]],
    )


def test_only_the_order_of_the_proxy_counts():
    rng = np.random.default_rng(0)
    proxy, true = rng.normal(size=(2, 4, 30))
    ns = range(1, 31)
    curve = best_of_n_scores(proxy, true, list(ns))
    np.testing.assert_array_equal(
        curve, best_of_n_scores(np.exp(5 * proxy) - 3, true, list(ns))
    )
    order = rng.permutation(30)
    np.testing.assert_allclose(
        curve, best_of_n_scores(proxy[:, order], true[:, order], list(ns))
    )


def test_a_large_pool_neither_overflows_nor_loses_weight():
    proxy = np.arange(5000.0)[None]
    ns = [1, 2, 100, 2500, 4999, 5000]
    # The expected maximum of n of 0 ... N - 1 is n (N + 1) / (n + 1) - 1.
    expected = [n * 5001 / (n + 1) - 1 for n in ns]
    np.testing.assert_allclose(
        best_of_n_scores(proxy, proxy, ns)[0], expected, rtol=1e-9
    )
    np.testing.assert_allclose(
        best_of_n_scores(proxy, np.ones_like(proxy), ns), 1.0
    )


def test_a_response_without_a_score_is_never_chosen_over_one_that_has_one():
    proxy = [[-np.inf, 0.0, -np.inf]]
    result = best_of_n_scores(proxy, [[5.0, 1.0, 9.0]], [3])
    np.testing.assert_allclose(result, [[1.0]])


@pytest.mark.parametrize("n", [1, 2, 16, 256])
def test_the_bound_is_the_divergence_of_a_continuous_score(n):
    # The best of n uniform numbers has the density n u^(n - 1): integrate
    # n u^(n - 1) ln(n u^(n - 1)) over the unit interval, by its midpoints.
    u = (np.arange(2_000_000) + 0.5) / 2_000_000
    log_density = math.log(n) + (n - 1) * np.log(u)
    divergence = np.mean(np.exp(log_density) * log_density)
    assert best_of_n_kl(n) == pytest.approx(divergence, abs=1e-5)


def test_the_bound_holds_where_few_responses_are_possible():
    # Two responses of probability 1/2: the worse one is kept only if it
    # comes n times.
    for n in (2, 3, 5):
        worse = 0.5**n
        parts = np.array([worse, 1 - worse])
        divergence = np.sum(parts * np.log(parts / 0.5))
        assert divergence < best_of_n_kl(n)


def test_many_ns_at_once():
    result = best_of_n_kl([1, 16])
    np.testing.assert_allclose(result, [0, math.log(16) - 15 / 16])
    assert isinstance(best_of_n_kl(np.int64(4)), float)


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "2", [1, 0], []])
def test_impossible_numbers_of_responses(n):
    with pytest.raises(UserError, match="`n` must be a positive int"):
        best_of_n_kl(n)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1, 2]], [[1, 2]], [3]), r"`ns` must be a list of ints in \[1, 2\]"),
        (([[1, 2]], [[1, 2]], []), r"`ns` must be a list of ints in \[1, 2\]"),
        (([[1, 2]], [[1, 2]], 2), "`ns` must be a list of ints. "),
        (([[1, 2]], [[1], [2]], [1]), "must have one shape"),
        (([1, 2], [1, 2], [1]), "must have one shape"),
        (([["a"]], [[1]], [1]), "must be numbers"),
        (([[np.nan]], [[1.0]], [1]), "`proxy` must not be NaN"),
        (([[1.0]], [[np.inf]], [1]), "`true` must be finite"),
    ],
)
def test_impossible_pools(arguments, message):
    with pytest.raises(UserError, match=message):
        best_of_n_scores(*arguments)
