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
# # Sampling strategies
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/03_sampling_strategies.ipynb)
#
# A language model never says *which* token comes next; it says how likely
# each of them is. Something else has to choose, and that choice shapes the
# text as much as the model does. We look at one distribution closely, put
# the well-known strategies side by side on it, go a few steps beyond the
# book, and then measure what they trade: less repetition for less sense.
#
# The model is the mini-GPT of the pretraining chapter, loaded from the cache
# or, where it is missing, trained in a few minutes.

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

import functools
import textwrap

import keras
import numpy as np
from keras import ops

from kerasllm import backend, plots
from kerasllm.corpora import local_docs, mini_c4
from kerasllm.evaluation import known_ngrams, repeated_ngrams
from kerasllm.generation import compiled_generate
from kerasllm.pipeline import pretraining_dataset
from kerasllm.pretraining import pretrain_mini_gpt
from kerasllm.recipes import get_recipe
from kerasllm.samplers import (
    chain,
    greedy_search,
    min_p,
    min_p_filter,
    random_sample,
    top_k,
    top_p,
    top_p_filter,
)

backend.set_up()  # for speed: how this process uses memory and GPUs

# %% [markdown]
# One name chooses the scale. `"book"` is the chapter's run, which takes about
# six hours on a T4 GPU and an hour and a half on an A100 (some 200,000 tokens a
# second).

# %%
SCALE = "laptop"  # or "book"

recipe = get_recipe(SCALE)
shards = local_docs() if SCALE == "laptop" else mini_c4()
trained = pretrain_mini_gpt(recipe, shards, seed=0, verbose=2)
model, tokenizer = trained.model, trained.tokenizer
print(f"{model.count_params():,} parameters on {keras.backend.backend()}")

# %% [markdown]
# ## One distribution
#
# Here is what the model says after a prompt: a row of logits, one for each
# token of the vocabulary. The softmax turns them into probabilities.

# %%
PROMPT = "Returns True if"

token_ids = ops.convert_to_numpy(tokenizer(PROMPT))[None]
logits = ops.convert_to_numpy(model(token_ids))[0, -1]
probabilities = ops.convert_to_numpy(ops.softmax(logits))
pieces = [tokenizer.id_to_token(i) for i in range(len(logits))]

for i in np.argsort(-probabilities)[:8]:
    print(f"{probabilities[i]:6.1%}  {pieces[i]!r}")
unlikely = probabilities < 0.001
print(
    f"\n{unlikely.sum():,} of {len(logits):,} tokens have less than 0.1% each,"
    f"\ntogether {probabilities[unlikely].sum():.0%}."
)

# %% [markdown]
# (In SentencePiece vocabularies `▁` stands for a space.) Keep that long tail
# in mind. Each of its tokens is a bad guess, but together they are not rare.
#
# ## A strategy is a function of logits
#
# A **sampler** takes logits and returns a token id. That is the whole
# contract, so a sampler can be tried on the row above, without any loop.
# Greedy search takes the largest; `random_sample` draws each token as often
# as the model says.


# %%
def draw(sampler, times=12):
    """Show what a sampler takes from the distribution above."""
    seed = keras.random.SeedGenerator(0)
    ids = [int(sampler(logits, seed=seed)) for _ in range(times)]
    return textwrap.fill(" ".join(pieces[i] for i in ids), 78)


print("greedy_search:", draw(greedy_search, 5))
print("random_sample:", draw(random_sample))

# %% [markdown]
# The same function plugs into the generating loop as `sample_fn`. An int
# `seed` makes a text that comes out the same each time, on the same backend.


# %%
def write(sample_fn, seed=0, prompt=PROMPT, max_length=64):
    """Print a continuation in quotes, so that line breaks can be seen."""
    text = compiled_generate(
        model, tokenizer, prompt, sample_fn, max_length, seed=seed
    )
    print(textwrap.fill(repr(text), 78), "\n")


write(greedy_search)
write(random_sample)

# %% [markdown]
# Greedy search soon runs in a circle. Random sampling does not
# get stuck, but it wanders off: at every step there is a fair chance to pick
# something from the long tail, and every such pick becomes part of the prompt
# for all that follows.
#
# ## Temperature
#
# Between the two lies a dial. Divide the logits by a **temperature** before
# the softmax: below 1 the gaps between logits grow and the likely tokens gain,
# above 1 the gaps shrink and the tail gains. At 0 it is greedy search; at
# infinity all tokens would be alike.
#
# The *effective number of tokens*, the exponential of the entropy, says
# between how many equally likely tokens a draw amounts to choosing.

# %%
print("temperature   best token   effective number of tokens")
for temperature in (0.2, 0.5, 0.8, 1.0, 1.5, 2.0):
    p = ops.convert_to_numpy(ops.softmax(logits / temperature))
    entropy = -np.sum(p * np.log(np.maximum(p, 1e-30)))
    print(f"{temperature:11} {p.max():12.1%} {np.exp(entropy):14,.1f}")

# %% [markdown]
# `functools.partial` binds the number, and what comes out is again a plain
# function of logits:

# %%
for temperature in (0.2, 0.8, 2.0):
    print(f"temperature {temperature}:")
    write(functools.partial(random_sample, temperature=temperature))

# %% [markdown]
# Cold, the text is close to greedy search. Hot, it is hardly text.
#
# ## Top-k
#
# A temperature never forbids anything. **Top-k** does: only the `k` likeliest
# tokens may be drawn, all others get probability zero. That cuts off the tail
# and leaves some choice among the good candidates.

# %%
print("top_k, k=5:   ", draw(functools.partial(top_k, k=5)))
print()
for k in (5, 20):
    print(f"k = {k}:")
    write(functools.partial(top_k, k=k))
print("k = 5, temperature 0.5:")
write(functools.partial(top_k, k=5, temperature=0.5))

# %% [markdown]
# ## All strategies on one distribution
#
# The upper row shows the three strategies of the book on the very same row of
# logits: greedy search leaves one token, random sampling leaves them all, and
# top-k lies between. The lower row holds temperature and two more, which come
# next. Outlines are the model's probabilities, filled bars those with which
# the strategy draws.

# %%
axes = plots.plot_sampling_strategies(logits, pieces)

# %% [markdown]
# ## How many candidates? Top-p and min-p
#
# A fixed `k` is a guess. Sometimes the model is sure and five candidates are
# four too many; sometimes hundreds of tokens would do and five are too few.
# Two strategies let the model's own certainty decide:
#
# - **top-p** (or *nucleus* sampling) keeps the fewest tokens whose
#   probabilities together reach `p`;
# - **min-p** keeps every token that is at least `p` times as likely as the
#   best one.
#
# To see them adapt we take a text and look at all its positions. Where is
# the model surest about the next token, and where least?

# %%
text = (
    "Returns a new array of the given shape and type, filled with zeros.\n\n"
    "Args:\n  shape: A tuple of integers.\n  dtype: The data type."
)
text_ids = ops.convert_to_numpy(tokenizer(text))
rows = ops.convert_to_numpy(model(text_ids[None]))[0]
certainty = ops.convert_to_numpy(ops.softmax(rows)).max(axis=-1)


def count_kept(filtered):
    return int(np.isfinite(ops.convert_to_numpy(filtered)).sum())


print("after                          best   k=5  top-p 0.9  min-p 0.1")
order = np.argsort(certainty)
for i in (*order[:3], *order[-3:]):
    context = tokenizer.detokenize([int(j) for j in text_ids[: i + 1]])
    print(
        f"{'…' + repr(context[-24:])[1:-1]:28.28} {certainty[i]:6.1%}     5"
        f" {count_kept(top_p_filter(rows[i], 0.9)):10}"
        f" {count_kept(min_p_filter(rows[i], 0.1)):10}"
    )

# %% [markdown]
# In the lower lines, where the model is sure, top-p and min-p keep next to
# nothing but the obvious token, while top-k still admits five. In the upper
# lines they open up, top-p widely, min-p more carefully.

# %%
print("top-p 0.9:")
write(functools.partial(top_p, p=0.9))
print("min-p 0.1:")
write(functools.partial(min_p, p=0.1))

# %% [markdown]
# ## Penalties, and several steps in one
#
# Repetition can also be fought head on. A **presence penalty** lowers the
# logit of every token that the text already has; a **frequency penalty**
# lowers it once for each time that it occurred. Both need to know the tokens
# so far, and a sampler that has a parameter `token_ids` is given them.
#
# `chain` strings the steps together, always in the same order: penalties,
# temperature, top-k, top-p, min-p.

# %%
print("greedy, with a penalty:")
write(chain(temperature=0, frequency_penalty=1.0))
print("top-k 20, temperature 0.8, with penalties:")
write(
    chain(
        temperature=0.8,
        top_k=20,
        frequency_penalty=0.3,
        presence_penalty=0.3,
    )
)

# %% [markdown]
# The first one draws no random number at all and yet leaves the circle: each
# time round, the tokens in it become less attractive.
#
# ## A sampler of your own
#
# Because a sampler is only a function, a new idea takes three lines. In 1969
# Georges Perec published a novel without the letter e. For us that is a row
# of numbers to add to the logits: zero where a token may stay, minus infinity
# where it may not. A logit of minus infinity has the probability zero, and
# whatever comes after it, temperature or top-k, leaves it there.

# %%
FORBIDDEN = np.array(
    [-np.inf if "e" in piece.lower() else 0 for piece in pieces], "float32"
)


def without_e(logits, seed=None):
    allowed = ops.add(logits, FORBIDDEN)
    return top_k(allowed, k=20, temperature=0.8, seed=seed)


write(without_e, prompt="If a")

# %% [markdown]
# Its parameter `seed` is optional, but with it a text can be had again.
#
# ## What the dials trade
#
# Now we measure. *Repetition* is the share of 4-grams (runs of four tokens)
# that have stood in the same text before. *Sense* is harder; a crude but
# honest stand-in is the share of runs of three tokens that people have
# written, too, somewhere in the training text. Nonsense puts tokens next to
# each other that nobody has.
#
# The prompts are the first eight tokens of real text that training never saw,
# so the real continuations can be measured in the same way.

# %%
LENGTH, PROMPT_LENGTH, NUM_TEXTS = 64, 8, 32


def read_windows(split, batch_size, num_batches):
    """Return real text, int32 (num_batches * batch_size, LENGTH)."""
    dataset = pretraining_dataset(
        shards,
        tokenizer,
        LENGTH,
        batch_size,
        split=split,
        validation_fraction=recipe.validation_fraction,
        num_batches=num_batches,
    )
    return np.concatenate([x for x, _ in dataset.as_numpy_iterator()])


real = read_windows("validation", NUM_TEXTS, 1)
known = set()
for row in read_windows("train", 128, 200).tolist():
    known.update(zip(row, row[1:], row[2:], strict=False))
print(f"{len(known):,} different runs of three tokens")


def measure(rows):
    """Return mean repetition and sense of what follows the prompts."""
    texts = rows[:, PROMPT_LENGTH:].tolist()
    return (
        np.mean([repeated_ngrams(text, n=4) for text in texts]),
        np.mean([known_ngrams(text, known, n=3) for text in texts]),
    )


# %% [markdown]
# Samplers take a batch of rows as well as a single one. So all texts can be
# written at once, with the padded loop of the last chapter:


# %%
def write_many(sampler):
    """Continue all prompts, and return the tokens (NUM_TEXTS, LENGTH)."""
    seed = keras.random.SeedGenerator(0)
    tokens = np.zeros_like(real)
    tokens[:, :PROMPT_LENGTH] = real[:, :PROMPT_LENGTH]
    for i in range(PROMPT_LENGTH, LENGTH):
        logits = model.predict_on_batch(tokens)[:, i - 1]
        so_far = np.where(np.arange(LENGTH) < i, tokens, -1)
        chosen = sampler(logits, token_ids=so_far, seed=seed)
        tokens[:, i] = ops.convert_to_numpy(chosen)
    return tokens


TEMPERATURES = (0.2, 0.5, 0.8, 1.0, 1.5, 2.0)
KS = (2, 5, 20, 100)
strategies = {
    "greedy": chain(temperature=0),
    **{f"temperature {t}": chain(temperature=t) for t in TEMPERATURES},
    **{f"top-k {k}": chain(top_k=k) for k in KS},
    "top-p 0.9": chain(top_p=0.9),
    "min-p 0.1": chain(min_p=0.1),
    "greedy, penalty 1": chain(temperature=0, frequency_penalty=1.0),
}
results = {name: measure(write_many(f)) for name, f in strategies.items()}
results["real text"] = measure(real)

print("strategy            repetition   sense")
for name, (repetition, sense) in results.items():
    print(f"{name:18} {repetition:11.1%} {sense:7.1%}")


# %%
def curve(names):
    """Return sense as x and repetition as y."""
    return tuple(zip(*(results[name][::-1] for name in names), strict=True))


by_temperature = ["greedy", *(f"temperature {t}" for t in TEMPERATURES)]
by_k = ["greedy", *(f"top-k {k}" for k in KS), "temperature 1.0"]
ax = plots.plot_curves(
    {
        "temperature, from 0 to 2": curve(by_temperature),
        "top-k, from 1 to all tokens": curve(by_k),
        "real text": curve(["real text"]),
    },
    "sense: known runs of three tokens (share)",
    "repetition: repeated 4-grams (share)",
)
for name in ("greedy", "temperature 2.0", "temperature 1.0", "real text"):
    ax.annotate(
        name,
        results[name][::-1],
        xytext=(4, 6),
        textcoords="offset points",
        fontsize=8,
    )

# %% [markdown]
# Follow either curve from greedy search, at the top. Repetition falls, fast
# at first. Where hardly any is left, the rest of the way is paid for in sense:
# temperature 2 ends in the lower left corner. Top-k ends earlier, at the
# model's own distribution (temperature 1, all tokens).
#
# On this small model a little chance even *helps* the sense at first. A loop
# leads greedy search into places where no text has ever been, and there the
# model has nothing sensible to say.
#
# Real text stands apart from both curves: it hardly repeats itself *and* makes
# sense. Which strategy comes closest to it?

# %%
distances = {
    name: np.hypot(*np.subtract(result, results["real text"]))
    for name, result in results.items()
    if name != "real text"
}
for name in sorted(distances, key=distances.get)[:3]:
    print(f"{name:18} {distances[name]:.2f} away from real text")

# %% [markdown]
# None of them arrives. A sampler chooses among what the model offers; to be
# offered something better takes a better model.
#
# ## What we have seen
#
# - A sampler is a function from logits to a token id; `functools.partial`
#   binds its numbers, `chain` joins several steps.
# - Temperature reshapes the distribution and forbids nothing; top-k, top-p
#   and min-p forbid the tail; top-p and min-p follow the model's certainty.
# - Penalties end a repetition without any randomness.
# - The table measures the trade: the more a strategy explores, the less it
#   repeats itself, and beyond a point the less sense it makes.
#
# ## Try it
#
# 1. Add `chain(temperature=t, min_p=0.1)` for several temperatures to the
#    figure. Does min-p make high temperatures usable?
# 2. Sense as measured here is easily fooled. Which text scores 100% on it and
#    says nothing? Try runs of two and of five tokens instead of three.
# 3. Write a sampler that never repeats the last token. It needs a parameter
#    `token_ids`: the tokens so far, filled up with -1.
#
# *Mirrors section 16.2.4, "Sampling strategies", of Chollet & Watson, Deep
# Learning with Python, third edition, chapter 16; top-p, min-p and penalties
# go beyond it (Holtzman et al., 2020, arXiv:1904.09751; Nguyen et al., 2024,
# arXiv:2407.01082).*
