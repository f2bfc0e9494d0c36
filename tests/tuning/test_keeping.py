"""Which responses are kept, by hand."""

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.tuning import BestOfEach, Cutoff, TopShare
from kerasllm.tuning.rounds._keeping import check_kept, choose
from kerasllm.tuning.rounds._sampling import Samples

pytestmark = pytest.mark.any_backend

NEVER = -np.inf
REWARDS = np.array([[1.0, 3.0, 3.0], [NEVER, 2.0, -1.0]])


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (Cutoff(2), [[0, 1, 1], [0, 0, 0]]),  # above, not at
        (Cutoff(-5), [[1, 1, 1], [0, 1, 1]]),
        (BestOfEach(), [[0, 1, 0], [0, 1, 0]]),  # the first of equal ones
        (BestOfEach(2), [[0, 1, 1], [0, 1, 1]]),
        (BestOfEach(9), [[1, 1, 1], [0, 1, 1]]),
        (TopShare(0.2), [[0, 1, 1], [0, 0, 0]]),  # both of equal ones
        (TopShare(0.5), [[0, 1, 1], [0, 1, 0]]),  # 2.5 of 5: three
        (TopShare(1), [[1, 1, 1], [0, 1, 1]]),
    ],
)
def test_rules(keep, expected):
    np.testing.assert_array_equal(keep(REWARDS), np.array(expected, bool))
    nothing = keep(np.full((2, 2), NEVER))
    np.testing.assert_array_equal(nothing, np.zeros((2, 2), bool))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cutoff(float("nan")), "`value` must be a finite number"),
        (lambda: TopShare(0), r"`share` must be in \(0, 1\]"),
        (lambda: TopShare(2), r"`share` must be in \(0, 1\]"),
        (lambda: BestOfEach(0), "`count` must be a positive int"),
    ],
)
def test_numbers_of_rules(make, message):
    with pytest.raises(UserError, match=message):
        make()


def samples_of(responses, ended=None):
    """Return samples: two prompts, and the letters of each response."""
    count = len(responses) // 2
    ended = [True] * len(responses) if ended is None else ended
    lengths = [len(response) for response in responses]
    prompts = ["p"] * count + ["q"] * count
    return Samples(prompts, list(responses), ended, lengths, lengths, count)


def keep_all(rewards):
    return rewards > NEVER


def test_equal_and_unfinished_responses_are_left_out():
    samples = samples_of("aabb" + "abcd", [True] * 6 + [False, True])
    rewards = np.arange(8.0)
    found = choose(samples, rewards, keep_all)
    #                                a  a  b  b  a  b  c  d
    np.testing.assert_array_equal(found, [1, 0, 1, 0, 1, 1, 0, 1])
    # A response that was cut off does not stand for one that ended.
    samples = samples_of("aa" + "bb", [False, True, True, True])
    found = choose(samples, np.ones(4), keep_all)
    np.testing.assert_array_equal(found, [0, 1, 1, 0])


def test_the_best_of_each_is_chosen_among_what_may_be_kept():
    samples = samples_of("abc" + "abc", [True, True, False] * 2)
    rewards = np.array([1.0, 2, 9, 4, 3, 9])
    found = choose(samples, rewards, BestOfEach())
    np.testing.assert_array_equal(found, [0, 1, 0, 1, 0, 0])


def test_a_prompt_has_its_most():
    samples = samples_of("abcd" + "abcd")
    found = choose(samples, np.array([0, 1, 1, 1, 1, 0, 0, 0]), Cutoff(0.5), 2)
    np.testing.assert_array_equal(found, [0, 1, 1, 0, 1, 0, 0, 0])


@pytest.mark.parametrize(
    "keep",
    [
        lambda rewards: [True],
        lambda rewards: rewards.astype(int) * 0,
        lambda rewards: rewards.ravel() > 0,
    ],
)
def test_a_rule_returns_a_bool_for_each(keep):
    with pytest.raises(UserError, match="`keep` must return a bool"):
        choose(samples_of("ab" + "cd"), np.ones(4), keep)


def test_a_rule_cannot_keep_what_must_not_be_kept():
    samples = samples_of("ab" + "cd", [False] * 4)
    found = choose(samples, np.ones(4), lambda rewards: rewards < 9)
    assert not found.any()


def test_who_keeps_nothing_is_told_what_there_was():
    samples, rewards = samples_of("ab" + "cd"), np.array([1.0, 2, 3, 10])
    kept = choose(samples, rewards, Cutoff(12))
    message = (
        r"Cutoff\(value=12.0\) and rewards from 1 to 10 in round 3, with the "
        r"median 2.5. Use a lower cutoff"
    )
    with pytest.raises(UserError, match=message):
        check_kept(kept, samples, rewards, Cutoff(12), 3)
    kept = choose(samples, rewards, Cutoff(2))
    check_kept(kept, samples, rewards, Cutoff(2), 3)
    samples = samples_of("ab" + "cd", [False] * 4)
    with pytest.raises(UserError, match="4 in round 1 that were all cut off"):
        check_kept(np.zeros(4, bool), samples, rewards, Cutoff(2), 1)
