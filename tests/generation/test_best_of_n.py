"""The best of several samples, and votes."""

import numpy as np
import pytest
from keras import ops

from kerasllm.checks import UserError
from kerasllm.generation import best_of_n, majority_vote, weighted_vote

pytestmark = pytest.mark.any_backend


class Generator:
    """Writes the numbers from 0 after each prompt; stands for a real one."""

    def generate(self, prompts, max_length, *, num_samples, **options):
        self.options = {"max_length": max_length, **options}
        texts = [[f"{p}{i}" for i in range(num_samples)] for p in prompts]
        return [some[0] for some in texts] if num_samples == 1 else texts


def near_two(prompts, responses):
    assert all(map(str.startswith, responses, prompts))
    return [-abs(int(r[1:]) - 2) for r in responses]


def near_two_not_two(prompts, responses):
    scores = near_two(prompts, responses)
    return [score or -np.inf for score in scores]


def test_the_response_with_the_highest_score_is_returned():
    generator = Generator()
    assert best_of_n(generator, "a", 5, near_two, 32, seed=1) == "a2"
    assert generator.options == {
        "max_length": 32,
        "seed": 1,
        "strip_prompt": True,
    }
    assert best_of_n(generator, ["a", "b"], 5, near_two) == ["a2", "b2"]
    assert best_of_n(generator, "a", 1, near_two) == "a0"
    assert best_of_n(generator, [], 3, near_two) == []
    # Of 1 and 3, which are equally near, and without 2, the first.
    assert best_of_n(generator, "a", 5, near_two_not_two) == "a1"


def test_all_responses_come_with_their_scores():
    responses, scores = best_of_n(
        Generator(), "a", 3, near_two, return_scores=True
    )
    assert responses == ["a0", "a1", "a2"]
    np.testing.assert_array_equal(scores, [-2, -1, 0])


@pytest.mark.parametrize(
    "scorer",
    [
        lambda prompts, responses: 1.0,
        lambda prompts, responses: [1.0],
        lambda prompts, responses: ["good"] * len(responses),
        lambda prompts, responses: [np.nan] * len(responses),
    ],
)
def test_a_score_is_a_number(scorer):
    with pytest.raises(UserError, match="`scorer` must return"):
        best_of_n(Generator(), "a", 3, scorer)
    with pytest.raises(UserError, match="`n` must be a positive int"):
        best_of_n(Generator(), "a", 0, scorer)


VOTES = pytest.mark.parametrize(
    ("answers", "winner"),
    [
        (["7", "8", "7"], "7"),
        (["8", "7", "7", "8"], "8"),  # a tie: the first
        ([None, None, "3"], "3"),  # what has no answer does not vote
        ([None, None], None),
        ([5], 5),
        ((2, 1, 1), 1),
        ([False, 0, 1], False),  # equal answers are one
    ],
)


@VOTES
def test_the_commonest_answer_wins(answers, winner):
    assert majority_vote(answers) == winner
    assert majority_vote(iter(answers)) == winner


@VOTES
def test_equal_weights_are_a_majority_vote(answers, winner):
    weights = np.full(len(answers), 0.1)
    assert weighted_vote(answers, weights) == winner


@pytest.mark.parametrize(
    ("answers", "weights", "winner"),
    [
        ([7, 8, 7], [0.1, 0.9, 0.1], 8),  # one sure sample outvotes two
        ([7, 8, 7], [0.5, 0.9, 0.5], 7),
        ([7, 8, 7], [0.25, 0.5, 0.25], 7),  # a tie: the first
        ([8, 7, 7], [0.5, 0.25, 0.25], 8),
        ([None, 8], [1, 0], 8),  # what has no answer does not vote
        ([7, 8], [0, 0], 7),
        ([None], [1], None),
        ([7, 8, 8], [1.5e308, 1e308, 1e308], 8),  # their sum overflows
        # 0.1 + 0.2 + 0.3 depends on the order, if each sum is rounded.
        ([1, 2] * 3, [0.3, 0.1, 0.2, 0.2, 0.1, 0.3], 1),
        ([2, 1] * 3, [0.3, 0.1, 0.2, 0.2, 0.1, 0.3], 2),
    ],
)
def test_the_largest_weight_wins(answers, weights, winner):
    assert weighted_vote(answers, weights) == winner


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1], "one number for each answer. Received: .* for 2"),
        (1.0, "one number for each answer"),
        (["a", "b"], "`weights` must be numbers"),
        ([[1], [2, 3]], "`weights` must be numbers"),
        ([1, -1], "finite and not negative"),
        ([1, np.nan], "finite and not negative"),
        ([1, np.inf], "finite and not negative"),
    ],
)
def test_a_weight_is_a_number_of_at_least_zero(weights, message):
    with pytest.raises(UserError, match=message):
        weighted_vote([7, 8], weights)


@pytest.mark.parametrize(
    "answer", [[1], {"x": 1}, ([1],), np.ones(2), ops.ones(())]
)
def test_what_cannot_be_compared_has_no_vote(answer):
    for vote in (majority_vote, lambda answers: weighted_vote(answers, [1])):
        with pytest.raises(UserError, match="must be hashable.*Make a tuple"):
            vote([answer])


@pytest.mark.parametrize("answers", ["42", 42, {42: 2}])
def test_votes_are_in_a_list(answers):
    """The most common digit is nobody's answer."""
    for vote in (majority_vote, lambda answers: weighted_vote(answers, [1])):
        with pytest.raises(UserError, match="`answers` must be a list"):
            vote(answers)


def test_nobody_wins_without_votes():
    with pytest.raises(UserError, match="`answers` must have at least one"):
        majority_vote([])
    with pytest.raises(UserError, match="`answers` must have at least one"):
        weighted_vote([], [])
