"""The best of several samples, and votes."""

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.generation import best_of_n, majority_vote

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


@pytest.mark.parametrize(
    ("answers", "winner"),
    [
        (["7", "8", "7"], "7"),
        (["8", "7", "7", "8"], "8"),  # a tie: the first
        ([None, None, "3"], "3"),  # what has no answer does not vote
        ([None, None], None),
        ([5], 5),
        (iter([2, 1, 1]), 1),
        ([False, 0, 1], False),  # equal answers are one
    ],
)
def test_the_commonest_answer_wins(answers, winner):
    assert majority_vote(answers) == winner


def test_nobody_wins_without_votes():
    with pytest.raises(UserError, match="`answers` must have at least one"):
        majority_vote([])
