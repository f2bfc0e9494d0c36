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
# # Solutions: sampling strategies
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/solutions/03_sampling_strategies.ipynb)
#
# Solutions to the exercises of [chapter 3](../03_sampling_strategies.ipynb).

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
from keras import ops

from kerasllm import backend
from kerasllm.corpora import local_docs
from kerasllm.evaluation import known_ngrams, repeated_ngrams
from kerasllm.generation import TextGenerator, TokenizedPrompt
from kerasllm.pipeline import pretraining_dataset
from kerasllm.presets import load_causal_lm
from kerasllm.samplers import chain

backend.set_up()
causal_lm = load_causal_lm("mini_gpt_docs")
tokenizer = causal_lm.preprocessor.tokenizer
generator = TextGenerator(causal_lm)
LENGTH, PROMPT_LENGTH, NUM_TEXTS = 64, 8, 32


def read_windows(split, batch_size, num_batches):
    """Return real text, int32 (num_batches * batch_size, LENGTH)."""
    dataset = pretraining_dataset(
        local_docs(),
        tokenizer,
        LENGTH,
        batch_size,
        split=split,
        num_batches=num_batches,
    )
    return np.concatenate([x for x, _ in dataset.as_numpy_iterator()])


real = read_windows("validation", NUM_TEXTS, 1)
train_rows = read_windows("train", 128, 200).tolist()
prompts = [TokenizedPrompt(row[:PROMPT_LENGTH]) for row in real]


def known_runs(n):
    """Return all runs of n tokens of the training text."""
    return {
        run
        for row in train_rows
        for run in zip(*(row[i:] for i in range(n)), strict=False)
    }


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


known = {n: known_runs(n) for n in (2, 3, 5)}

# %% [markdown]
# ## 1. Min-p at high temperatures
#
# In `chain`, min-p comes after the temperature, so it looks at the flatter
# distribution and lets more tokens pass. It cuts off most of the tail
# nevertheless: at each temperature, more of the trigrams are known.

# %%
for temperature in (1.0, 1.5, 2.0):
    shares = [
        np.mean([known_ngrams(text, known[3], 3) for text in texts])
        for texts in (
            continue_all(chain(temperature=temperature)),
            continue_all(chain(temperature=temperature, min_p=0.1)),
        )
    ]
    print(
        f"temperature {temperature}: {shares[0]:.1%} known trigrams, "
        f"{shares[1]:.1%} with min-p 0.1"
    )
    assert shares[1] > shares[0]

# %% [markdown]
# ## 2. Shorter and longer runs
#
# Most pairs of tokens have been written by somebody, so with two tokens the
# strategies look much alike. With five, even real text has many unknown runs.
# Greedy search then compares best, because it repeats frequent phrases.

# %%
texts_of = {
    "greedy": continue_all(chain(temperature=0)),
    "temperature 1": continue_all(chain()),
    "top-k 5": continue_all(chain(top_k=5)),
    "real text": real[:, PROMPT_LENGTH:].tolist(),
}
for name, texts in texts_of.items():
    shares = [
        np.mean([known_ngrams(text, known[n], n) for text in texts])
        for n in (2, 3, 5)
    ]
    print(f"{name:14}" + "".join(f"{share:8.1%}" for share in shares))

# %% [markdown]
# ## 3. Never the last token again
#
# The tokens so far are padded with -1, so the last one is at the largest index
# whose value is not -1.


# %%
def without_repeats(logits, token_ids, seed=None):
    """Sample, but never the token that came last."""
    tokens = ops.convert_to_numpy(token_ids)
    last = tokens[tokens >= 0][-1]
    forbidden = np.zeros(logits.shape, "float32")
    forbidden[last] = -np.inf
    allowed = ops.add(logits, forbidden)
    return keras.random.categorical(allowed[None, :], 1, seed=seed)[0, 0]


prompt = "Returns the number of"
text = generator.generate(
    prompt, LENGTH, sampler=without_repeats, seed=0, return_logprobs=True
)
print(repr(text.text))
ids = text.token_ids
assert all(a != b for a, b in zip(ids, ids[1:], strict=False))

# %% [markdown]
# ## 4. Typical sampling
#
# The *surprise* of a token is minus the logarithm of its probability, and the
# entropy is its mean. Typical sampling keeps the tokens whose surprise is
# closest to this mean, until they reach a cumulative probability. So it may
# leave out the most likely token, which top-p never does.


# %%
def typical_mask(probabilities, mass=0.9):
    """Return which tokens are typical."""
    surprise = -np.log(np.maximum(probabilities, 1e-30))
    entropy = np.sum(probabilities * surprise)
    order = np.argsort(np.abs(surprise - entropy))
    before = np.cumsum(probabilities[order]) - probabilities[order]
    kept = np.zeros(len(probabilities), "bool")
    kept[order[before < mass]] = True
    return kept


def typical(logits, seed=None):
    probabilities = ops.convert_to_numpy(ops.softmax(logits))
    kept = typical_mask(probabilities)
    masked = ops.where(kept, logits, -np.inf)
    return keras.random.categorical(masked[None, :], 1, seed=seed)[0, 0]


example = np.array([0.4, *[0.06] * 10])
print("entropy:", round(float(-np.sum(example * np.log(example))), 2))
print("kept at a mass of 0.4:", typical_mask(example, 0.4))
assert not typical_mask(example, 0.4)[0]
print(repr(generator.generate(prompt, LENGTH, sampler=typical, seed=0)))

# %% [markdown]
# ## 5. How large a penalty?
#
# We raise the frequency penalty of greedy search until it repeats no more than
# real text does.

# %%
of_real_text = np.mean([repeated_ngrams(t) for t in texts_of["real text"]])
print(f"real text: {of_real_text:.1%} of the 4-grams are repeated")
for penalty in (0.0, 0.25, 0.5, 1.0, 2.0):
    texts = continue_all(chain(temperature=0, frequency_penalty=penalty))
    share = np.mean([repeated_ngrams(text) for text in texts])
    print(f"penalty {penalty}: {share:.1%}")
assert share < of_real_text
