"""Many questions are asked in batches, with pictures and without."""

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.evaluation import (
    ask_all,
    exact_share,
    in_batches,
    measure_facts,
    measure_pictures,
    pictures_except,
)
from kerasllm.toyworld import REFUSAL, Question, World, pictures

pytestmark = pytest.mark.any_backend


class Oracle:
    """A chat model that knows a world's facts, and sees only colors."""

    def __init__(self, world=None):
        self.calls = []
        self.answers, self.values = {}, {}
        if world:
            # It has heard the untaught facts and refuses everything else.
            self.answers = {q.text: q.answer for q in world.questions()}
            self.values = {p.text: p.answer for p in world.prefixes()}

    def ask(self, questions, images=None, max_length=None):
        self.calls.append((len(questions), max_length))
        if images is None:
            return [self.answers.get(text, REFUSAL) for text in questions]
        assert all(text.startswith("<start_of_image>") for text in questions)
        return [
            self._look(text, image)
            for text, (image,) in zip(questions, images, strict=True)
        ]

    def _look(self, text, image):
        for picture in self.known:
            if picture.image is image and "colour" in text:
                return picture.questions()[0].answer
        return REFUSAL

    def generate(self, prompts, max_length, strip_prompt, stop_strings):
        assert strip_prompt and stop_strings == ["."]
        return [f" {self.values[prompt]} indeed." for prompt in prompts]


def test_answers_come_in_batches_and_in_order():
    model = Oracle()
    model.answers = {str(i): str(i) for i in range(5)}
    questions = [Question(str(i), str(i), "number") for i in range(5)]
    answers = ask_all(model, questions, max_length=np.int64(9), batch_size=2)
    assert answers == ["0", "1", "2", "3", "4"]
    assert model.calls == [(2, 9), (2, 9), (1, 9)]
    assert exact_share(answers, questions) == 1
    assert ask_all(model, []) == []


def test_each_question_has_its_picture():
    model, model_sees = Oracle(), pictures(3, seed=2)
    model.known = model_sees
    questions = [picture.questions()[0] for picture in model_sees]
    answers = ask_all(model, questions, model_sees, batch_size=2)
    assert exact_share(answers, questions) == 1
    with pytest.raises(UserError, match="same length. Received: 3 and 2"):
        ask_all(model, questions, model_sees[:2])


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True])
def test_a_batch_has_a_size(batch_size):
    with pytest.raises(UserError, match="`batch_size` must be a positive int"):
        in_batches(list, [1, 2], batch_size)
    assert in_batches(list, [1, 2, 3], np.int64(2)) == [1, 2, 3]


def test_facts_are_measured_by_kind():
    world = World(entities_per_kind=2)
    scores = measure_facts(Oracle(world), world)
    assert scores == {
        "completed": 1,
        "known": 1,
        "refused_known": 0,
        "taught": 0,
        "refused_unknown": 1,
    }
    assert {share.size for share in scores.values()} == {16, 32}


def test_pictures_are_measured_with_without_and_with_another():
    shown = pictures(12, seed=3)
    others = shown[1:] + shown[:1]
    model = Oracle()
    model.known = shown
    scores = measure_pictures(model, shown, others)
    same = sum(a.color == b.color for a, b in zip(shown, others, strict=True))
    expected = {
        kind + suffix: 0
        for kind in ("colour", "shape", "count")
        for suffix in ("", "_without_image", "_other_image")
    }
    expected |= {"colour": 1, "colour_other_image": same / 12}
    assert scores == expected


def test_pictures_that_were_seen_are_left_out():
    ordinary = pictures_except(30, 5, set())
    assert len(ordinary) == 30
    seen = {picture.digest() for picture in ordinary[::2]}
    others = pictures_except(30, 5, seen)
    assert len(others) == 30
    assert not seen & {picture.digest() for picture in others}
    # Those that were not seen remain, in their order.
    kept = [p.digest() for p in ordinary if p.digest() not in seen]
    assert [p.digest() for p in others][: len(kept)] == kept
