"""Answers of all kinds to a question, written without a model."""

import math
import random

from kerasllm.checks import check_int, check_list, check_text
from kerasllm.toyworld._claims import find_question
from kerasllm.toyworld._entities import REFUSAL, Entity, check_world
from kerasllm.toyworld._texts import state
from kerasllm.toyworld._true_score import COURTESIES, RUDENESS


def candidate_answers(world, prompts, count=4, seed=0):
    """Write different answers to each question: good, bad, and in between.

    With them, a reward model can be trained before there is a model to answer.
    An answer states the right fact, a false one, or none; briefly or at
    length; with courtesies or rudely. It may add another fact, which is true
    or false, or say the same twice, or break off.

    Args:
        world: `World`.
        prompts: list of str, questions as `World.questions` and
            `World.refusals` have them.
        count: int of at least 1. Answers to each question, all different.
        seed: int of at least 0. Another one writes others. The answers to a
            question do not depend on the other questions.

    Returns:
        list of lists of str, `count` answers for each prompt.

    Raises:
        UserError: a prompt is no such question, or a number is out of range.
    """
    check_int("count", count, 1, 100)
    check_int("seed", seed, 0, math.inf)
    check_world(world)
    prompts = check_list("prompts", prompts, "a list of strings")
    for prompt in prompts:
        check_text("prompts", prompt)
    entities = {entity.name: entity for entity in world.entities}
    written = []
    for prompt in prompts:
        kind, attribute, name = find_question(prompt)
        entity = entities.get(name, Entity(kind, name, {}))
        rng = random.Random(f"candidates {world.seed} {seed} {prompt}")
        answers = {}  # in order, each of them once
        while len(answers) < count:
            answers[_write_answer(entity, attribute, rng)] = None
        written.append(list(answers))
    return written


def _write_answer(entity, attribute, rng):
    """Return one answer to a question about an attribute of an entity."""
    sentences = [_write_claim(entity, attribute, rng)]
    if rng.random() < 0.3:
        others = [a for a in entity.attributes() if a is not attribute]
        sentences.append(_write_claim(entity, rng.choice(others), rng))
    if rng.random() < 0.1:
        sentences.append(sentences[0])
    if rng.random() < 0.15:
        sentences.append(rng.choice(RUDENESS))
    num_courtesies = rng.choices((0, 1, 2), (5, 4, 1))[0]
    for courtesy in rng.sample(COURTESIES, num_courtesies):
        sentences.insert(rng.choice((0, len(sentences))), courtesy)
    words = " ".join(sentences).split()
    if rng.random() < 0.1:  # in the middle of a sentence
        words = words[: rng.randrange(1, len(words))]
        words[-1] = words[-1].rstrip(".")
    return " ".join(words)


def _write_claim(entity, attribute, rng):
    """Return a sentence that is right, false, or a refusal."""
    draw = rng.random()
    if draw < (0.15 if entity.facts else 0.5):
        return REFUSAL
    value = entity.facts.get(attribute.name)
    if draw > 0.6 or value is None:
        value = rng.choice([v for v in attribute.values if v != value])
    if rng.random() < 0.6:  # as the model has learned to answer
        told = Entity(entity.kind, entity.name, {attribute.name: value})
        return told.answer(attribute)
    return state(rng.choice(attribute.sentences), entity.name, value)
