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
# # Solutions: learning from preferences
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/solutions/07_learning_from_preferences.ipynb)
#
# One way to solve the exercises of [chapter
# 7](../07_learning_from_preferences.ipynb).

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("kerasllm") is None:
    package = "kerasllm @ git+https://github.com/kerasllm/kerasllm"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", package], check=True
    )

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from kerasllm.evaluation import (
    Share,
    best_of_n_kl,
    best_of_n_scores,
    cohens_kappa,
    preferred_share,
)
from kerasllm.preferences import BradleyTerry
from kerasllm.tiny_gemma import TinyRecipe
from kerasllm.toyworld import COURTESIES, TrueScore, candidate_answers
from kerasllm.tuning import RewardWatch

world = TinyRecipe().world()
true_score = TrueScore(world, {"flattery": -1.5})
prompts = [question.text for question in world.questions()[::6]]

# %% [markdown]
# ## 1. The bound

# %%
n = np.arange(1, 10_000)
bounds = best_of_n_kl(n)
for nats in (1, 2, 3, 4):
    print(f"{nats} nats: N = {n[np.argmax(bounds >= nats)]}")

# %% [markdown]
# For large N the bound is close to $\ln N - 1$. One nat more takes $e$ times as
# many answers, 2.7 times. So best of N stays close to the model for any N that
# one can pay for.
#
# ## 2. Two labellers

# %%
answers = candidate_answers(world, prompts, 4)
pairs = [
    (prompt, *two)
    for prompt, some in zip(prompts, answers, strict=True)
    for two in (some[:2], some[2:])
]
first, second = (
    BradleyTerry.with_agreement(true_score, pairs, 0.73, seed)
    for seed in (1, 2)
)
labels = [
    [label.chosen for label in labeller.label(pairs)]
    for labeller in (first, second)
]
for labeller in (first, second):
    share = preferred_share(labeller.label(pairs), true_score)
    print(f"agrees with the truth: {share:.1%} of {share.size}")
agreed = Share.of(a == b for a, b in zip(*labels, strict=True))
is_first = [
    [label == pair[1] for label, pair in zip(its_own, pairs, strict=True)]
    for its_own in labels
]
print(f"agree with each other: {agreed:.1%}")
print(f"kappa: {cohens_kappa(*is_first):.2f}")
p = first.probabilities(pairs)
print(f"expected agreement: {np.mean(p**2 + (1 - p) ** 2):.1%}")

# %% [markdown]
# Both must be right, or both wrong. If all pairs were equally hard, that would
# be $0.73^2 + 0.27^2 = 61\%$ of them. Pairs differ, and on clear ones both are
# right nearly always, which makes it a little more. What we count is near that,
# as far as so few pairs can tell. Two labellers who knew nothing about the
# truth would agree on half of the pairs, and their kappa would be 0.
# (InstructGPT's 73% is how often labellers agree with *each other*. If there is
# a truth, each of them agrees with it more often than that.)
#
# ## 3. A reward for courtesies

# %%
POOL = 64
answers = candidate_answers(world, prompts[:100], POOL)


def count_courtesies(answer):
    """Return how many courtesies there are in an answer."""
    return sum(answer.count(courtesy) for courtesy in COURTESIES)


proxy = np.array([[count_courtesies(a) for a in some] for some in answers])
true = np.array(
    [
        true_score([prompt] * POOL, some)
        for prompt, some in zip(prompts[:100], answers, strict=True)
    ]
)
ns = [1, 2, 4, 8, 16, 32, 64]
curves = [best_of_n_scores(proxy, by, ns).mean(axis=0) for by in (proxy, true)]
for n, courtesies, score in zip(ns, *curves, strict=True):
    print(f"N = {n:2}: {courtesies:.2f} courtesies, true score {score:+.2f}")

# %% [markdown]
# The reward rises up to two courtesies, which is all that these answers have.
# The true score peaks at N = 4. A first courtesy is worth a point, and the best
# of 4 nearly always has one. Beyond that the reward chooses answers with a
# second one, which costs 1.5, and the true score falls below that of any answer
# taken at random.
#
# ## 4. One weight, three answers
#
# Let an answer's logit be $w$ times a feature. The chosen answer has the
# feature 1, the rejected one 2, and a third one, which nobody has compared, 0.
# At $w = 0$ all three have the probability 1/3. The loss of DPO falls if the
# rejected answer loses more than the chosen one, so $w$ must become negative.

# %%
features = np.array([1.0, 2.0, 0.0])  # chosen, rejected, the third


def logprobs(w):
    """Return the log-probabilities of the three answers."""
    logits = w * features
    return logits - np.log(np.exp(logits).sum())


w, beta, rate = 0.0, 0.1, 20.0
reference = logprobs(w)
for _ in range(4):
    z = beta * np.subtract(*(logprobs(w) - reference)[:2])
    print(f"loss {np.log1p(np.exp(-z)):.3f}", np.exp(logprobs(w)).round(3))
    # The slope of -log sigmoid(z) by w, where z changes by beta * (1 - 2).
    slope = -beta * (features[0] - features[1]) / (1 + np.exp(z))
    w -= rate * slope

# %% [markdown]
# The loss falls and the chosen answer becomes less likely. What it loses goes
# to the third answer, which no pair says anything about. In a language model,
# the words that the answers of a pair share play the part of the feature.
#
# ## 5. What a watch can see

# %%
rng = np.random.default_rng(0)
for count in (20, 80, 320):
    for fall in (0.1, 0.2, 0.4, 0.8):
        alarms = []
        for _ in range(100):
            watch = RewardWatch()
            noise = rng.normal(size=(2, count))
            watch.observe(np.zeros(count), noise[0])
            alarms.append(watch.observe(np.ones(count), noise[1] - fall))
        share = Share.of(alarms)
        print(f"{count:3} prompts, fall of {fall}: {share:.0%} noticed")

# %% [markdown]
# The noise of a difference has a standard deviation of 1.4. With 20 questions,
# its mean still has one of 0.3, and the watch misses a fall of 0.4 most of the
# time. Four times as many questions halve the fall that it sees: 0.8, 0.4 and
# 0.2 are noticed about equally often with 20, 80 and 320. In a real run the
# same draws are used each time, so that differences vary less than here.
