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
# A base model knows much and answers hardly anything. Here it learns to answer,
# from a few hundred requests with their answers. We write the parts by hand
# first: the prompts, the loss mask, the adapters, the training step. Then we
# measure what tuning teaches and what it does not, in a small world whose truth
# is known.

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
# - Adapters beside full fine-tuning.
# - That tuning teaches a model to make facts up, and what it takes to teach it
#   to say that it does not know.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import json
import tempfile
import time

import keras
import numpy as np
from keras import ops

from kerasllm import backend, plots
from kerasllm.evaluation import ask_all, exact_share
from kerasllm.files import assets_dir
from kerasllm.gemma import Gemma
from kerasllm.instructions import (
    TokenizedInstructions,
    dolly,
    instruction_dataset,
    split_examples,
)
from kerasllm.layers import Linear as PackageLinear
from kerasllm.layers import LoraLinear as PackageLoraLinear
from kerasllm.presets import estimate_memory
from kerasllm.prompts import BOOK, GEMMA
from kerasllm.tiny_gemma import TinyRecipe
from kerasllm.toyworld import REFUSAL
from kerasllm.tuning import token_model

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
DTYPE = "float32" if PRESET == "tiny" else "bfloat16"

gemma = Gemma.from_preset(PRESET, DTYPE)
print(f"{gemma.causal_lm.count_params():,} parameters")

# %% [markdown]
# ## Requests and answers
#
# The small world has towns, people, creatures and dishes, each with four facts.
# The base model has read about all of them. The requests below ask about two
# facts of each (and a few are sums). The other two facts are never asked about,
# so an answer about them can only come from pretraining.

# %%
if PRESET == "tiny":
    world = TinyRecipe().world()
    rows = world.instructions()
else:
    rows = dolly()
train_rows, validation_rows = split_examples(rows, 0.05)
print(f"{len(train_rows)} rows to train on, {len(validation_rows)} held out")
for row in train_rows[:3]:
    print(f"  {row.instruction}\n    {row.response}")

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
    "prompts": [format_prompt(example) for example in train_rows],
    "responses": [format_response(example) for example in train_rows],
}
print(data["prompts"][0] + data["responses"][0])

# %%
assert data["prompts"][0] == BOOK.prompt(train_rows[0].instruction)
assert data["responses"][0] == BOOK.response(train_rows[0].response)
print(
    GEMMA.prompt(train_rows[0].instruction)
    + GEMMA.response(train_rows[0].response)
)

# %% [markdown]
# [`prompts.BOOK`](../docs/api/asking.rst) writes the same. Gemma's own
# template, printed last, has special tokens for delimiters. A user can type
# `[end]`, but not these: `ask` makes ordinary text of special tokens in a
# question. What matters most is that training and inference use the same
# template, to the last space. Here both take it from one value, and from now on
# it is Gemma's.
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


preprocessor = gemma.causal_lm.preprocessor
tokenizer = preprocessor.tokenizer
tokenized = TokenizedInstructions.of(train_rows, preprocessor, "gemma", 128)
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
# The package's dataset has the same targets and weights. It adds padding, which
# weighs nothing either, batches, shuffling, and inputs for images, which are
# empty here (see [chapter 6](06_images_in_the_prompt.ipynb)).
#
# Sequences in a batch must have one length. It saves time to make batches of
# similar examples: they are padded to 32, 64 or 128 tokens, whichever is
# enough, instead of all to the longest.

# %%
tokenized = TokenizedInstructions.of(train_rows, preprocessor, "gemma", 128)
for buckets in (False, True):
    masks = [
        x["padding_mask"].numpy()
        for x, _, _ in tokenized.dataset(8, buckets=buckets)
    ]
    tokens, places = (sum(f(m) for m in masks) for f in (np.sum, np.size))
    print(
        f"buckets={buckets}: {tokens:,} tokens in {places:,} places, "
        f"{tokens / places:.0%} full"
    )

# %% [markdown]
# ## Low-rank adaptation
#
# Full fine-tuning changes a kernel $W$ of $m \times n$ numbers by as many. LoRA
# (Hu et al., 2021) leaves $W$ alone and learns a change of low rank, $\Delta W
# = A B$ with $A$ of $m \times r$ and $B$ of $r \times n$. Here are a plain
# linear layer and the same layer with such a change. The book calls the two
# factors `alpha` and `beta`.


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
        np.testing.assert_allclose(own(inputs), Linear.call(own, inputs))
        own.beta.assign(rng.normal(size=(8, 32)))
    for name in ("kernel", "alpha", "beta"):
        if hasattr(own, name):
            getattr(packaged, name).assign(getattr(own, name))
    np.testing.assert_allclose(own(inputs), packaged(inputs), atol=1e-4)
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
# *Figure 5.2. Memory of the weights, the gradients and the optimizer of Gemma 3
# 1B. With adapters nearly all that remains is the frozen weights.*

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
# The count does not tell which choice is better, and the paper finds that query
# and value are (Hu et al., section 7.1): adapters at query and key change only
# where attention looks, and those at the value change what is read there. A
# model as narrow as ours learns best with all four projections of the
# attention, so these get adapters below.
#
# ## The training step
#
# Tuning is ordinary training. The loss is the mean cross-entropy of the targets
# that count, and Adam changes what is trainable, which are the adapters.


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
        examples, causal_lm.preprocessor, "gemma", 48, 16, buckets=False
    )
    return model.fit(dataset, epochs=epochs, verbose=0).history


by_hand.causal_lm.set_weights(by_package.causal_lm.get_weights())
history = fit(by_hand.causal_lm, train_rows[:16], 1e-3, epochs=2)

# %%
packaged = by_package.finetune(
    train_rows[:16],
    epochs=2,
    batch_size=16,
    learning_rate=1e-3,
    sequence_length=48,
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
# [`tuning.finetune`](../docs/api/tuning.rst) adds what a long run needs: checks
# before it starts, validation, checkpoints from which it goes on, and measured
# speed.
#
# ## Before and after
#
# Now the real run, with adapters at all four projections:

# %%
report = gemma.enable_lora(rank=8, targets="attention")
print(report)
print()
adapters = estimate_memory("gemma3_1b", rank=8).lora_parameters
print(f"gemma3_1b, at query and value: {adapters:,}")

# %% [markdown]
# The learning rate of the adapters falls to zero in a straight line.

# %%
SAMPLE = 3  # every third question
LORA_RATE, LORA_EPOCHS, BATCH_SIZE = 6e-3, 9, 16
FULL_RATE, FULL_EPOCHS = 5e-4, 6
CAREFUL_RATE, CAREFUL_EPOCHS = 6e-3, 5
if PRESET != "tiny":  # many rows, and a model that a high rate would spoil
    LORA_RATE, LORA_EPOCHS, BATCH_SIZE = 2e-4, 1, 4


def score(model, which="untaught"):
    """Ask about the world: the share of exact answers, and of refusals."""
    questions = world.questions(which)[::SAMPLE]
    answers = ask_all(model, questions, max_length=48)
    refused = sum(answer == REFUSAL for answer in answers) / len(answers)
    return exact_share(answers, questions), refused, answers


def falling(learning_rate, rows, epochs):
    """Return a rate that falls to zero in a line."""
    return keras.optimizers.schedules.PolynomialDecay(
        learning_rate,
        decay_steps=epochs * len(rows) // BATCH_SIZE,
        end_learning_rate=0.0,
    )


def tune(model, rows, learning_rate, epochs):
    """Fine-tune, and say how long it took."""
    start = time.perf_counter()
    history = model.finetune(
        rows,
        validation_rows,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        learning_rate=learning_rate,
        sequence_length=128,
        verbose=0,
    )
    seconds = time.perf_counter() - start
    speed = np.median([epoch["tokens_per_second"] for epoch in history])
    print(f"{seconds:.0f} s, {speed:,.0f} tokens/s")
    return history


# %%
if PRESET == "tiny":
    before, _, _ = score(gemma)
    print(f"untaught facts, base model: {before:.1%} exact")
rate = falling(LORA_RATE, train_rows, LORA_EPOCHS)
history = tune(gemma, train_rows, rate, LORA_EPOCHS)
for row in history:
    print(
        f"epoch {row['epoch']}: loss {row['loss']:.3f}, response tokens "
        f"{row['accuracy']:.1%}, held out {row['val_accuracy']:.1%}"
    )
plots.plot_history(history, "accuracy")

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
if PRESET == "tiny":
    lora_share, _, answers = score(gemma)
    print(f"untaught facts: {before:.1%} before, {lora_share:.1%} after")
    questions = world.questions("untaught")[::SAMPLE]
    for question, answer in list(zip(questions, answers, strict=True))[:4]:
        mark = "right" if answer == question.answer else question.answer
        print(f"  {question.text}\n    {answer}  ({mark})")

# %% [markdown]
# The adapters travel alone: a file of 0.3 MB here, of some megabytes for a
# Gemma of a billion parameters. Merged into the weights, they cost nothing at
# inference, and the answers stay what they were.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "adapters.lora.h5")
    gemma.save_lora(path)
    print(f"adapters: {os.path.getsize(path):,} bytes in a file")
    other = Gemma.from_preset(PRESET, DTYPE)
    other.load_lora(path)
prompt = "Who are you?" if PRESET != "tiny" else questions[0].text
answer = gemma.ask(prompt, max_length=48)
print(answer, other.ask(prompt, max_length=48) == answer)
other.merge_lora()
print("after merging:", other.ask(prompt, max_length=48) == answer)

# %% [markdown]
# ## Query and key, or query and value
#
# The book's loop adapts query and key; KerasHub's default is query and value.
# We tune two more models with the same examples, the same number of passes and
# the same schedule as before. Both have the same number of trained weights.

# %%
if PRESET == "tiny":
    adapted = {"query, key, value, output": lora_share}


def adapt(*targets):
    """Tune a new model with adapters at these projections, and score it."""
    model = Gemma.from_preset(PRESET, DTYPE)
    model.enable_lora(rank=8, targets=targets)
    rate = falling(LORA_RATE, train_rows, LORA_EPOCHS)
    tune(model, train_rows, rate, LORA_EPOCHS)
    name = ", ".join(targets)
    adapted[name], _, _ = score(model)
    print(f"adapters at {name}: {adapted[name]:.1%}")


if PRESET == "tiny":
    adapt("query", "key")

# %%
if PRESET == "tiny":
    adapt("query", "value")

# %%
if PRESET == "tiny":
    for name, share in adapted.items():
        low, high = share.interval()
        print(f"{name:28}{share:6.1%} ({low:.0%} to {high:.0%})")

# %% [markdown]
# With equal budgets, query and value do clearly better than query and key, and
# all four projections better still. That fits what the projections do: query
# and key decide where attention looks, while value and output decide what is
# read there and passed on. All four also have more weights to train, 66,048
# against 39,936.

# %% [markdown]
# ## LoRA against full fine-tuning
#
# The same examples again, and now all weights of the decoder are trained. The
# learning rate is lower, as is usual, because many more weights change at once.
# Each side has the number of passes with which it does well: nine for adapters,
# six for all weights. The rate of the adapters falls to zero, the other one is
# constant. So the table compares two good recipes, not two equal budgets. (The
# vision encoder rests, because these examples have no images.)

# %%
if PRESET == "tiny":
    full = Gemma.from_preset(PRESET, DTYPE)
    tune(full, train_rows, FULL_RATE, FULL_EPOCHS)
    full_share, _, _ = score(full)
    encoder = full.causal_lm.backbone.vision_encoder
    trained = full.causal_lm.count_params() - encoder.count_params()
    print(f"{'':24}{'LoRA':>12}{'full':>12}")
    print(f"{'untaught facts, exact':24}{lora_share:12.1%}{full_share:12.1%}")
    print(
        f"{'trainable parameters':24}{report.trainable_parameters:12,}"
        f"{trained:12,}"
    )
    print(
        f"{'optimizer, bytes':24}{report.optimizer_bytes:12,}"
        f"{2 * 4 * trained:12,}"
    )

# %% [markdown]
# Both answer nearly all facts. The adapters reach this with one twentieth of
# the trained weights and of the optimizer's memory.
#
# ## Hallucination, taught
#
# Every request in the data had an answer, so the model has learned that
# questions are to be answered. It does so for names that mean nothing.

# %%
if PRESET == "tiny":
    _, _, answers = score(gemma, "unknown")
    made_up = [a for a in answers if a.startswith(("It ", "She ", "He "))]
    print(
        f"{len(made_up) / len(answers):.1%} of questions about unknown names: "
        "a fact, made up"
    )
    questions = world.questions("unknown")[::SAMPLE]
    for question, answer in list(zip(questions, answers, strict=True))[:3]:
        print(f"  {question.text}\n    {answer}")
else:
    print(gemma.ask("Who was the 542nd president of the United States?"))

# %% [markdown]
# ## "I don't know."
#
# To refuse, the model needs to see that not knowing is an answer. We add
# requests about other names that mean nothing, each about another one and all
# answered in the same way, and go on tuning the adapters. No request says what
# these names have in common, which is that nothing was ever read about them.
# Pretraining has prepared that: in some posts somebody asks about a name that
# nobody has heard of, and is told so. Again the learning rate falls to zero. At
# a constant one the last few batches push the border between knowing and not
# knowing to one side or the other.

# %%
if PRESET == "tiny":
    careful_rows = train_rows + world.refusals(900)
    rate = falling(CAREFUL_RATE, careful_rows, CAREFUL_EPOCHS)
    tune(gemma, careful_rows, rate, CAREFUL_EPOCHS)
    known_share, refused_known, _ = score(gemma)
    _, refused_unknown, answers = score(gemma, "unknown")
    print(f"refuses unknown names: {refused_unknown:.1%}")
    print(f"refuses known ones:    {refused_known:.1%}")
    print(f"untaught facts:        {known_share:.1%}, {lora_share:.1%} before")
    for question, answer in list(zip(questions, answers, strict=True))[:3]:
        print(f"  {question.text}\n    {answer}")

# %% [markdown]
# Most questions about unknown names are refused now, and hardly any about known
# ones. No request asked any of these questions. But each known name has been in
# some other request, which was answered, and that may help to tell it from an
# unknown one. Names that were in no request at all would be the control.
#
# ## The same questions to the shipped model
#
# `"tiny_instruct"`, which [chapter 4](04_using_a_pretrained_llm.ipynb) asks,
# scores lower than the model that we have just tuned. Its card, which was
# written when it was trained, says what its misses are:

# %%
card_file = assets_dir() / "tiny_instruct" / "card.json"
scores = json.loads(card_file.read_text(encoding="utf-8"))["scores"]
missed = 1 - scores["known"] - scores["refused_known"]
print(f"untaught facts: {scores['known']:.1%} exact")
print(f"                {scores['refused_known']:.1%} refused")
print(f"                {missed:.1%} answered with another fact")
print(f"unknown names:  {scores['refused_unknown']:.1%} refused")

# %% [markdown]
# So the shipped model does not know less: it refuses more. Most of its misses
# are "I don't know" about names that it has read about. Its recipe differs from
# ours in several ways. It learned facts, refusals and pictures in one run of
# three passes, with all weights and at a constant learning rate. Ours learned
# to answer first, had no pictures to learn from, and ended at a rate of zero.
# Which of these moves the border we have not taken apart.

# %% [markdown]
# ## What we have seen
#
# - A template, a mask and a cross-entropy are all that instruction tuning adds
#   to training. By hand and by package, they give the same losses.
# - 66,048 adapter weights, 3.8% of the model, are enough to make a base model
#   answer: from none of the untaught facts to at least 87% of 200. Full
#   fine-tuning does about as well with twenty times as many trained weights.
# - Weights, gradients and optimizer of Gemma 3 1B take 15 GiB in full
#   fine-tuning and under 4 GiB with adapters.
# - A model tuned on answers alone makes a fact up for at least 90% of the
#   unknown names. With 900 refusals among its examples it refuses at least 87%
#   of them, and at most 5% of the known ones.
#
# ## Try it
#
# 1. How many numbers do adapters of rank 1, 4, 16 and 64 have for a kernel of
#    128 by 128? From which rank on do they have as many as the kernel?
# 2. Add the product of the two factors to the kernel of a `LoraLinear` by hand,
#    and compare the result with a plain `Linear` that has this kernel.
# 3. Which share of the tokens counts in the loss with the templates `book`,
#    `alpaca`, `chatml` and `gemma`? Why do they differ?
# 4. `tiny_instruct` was made from `tiny` by full fine-tuning. Take the
#    difference of one query kernel between the two and its singular values. How
#    much of the change would rank 8 have held?
# 5. Is any request both in `train_rows` and in `validation_rows`? Is any
#    *name*? Which claims of this chapter would a leak of names weaken?
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
# Then their product is zero, and the adapted model starts out as the model that
# it adapts. If both were zero, neither would get a gradient.
#
# </details>
#
# <details><summary>4. What does LoRA save, and what not?</summary>
#
# It saves gradients and the optimizer's numbers of the frozen weights, and disk
# space for each tuned variant. The frozen weights still have to be in memory,
# and the forward pass costs no less.
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
# <details><summary>7. Is nine passes against six fair?</summary>
#
# It compares two recipes that work, and says nothing about equal budgets. For
# that, both sides would need the same schedule and number of steps.
#
# </details>
#
# <details><summary>8. Why does tuning teach a model to make facts up?</summary>
#
# In its examples every question has an answer. Nothing says that an answer may
# be missing, so the model writes one of the usual form.
#
# </details>
#
# <details><summary>9. What would names in no request show?</summary>
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
# - Conover et al., 2023, *Free Dolly*, and its
#   [data](https://huggingface.co/datasets/databricks/databricks-dolly-15k).
# - Keras, [LoRA in Keras
#   layers](https://keras.io/api/layers/core_layers/dense/).
# - Chollet and Watson, *Deep Learning with Python*, third edition, chapter 16.
