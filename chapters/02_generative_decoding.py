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
# # Generative decoding
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/02_generative_decoding.ipynb)
#
# A language model does one thing: given some text, it scores every token of
# its vocabulary as the next one. Here we turn that single answer into whole
# texts. We write the loop by hand, find out where its time goes, make it
# faster by compiling the model once and then by never computing anything
# twice, and end with a habit of the simplest loop that no amount of speed
# cures: it repeats itself.
#
# The model is the mini-GPT of the pretraining chapter. If that chapter has
# run on this machine, its model is loaded from the cache; if not, the first
# cells train it, which takes a few minutes on two cores.

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

import textwrap
import time

import keras
import numpy as np
from keras import ops

from kerasllm import backend, plots
from kerasllm.corpora import local_docs, mini_c4
from kerasllm.evaluation import repeated_ngrams
from kerasllm.generation import TextGenerator, compiled_generate, generate
from kerasllm.models import MiniGPTCausalLM, mini_gpt
from kerasllm.pipeline import pretraining_dataset
from kerasllm.pretraining import pretrain_mini_gpt
from kerasllm.recipes import get_recipe
from kerasllm.samplers import greedy_search
from kerasllm.tokenizers import END_OF_TEXT

backend.set_up()  # for speed: how this process uses memory and GPUs

# %% [markdown]
# One name chooses the scale. `"laptop"` learns from the documentation that
# this installation carries. `"book"` is the chapter's 41.8-million
# parameter model on mini-C4; its training takes about six hours on a T4 GPU,
# an hour and a half on an A100 (some 200,000 tokens a second).

# %%
SCALE = "laptop"  # or "book"

recipe = get_recipe(SCALE)
shards = local_docs() if SCALE == "laptop" else mini_c4()
trained = pretrain_mini_gpt(recipe, shards, seed=0, verbose=2)
model, tokenizer = trained.model, trained.tokenizer

last = trained.record["history"][-1]
print(f"backend: {keras.backend.backend()}")
print(f"parameters: {model.count_params():,}")
print(f"next token right: {last['val_accuracy']:.1%} of the time")

# %% [markdown]
# ## The loop, by hand
#
# A prompt becomes token ids. The model reads them and returns, at *every*
# position, a row of **logits**: one score for each token of the vocabulary,
# for being the token that comes next. To continue the text, only the last row
# matters.

# %%
PROMPT = "Returns True if"

token_ids = [int(i) for i in ops.convert_to_numpy(tokenizer(PROMPT))]
logits = ops.convert_to_numpy(model(np.array([token_ids])))
print("token ids:", token_ids)
print("pieces:   ", [tokenizer.id_to_token(i) for i in token_ids])
print("logits:   ", logits.shape, "(texts, positions, vocabulary)")

# %% [markdown]
# (In SentencePiece vocabularies `▁` stands for a space.) The largest logits
# at the last position are the model's favourites:

# %%
favourites = np.argsort(-logits[0, -1])[:5]
for i in favourites:
    print(f"{logits[0, -1, i]:6.2f}  {tokenizer.id_to_token(int(i))!r}")

# %% [markdown]
# Take the first of them, append it, and ask again. That is all there is to
# *generative decoding*: a loop of two lines, in which the model's own output
# becomes its next input. Always taking the largest logit is called **greedy
# search**.

# %%
for _ in range(8):
    logits = model(np.array([token_ids]))[0, -1]
    token_ids.append(int(ops.argmax(logits)))

print(tokenizer.detokenize(token_ids))

# %% [markdown]
# ## The same loop as a function
#
# `kerasllm.generation.generate` is this loop with a stop rule and with checks
# on what goes in. Its `max_length` counts tokens, the prompt included.
#
# Its step "take the largest logit" can be replaced: at every step the function
# calls `sample_fn(logits)`, and any function that returns a token id will do.
# That is the door to the next chapter. Here we use it to carry a clock into
# the loop, riding along with greedy search:

# %%
MAX_LENGTH = 40


def write_with_a_clock(generate_fn):
    """Return a greedy text and the milliseconds that each token took."""
    stamps = [time.perf_counter()]

    def greedy_with_a_clock(logits):
        token_id = greedy_search(logits)
        stamps.append(time.perf_counter())
        return token_id

    text = generate_fn(
        model,
        tokenizer,
        PROMPT,
        greedy_with_a_clock,
        MAX_LENGTH,
        stop_token_ids=None,
    )
    return text, np.diff(stamps) * 1000


def show(text):
    """Print a text in quotes, so that its line breaks can be seen."""
    print(textwrap.fill(repr(text), 78))


eager_text, first_time = write_with_a_clock(generate)
show(eager_text)

# %% [markdown]
# `compiled_generate` takes the same arguments and asks the same model, but
# through its compiled `predict` function, on an input that is filled up with
# zeros to `max_length` from the first step on. We call each function twice,
# because the first call may have to prepare things that the second finds
# ready.

# %%
compiled_text, compiled_first_time = write_with_a_clock(compiled_generate)
milliseconds = {
    "generate": first_time,
    "generate, again": write_with_a_clock(generate)[1],
    "compiled_generate": compiled_first_time,
    "compiled_generate, again": write_with_a_clock(compiled_generate)[1],
}

print("the same text:", compiled_text == eager_text)
for name, values in milliseconds.items():
    print(f"{name:25} {values.sum() / 1000:7.2f} s")

# %%
ax = plots.plot_comparison(
    {name: values.sum() / 1000 for name, values in milliseconds.items()},
    f"seconds for a text of {MAX_LENGTH} tokens ({keras.backend.backend()})",
)

# %% [markdown]
# The same text, in very different times, at least on JAX and TensorFlow. Why?
#
# ## Where the time goes
#
# Called directly, `model(...)` runs *eagerly*: Python walks through the
# layers and hands the backend one small operation after another. Nothing is
# merged or planned ahead. Worse, the text grows by one token a step, so every
# step has **new shapes**, and a backend such as JAX prepares even a single
# operation anew for each shape that it meets. The clock shows it token by
# token (mind the logarithmic axis, where a step up is a factor of ten):

# %%
ax = plots.plot_curves(
    {
        name: (np.arange(1, len(values) + 1), values)
        for name, values in milliseconds.items()
    },
    "new token",
    f"time (milliseconds, {keras.backend.backend()})",
)
ax.set_yscale("log")

# %% [markdown]
# On JAX three costs can be told apart:
#
# - `generate` is slow at each length that it meets for the first time. (Its
#   first tokens are cheap only because our loop by hand had been at these
#   lengths before.)
# - `generate`, called again, finds all lengths prepared. What is left is the
#   price of sending many small operations one by one.
# - `compiled_generate` pays once, at its first token, for the compilation of
#   the whole model. From then on every token is cheap.
#
# TensorFlow's single operations come ready-made, so there the first call is
# no slower than the second. PyTorch runs eagerly either way unless a model is
# compiled with `jit_compile=True`: there all curves lie close together, and
# padding buys nothing.

# %% [markdown]
# ## One shape, one compilation
#
# A compiled function is made for one input shape: that is what lets the
# compiler plan every loop and buffer. It is kept, and a shape that has been
# seen before costs nothing. Let us ask the compiled model about texts of
# several lengths, three times each, and then about the first length again.

# %%
print("length   1st call   2nd call   3rd call   (milliseconds)")
for length in (41, 42, 43, 41):
    row = []
    for _ in range(3):
        start = time.perf_counter()
        model.predict_on_batch(np.zeros((1, length), "int32"))
        row.append((time.perf_counter() - start) * 1000)
    print(f"{length:6}" + "".join(f"{value:11.1f}" for value in row))

# %% [markdown]
# On a backend that compiles, each *new* length is slow the first time; the
# last row, a length met before, is not. So merely calling the compiled model
# in the growing loop would be no help: it would compile once for every token.
# Padding keeps one length for all steps, all prompts and all samplers, and
# one compilation serves them all.
#
# May we pad at all? The zeros stand *after* the text, and every position
# attends only to itself and what came before it. What follows cannot reach
# back. We can check that rather than believe it:

# %%
length = len(token_ids)
padded = np.zeros((1, MAX_LENGTH), "int32")
padded[0, :length] = token_ids

plain_logits = ops.convert_to_numpy(model(np.array([token_ids])))[0, -1]
padded_logits = model.predict_on_batch(padded)[0, length - 1]
print(f"largest logit:      {plain_logits.max():.4f}")
print(f"largest difference: {np.abs(plain_logits - padded_logits).max():.1e}")

# %% [markdown]
# What remains is rounding.
#
# ## Where a text ends
#
# In training, every document was closed by the token `<|endoftext|>`. When
# the model chooses this token it says that it is done, and both functions
# stop there unless they are told otherwise. Has the model learnt where
# documents end? We ask on text that it never saw, at the places where
# a document ends and at all others:

# %%
LENGTH = min(100, recipe.sequence_length)

held_out = pretraining_dataset(
    shards,
    tokenizer,
    LENGTH,
    64,
    split="validation",
    validation_fraction=recipe.validation_fraction,
)
windows, next_tokens = next(held_out.take(1).as_numpy_iterator())
probabilities = ops.softmax(model.predict_on_batch(windows))

end = tokenizer.token_to_id(END_OF_TEXT)
end_probability = ops.convert_to_numpy(probabilities)[:, :, end]
at_ends = next_tokens == end
print(f"document ends in these windows: {at_ends.sum()}")
print(f"probability of the end there:   {end_probability[at_ends].mean():.2%}")
print(f"everywhere else:                {end_probability[~at_ends].mean():.2%}")

# %% [markdown]
# It has some idea, if not a firm one. Greedy search needs more than an idea:
# it stops only where the end is likelier than any other token, so a weak
# model often runs on to `max_length`. Other stop tokens can be given by their
# ids, say the line break, to get a single line:

# %%
line_break = tokenizer.token_to_id("\n")
prompt = "Returns:\n  None"
for stop in ("auto", line_break):
    print(f"stop_token_ids={stop!r}")
    show(
        compiled_generate(
            model,
            tokenizer,
            prompt,
            max_length=MAX_LENGTH,
            stop_token_ids=stop,
        )
    )

# %% [markdown]
# ## Cached generation
#
# Padding pays for its single compilation with work: for each new token the
# model reads all `max_length` positions, though only one of them is new. None
# of the others has changed. A position attends to itself and to what came
# before it, so nothing that is appended can alter what the model computed for
# it. Two things are all that later positions ever ask of it: its **key**, by
# which they find it, and its **value**, which they take from it.
#
# So we keep keys and values of all positions in a **cache**. A new token then
# computes one query, one key and one value in each layer, writes key and
# value into the cache, and attends to what is there. `TextGenerator` does
# this, with any sampler, for our model and for those of KerasHub.

# %%
generator = trained.generator(greedy_search)
cached_text = generator.generate(PROMPT, MAX_LENGTH, stop_token_ids=None)
print("the same text:", cached_text == compiled_text)

# %% [markdown]
# Now the prices, from short texts to long ones. What does one more token cost:
# padded the last one of a text, cached the mean of all? To see the curve rise
# we need texts longer than our model was trained for, so we ask a model of the
# same kind with 1,024 positions. It has never learnt anything; its arithmetic
# costs the same.

# %%
long_model = mini_gpt(
    tokenizer.vocabulary_size(),
    1024,
    recipe.hidden_dim,
    recipe.intermediate_dim,
    recipe.num_heads,
    recipe.num_layers,
)
long_generator = TextGenerator(
    MiniGPTCausalLM.from_mini_gpt(long_model, tokenizer)
)


def padded_time(length):
    """Return the median milliseconds of a call on a text of this length."""
    times = []
    for _ in range(6):
        start = time.perf_counter()
        long_model.predict_on_batch(np.zeros((1, length), "int32"))
        times.append((time.perf_counter() - start) * 1000)
    return np.median(times[1:])  # the first one compiles


def cached_time(length):
    """Return the mean milliseconds of a token in a text of this length."""
    long_generator.generate(PROMPT, length, stop_token_ids=None)
    return 1000 / long_generator.tokens_per_second


lengths = [64, 128, 256, 512, 1024]
prices = {
    "padded": [padded_time(length) for length in lengths],
    "cached": [cached_time(length) for length in lengths],
}
print("tokens" + "".join(f"{name:>10}" for name in prices), " (milliseconds)")
for row in zip(lengths, *prices.values(), strict=True):
    print(f"{row[0]:6}" + "".join(f"{value:10.2f}" for value in row[1:]))

# %%
ax = plots.plot_curves(
    {name: (lengths, values) for name, values in prices.items()},
    "tokens in the text",
    f"time for one more token (milliseconds, {keras.backend.backend()})",
)
ax.set_xscale("log", base=2)
ax.set_yscale("log")

# %% [markdown]
# Both axes are logarithmic. The padded price grows about in proportion to
# the length of the text, so that of a whole text grows with its square. The
# cached price hardly moves: a new token has to read all weights, however
# short the text is, and of a longer text it reads some more keys and values.
# Memory is what the cache costs, two vectors for each layer and position:

# %%
floats = 2 * recipe.num_layers * recipe.hidden_dim
print(f"{floats} numbers, {4 * floats:,} bytes, for each token of a text")

# %% [markdown]
# With a cache it is worth while to hand out the text as it comes. `stream`
# yields pieces that are never half a character, and nothing is computed that
# nobody asks for:

# %%
for piece in generator.stream(PROMPT, MAX_LENGTH):
    print(piece, end="|")

# %% [markdown]
# ## Prompts that cannot work
#
# A prompt of no tokens has no last position to read; one that fills
# `max_length` leaves no room; and past its last trained position the model
# has nothing to say. Left alone, some of these mistakes crash deep inside
# a backend and others silently return nonsense, so they are caught at the
# door:

# %%
mistakes = {
    "nothing to continue": {"prompt": ""},
    "no room left": {"prompt": "A tensor " * 20, "max_length": 16},
    "past the last position": {"prompt": PROMPT, "max_length": 10_000},
}
for name, arguments in mistakes.items():
    try:
        generate(model, tokenizer, **arguments)
    except ValueError as error:
        print(f"{name}:")
        print(textwrap.indent(textwrap.fill(str(error), 74), "    "), "\n")

# %% [markdown]
# ## Greedy search repeats itself
#
# Now that generating is cheap, let us read more of it, from openings that
# could begin almost any text.

# %%
PROMPTS = [
    "Returns True if",
    "The first",
    "If the",
    "This is",
    "A list of",
    "You can",
    "For example",
    "In this case",
]

greedy_texts = [
    compiled_generate(
        model, tokenizer, prompt, max_length=LENGTH, stop_token_ids=None
    )
    for prompt in PROMPTS
]
for text in greedy_texts[:4]:
    show(text)
    print()

# %% [markdown]
# One need not be a critic to notice that it goes round in circles. To
# *measure* it we count n-grams: runs of four tokens. The share of them that
# have stood in the same text before is 0 where everything is new and near 1
# in an endless loop.
#
# A single number says little without something to compare it with, so we
# measure real text in the same way: windows of the same length from the
# documents that training never saw.

# %%
repeated = {
    "greedy search": [
        repeated_ngrams(ops.convert_to_numpy(tokenizer(text)).tolist())
        for text in greedy_texts
    ],
    "held-out text": [repeated_ngrams(window.tolist()) for window in windows],
}
ax = plots.plot_comparison(
    repeated, f"repeated 4-grams (share, in up to {LENGTH} tokens)"
)

# %%
greedy, real = (float(np.mean(values)) for values in repeated.values())
print(f"greedy search: {greedy:.0%} of the 4-grams have stood there before")
print(f"held-out text: {real:.0%}, mean of {len(windows)} windows")
print(f"ratio: {greedy / max(real, 1e-9):.1f}")

# %% [markdown]
# Each white dot is one text. Real documentation repeats itself too: it has
# tables, rulers and lists of similar arguments. The model's greedy text does
# so far more.
#
# This is not a fault in the loop. The model was trained to put its largest
# score on the *likeliest* token, and where the text gives no clear hint,
# common phrases, and phrases that the text already has, are likely. Greedy
# search takes the likeliest token every time; once a phrase has come round,
# the same context leads to the same choice again, and nothing breaks the
# circle. But the model's answer was never a single token. It was a whole row
# of scores, and taking the largest is only one way to use it. The next
# chapter is about the others.
#
# ## What we have seen
#
# - Generating is a loop of two lines: logits at the last position, append the
#   best token.
# - The eager loop meets a new shape at each token. Padding to one length
#   gives the same text with one compilation for each `max_length`; on JAX and
#   TensorFlow the bars above show what that is worth.
# - Padding behind the text is safe because attention looks only backwards:
#   the logits agree up to rounding.
# - A cache of keys and values makes the price of a token nearly independent
#   of the length of the text.
# - A text ends at a stop token or at `max_length`.
# - Greedy search repeats itself far more than real text does.
#
# ## Try it
#
# 1. Set `KERAS_BACKEND` to `torch` or `tensorflow` before starting the
#    notebook and compare the curves of milliseconds per token.
# 2. `TextGenerator.generate` takes a list of prompts. Compare
#    `generator.tokens_per_second` for one prompt and for eight. Why does a
#    token of eight texts not cost eight times as much?
# 3. Measure `repeated_ngrams` with `n=2` and `n=8`. Which of them separates
#    greedy search from real text best?
#
# *Mirrors section 16.2.3, "Generative decoding", of Chollet & Watson, Deep
# Learning with Python, third edition, chapter 16.*
