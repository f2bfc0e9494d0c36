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
# # Solutions: training a mini-GPT
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/solutions/01_training_a_mini_gpt.ipynb)
#
# Solutions to the exercises of [chapter 1](../01_training_a_mini_gpt.ipynb).

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

import collections
import tempfile

import keras
import numpy as np
from keras import layers

import kerasllm
from kerasllm import backend
from kerasllm.corpora import local_docs
from kerasllm.pipeline import pretraining_dataset
from kerasllm.presets import load_causal_lm
from kerasllm.pretraining import pretrain
from kerasllm.tokenizers import END_OF_TEXT

backend.set_up()
keras.utils.set_random_seed(0)
shards = local_docs()
# The vocabulary of the preset saves the time to train another one.
tokenizer = load_causal_lm("mini_gpt_docs").preprocessor.tokenizer
end_of_text = tokenizer.token_to_id(END_OF_TEXT)

# %% [markdown]
# ## 1. Windows of 32 tokens
#
# A shorter window holds a smaller part of a document, so a document lies in
# more windows. It becomes still more likely that some of them fall on each
# side. With 512 tokens, many documents lie in a single window.


# %%
def leak_by_windows(length, num_windows):
    """Return the share of the documents put aside that are on both sides."""
    dataset = pretraining_dataset(
        shards, tokenizer, length - 1, 64, num_batches=num_windows // 64
    )
    windows = np.concatenate(
        [np.concatenate([x, y[:, -1:]], axis=1) for x, y in dataset]
    )
    document = np.cumsum(windows.ravel() == end_of_text).reshape(windows.shape)
    is_aside = np.random.default_rng(0).random(len(windows)) < 0.02
    aside, rest = document[is_aside], document[~is_aside]
    return len(np.intersect1d(aside, rest)) / len(np.unique(aside))


shares = {length: leak_by_windows(length, 2**20 // length)
          for length in (32, 128, 512)}  # fmt: skip
for length, share in shares.items():
    print(f"windows of {length:3} tokens: {share:.0%} of the documents leak")
assert shares[32] > shares[512]

# %% [markdown]
# ## 2. Two hundred merges
#
# The most frequent words become one token. `▁` is the space before a word.

# %%
with open(shards[0], encoding="utf-8") as file:
    text = "".join(file.readline().replace("\\n", " ") for _ in range(100))
word_counts = collections.Counter(text.split())
spelled = {word: list("▁" + word) for word in word_counts}
for _ in range(200):
    pairs = collections.Counter()
    for word, pieces in spelled.items():
        for pair in zip(pieces, pieces[1:], strict=False):
            pairs[pair] += word_counts[word]
    left, right = pairs.most_common(1)[0][0]
    for pieces in spelled.values():
        i = 0
        while i + 1 < len(pieces):
            if pieces[i : i + 2] == [left, right]:
                pieces[i : i + 2] = [left + right]
            i += 1
whole = [word for word, pieces in spelled.items() if len(pieces) == 1]
print(len(whole), "words are one token:", *sorted(whole)[:30])

# %% [markdown]
# ## 3. A decoder that looks ahead
#
# We change the last token of a text and look at the logits of all positions
# before it. With the mask nothing changes there. Without it everything does.
#
# In training, the token that a position has to predict is the input of the next
# position. Without the mask the model can copy it from there. Its loss then
# measures how well it copies, and says nothing about text: when the model
# generates, there is no later position to copy from.


# %%
class SeesAll(kerasllm.TransformerDecoder):
    def call(self, inputs, training=None):
        x = self.self_attention(inputs, inputs)  # no causal mask
        x = self.self_attention_layernorm(inputs + x)
        residual = x
        x = self.feed_forward_2(self.feed_forward_1(x))
        return self.feed_forward_layernorm(residual + x)


def build(decoder, dropout=0.0):
    """Return a small model of blocks of a class."""
    inputs = keras.Input((None,), dtype="int32")
    embedding = kerasllm.PositionalEmbedding(
        64, tokenizer.vocabulary_size(), 96
    )
    x = layers.LayerNormalization()(embedding(inputs))
    for _ in range(2):
        x = decoder(96, 384, 4, dropout=dropout)(x)
    return keras.Model(inputs, embedding(x, reverse=True))


text = np.array([tokenizer("Returns the sum of all elements.")])
changed = text.copy()
changed[0, -1] = end_of_text
changes = {}
for decoder in (kerasllm.TransformerDecoder, SeesAll):
    model = build(decoder)
    before, after = (
        keras.ops.convert_to_numpy(model(ids))[0, :-1]
        for ids in (text, changed)
    )
    changes[decoder.__name__] = np.abs(before - after).max()
    print(f"{decoder.__name__:18} {changes[decoder.__name__]:.1e}")
assert changes["TransformerDecoder"] < 1e-6 < changes["SeesAll"]

# %% [markdown]
# ## 4. Dropout
#
# Dropout helps a model that learns its training text by heart. In 150 steps the
# model sees each window once, so there is nothing to learn by heart. The three
# losses lie within 0.2 nats, and one run of each cannot say more.

# %%
short = pretraining_dataset(
    shards, tokenizer, 64, 16, split="train", num_batches=150
).cache()
held_out = pretraining_dataset(
    shards, tokenizer, 64, 16, split="validation", num_batches=20
).cache()
start = [
    keras.ops.convert_to_numpy(weight)
    for weight in build(kerasllm.TransformerDecoder).trainable_weights
]
by_dropout = {}
for dropout in (0.0, 0.1, 0.3):
    model = build(kerasllm.TransformerDecoder, dropout)
    for weight, value in zip(model.trainable_weights, start, strict=True):
        weight.assign(value)
    model.compile(
        keras.optimizers.Adam(kerasllm.WarmupSchedule(3e-3, 50)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(short, shuffle=False, verbose=0)
    by_dropout[dropout] = model.evaluate(held_out, verbose=0)
    print(f"dropout {dropout}: held-out loss {by_dropout[dropout]:.2f}")

# %% [markdown]
# ## 5. An interrupted run
#
# Ctrl-C writes a checkpoint first, so the run continues at the next step. After
# a power failure it continues from the last checkpoint. Here the first call
# ends after one epoch, and the second call goes on from there:

# %%
with tempfile.TemporaryDirectory() as folder:
    for epochs in (1, 2):
        history = pretrain(
            build(kerasllm.TransformerDecoder),
            short,
            directory=folder,
            epochs=epochs,
            steps_per_epoch=20,
            learning_rate=1e-3,
            verbose=0,
        )
        print([(row["epoch"], row["step"]) for row in history])
assert history[-1]["step"] == 40
