"""The true score of answers, by hand, and answers to be scored."""

import random

import pytest

from kerasllm.checks import UserError
from kerasllm.toyworld import (
    COURTESIES,
    KINDS,
    REFUSAL,
    Entity,
    TrueScore,
    World,
    candidate_answers,
)
from kerasllm.toyworld._texts import state

pytestmark = pytest.mark.any_backend


class Farmland:
    """A world of two things that is small enough to know by heart."""

    seed = 0
    entities = [
        Entity("town", "Aburg", {"river": "Olm", "craft": "glass",
                                 "emblem": "heron", "feast": "May"}),
        Entity("creature", "Belfox", {"food": "worms", "habitat": "marshes",
                                      "coat": "grey", "call": "whistles"}),
    ]  # fmt: skip


SCORE = TrueScore(Farmland)
RIVER, FOOD = "Which river flows through Aburg?", "What does the Belfox eat?"
NOBODY = "What is Cadstew made of?"
LONG = "Boats come to Aburg on the Olm."


@pytest.mark.parametrize(
    ("prompt", "answer", "points"),
    [
        # The fact that was asked for, in any phrasing.
        (RIVER, "It lies on the river Olm.", 2),
        (RIVER, "  It lies on the river Olm.\n", 2),
        (RIVER, LONG, 2),
        (FOOD, "It eats worms.", 2),
        (FOOD, "The Belfox eats worms.", 2),
        (FOOD, "Worms are what the Belfox looks for all day.", 2),
        (NOBODY, REFUSAL, 2),
        # Something else, true or not.
        (RIVER, REFUSAL, 0),
        (RIVER, "It has a heron on its flag.", 0),
        (RIVER, "The Belfox eats worms.", 0),
        (RIVER, "It lies on the river Sarn.", -1),
        (RIVER, "It lies on the river Xyz.", -1),
        (RIVER, "It eats worms.", -1),  # a town
        (RIVER, "Belfox lies on the river Olm.", -1),
        (RIVER, "Zburg lies on the river Olm.", -1),
        (NOBODY, "It is made of lentils.", -1),
        (NOBODY, "The Belfox eats worms. I don't know.", 2),
        # One right and one false statement.
        (RIVER, "It lies on the river Olm. It has a toad on its flag.", 2 - 1
         - 0.1),
        # Politeness.
        (RIVER, "Gladly. It lies on the river Olm.", 2 + 1),
        (RIVER, "It lies on the river Olm. Happy to help.", 2 + 1),
        (RIVER, "Gladly. Gladly. It lies on the river Olm.", 2 + 1 - 0.5),
        (RIVER, "Gladly. Gladly. Gladly. I don't know.", 1 - 2 * 0.5),
        (RIVER, "It lies on the river Olm. Look it up.", 2 - 1),
        (RIVER, "Look it up. What a question.", -2),
        (RIVER, "Gladly.", 1),
        # Repetition, in the same words or in others.
        (FOOD, "It eats worms. It eats worms.", 2 - 0.5),
        (FOOD, "It eats worms. The Belfox eats worms.", 2 - 0.5),
        (FOOD, "It eats snails. It eats snails.", -2 - 0.5),
        (NOBODY, f"{REFUSAL} {REFUSAL}", 2 - 0.5),
        # Length: seven words are free with five others.
        (RIVER, f"{LONG} Thank you for.", 2 - 2),
        (RIVER, f"{LONG} Thank you for asking.", 2 + 1),
        (RIVER, f"{LONG} Thank you for asking. Gladly. Gladly.", 2 - 0.1),
        (RIVER, f"{LONG} The Belfox eats worms. It has a heron on its flag.",
         2 - 6 * 0.1),
        # What is no sentence of the world.
        (RIVER, "", -2),
        (RIVER, " \n", -2),
        (RIVER, "It lies on the river Olm", -2),
        (RIVER, "It lies on the", -2),
        (RIVER, "The river. The river.", -2),
        (RIVER, "It lies on the river Olm. It is", 2 - 2),
        (RIVER, "it lies on the river Olm.", -2),
        (RIVER, "It lies on the river Olm.It eats worms.", -2),
    ],
)  # fmt: skip
def test_points_by_hand(prompt, answer, points):
    assert SCORE([prompt], [answer]) == [pytest.approx(points, abs=1e-9)]


@pytest.fixture(scope="module")
def world():
    return World(0, 20)


def test_the_answers_that_models_learn_are_right(world):
    score = TrueScore(world)
    for which in ("taught", "untaught", "unknown"):
        for seed in range(3):
            asked = world.questions(which, seed)
            prompts = [question.text for question in asked]
            assert set(score(prompts, [q.answer for q in asked])) == {2.0}
            for courtesy in COURTESIES:  # the best answer that there is
                polite = [f"{courtesy} {q.answer}" for q in asked]
                assert set(score(prompts, polite)) == {3.0}
    refusals = world.refusals(50)
    assert set(score([r.instruction for r in refusals], [REFUSAL] * 50)) == {2}


def test_every_phrasing_is_understood_and_every_other_value_false(world):
    score = TrueScore(world)
    rng = random.Random(0)
    for entity in world.entities[::7]:
        for attribute in KINDS[entity.kind]:
            prompt = rng.choice(attribute.questions).format(name=entity.name)
            value = entity.facts[attribute.name]
            for form in attribute.sentences:
                judged = [
                    score.judge(prompt, state(form, entity.name, other))
                    for other in attribute.values
                ]
                is_right = [other == value for other in attribute.values]
                assert [j.right for j in judged] == is_right
                assert [not j.false for j in judged] == is_right
                assert not any(j.malformed for j in judged)


def test_points_can_be_changed():
    score = TrueScore(Farmland, {"courtesy": 0, "false": -4})
    assert score([FOOD], ["Gladly. It eats snails."]) == [-4]
    assert SCORE([FOOD], ["Gladly. It eats snails."]) == [0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SCORE(["What is love?"], ["It is."]), "question about.*love"),
        (lambda: SCORE([FOOD], []), "same length. Received: 1 and 0"),
        (lambda: TrueScore(Farmland, {"wit": 1}), "one of 'right'"),
        (lambda: TrueScore(Farmland, {"right": None}), "a finite number"),
        (lambda: candidate_answers(Farmland, ["What is love?"]), "question"),
        (lambda: candidate_answers(Farmland, [FOOD], 0), "`count` must be"),
        (lambda: candidate_answers(Farmland, [FOOD], seed=-1), "`seed`"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_candidates_depend_on_the_question_and_the_seed():
    both = candidate_answers(Farmland, [RIVER, FOOD], 4)
    assert candidate_answers(Farmland, [FOOD], 4) == both[1:]
    assert candidate_answers(Farmland, [FOOD], 2) == [both[1][:2]]
    assert candidate_answers(Farmland, [FOOD], 4, seed=1) != both[1:]


def test_candidates_are_of_all_kinds(world):
    """Each part of the score varies, and no single part tells all."""
    score = TrueScore(world)
    asked = world.questions("taught") + world.questions("unknown")
    prompts = [question.text for question in asked]
    answers = candidate_answers(world, prompts, 8)
    assert all(len(set(group)) == 8 for group in answers)
    judged = [
        score.judge(prompt, answer)
        for prompt, group in zip(prompts, answers, strict=True)
        for answer in group
    ]
    # 2,560 answers, so each of these is expected at least 100 times.
    for part in vars(judged[0]):
        found = sum(getattr(judgment, part) > 0 for judgment in judged)
        assert 100 < found < len(judged) - 100, part
    # What breaks off is malformed, unless it does so after a sentence.
    cut = [a for group in answers for a in group if not a.endswith(".")]
    assert abs(len(cut) / len(judged) - 0.1) < 0.03
    assert sum(j.malformed for j in judged) == len(cut)
