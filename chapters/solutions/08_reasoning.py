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
# # Solutions: reasoning
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/solutions/08_reasoning.ipynb)
#
# One way to solve the exercises of [chapter 8](../08_reasoning.ipynb).

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

import keras
import numpy as np

from kerasllm import backend
from kerasllm.evaluation import pass_at_k
from kerasllm.files import assets_dir
from kerasllm.generation import TextGenerator, majority_vote
from kerasllm.presets import load_causal_lm
from kerasllm.prompts import PromptTemplate
from kerasllm.reasoning import AnswerChecker, split_problems, word_problems
from kerasllm.samplers import chain
from kerasllm.tuning import group_advantages, self_train

backend.set_up()
keras.utils.set_random_seed(0)
START = assets_dir() / "reasoning" / "weak"
LENGTH = 72
problems = word_problems(
    2000,
    5,
    num_steps=(2, 4),
    structures=["changes", "comparing", "flows", "prices"],
    max_number=30,
    notation="notes",
)
split = split_problems(problems, validation_fraction=0.2)
practice, held_out = split.train[:320], split.numbers[:200]

# %% [markdown]
# ## 1. A loose checker

# %%
start = load_causal_lm(START)
solutions = TextGenerator(start, chain(1.0)).generate(
    [problem.prompt for problem in held_out],
    LENGTH,
    seed=list(range(len(held_out))),  # random numbers of its own for each
    strip_prompt=True,
    num_samples=8,
)
checker = AnswerChecker("answer")


def loose(problem, response):
    """Accept the right number anywhere after the marker."""
    return str(problem.answer) in response.partition("answer")[2].split()


pairs = [
    (problem, text)
    for problem, texts in zip(held_out, solutions, strict=True)
    for text in texts
]
strictly = checker(*zip(*pairs, strict=True)).astype(bool)
loosely = np.array([loose(problem, text) for problem, text in pairs])
print(f"accepted by the loose checker alone: {(loosely & ~strictly).sum()}")
everything = "answer " + " ".join(map(str, range(1, 31)))
print("one response for all problems:", everything)
assert all(loose(problem, everything) for problem in held_out)
assert not checker(held_out, [everything] * len(held_out)).any()

# %% [markdown]
# The start has not learned from this checker, so it hardly ever lists numbers,
# and the two agree. The difference shows when a model *learns* from the loose
# one. Then a list of all 30 numbers gets every reward, and homework 6 shows a
# small model that finds this out.
#
# ## 2. Which problems teach most

# %%
for right in range(1, 8):
    rewards = np.array([1.0] * right + [0.0] * (8 - right))
    for scale in ("group", "none"):
        advantages = group_advantages(rewards, 8, scale)
        print(
            f"{right} of 8 right, scale {scale:5}: right "
            f"{advantages[0]:5.2f}, wrong {advantages[-1]:5.2f}, sum of sizes "
            f"{np.abs(advantages).sum():.2f}"
        )

# %% [markdown]
# A solution that is rare in its group has the largest advantage. All sizes
# together are largest where half of the solutions are right. Without the
# deviation, groups with one right or one wrong solution count for less than
# half as much as balanced ones. With it, they count for two thirds. So the
# deviation gives very easy and very hard problems more weight.
#
# ## 3. The bias of the simple formula

# %%
rng = np.random.default_rng(0)
n, k, p = 10, 4, 0.2
right = rng.binomial(n, p, 10_000)
print(f"truth:        {1 - (1 - p) ** k:.4f}")
print(f"our formula:  {np.mean(pass_at_k(np.full(10_000, n), right, k)):.4f}")
print(f"the simple:   {np.mean(1 - (1 - right / n) ** k):.4f}")

# %% [markdown]
# The simple formula is too low by several points. It lets the same attempt be
# chosen twice.
#
# ## 4. When a vote helps

# %%
for shares in ((0.4, 0.3, 0.2, 0.1), (0.3, 0.4, 0.2, 0.1)):
    line = []
    for n in (1, 4, 16, 64):
        answers = rng.choice(4, (1000, n), p=shares)
        votes = [majority_vote(some.tolist()) for some in answers]
        line.append(f"{n}: {np.mean(np.array(votes) == 0):.2f}")
    print(f"right {shares[0]}, commonest wrong {shares[1]} ->", *line)

# %% [markdown]
# A vote tends to the model's commonest answer. Where that is right, the vote
# of 64 is right most of the time, although a single sample is right less than
# half of the time. Where it is wrong, more samples make the *error* more
# likely.
#
# ## 5. A checker that wants steps

# %%
NOTES = PromptTemplate("notes", "", "", "", "")
for require_steps in (False, True):
    model = load_causal_lm(START)
    history = self_train(
        model,
        practice,
        AnswerChecker("answer", require_steps=require_steps),
        held_out,
        rounds=1,
        num_generations=8,
        tune_from="last",
        template=NOTES,
        epochs=3,
        batch_size=16,
        learning_rate=3e-4,
        sequence_length=LENGTH,
        verbose=0,
    )
    for logs in history:
        print(
            f"require_steps={require_steps!s:5} round {logs['round']}: kept "
            f"{logs.get('num_kept', 0):4}, held out {logs['val_greedy']:.1%} "
            f"± {logs['val_greedy_error']:.1%}"
        )

# %% [markdown]
# Without the rule, more than twice as many solutions are kept, and the model
# gets much less far. Most of what is kept are lucky numbers, so it is tuned on
# bare answers again, and only some of the examples show that steps pay. (Each
# model is measured with its own checker, so the second one is measured more
# strictly, and is better all the same.)
