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
# A language model never says *which* token comes next. It says how likely each
# of them is. Something else has to choose, and that choice shapes the text as
# much as the model does. In this chapter we look closely at one distribution,
# compare the well-known strategies on it, and then measure what they trade.
#
# This chapter mirrors section 16.2.4 of Chollet and Watson, *Deep Learning with
# Python*, third edition. Top-p, min-p and penalties go beyond it.
#
# ## What you will see
#
# - Greedy search, random sampling and top-k on the same distribution, and the
#   code of each.
# - What a temperature does, in numbers.
# - Top-p and min-p, which admit few tokens where the model is certain and many
#   where it is not.
# - Penalties, which end a repetition without any chance.
# - A table of fourteen strategies: how much each repeats itself, and how often
#   it puts tokens together that nobody else has.

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

import kerasllm
from kerasllm import backend, plots
from kerasllm.corpora import local_docs, mini_c4
from kerasllm.evaluation import known_ngrams, repeated_ngrams
from kerasllm.generation import TextGenerator, TokenizedPrompt
from kerasllm.logit_filters import (
    apply_penalties,
    min_p_filter,
    top_k_filter,
    top_p_filter,
)
from kerasllm.pipeline import pretraining_dataset
from kerasllm.presets import load_causal_lm
from kerasllm.pretraining import pretrain_mini_gpt
from kerasllm.samplers import chain, greedy_search, min_p, random_sample, top_p

backend.set_up()  # for speed: how this process uses memory and GPUs

# %% [markdown]
# The model is the one of the [last chapter](02_generative_decoding.ipynb), the
# [preset](../docs/api/asking.rst) `mini_gpt_docs`. With
# `SCALE = "book"` it is the book's model, which takes an hour and a half to
# train on an A100 GPU.

# %%
SCALE = "laptop"  # or "book"

if SCALE == "laptop":
    shards = local_docs()
    causal_lm = load_causal_lm("mini_gpt_docs")
else:
    shards = mini_c4()
    causal_lm = pretrain_mini_gpt("book", shards, seed=0).causal_lm()
model = causal_lm.to_mini_gpt()
tokenizer = causal_lm.preprocessor.tokenizer
generator = TextGenerator(causal_lm)
print(f"{model.count_params():,} parameters on {keras.backend.backend()}")

# %% [markdown]
# ## One distribution
#
# We begin where the last chapter began, with the prompt "Returns the number
# of". The softmax turns the logits at its last position into probabilities.

# %%
PROMPT = "Returns the number of"

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
# (In SentencePiece vocabularies `▁` stands for a space.) The first five lines
# are those of the last chapter, since it is the same model. The generator with
# the cache agrees, too:

# %%
one_token = generator.generate(
    PROMPT, token_ids.shape[1] + 1, stop_token_ids=None, return_logprobs=True
)
np.testing.assert_allclose(
    np.exp(one_token.logprobs[0]), probabilities.max(), rtol=1e-3
)

# %% [markdown]
# Keep the long tail in mind. Each of its tokens is a bad guess, but together
# they are not rare.
#
# ## A strategy is a function of logits
#
# A **sampler** takes logits and returns a token id. That is all that is asked
# of it, so we can try a sampler on these logits, without any loop. Greedy
# search takes the largest. `random_sample` draws each token as often as the
# model says. (Both are written out in the last chapter.)


# %%
def draw(sampler, times=12):
    """Show what a sampler takes from the distribution above."""
    seed = keras.random.SeedGenerator(0)
    ids = [int(sampler(logits, seed=seed)) for _ in range(times)]
    return textwrap.fill(" ".join(pieces[i] for i in ids), 78)


print("greedy_search:", draw(greedy_search, 5))
print("random_sample:", draw(random_sample))

# %% [markdown]
# The same function plugs into the generating loop. An int `seed` makes a text
# that comes out the same each time, on the same backend.


# %%
def write(sampler, prompt=PROMPT, max_length=64, stop_token_ids="auto"):
    """Print and return a continuation, in quotes to show line breaks."""
    text = generator.generate(
        prompt, max_length, stop_token_ids, seed=0, sampler=sampler
    )
    print(textwrap.fill(repr(text), 78), "\n")
    return text


print("greedy_search:")
greedy_text = write(greedy_search)
print("random_sample:")
random_text = write(random_sample)

# %% [markdown]
# Random sampling does not go round in circles, but it wanders off. At each step
# there is a fair chance of something from the long tail, and each such token
# becomes part of the context for all that follow.
#
# ## Temperature
#
# Between the two lies a dial. Divide the logits by a **temperature** before the
# softmax. Below 1, the gaps between logits grow, and the likely tokens gain.
# Above 1, the gaps shrink, and the tail gains. A temperature of 0 stands for
# greedy search, and at an infinite one all tokens would be alike.
#
# How many tokens does a draw choose from? The *effective number of tokens*, the
# exponential of the entropy, says to how many equally likely tokens the
# distribution is equivalent.

# %%
print("temperature   best token   effective number of tokens")
for temperature in (0.2, 0.5, 0.8, 1.0, 1.5, 2.0):
    p = ops.convert_to_numpy(ops.softmax(logits / temperature))
    entropy = -np.sum(p * np.log(np.maximum(p, 1e-30)))
    print(f"{temperature:11} {p.max():12.1%} {np.exp(entropy):14,.1f}")

# %% [markdown]
# `functools.partial` binds the temperature, and the result is again a plain
# function of logits:

# %%
for temperature in (0.2, 0.8, 2.0):
    print(f"temperature {temperature}:")
    write(functools.partial(random_sample, temperature=temperature))

# %% [markdown]
# At 2 it is hardly text any more. How close is the coldest text to greedy
# search? A single text cannot tell: after one other token, the contexts differ.
# So we ask at every position of some held-out text how likely a draw is to take
# the token that greedy search would take.

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
        num_batches=num_batches,
    )
    return np.concatenate([x for x, _ in dataset.as_numpy_iterator()])


real = read_windows("validation", NUM_TEXTS, 1)
all_logits = ops.convert_to_numpy(model.predict_on_batch(real))
agreement = {
    temperature: float(
        np.mean(
            ops.convert_to_numpy(ops.softmax(all_logits / temperature)).max(-1)
        )
    )
    for temperature in (0.2, 0.5, 1.0, 2.0)
}
for temperature, share in agreement.items():
    print(f"temperature {temperature}: greedy token in {share:.0%} of draws")
assert agreement[0.2] > agreement[1.0] > agreement[2.0]

# %% [markdown]
# (Mean probability of the greedy token at 2,048 positions.) Even a cold draw
# leaves the path of greedy search sooner or later, because a text has many
# positions.
#
# ## Top-k
#
# A temperature forbids nothing. **Top-k** does: only the `k` most likely tokens
# may be drawn (Fan et al., [2018](https://arxiv.org/abs/1805.04833)). This cuts
# off the tail and leaves some choice among the good candidates.


# %%
def top_k(preds, k=5, temperature=1.0):
    """Draw from the `k` most likely tokens."""
    values, indices = ops.top_k(preds / temperature, k=k)
    chosen = keras.random.categorical(values[None, :], num_samples=1)[0, 0]
    return indices[chosen]


# %% [markdown]
# The package reaches the same distribution in another way. Its
# [`top_k_filter`](../docs/api/decoding.rst) sets all other logits to minus
# infinity, whose probability is zero. So several filters can be combined. The
# candidates and their probabilities must be the same, and each draw must be one
# of them:

# %%
values, indices = ops.top_k(ops.convert_to_tensor(logits), k=5)
filtered = ops.convert_to_numpy(ops.softmax(top_k_filter(logits, 5)))
np.testing.assert_allclose(
    ops.convert_to_numpy(ops.softmax(values)),
    filtered[ops.convert_to_numpy(indices)],
    rtol=1e-4,
)
allowed = set(np.flatnonzero(filtered))
assert len(allowed) == 5
assert {int(top_k(logits)) for _ in range(20)} <= allowed
assert {int(kerasllm.top_k(logits)) for _ in range(20)} <= allowed

print("top_k, k=5:   ", draw(kerasllm.top_k))
print()
for k in (5, 20):
    print(f"k = {k}:")
    write(functools.partial(kerasllm.top_k, k=k))
print("k = 5, temperature 0.5:")
_ = write(functools.partial(kerasllm.top_k, k=5, temperature=0.5))

# %% [markdown]
# ## All strategies on one distribution
#
# Figure 3.1 compares the strategies of the book, in the upper row, and three
# more, of which two come next.

# %%
axes = plots.plot_sampling_strategies(logits, pieces)

# %% [markdown]
# *Figure 3.1. One distribution under six strategies. Outlines are the
# probabilities of the model, filled bars those with which the strategy draws,
# and a cross marks what is never drawn. Greedy search leaves one token, random
# sampling leaves all, and top-k lies between. The hatched bar is the tail.*
#
# ## How many candidates? Top-p and min-p
#
# A fixed `k` is a guess. Where the model is certain, five candidates are four
# too many. Where hundreds of tokens would do, five are too few. Two strategies
# adapt to the certainty of the model:
#
# - **top-p**, or *nucleus* sampling, keeps the fewest tokens whose cumulative
#   probability reaches `p` (Holtzman et al.,
#   [2020](https://arxiv.org/abs/1904.09751));
# - **min-p** keeps every token that is at least `p` times as likely as the most
#   likely one (Nguyen et al., [2024](https://arxiv.org/abs/2407.01082)).
#
# As masks of the tokens that they keep, both are short:


# %%
def top_p_mask(probabilities, p):
    """Return which tokens the nucleus holds."""
    order = np.argsort(-probabilities)
    before = np.cumsum(probabilities[order]) - probabilities[order]
    kept = np.zeros(len(probabilities), "bool")
    kept[order[before < p]] = True  # until those before it reach p
    return kept


def min_p_mask(probabilities, p):
    """Return which tokens are likely enough."""
    return probabilities >= p * probabilities.max()


# %%
def kept_by(filtered):
    """Return which tokens a filter of the package keeps."""
    return np.isfinite(ops.convert_to_numpy(filtered))


for p in (0.3, 0.6, 0.9):
    np.testing.assert_array_equal(
        top_p_mask(probabilities, p), kept_by(top_p_filter(logits, p))
    )
    np.testing.assert_array_equal(
        min_p_mask(probabilities, p), kept_by(min_p_filter(logits, p))
    )
print("Both filters of the package keep the same tokens.")

# %% [markdown]
# To see them adapt, we take a text and look at all its positions. Where is the
# model most certain about the next token, and where least?

# %%
text = (
    "Returns a new array of the given shape and type, filled with zeros.\n\n"
    "Args:\n  shape: A tuple of integers.\n  dtype: The data type."
)
text_ids = ops.convert_to_numpy(tokenizer(text))
rows = ops.convert_to_numpy(model(text_ids[None]))[0]
certainty = ops.convert_to_numpy(ops.softmax(rows)).max(axis=-1)

print("after                          best   k=5  top-p 0.9  min-p 0.1")
order = np.argsort(certainty)
counts = []
for i in (*order[:3], *order[-3:]):
    context = tokenizer.detokenize([int(j) for j in text_ids[: i + 1]])
    kept = [
        kept_by(f(rows[i], p)).sum()
        for f, p in ((top_p_filter, 0.9), (min_p_filter, 0.1))
    ]
    counts.append(kept)
    print(
        f"{'…' + repr(context[-24:])[1:-1]:28.28} {certainty[i]:6.1%}     5"
        f" {kept[0]:10} {kept[1]:10}"
    )
assert np.max(counts[3:]) < 5 < np.min(counts[:3])
assert all(by_top_p > by_min_p for by_top_p, by_min_p in counts[:3])

# %% [markdown]
# In the last three lines, where the model is certain, top-p and min-p keep
# fewer than five tokens. In the first three they keep many more, top-p most of
# all.

# %%
print("top-p 0.9:")
write(functools.partial(top_p, p=0.9))
print("min-p 0.1:")
_ = write(functools.partial(min_p, p=0.1))

# %% [markdown]
# ## Penalties, and several steps in one
#
# Repetition can also be reduced directly. A **presence penalty** lowers the
# logit of every token that the text already has. A **frequency penalty** lowers
# it once for each time that the token has occurred.


# %%
def penalized(logits, token_ids, frequency=0.0, presence=0.0):
    """Lower the logits of tokens that a text already has."""
    counts = np.bincount(token_ids, minlength=len(logits))
    return logits - frequency * counts - presence * (counts > 0)


# %%
np.testing.assert_allclose(
    penalized(logits, text_ids, 0.5, 0.3),
    ops.convert_to_numpy(apply_penalties(logits, text_ids, 0.5, 0.3)),
    atol=1e-4,
)

# %% [markdown]
# A sampler that has a parameter `token_ids` is given the tokens so far. The
# package's [`chain`](../docs/api/decoding.rst) strings all steps together, in a
# fixed order: penalties, temperature, top-k, top-p, min-p. We let greedy search
# write a longer text, without a penalty and with one.

# %%
print("greedy:")
longer = {"max_length": 128, "stop_token_ids": None}
without_penalty = write(greedy_search, **longer)
print("greedy, with a penalty:")
with_penalty = write(chain(temperature=0, frequency_penalty=1.0), **longer)
shares = [
    repeated_ngrams([int(i) for i in tokenizer(text)])
    for text in (without_penalty, with_penalty)
]
print(f"repeated 4-grams: {shares[0]:.1%} without, {shares[1]:.1%} with it")
assert with_penalty != without_penalty and shares[1] < shares[0]

# %% [markdown]
# No random number was drawn, and yet the second text repeats less: each time
# that a token occurs, it becomes less attractive.
#
# ## A sampler of your own
#
# Because a sampler is only a function, a new idea takes three lines. In 1969
# Georges Perec published *La Disparition*, a novel without the letter e. For us
# that is a vector to add to the logits: zero where a token may stay, and minus
# infinity where it may not. Whatever comes after it, temperature or top-k,
# leaves such a token with probability zero.

# %%
FORBIDDEN = np.array(
    [-np.inf if "e" in piece.lower() else 0 for piece in pieces], "float32"
)


def without_e(logits, seed=None):
    allowed = top_k_filter(ops.add(logits, FORBIDDEN), 20)
    return keras.random.categorical(allowed[None, :] / 0.8, 1, seed=seed)[0, 0]


lipogram = write(without_e, prompt="If a")
assert "e" not in lipogram.lower()

# %% [markdown]
# With the optional parameter `seed`, a text can be repeated.
#
# ## What the dials trade
#
# Now we measure. *Repetition* is the share of 4-grams (runs of four tokens)
# that have occurred earlier in the same text. The opposite fault is nonsense.
# It puts tokens next to each other that nobody has. So we count *known
# trigrams*: the share of runs of three tokens that occur somewhere in the
# training text.
#
# The prompts are the first eight tokens of held-out text, so that we can
# measure what people wrote after them in the same way. Figure 3.2 draws the
# results.

# %%
known = set()
for row in read_windows("train", 128, 200).tolist():
    known.update(zip(row, row[1:], row[2:], strict=False))
print(f"{len(known):,} different runs of three tokens")

prompts = [TokenizedPrompt(row[:PROMPT_LENGTH]) for row in real]


def continue_all(sampler):
    """Continue all prompts; return the new tokens of each."""
    generations = generator.generate(
        prompts,
        LENGTH,
        stop_token_ids=None,
        seed=0,
        return_logprobs=True,
        sampler=sampler,
    )
    return [list(generation.token_ids) for generation in generations]


def measure(texts):
    """Return the repetition and the known trigrams of each text."""
    return np.array(
        [
            (repeated_ngrams(text, n=4), known_ngrams(text, known, n=3))
            for text in texts
        ]
    )


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
measured = {name: measure(continue_all(f)) for name, f in strategies.items()}
measured["real text"] = measure(real[:, PROMPT_LENGTH:].tolist())
results = {name: values.mean(axis=0) for name, values in measured.items()}

print(f"{NUM_TEXTS} texts each; ± is a 95% interval of the mean")
print("strategy             repetition      known trigrams")
for name, values in measured.items():
    means = results[name]
    spread = 1.96 * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    print(
        f"{name:18} {means[0]:8.1%} ± {spread[0]:5.1%} {means[1]:8.1%} ± "
        f"{spread[1]:5.1%}"
    )


# %%
def curve(names):
    """Return known trigrams as x and repetition as y."""
    return tuple(zip(*(results[name][::-1] for name in names), strict=True))


by_temperature = ["greedy", *(f"temperature {t}" for t in TEMPERATURES)]
by_k = ["greedy", *(f"top-k {k}" for k in KS), "temperature 1.0"]
ax = plots.plot_curves(
    {
        "temperature, from 0 to 2": curve(by_temperature),
        "top-k, from 1 to all tokens": curve(by_k),
        "real text": curve(["real text"]),
    },
    "known runs of three tokens (share)",
    "repetition: repeated 4-grams (share)",
)
for name in ("greedy", "temperature 2.0", "temperature 1.0", "real text"):
    ax.annotate(
        name,
        results[name][::-1],
        xytext=(4, -12) if name == "temperature 1.0" else (4, 6),
        textcoords="offset points",
        fontsize=8,
    )

repetition = {name: result[0] for name, result in results.items()}
known_share = {name: result[1] for name, result in results.items()}
assert repetition["greedy"] > repetition["temperature 0.8"]
assert repetition["greedy"] > 2 * repetition["real text"]
assert known_share["temperature 0.5"] > known_share["temperature 1.0"]
assert known_share["temperature 1.0"] > known_share["temperature 2.0"]
assert repetition["greedy, penalty 1"] < repetition["greedy"]

# %% [markdown]
# *Figure 3.2. What the strategies trade. Follow either curve from greedy search
# at the top. Repetition falls, fast at first. Where hardly any is left, the
# rest of the way is paid for with trigrams that nobody has written. Top-k ends
# at the model's own distribution (temperature 1, all tokens).*
#
# Be careful with such numbers. Each of the two measures is easily fooled. A
# program that copies a window of the training text has no unknown trigrams at
# all and repeats as little as people do:

# %%
windows = read_windows("train", NUM_TEXTS, 1)[:, PROMPT_LENGTH:]
copied = measure(windows.tolist())
repeated, known_in_copies = copied.mean(axis=0)
print(f"copied text: {known_in_copies:.1%} known trigrams,", end=" ")
print(f"{repeated:.1%} repeated 4-grams")
assert copied[:, 1].min() == 1

# %% [markdown]
# So the measures find faults, and do not prove quality. A strategy that lies
# near real text in Figure 3.2 need not write well. To judge that, read the
# texts.
#
# What should you use, then? Where there is one right answer, use greedy search.
# For everything else, a common choice is a temperature somewhat below 1,
# together with top-k, top-p or min-p. A sampler can only choose among what the
# model offers. For something better, you need a better model.
#
# ## What we have seen
#
# - A sampler is a function from logits to a token id. `functools.partial` binds
#   its numbers, and `chain` joins several steps.
# - A temperature reshapes the distribution and forbids nothing. Top-k, top-p
#   and min-p forbid the tail, and top-p and min-p follow the certainty of the
#   model: at its three most certain positions they kept fewer than five tokens.
# - A penalty reduces repetition without any chance.
# - The table measures the trade. Greedy search repeats more than twice as much
#   as people do. Random sampling repeats little, and from temperature 1 to 2
#   its known trigrams fall.
# - Copied text passes both measures, so they must not be confused with quality.
#
# ## Try it
#
# 1. Add `chain(temperature=t, min_p=0.1)` for several temperatures to
#    Figure 3.2. Does min-p make high temperatures usable?
# 2. Measure known runs of two and of five tokens instead of three. Which
#    strategies look better then, and why?
# 3. Write a sampler that never repeats the last token. It needs a parameter
#    `token_ids`: the tokens so far, padded with -1.
# 4. Write *typical sampling* as a mask: keep the tokens whose surprise is
#    closest to the entropy (Meister et al.,
#    [2023](https://arxiv.org/abs/2202.00666)).
# 5. How large must a frequency penalty be, so that greedy search repeats as
#    little as real text does?
#
# [Solutions](solutions/03_sampling_strategies.ipynb)

# %% [markdown]
# ## Quiz
#
# <details><summary>1. What does a temperature of 0.5 do to the gap between two
# logits?</summary>
#
# It doubles it. The ratio of the two probabilities is squared.
#
# </details>
# <details><summary>2. Does a temperature change which token is the most
# likely?</summary>
#
# No. Dividing by a positive number keeps the order.
#
# </details>
# <details><summary>3. What is top-k with k = 1?</summary>
#
# Greedy search.
#
# </details>
# <details><summary>4. Why can the tail be a problem if each of its tokens is
# unlikely?</summary>
#
# There are thousands of them. Together they are drawn every few tokens, and
# each draw changes the context of all that follow.
#
# </details>
# <details><summary>5. How many tokens does top-p keep if one token has a
# probability of 95% and p is 0.9?</summary>
#
# One.
#
# </details>
# <details><summary>6. With min-p 0.1, the best token has a probability of 40%.
# Which tokens stay?</summary>
#
# Those with at least 4%.
#
# </details>
# <details><summary>7. How do a presence and a frequency penalty
# differ?</summary>
#
# A presence penalty counts a token once, a frequency penalty each time that it
# has occurred.
#
# </details>
# <details><summary>8. Why is a forbidden token given a logit of minus
# infinity?</summary>
#
# Its probability is zero, and no later temperature or filter changes that.
#
# </details>
# <details><summary>9. Why does it matter whether top-p comes before or after
# the temperature?</summary>
#
# The temperature changes the probabilities, and thus how many tokens it takes
# to reach p. In `chain`, top-p comes after it.
#
# </details>
# <details><summary>10. A text has no unknown trigrams and repeats nothing. Is
# it good?</summary>
#
# Not necessarily. It may be copied, or be a chain of common phrases without
# meaning.
#
# </details>

# %% [markdown]
# ## Further reading
#
# - A. Fan, M. Lewis and Y. Dauphin, 2018, [*Hierarchical Neural Story
#   Generation*](https://arxiv.org/abs/1805.04833): top-k.
# - A. Holtzman et al., 2020, [*The Curious Case of Neural Text
#   Degeneration*](https://arxiv.org/abs/1904.09751): top-p.
# - M. Nguyen et al., 2024, [*Turning Up the Heat: Min-p
#   Sampling*](https://arxiv.org/abs/2407.01082): min-p.
# - C. Meister et al., 2023, [*Locally Typical
#   Sampling*](https://arxiv.org/abs/2202.00666).
# - N. S. Keskar et al., 2019,
#   [*CTRL*](https://arxiv.org/abs/1909.05858): a penalty for repetition.
# - KerasHub's [samplers](https://keras.io/keras_hub/api/samplers/).
