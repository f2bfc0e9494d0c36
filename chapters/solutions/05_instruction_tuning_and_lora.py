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
# # Solutions: instruction fine-tuning and LoRA
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/solutions/05_instruction_tuning_and_lora.ipynb)
#
# One way to solve the exercises of [chapter
# 5](../05_instruction_tuning_and_lora.ipynb).

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
from kerasllm.gemma import Gemma
from kerasllm.instructions import TokenizedInstructions, split_examples
from kerasllm.layers import Linear, LoraLinear
from kerasllm.tiny_gemma import TinyRecipe

backend.set_up()
keras.utils.set_random_seed(0)
gemma = Gemma.from_preset("tiny")
preprocessor = gemma.causal_lm.preprocessor
world = TinyRecipe().world()
examples = world.instructions()
train, validation = split_examples(examples, 0.05)

# %% [markdown]
# ## 1. The size of adapters

# %%
for rank in (1, 4, 16, 64):
    numbers = rank * (128 + 128)
    print(f"rank {rank:2}: {numbers:6,} numbers, {numbers / 128**2:.0%}")

# %% [markdown]
# For a square kernel of width $n$ the factors have $2 n r$ numbers, as many as
# the kernel at $r = n / 2$, here 64. Even then they are not the same: only a
# rank of $n$ reaches every change.
#
# ## 2. Merging by hand

# %%
rng = np.random.default_rng(0)
layer, plain = LoraLinear(64, 32, rank=4), Linear(64, 32)
layer.beta.assign(rng.normal(size=(4, 32)))
plain.kernel.assign(
    keras.ops.add(layer.kernel, keras.ops.matmul(layer.alpha, layer.beta))
)
inputs = rng.normal(size=(8, 64)).astype("float32")
difference = keras.ops.subtract(layer(inputs), plain(inputs))
print(f"largest difference: {float(keras.ops.max(abs(difference))):.0e}")
assert float(keras.ops.max(abs(difference))) < 1e-4

# %% [markdown]
# ## 3. What counts, by template

# %%
for template in ("book", "alpaca", "chatml", "gemma"):
    tokenized = TokenizedInstructions.of(examples, preprocessor, template, 512)
    prompts = sum(tokenized.prompt_lengths)
    share = 1 - prompts / tokenized.num_tokens
    mean = tokenized.num_tokens / len(examples)
    print(f"{template:7} {mean:5.0f} tokens an example, {share:.0%} count")

# %% [markdown]
# The delimiters and, with `alpaca`, a sentence before the request belong to the
# prompt. Delimiters that are not single tokens of this vocabulary are spelled
# in many. The answers are the same.
#
# ## 4. The rank of a full change

# %%
instruct = Gemma.from_preset("tiny_instruct")
kernels = [
    keras.ops.convert_to_numpy(
        model.causal_lm.backbone.get_layer(
            "decoder_block_0"
        ).attention.query_dense.kernel
    ).astype("float32")
    for model in (gemma, instruct)
]  # each (num_heads, hidden_dim, head_dim)
change = np.concatenate(kernels[1] - kernels[0], axis=-1)  # (128, 128)
values = np.linalg.svd(change, compute_uv=False)
for rank in (1, 8, 32, 64, 128):
    held = np.sum(values[:rank] ** 2) / np.sum(values**2)
    print(f"rank {rank:3}: {held:.0%} of the squared change")

# %% [markdown]
# Of 128 directions, eight hold about three quarters of the squared change, and
# thirty-two nearly all of it. Full fine-tuning was free to make a change of any
# rank, and made one that is close to a low rank. LoRA rests on the expectation
# that this is so.
#
# ## 5. Leaks

# %%
requests = {example.instruction for example in train}
leaked = [e for e in validation if e.instruction in requests]
names = [entity.name for entity in world.entities]


def names_in(part):
    """Return the names that requests mention."""
    return {n for n in names for e in part if n in e.instruction}


shared = names_in(train) & names_in(validation)
print(f"{len(leaked)} held-out requests are in the training part")
print(f"{len(shared)} of {len(names_in(validation))} held-out names are")

# %% [markdown]
# No request is on both sides, because a hash of the request decides. Names are:
# each name has two requests. The accuracy on held-out examples therefore says
# little about new names. The claims about untaught facts do not rest on it, and
# for those about names the chapter has a control group.
