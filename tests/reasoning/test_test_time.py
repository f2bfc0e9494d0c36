"""Longer thoughts, with a model that recites the alphabet."""

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.generation import TextGenerator
from kerasllm.reasoning import ForcedText, _test_time, force_budget
from tests.alphabet import BigramLM, reciting_table

pytestmark = pytest.mark.any_backend

# After "n", which is the marker, comes the answer "opq".
OPTIONS = {"marker": "n", "wait": "a", "separator": "", "answer_tokens": 3}


@pytest.fixture(scope="module")
def generator():
    return TextGenerator(BigramLM(reciting_table()))


def test_a_thought_that_is_long_enough_is_left_alone(generator):
    forced = force_budget(generator, "h", 0, 20, **OPTIONS)
    assert forced == ForcedText("ijklmnopq", 5, 0, False)


def test_a_thought_that_ends_too_soon_goes_on(generator):
    forced = force_budget(generator, "h", 8, 30, **OPTIONS)
    # "ijklm", which wants to answer; then "Wait", and from there to "n".
    assert forced == ForcedText("ijklmabcdefghijklmnopq", 17, 1, False)
    # Likewise where the model ends its text, after "z".
    forced = force_budget(generator, "w", 5, 30, **OPTIONS)
    assert forced == ForcedText("xyzabcdefghijklmnopq", 15, 1, False)


def test_a_thought_that_is_too_long_is_cut_off(generator):
    forced = force_budget(generator, "a", 0, 3, **OPTIONS)
    assert forced == ForcedText("bcdnopq", 3, 0, True)
    # The budget counts the tokens of all parts.
    forced = force_budget(generator, "h", 8, 9, **OPTIONS)
    assert forced == ForcedText("ijklmabcdenopq", 9, 1, True)


def test_the_marker_is_not_a_part_of_the_thought(generator):
    """A thought of five tokens is too short for six, with any marker."""
    for marker, thought in (("n", "ijklm"), ("lmn", "ijk")):
        options = OPTIONS | {"marker": marker}
        for least, waits in ((len(thought), 0), (len(thought) + 1, 1)):
            forced = force_budget(generator, "h", least, 40, **options)
            assert forced.num_waits == waits
            assert forced.text.startswith(thought + ["a", marker][waits == 0])
    # There is nothing to add to it if `wait` is empty.
    forced = force_budget(generator, "h", 8, 30, **OPTIONS | {"wait": ""})
    assert forced == ForcedText("ijklmnopq", 5, 1, False)


def test_a_model_that_has_nothing_more_to_say_is_not_asked_forever(generator):
    forced = force_budget(
        generator, "w", 20, 30, **OPTIONS | {"wait": "z", "answer_tokens": 1}
    )
    assert forced.text == "xyzzno" and forced.num_waits == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 3), "`min_tokens`"),
        ((0, 0), "`max_tokens`"),
        ((4, 3), "at most `max_tokens`. Received: min_tokens=4"),
        ((0, 3, ["a"]), "`prompt` must be a string"),
    ],
)
def test_a_budget_has_bounds_in_order(generator, arguments, message):
    with pytest.raises(UserError, match=message):
        least, most, *prompt = arguments
        force_budget(generator, *(prompt or ["a"]), least, most)


def test_the_mean_does_not_prefer_short_responses(monkeypatch):
    scores = {"long": np.float32([-1, -1, -1]), "short": np.float32([-2])}

    def response_logprobs(model, prompts, responses, template, per_token):
        assert model == "model" and per_token
        return [scores[response] for response in responses]

    monkeypatch.setattr(_test_time, "response_logprobs", response_logprobs)
    means = _test_time.mean_logprobs("model", ["a"] * 2, ["long", "short"])
    assert means.dtype == np.float32 and means.tolist() == [-1, -2]
