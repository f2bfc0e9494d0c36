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
# # Solutions: generative decoding
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/solutions/02_generative_decoding.ipynb)
#
# Solutions to the exercises of [chapter 2](../02_generative_decoding.ipynb).

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
from keras import ops

from kerasllm import backend
from kerasllm.corpora import local_docs
from kerasllm.evaluation import repeated_ngrams
from kerasllm.generation import TextGenerator, TokenizedPrompt
from kerasllm.pipeline import pretraining_dataset
from kerasllm.presets import load_causal_lm

backend.set_up()
causal_lm = load_causal_lm("mini_gpt_docs")
model, tokenizer = causal_lm.to_mini_gpt(), causal_lm.preprocessor.tokenizer
generator = TextGenerator(causal_lm)
PROMPT = "Returns the number of"

# %% [markdown]
# ## 1. Other backends
#
# On TensorFlow, `generate` is about as slow in its second call as in its first:
# operations come ready-made, and only their number matters. On PyTorch, all
# four curves lie close together, because `predict` is not compiled there. The
# cached generator is fast on all three, since its step is compiled on JAX and
# TensorFlow, and recorded and played back on PyTorch.
#
# ## 2. One prompt and eight
#
# A step must read all weights of the model, for one text or for eight, and it
# must be started by Python once. These costs are shared. The arithmetic is not,
# so a step of eight texts takes longer than a step of one, but less than eight
# times as long.

# %%
speeds = {}
for count in (1, 8):
    for _ in range(2):  # the first call compiles
        generator.generate([PROMPT] * count, 128, stop_token_ids=None)
    speeds[count] = generator.tokens_per_second
    print(
        f"{count} texts: {speeds[count]:7.0f} steps per second, "
        f"{count * speeds[count]:7.0f} tokens per second"
    )

# %% [markdown]
# ## 3. Shorter and longer n-grams
#
# Pairs of tokens are repeated by people, too, so the difference is small. Long
# runs are rarely repeated by people, and a loop repeats them all. The larger
# `n`, the larger the ratio, although both shares fall.

# %%
LENGTH, PROMPT_LENGTH = 100, 8
held_out = pretraining_dataset(
    local_docs(), tokenizer, LENGTH, 32, split="validation", num_batches=1
)
windows, _ = next(held_out.as_numpy_iterator())
prompts = [TokenizedPrompt(window[:PROMPT_LENGTH]) for window in windows]
greedy = [
    generation.token_ids
    for generation in generator.generate(
        prompts, LENGTH, stop_token_ids=None, return_logprobs=True
    )
]
real = windows[:, PROMPT_LENGTH:].tolist()
for n in (2, 4, 8):
    shares = [
        np.mean([repeated_ngrams(text, n) for text in texts])
        for texts in (greedy, real)
    ]
    print(
        f"n = {n}: greedy {shares[0]:6.1%}, real {shares[1]:6.1%}, "
        f"ratio {shares[0] / max(shares[1], 1e-9):.1f}"
    )
    assert shares[0] > shares[1]

# %% [markdown]
# ## 4. More beams
#
# Here each doubling finds a text that is more likely. (There is no guarantee: a
# prefix that would have won may drop out early.) The repetition goes up and
# down. It depends on which text was found, and a single text says little about
# it.

# %%
for num_beams in (1, 2, 4, 8):
    found = generator.beam_search(
        PROMPT,
        num_beams=num_beams,
        length_penalty=0,
        max_length=LENGTH,
        stop_token_ids=None,
        return_logprobs=True,
    )
    print(
        f"{num_beams} beams: log-probability {sum(found.logprobs):7.1f}, "
        f"repeated 4-grams {repeated_ngrams(found.token_ids):5.1%}"
    )

# %% [markdown]
# ## 5. Padding before the text
#
# Now each token has another position, and attends to the zeros before it, which
# are tokens like any others. The model has not been trained on such text, and
# its probabilities change. A padding mask would hide the zeros, and the
# positions would have to be counted from the first real token.

# %%
ids = np.array([tokenizer(PROMPT)])
shifted = np.concatenate([np.zeros((1, 20), "int32"), ids], axis=1)
before, after = (
    ops.convert_to_numpy(ops.softmax(model(x)[0, -1])) for x in (ids, shifted)
)
best = int(before.argmax())
print(f"{tokenizer.id_to_token(best)!r}: {before[best]:.1%} without padding,")
print(f"{after[best]:.1%} with 20 zeros before the text")
assert np.abs(before - after).sum() > 0.01
