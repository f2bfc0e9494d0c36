"""pass@k, against the draws that it stands for."""

import itertools

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.evaluation import pass_at_k

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize("c", range(6))
@pytest.mark.parametrize("k", range(1, 6))
def test_it_is_the_share_of_draws_with_a_right_one(c, k):
    attempts = [True] * c + [False] * (5 - c)
    draws = list(itertools.combinations(attempts, k))
    share = sum(map(any, draws)) / len(draws)
    assert pass_at_k(5, c, k) == pytest.approx(share)


def test_one_attempt_is_right_as_often_as_all():
    assert pass_at_k(200, 37, 1) == pytest.approx(37 / 200)


def test_many_problems_at_once():
    result = pass_at_k([10, 20], [1, 0], 10)
    np.testing.assert_allclose(result, [1.0, 0.0])
    assert isinstance(pass_at_k(np.int64(4), 2, 2), float)
    assert 0 < pass_at_k(100_000, 10, 1000) < 1  # without an overflow


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, 6, 1), r"`c` must be in \[0, n\]"),
        ((5, -1, 1), r"`c` must be in \[0, n\]"),
        ((5, 1, 6), "`k` must be at most n=5"),
        ((5, 1, 0), "`k` must be a positive int"),
        ((5.0, 1, 1), "`n` and `c` must be ints"),
        (([5, 5], [1, 2, 3], 1), "`n` and `c` must have the same shape"),
        (([5, [5]], 1, 1), "`n` and `c` must have the same shape"),
    ],
)
def test_impossible_counts(arguments, message):
    with pytest.raises(UserError, match=message):
        pass_at_k(*arguments)
