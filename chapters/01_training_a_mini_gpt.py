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
# # Training a mini-GPT
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/01_training_a_mini_gpt.ipynb)
#
# We take a pile of text and end with a model that has an opinion about what
# comes next in any sentence. On the way we cut text into tokens, tokens into
# windows, stack a few Transformer decoders, and find out why the first steps
# of training should be small.
#
# This chapter mirrors sections 16.2, 16.2.1 and 16.2.2 of Chollet and Watson,
# *Deep Learning with Python*, third edition.

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
from keras import layers

from kerasllm import backend, plots
from kerasllm.corpora import local_docs, mini_c4
from kerasllm.layers import PositionalEmbedding, TransformerDecoder
from kerasllm.models import mini_gpt
from kerasllm.pipeline import pretraining_dataset
from kerasllm.pretraining import pretrain_mini_gpt
from kerasllm.recipes import get_recipe
from kerasllm.schedules import WarmupSchedule

backend.set_up()  # for speed: how this process uses memory and GPUs

# %% [markdown]
# One name chooses the scale. `"laptop"` trains for a few minutes on the
# documentation that this installation carries. `"book"` is the
# published run: 41.8 million parameters and a billion tokens of the web, which
# takes an hour and a half on an A100 (200,000 tokens a second), six on a T4.
# The environment variable `KERAS_BACKEND` chooses what computes.

# %%
SCALE = "laptop"
recipe = get_recipe(SCALE)
shards = local_docs() if SCALE == "laptop" else mini_c4()
print(len(shards), "shards on", keras.backend.backend())

# %% [markdown]
# ## Text
#
# A shard is a plain text file with a document on each line. Line breaks
# inside a document are written as `\n`, so that a document stays on its line.

# %%
with open(shards[0], encoding="utf-8") as file:
    document = file.readline().replace("\\n", "\n")
print(document[:400])

# %% [markdown]
# ## Training
#
# The next cell does the long work, or finds it done: it trains a vocabulary
# and the model, and keeps both in the cache. If you stop it, or the power
# fails, run it again; it goes on from its last checkpoint with the same
# batches, and ends where it would have ended. While it runs, read on: the
# sections below take its parts into their hands one by one.

# %%
trained = pretrain_mini_gpt(
    recipe, shards, seed=0, sample_prompt="Return a new", verbose=2
)
tokenizer = trained.tokenizer

# %% [markdown]
# ## Tokens
#
# A vocabulary of whole words would never be complete, and single characters
# make texts long. Subwords are the bargain between the two: common words are
# one token, rare ones are spelled out in pieces. SentencePiece learned the
# pieces from our own text.

# %%
sentence = "Returns the shape of a tensor, unflabbergasted."
ids = tokenizer(sentence)
print([tokenizer.id_to_token(int(i)) for i in ids])
print(len(sentence), "characters,", len(ids), "tokens")
print("the same text again:", tokenizer.detokenize(ids) == sentence)

# %% [markdown]
# ## Windows
#
# Training wants rows of equal length. We tokenize every document, close it
# with `<|endoftext|>`, string all of them together and cut the stream into
# windows. A window holds one token more than the model will see: without its
# last token it is the input `x`, without its first it is the target `y`. At
# each position the model has to say what stands one place further.

# %%
train_dataset, validation_dataset = (
    pretraining_dataset(
        shards,
        tokenizer,
        recipe.sequence_length,
        recipe.batch_size,
        split=split,
        validation_fraction=recipe.validation_fraction,
    )
    for split in ("train", "validation")
)
x, y = next(iter(train_dataset))
print("x", x.shape, " y", y.shape)
print("x starts", x[0, :8].numpy())
print("y starts", y[0, :8].numpy())
print(int(train_dataset.cardinality()), "batches to train on,", end=" ")
print(int(validation_dataset.cardinality()), "to validate on")

# %% [markdown]
# The split is made on whole documents, before there are windows, and by the
# text itself: a document that occurs twice is on one side both times. So what
# we validate on was never trained on. A split of shuffled windows would leak,
# because a window of one half continues a document of the other.
#
# Let us look for windows that are on both sides.

# %%
validation_windows = {
    row.tobytes() for x, _ in validation_dataset for row in x.numpy()
}
shared = sum(
    row.tobytes() in validation_windows
    for x, _ in train_dataset.take(500)
    for row in x.numpy()
)
print(len(validation_windows), "validation windows;", shared, "in training")

# %% [markdown]
# ## The model
#
# A GPT is a decoder without anything to translate from: each block looks at
# the text so far (causal self-attention), then thinks about each position on
# its own (two dense layers). Around both runs a residual connection, and a
# LayerNorm follows each sum.
#
# The embedding is used twice. Forwards it turns tokens into vectors and adds
# a vector for each position; in reverse it compares a vector with those of
# all tokens, which gives a score for each.

# %%
inputs = keras.Input(shape=(None,), dtype="int32")
embedding = PositionalEmbedding(
    recipe.sequence_length, tokenizer.vocabulary_size(), recipe.hidden_dim
)
x = embedding(inputs)
x = layers.LayerNormalization()(x)
for _ in range(recipe.num_layers):
    x = TransformerDecoder(
        recipe.hidden_dim, recipe.intermediate_dim, recipe.num_heads
    )(x)
by_hand = keras.Model(inputs, embedding(x, reverse=True))
print(f"{by_hand.count_params():,} parameters")

# %% [markdown]
# `mini_gpt` builds the same model. At the sizes of the book it has 41,800,768
# parameters, of which the embedding is a good part. Without sharing it
# between both ends there would be that much more.

# %%
book = get_recipe("book")
by_function = mini_gpt(
    tokenizer.vocabulary_size(),
    recipe.sequence_length,
    recipe.hidden_dim,
    recipe.intermediate_dim,
    recipe.num_heads,
    recipe.num_layers,
)
book_parameters = book.build().count_params()
tied = book.vocabulary_size * book.hidden_dim
print(f"laptop  {by_function.count_params():>12,}")
print(f"book    {book_parameters:>12,}")
print(f"sharing the embedding saves {tied:,}, or {tied / book_parameters:.0%}")

# %% [markdown]
# ## Warmup
#
# The first gradients of a fresh Transformer are large and say little: the
# model does not even know yet which words are common. A warmup keeps the
# first steps small and reaches the full learning rate after a while.

# %%
schedule = WarmupSchedule(recipe.learning_rate, recipe.warmup_steps)
ax = plots.plot_schedule(schedule, 5 * recipe.warmup_steps)

# %% [markdown]
# Does it help? We train a small model for 200 steps at a learning rate that
# is rather high for it, twice with a warmup of 100 steps and twice without.
# The weights of both runs of a pair start the same, and all see the same text.


# %%
class StepLosses(keras.callbacks.Callback):
    """Keeps the loss of each step; Keras reports the mean so far."""

    def on_train_begin(self, logs=None):
        self.losses, self.total = [], 0.0

    def on_train_batch_end(self, batch, logs=None):
        total = logs["loss"] * (batch + 1)
        self.losses.append(total - self.total)
        self.total = total


short = pretraining_dataset(
    shards, tokenizer, 64, 16, split="train", num_batches=200
).cache()
curves = {"no warmup": [], "100 steps of warmup": []}
for seed in (0, 1):
    for name, warmup_steps in zip(curves, (0, 100), strict=True):
        small = mini_gpt(tokenizer.vocabulary_size(), 64, 96, 384, 4, 2, 0.0)
        rng = np.random.default_rng(seed)
        for weight in small.trainable_weights:
            if weight.path.endswith(("kernel", "embeddings")):
                scale = 0.03 if "embeddings" in weight.path else 0.07
                weight.assign(rng.normal(0, scale, weight.shape))
        small.compile(
            keras.optimizers.Adam(WarmupSchedule(6e-3, warmup_steps)),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        steps = StepLosses()
        small.fit(short, verbose=0, shuffle=False, callbacks=[steps])
        curves[name].append(steps.losses)

# %%
means = {name: np.mean(losses, axis=0) for name, losses in curves.items()}
smooth = {
    name: (
        np.arange(10, 200, 20),
        [float(np.mean(loss[i : i + 20])) for i in range(0, 200, 20)],
    )
    for name, loss in means.items()
}
ax = plots.plot_curves(smooth, "training step", "loss (nats per token)")
for name, losses in curves.items():
    ends = ", ".join(f"{np.mean(run[-40:]):.2f}" for run in losses)
    print(f"{name:20} loss over the last 40 steps: {ends}")

# %% [markdown]
# Without warmup the loss falls sooner, as one would expect of larger steps,
# and then it lags: the run that began with small steps overtakes it and stays
# ahead.

# %% [markdown]
# ## What was learned
#
# Back to the model that trained at the start. After each epoch it was tried
# on the held-out documents. *Loss* is in nats a token, *perplexity* is its
# exponential: the number of equally likely tokens among which the model is, in
# effect, still undecided.

# %%
history = trained.record["history"]
for row in history:
    print(
        f"epoch {row['epoch']}: loss {row['val_loss']:.2f}, "
        f"perplexity {row['val_perplexity']:.0f}, "
        f"next token right {row['val_accuracy']:.1%}"
    )
ax = plots.plot_history(history)

# %% [markdown]
# How good is that? Whoever always guesses the commonest token is right in the
# share of cases that the next cell measures.

# %%
targets = np.concatenate([y.numpy().ravel() for _, y in validation_dataset])
counts = np.bincount(targets)
commonest = tokenizer.id_to_token(int(counts.argmax()))
print(f"always {commonest!r}: {counts.max() / counts.sum():.1%}")
print(f"the model: {history[-1]['val_accuracy']:.1%}")
speed = np.median([row["tokens_per_second"] for row in history])
print(
    f"{trained.record['parameters']:,} parameters, {speed:,.0f} tokens/s on "
    f"{trained.record['backend']}, {trained.record['device']}"
)

# %% [markdown]
# ## What we have seen
#
# - A corpus becomes windows of tokens, and a window is its own exam: the
#   target is the input, one place further on.
# - A split by document leaves no window on both sides.
# - Two decoder blocks and one shared embedding learn, in a few minutes, to
#   name the next token several times as often as the best constant guess.
# - Small first steps pay, and the curve above shows by how much.
# - The loss is still falling at the end. This model is far from full; the
#   book's reaches about 36% on a corpus with a vocabulary of 32,000.
#
# ## Try it
#
# - Raise `dropout` with `dataclasses.replace(recipe, dropout=0.3)`. What
#   happens to the two losses in a run this short?
# - Interrupt the training cell and run it again. At which step does it go on?
# - Train on your own text: `text_shards("my_texts/", documents="files")`.
