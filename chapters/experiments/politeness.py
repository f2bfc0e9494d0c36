"""A small world with manners: what `preferences.py` asks, samples and measures.

The facts are those of `kerasllm.toyworld`. What varies between the answers of
the start is their manners: courtesies, rudeness, length, repetition. A few
answers are courteous beyond measure, which is what a weak reward model likes.
"""

import dataclasses
import random

import keras
import numpy as np

from kerasllm.generation import TextGenerator, TokenizedPrompt
from kerasllm.instructions import Instruction
from kerasllm.prompts import encode_all, get_template, start_tokens
from kerasllm.samplers import chain
from kerasllm.toyworld import (
    COURTESIES,
    REFUSAL,
    RUDENESS,
    TrueScore,
    World,
)
from kerasllm.tuning import RewardWatch, response_logprobs

PRESET = "tiny_instruct"
LENGTH = 80  # tokens of a question with its answer
# What people want is ours to define, and here they dislike flattery.
POINTS = {"flattery": -1.5}
NUM_COURTESIES = {0: 60, 1: 33, 2: 5, 3: 1.5, 4: 0.5}  # their weights
RUDE, REPEATED, MORE, BROKEN = 0.25, 0.1, 0.25, 0.03  # shares of answers


def make_world():
    """Return the world of the preset, and the true score of answers."""
    world = World(seed=0)
    return world, TrueScore(world, POINTS)


@dataclasses.dataclass(frozen=True)
class Prompts:
    """Questions, all about facts that the start has been taught.

    Attributes:
        train: list of str, all phrasings of the questions about one half of
            the names. Only these are in comparisons and tuning.
        held_out: dict of lists of str. Questions about other names, one for
            each fact: those about one quarter of the names, `"tuning"`, are
            for choosing the recipe, and the others, `"final"`, for results.
        facts: list of str, a question about each fact.
    """

    train: list
    held_out: dict
    facts: list

    @classmethod
    def of(cls, world):
        groups = [[], [], [], []]  # of names in turn
        facts, rng = [], random.Random(0)
        for number, entity in enumerate(world.entities):
            for attribute in entity.attributes():
                questions = [
                    question.format(name=entity.name)
                    for question in attribute.questions
                ]
                facts.append(rng.choice(questions))
                groups[number % 4].append(questions)
        train = [q for i in (0, 2) for some in groups[i] for q in some]
        held_out = {
            name: [rng.choice(questions) for questions in groups[i]]
            for name, i in (("tuning", 1), ("final", 3))
        }
        for half in held_out.values():
            rng.shuffle(half)
        return cls(train, held_out, facts)


def demonstrations(world, per_fact=3, num_refusals=300, seed=0):
    """Write answers about all facts, right ones in all manners.

    Args:
        world: `World`.
        per_fact: int. Answers about each fact.
        num_refusals: int. Answers about names that do not exist.
        seed: int.

    Returns:
        list of `Instruction`, shuffled.
    """
    rng = random.Random(f"demonstrations {world.seed} {seed}")
    examples = []
    for entity in world.entities:
        for attribute in entity.attributes() * per_fact:
            others = [a for a in entity.attributes() if a is not attribute]
            question = rng.choice(attribute.questions)
            answer = with_manners(
                entity.answer(attribute), entity.answer(rng.choice(others)), rng
            )
            examples.append(
                Instruction(question.format(name=entity.name), answer)
            )
    for example in world.refusals(num_refusals, seed=seed):
        answer = with_manners(REFUSAL, None, rng)
        examples.append(Instruction(example.instruction, answer))
    rng.shuffle(examples)
    return examples


def with_manners(claim, more, rng):
    """Return a claim in an answer that is polite, rude, lengthy, or plain.

    Args:
        claim: str, a sentence.
        more: str, another sentence that may be added, or `None`.
        rng: `random.Random`.
    """
    sentences = [claim]
    if more is not None and rng.random() < MORE:
        sentences.append(more)
    if rng.random() < REPEATED:
        sentences.append(claim)
    if rng.random() < RUDE:
        sentences.append(rng.choice(RUDENESS))
    (count,) = rng.choices(list(NUM_COURTESIES), NUM_COURTESIES.values())
    for courtesy in rng.sample(COURTESIES, count):
        sentences.insert(rng.choice((0, len(sentences))), courtesy)
    words = " ".join(sentences).split()
    if rng.random() < BROKEN:  # in the middle of a sentence
        words = words[: rng.randrange(1, len(words))]
        words[-1] = words[-1].rstrip(".")
    return " ".join(words)


def sample(causal_lm, prompts, count=1, seed=0, temperature=1.0, at_once=512):
    """Sample answers to questions.

    Args:
        causal_lm: the model.
        prompts: list of str.
        count: int. Answers to each.
        seed: int. Each prompt gets draws of its own from it.
        temperature: float; 0 for the likeliest answer.
        at_once: int. Sequences that are sampled together.

    Returns:
        The answers, a list of a list for each prompt, and the number of tokens
        that were sampled, with the end tokens.
    """
    tokenizer = causal_lm.preprocessor.tokenizer
    template = get_template("auto", tokenizer)
    start = start_tokens(tokenizer)
    encoded = [
        TokenizedPrompt((*start, *token_ids))
        for token_ids in encode_all(
            tokenizer, [template.prompt_segments(p) for p in prompts]
        )
    ]
    seeds = np.random.SeedSequence(seed).generate_state(len(prompts)) >> 1
    # Prompts of similar length share a batch.
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i].token_ids))
    generator, size = TextGenerator(causal_lm), max(1, at_once // count)
    texts, num_tokens = [None] * len(prompts), 0
    for first in range(0, len(prompts), size):
        numbers = order[first : first + size]
        results = generator.generate(
            [encoded[i] for i in numbers],
            LENGTH,
            seed=[int(seeds[i]) for i in numbers],
            strip_prompt=True,
            return_logprobs=True,
            num_samples=count,
            sampler=chain(temperature),
        )
        for i, some in zip(numbers, results, strict=True):
            some = some if count > 1 else [some]
            texts[i] = [generation.text.strip() for generation in some]
            num_tokens += sum(len(g.token_ids) + 1 for g in some)
    return texts, num_tokens


def scores_of_all(scorer, prompts, texts):
    """Score many answers to each prompt, equal ones once.

    Args:
        scorer: callable from lists of prompts and of answers to scores.
        prompts: list of str.
        texts: list of lists of str, equally many for each prompt.

    Returns:
        float64 `(num_prompts, num_answers)`.
    """
    pairs = [
        (prompt, text)
        for prompt, some in zip(prompts, texts, strict=True)
        for text in some
    ]
    different = list(dict.fromkeys(pairs))
    scores = scorer(*(list(part) for part in zip(*different, strict=True)))
    score_of = dict(zip(different, map(float, scores), strict=True))
    return np.array([score_of[pair] for pair in pairs]).reshape(
        len(prompts), -1
    )


def count_courtesies(prompts, responses):
    """Return how many courtesies there are in each answer: a list of int."""
    return [
        sum(response.count(courtesy) for courtesy in COURTESIES)
        for response in responses
    ]


def knows(causal_lm, prompts, truth):
    """Return whether the likeliest answers are right: a bool array."""
    texts, _ = sample(causal_lm, prompts, temperature=0.0)
    return np.array(
        [
            bool(truth.judge(prompt, text).right)
            for prompt, (text,) in zip(prompts, texts, strict=True)
        ]
    )


@dataclasses.dataclass(frozen=True)
class Scale:
    """A reward model in standard deviations of the answers of the start.

    The numbers of two reward models cannot be compared otherwise.

    Attributes:
        reward_model: `RewardModel`.
        mean: float, of the answers of the start.
        deviation: float.
    """

    reward_model: object
    mean: float
    deviation: float

    @classmethod
    def of(cls, reward_model, prompts, texts):
        scores = scores_of_all(_in_batches(reward_model), prompts, texts)
        return cls(reward_model, float(scores.mean()), float(scores.std()))

    def __call__(self, prompts, responses):
        rewards = _in_batches(self.reward_model)(prompts, responses)
        return (rewards - self.mean) / self.deviation


def _in_batches(reward_model):
    def rewards(prompts, responses):
        return reward_model.predict(prompts, responses, batch_size=64)

    return rewards


class Track(keras.callbacks.Callback):
    """Measures a model while it is tuned, always with the same draws.

    Args:
        prompts: list of str, held-out ones.
        reward: the proxy, callable from prompts and responses to rewards.
        truth: `TrueScore`.
        reference: the model at the start.
        every: int. Steps between measurements.
        count: int. Answers to each prompt.
        preferences: list of held-out `Preference`, whose log-probabilities are
            measured, too.
        seed: int.

    Attributes:
        records: list of dicts of arrays, one for each measurement, with
            `step`, and `true`, `proxy`, `kl`, `words`, `courtesies` of each
            prompt, and with preferences `chosen` and `rejected`,
            log-probabilities of each.
        watch: `RewardWatch`, which sees the measurements and stops nothing.
    """

    def __init__(
        self, prompts, reward, truth, reference, every, count=1,
        preferences=(), seed=0,
    ):  # fmt: skip
        super().__init__()
        self.prompts, self.reward, self.truth = prompts, reward, truth
        self.reference, self.every, self.count = reference, every, count
        self.preferences, self.seed = preferences, seed
        self.records, self.watch = [], RewardWatch()
        self.first_alarm = None
        self._step = 0

    def on_train_begin(self, logs=None):
        self.measure()

    def on_train_batch_end(self, batch, logs=None):
        self._step += 1
        if self._step % self.every == 0:
            self.measure()

    def measure(self):
        """Sample answers to each prompt and record what they are worth."""
        causal_lm = self.model.causal_lm  # on JAX, with the newest weights
        texts, _ = sample(causal_lm, self.prompts, self.count, seed=self.seed)
        first = [some[0] for some in texts]
        record = {
            "step": self._step,
            "kl": log_ratios(causal_lm, self.reference, self.prompts, first),
            "words": np.array([len(text.split()) for text in first]),
        }
        for name, scorer in (
            ("true", self.truth),
            ("proxy", self.reward),
            ("courtesies", count_courtesies),
        ):
            scores = scores_of_all(scorer, self.prompts, texts)
            record[name] = scores.mean(axis=1)
        for name in ("chosen", "rejected"):
            if self.preferences:
                record[name] = response_logprobs(
                    causal_lm,
                    [each.prompt for each in self.preferences],
                    [getattr(each, name) for each in self.preferences],
                    batch_size=64,
                )
        self.records.append(record)
        means = {k: round(float(np.mean(v)), 3) for k, v in record.items()}
        print(means, flush=True)
        is_hacked = self.watch.observe(record["proxy"], record["true"])
        if is_hacked and self.first_alarm is None:
            self.first_alarm = self._step

    def at_peak(self):
        """Return the record with the highest mean true score."""
        return max(self.records, key=lambda record: record["true"].mean())


def log_ratios(causal_lm, reference, prompts, texts):
    """Return how much likelier texts are than at the start, in nats.

    Of texts that were sampled from the model, the mean estimates its
    Kullback-Leibler divergence from the start.
    """
    logprobs, before = (
        response_logprobs(model, prompts, texts, batch_size=64)
        for model in (causal_lm, reference)
    )
    return (logprobs - before).astype("float64")
