"""Lessons in reading: how the tiny model learns to answer from a text.

The preset `tiny` has read of one world, again and again. It knows the facts of
that world by heart, and never had a reason to look a value up in the text
before it. These lessons give it one: short texts about names that it has never
read, whose values are drawn anew each time, and questions about them. What such
a text says can only be known by reading it.

The first lesson has one passage and one question, and 200 batches are enough to
copy 97% of the values. To begin with four passages was not learned at all in
120 larger batches. The second lesson has two passages, so that a name must be
found among others. It was not learned in 250 batches: of two passages that
state the same fact of two names, the right one was read in 53% of the
questions. Nor was it in 160 batches with all questions after the passages. So
the experiment gives the first lesson alone, unless it is told `--lessons 2`.
"""

import dataclasses
import functools
import itertools
import random

import keras
import keras_hub
import numpy as np

from kerasllm import ChatModel, pretrain
from kerasllm.backend import tf
from kerasllm.pipeline import without_autotune
from kerasllm.toyworld import Entity, World

CONTEXT_LENGTH = 384  # of the model that has learned to read


@dataclasses.dataclass(frozen=True)
class Lesson:
    """Texts with so many passages, and how many batches of them.

    Attributes:
        shapes: tuple of pairs, numbers of names and of attributes. There is a
            passage for each name and attribute.
        steps: int. Batches.
        length: int. Tokens of a text at most.
        rate: float. The learning rate, which falls along a cosine.
        question_weight: float. How much the tokens of questions count, whose
            names have been read before. Those of answers count 1.
        question_first: bool. Whether a question stands before the passages,
            its answer behind them, and then one more question.
    """

    shapes: tuple
    steps: int
    length: int
    rate: float = 2e-3
    question_weight: float = 0.3
    question_first: bool = dataclasses.field(default=False, repr=False)


LESSONS = (
    Lesson(((1, 1),), 200, 36),
    Lesson(
        ((1, 1), (2, 1), (2, 1), (2, 1)), 600, 60, 1e-3, question_first=True
    ),
)
BATCH_SIZE = 32


def without_images(model):
    """Return a model that takes text alone, with the same weights."""
    backbone = model.causal_lm.backbone
    encoder = {id(w) for w in backbone.vision_encoder.weights}
    config = backbone.get_config() | {"vision_encoder": None}
    text_only = backbone.from_config(config | {"dtype": "float32"})
    text_only.set_weights([w for w in backbone.weights if id(w) not in encoder])
    preprocessor = keras_hub.models.Gemma3CausalLMPreprocessor(
        model.causal_lm.preprocessor.tokenizer, sequence_length=CONTEXT_LENGTH
    )
    causal_lm = keras_hub.models.Gemma3CausalLM(
        backbone=text_only, preprocessor=preprocessor
    )
    return ChatModel(causal_lm)


def save_in_half(model, folder):
    """Write a model of `without_images` as a preset in bfloat16."""
    backbone = model.causal_lm.backbone
    half = backbone.from_config(backbone.get_config() | {"dtype": "bfloat16"})
    half.set_weights(backbone.get_weights())
    keras_hub.models.Gemma3CausalLM(
        backbone=half, preprocessor=model.causal_lm.preprocessor
    ).save_to_preset(folder)


def names_of(seeds):
    """Return entities of worlds, by kind."""
    by_kind = {}
    for seed in seeds:
        world = World(seed)
        for entity in world.entities + world.unknown:
            by_kind.setdefault(entity.kind, []).append(entity)
    return by_kind


def new_facts(entity, rng):
    """Return an entity of this name with facts that are drawn anew."""
    facts = {a.name: rng.choice(a.values) for a in entity.attributes()}
    return Entity(entity.kind, entity.name, facts)


def write_text(by_kind, lesson, rng):
    """Return passages with questions and answers about them.

    Returns:
        list of pairs of str and float: a part of the text, and the weight of
        its tokens.
    """
    num_names, num_attributes = rng.choice(lesson.shapes)
    drawn = rng.sample(by_kind[rng.choice(list(by_kind))], num_names)
    entities = [new_facts(entity, rng) for entity in drawn]
    attributes = rng.sample(entities[0].attributes(), num_attributes)
    facts = list(itertools.product(entities, attributes))
    passages = []
    for entity, attribute in rng.sample(facts, len(facts)):
        said = rng.choice(attribute.sentences).format(
            name=entity.name, value=entity.facts[attribute.name]
        )
        passages.append((f" {said[0].upper()}{said[1:]}", 0.0))
    passages.append(("\n", 0.0))
    if lesson.question_first:
        question, answer = ask(rng.choice(facts), 0.0, rng)
        more = ask(rng.choice(facts), lesson.question_weight, rng)
        return [question, *passages, answer, *more]
    for fact in rng.sample(facts, len(facts)):
        passages += ask(fact, lesson.question_weight, rng)
    return passages


def ask(fact, weight, rng):
    """Return a question about a fact and its answer, with their weights."""
    entity, attribute = fact
    asked = rng.choice(attribute.questions).format(name=entity.name)
    return (f"{asked}\n", weight), (f"{entity.answer(attribute)}\n", 1.0)


def batches(lesson, tokenizer, seeds, seed):
    """Yield batches of a lesson, without an end."""
    by_kind = names_of(seeds)
    rng = random.Random(f"lesson {seed} {lesson}")
    while True:
        token_ids = np.zeros((BATCH_SIZE, lesson.length + 1), "int32")
        weights = np.zeros((BATCH_SIZE, lesson.length + 1), "float32")
        row = 0
        while row < BATCH_SIZE:
            parts = write_text(by_kind, lesson, rng)
            tokens, weight = [tokenizer.start_token_id], [0.0]
            encoded = tokenizer([text for text, _ in parts])
            for ids, (_, w) in zip(encoded, parts, strict=True):
                tokens += map(int, ids)
                weight += [w] * len(ids)
            if len(tokens) <= lesson.length + 1:
                token_ids[row, : len(tokens)] = tokens
                weights[row, : len(tokens)] = weight
                row += 1
        x = {
            "token_ids": token_ids[:, :-1],
            "padding_mask": token_ids[:, :-1] > 0,
        }
        yield x, token_ids[:, 1:], weights[:, 1:]


def dataset(lesson, tokenizer, seeds, seed):
    """Return the batches of a lesson as a dataset."""
    make = functools.partial(batches, lesson, tokenizer, seeds, seed)
    signature = keras.tree.map_structure(
        lambda array: tf.TensorSpec(array.shape, array.dtype), next(make())
    )
    found = tf.data.Dataset.from_generator(make, output_signature=signature)
    return without_autotune(found.prefetch(4))


def learn_to_read(model, lessons, seeds, seed, folder, verbose):
    """Give a model lessons, one after another.

    Args:
        model: `ChatModel`, see `without_images`.
        lessons: list of `Lesson`.
        seeds: seeds of the worlds whose names the texts are about.
        seed: int. It determines the texts.
        folder: path for the checkpoints.
        verbose: as for `fit`.
    """
    preprocessor = model.causal_lm.preprocessor
    for number, lesson in enumerate(lessons):
        warmup = 20
        model.causal_lm.preprocessor = None  # batches are tokenized already
        pretrain(
            model.causal_lm,
            dataset(lesson, preprocessor.tokenizer, seeds, seed),
            directory=folder / f"lesson_{number}",
            epochs=max(1, lesson.steps // 50),
            steps_per_epoch=50,
            learning_rate=keras.optimizers.schedules.CosineDecay(
                lesson.rate / 10,
                lesson.steps - warmup,
                alpha=0.1,
                warmup_target=lesson.rate,
                warmup_steps=warmup,
            ),
            verbose=verbose,
        )
        model.causal_lm.preprocessor = preprocessor
