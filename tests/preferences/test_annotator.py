"""A labeller who errs: how often, in which pairs, and reproducibly.

Frequencies are compared with what is expected within five standard deviations,
which is wrong once in 1.7 million times. The seeds are fixed.
"""

import math

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.evaluation import preferred_share
from kerasllm.preferences import BradleyTerry, Preference

pytestmark = pytest.mark.any_backend


def score(prompts, responses):
    """A response is as good as it is long."""
    return [len(response) for response in responses]


def pairs(count, difference=1):
    return [
        (f"Question {i}", "a", "a" * (1 + difference)) for i in range(count)
    ]


def wins(preferences):
    return np.array([len(p.chosen) > len(p.rejected) for p in preferences])


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("difference", [1, 2])
def test_the_better_one_wins_with_the_probability_of_the_model(
    scale, difference
):
    asked = pairs(2000, difference)
    labeller = BradleyTerry(score, scale)
    p = 1 / (1 + math.exp(-scale * difference))
    np.testing.assert_allclose(labeller.probabilities(asked), 1 - p)
    share = wins(labeller.label(asked)).mean()
    assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / 2000)


def test_equal_responses_are_a_coin_toss():
    asked = [(f"Question {i}", "ab", "cd") for i in range(2000)]
    for scale in (0, 1, math.inf):
        labels = BradleyTerry(score, scale).label(asked)
        share = np.mean([label.chosen == "ab" for label in labels])
        assert abs(share - 0.5) < 5 * 0.5 / math.sqrt(2000)


def test_with_an_infinite_scale_nobody_errs():
    labeller = BradleyTerry(score, math.inf)
    assert wins(labeller.label(pairs(200))).all()
    assert set(labeller.probabilities([("", "aa", "a"), ("", "", "a")])) == {
        0.0, 1.0
    }  # fmt: skip


def test_a_label_depends_on_the_pair_and_the_seed_alone():
    asked = pairs(300)
    labels = BradleyTerry(score, 1.0, seed=1).label(asked)
    assert [label.prompt for label in labels] == [p for p, _, _ in asked]
    swapped = [(prompt, b, a) for prompt, a, b in asked]
    assert BradleyTerry(score, 1.0, np.int64(1)).label(swapped) == labels
    assert BradleyTerry(score, 1.0, 1).label(asked[7:9]) == labels[7:9]
    # Another labeller agrees as often as two such coins: p^2 + (1 - p)^2.
    others = BradleyTerry(score, 1.0, seed=2).label(asked)
    p = 1 / (1 + math.exp(-1))
    same, expected = np.mean(wins(labels) == wins(others)), p**2 + (1 - p) ** 2
    assert abs(same - expected) < 5 * math.sqrt(expected * (1 - expected) / 300)


@pytest.mark.parametrize("agreement", [0.5, 0.6, 0.73, 0.95])
def test_the_scale_is_found_that_gives_an_agreement(agreement):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 20, (2000, 2))
    asked = [
        (f"Question {i}", "a" * first, "b" * second)
        for i, (first, second) in enumerate(lengths)
    ]
    labeller = BradleyTerry.with_agreement(score, asked, agreement, seed=3)
    distance = np.abs(lengths[:, 0] - lengths[:, 1])
    expected = 1 / (1 + np.exp(-labeller.scale * distance[distance > 0]))
    assert expected.mean() == pytest.approx(agreement, abs=1e-9)
    # Pairs without a true label are not counted.
    measured = preferred_share(labeller.label(asked), score)
    assert measured.size == np.sum(distance > 0) < 2000
    low, high = measured.interval(confidence=1 - 1e-6)
    assert low < agreement < high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BradleyTerry(score, -1), "`scale` must be at least 0"),
        (lambda: BradleyTerry(score, math.nan), "`scale` must be at least 0"),
        (lambda: BradleyTerry(score, seed=-1), "`seed` must be an int"),
        (lambda: BradleyTerry.with_agreement(score, pairs(2), 1.0),
         "`agreement` must be in.*math.inf"),
        (lambda: BradleyTerry.with_agreement(score, pairs(2, 0)),
         "differ in their score"),
        (lambda: BradleyTerry(lambda p, r: 1.0).label(pairs(2)),
         "a finite number for each response"),
        (lambda: BradleyTerry(lambda p, r: [math.nan] * 2).label(pairs(2)),
         "a finite number for each response"),
        (lambda: preferred_share([Preference("a", "b", "c")], score),
         "tell the responses.*1 pairs"),
        (lambda: preferred_share([], score), "0 pairs"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, message):
    with pytest.raises(UserError, match=message):
        call()
