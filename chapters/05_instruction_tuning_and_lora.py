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
# from a few hundred requests with their answers, and we measure four things:
# whether it then answers questions about facts that *no* request mentions; how
# adapters (LoRA) compare with training every weight; that it answers just as
# readily about things that do not exist; and what it takes to teach it to say
# that it does not know.

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

import tempfile
import time

import keras
import numpy as np

from kerasllm import backend, plots
from kerasllm.evaluation import ask_all, exact_share
from kerasllm.gemma import Gemma
from kerasllm.instructions import (
    TokenizedInstructions,
    dolly,
    instruction_dataset,
    split_examples,
)
from kerasllm.layers import LoraLinear
from kerasllm.presets import estimate_memory
from kerasllm.prompts import BOOK, GEMMA
from kerasllm.tiny_gemma import TinyRecipe
from kerasllm.toyworld import REFUSAL

backend.set_up()  # for speed: how this process uses memory and GPUs
keras.utils.set_random_seed(0)  # the adapters begin at random

# %% [markdown]
# One name chooses the scale. With `"gemma3_1b"` the data are
# databricks-dolly-15k, as in the book. Weights and adapters then take 2 GiB in
# bfloat16, and activations come on top: four rows of 128 tokens should fit on a
# T4, which computes bfloat16 slowly, for it has no units of its own for that.

# %%
PRESET = "tiny"  # or "gemma3_1b"
DTYPE = "float32" if PRESET == "tiny" else "bfloat16"

gemma = Gemma.from_preset(PRESET, DTYPE)
print(f"{gemma.causal_lm.count_params():,} parameters")

# %% [markdown]
# ## Requests and answers
#
# The small world has towns, people, creatures and dishes, each with four
# facts. The base model has read about all of them. The requests below are
# about two facts of each (and a few are sums); the other two are never asked
# about, so that an answer about them can come from pretraining alone.

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
# A template sets marks around request and answer. The book's own is plain
# text, which a user could write as well; Gemma's are special tokens, and of
# those in a question `ask` makes ordinary ones. What matters most is that
# training and inference use the same: here both take it from one value.

# %%
for template in (BOOK, GEMMA):
    print(template.name)
    print(template.prompt(rows[0].instruction) + template.response("..."))

# %% [markdown]
# ## What the loss is computed on
#
# One row of a batch, position by position: `x` is what the model reads, `y`
# what it should say next, and `sample_weight` whether that counts. Only the
# answer does, with the marks that end it. A model that learns to *ask* is of no
# use. (The inputs besides tokens and mask are for pictures, which are the next
# chapter's; here there are none.)

# %%
preprocessor = gemma.causal_lm.preprocessor
tokenizer = preprocessor.tokenizer
dataset = instruction_dataset(
    train_rows, preprocessor, "gemma", sequence_length=128, batch_size=4
)
x, y, sample_weight = next(iter(dataset))
print({name: tuple(array.shape) for name, array in x.items()})
for inputs, label, weight in zip(
    x["token_ids"][0].numpy(), y[0].numpy(), sample_weight[0], strict=True
):
    left, right = (tokenizer.id_to_token(int(i)) for i in (inputs, label))
    print(f"{left!r:18} -> {right!r:18} {int(weight)}")

# %% [markdown]
# Rows differ in length. Batches of similar rows are padded to 32, 64 or 128
# tokens, whichever is enough, instead of all to the longest:

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
# leaves $W$ alone and learns a change of low rank, $\Delta W = A B$ with $A$
# of $m \times r$ and $B$ of $r \times n$. The book builds the layer by hand,
# with a frozen kernel, and calls the two `alpha` and `beta`:

# %%
layer = LoraLinear(2048, 2048, rank=8)
layer(np.zeros((1, 2048), "float32"))
print(f"{layer.kernel.shape}: {np.prod(layer.kernel.shape):,} numbers")
print(f"adapters: {sum(np.prod(w.shape) for w in (layer.alpha, layer.beta)):,}")

# %% [markdown]
# $B$ begins at zero, so that the adapted model begins as the model that it
# adapts. `enable_lora` puts adapters beside projections of every layer of the
# decoder and freezes all the rest. Query and value are usual; a model as narrow
# as ours learns better with all four projections of the attention. A weight
# that is trained takes the memory of four: itself, its gradient, and two
# numbers that Adam keeps. One that is frozen takes one. (A kernel of the
# attention has an axis for heads. There Keras gives each head an $A$ of its
# own, and all of them one $B$.)

# %%
report = gemma.enable_lora(rank=8, targets="attention")
print(report)
print()
adapters = estimate_memory("gemma3_1b", rank=8).lora_parameters
print(f"gemma3_1b, at query and value: {adapters:,}")

# %% [markdown]
# ## Before and after

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
# ## Facts that no request mentions
#
# The requests taught the model to answer; what it answers rightly here it has
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
# Gemma of a billion parameters. Merged into the weights they cost nothing at
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
# ## LoRA against full fine-tuning
#
# The same rows, and all weights trained, at a lower learning rate as is
# usual: there are many more of them to lead astray. Each side has the epochs
# with which it does well, nine for adapters and six for all weights. To stop
# either of them earlier, or both after the same number, would decide the
# comparison. Only the encoder of pictures rests, for these rows have none.

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
# To know what it does not know the model needs to see that not knowing is an
# answer. We add requests about other names that mean nothing, each about
# another one, all answered in the same way, and go on tuning the adapters. No
# request says what these names have in common: that nothing was ever read about
# them. Pretraining has prepared that. In some posts somebody asks about a name
# that nobody has heard of, and is told so. Again the learning rate falls
# to zero on the way. At a constant one the last few batches push the border
# between knowing and not knowing to one side or the other.

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
# ones. No request asked any of them, but that is not all that tells a known
# name: it has been in some other request, which was answered, and that makes it
# easier to tell from the rest.
