"""The reliability table, against hand counts and a calibrated coin."""

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.evaluation import Share, reliability_table

pytestmark = pytest.mark.any_backend


def test_a_table_counted_by_hand():
    probabilities = [0.05, 0.2, 0.3, 0.55, 0.8, 1.0, 0.0]
    outcomes = [0, 1, 0, 1, 1, 1, 1]
    first, second, third, fifth = reliability_table(probabilities, outcomes, 5)
    assert (first.low, first.high) == (0, 0.2)
    assert first.probability == pytest.approx(0.025)
    assert first.share == 0.5 and first.share.size == 2
    # A probability on an edge belongs to the bin above it.
    assert (second.low, second.share, second.share.size) == (0.2, 0.5, 2)
    assert (third.probability, third.share) == (0.55, 1)
    # The fourth has no case, and the last one has the probability 1, too.
    assert (fifth.low, fifth.high) == (0.8, 1)
    assert fifth.share == 1 and fifth.share.size == 2
    assert fifth.share.interval() == Share(2, 2).interval()


@pytest.mark.parametrize("num_bins", [1, 7, 10])
def test_every_case_is_in_one_bin(num_bins):
    rng = np.random.default_rng(num_bins)
    probabilities = rng.uniform(size=300)
    outcomes = rng.uniform(size=300) < 0.4
    table = reliability_table(probabilities, outcomes, num_bins)
    assert sum(bin_.share.size for bin_ in table) == 300
    assert sum(bin_.share.hits for bin_ in table) == outcomes.sum()
    for bin_ in table:
        assert bin_.low <= bin_.probability <= bin_.high


def test_probabilities_that_come_true_are_in_their_intervals():
    rng = np.random.default_rng(0)
    probabilities = rng.uniform(size=20000)
    came_true = rng.uniform(size=20000) < probabilities
    for bin_ in reliability_table(probabilities, came_true):
        low, high = bin_.share.interval(0.9999)
        assert low < bin_.probability < high
    # One that is too sure of itself is not.
    too_sure = probabilities**2 / (probabilities**2 + (1 - probabilities) ** 2)
    last = reliability_table(too_sure, came_true)[-1]
    assert last.share.interval(0.9999)[1] < last.probability


@pytest.mark.parametrize(
    ("probabilities", "outcomes", "message"),
    [
        ([], [], "at least one"),
        ([0.5], [1, 0], r"one outcome for each.*\(1,\).*\(2,\)"),
        ([0.5, 1.5], [1, 0], r"must be in \[0, 1\]. Received: 1.5 at index 1"),
        ([float("nan")], [1], r"must be in \[0, 1\]. Received: nan"),
        ([0.5], [2], "`outcomes` must be true or false. Received: 2"),
    ],
)
def test_what_makes_no_table(probabilities, outcomes, message):
    with pytest.raises(UserError, match=message):
        reliability_table(probabilities, outcomes)
