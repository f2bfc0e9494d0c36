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
# its vocabulary as the next one. In this chapter we turn that single answer
# into whole texts. We write the loop by hand, find out where its time goes,
# and make it faster, first by compiling the model once, and then by never
# computing anything twice.
#
# This chapter mirrors section 16.2.3 of Chollet and Watson, *Deep Learning with
# Python*, third edition. Its listings are written here in our own words, and
# each is checked against the version in the package.
#
# ## What you will see
#
# - The loop that generates text, in three versions: growing, padded and
#   compiled, and with a cache. All three write the same text.
# - Two samplers, `greedy_search` and `random_sample`, and a search that looks
#   further ahead than one token: beam search.
# - What one more token costs, in short texts and in long ones.
# - How much greedy search repeats itself, compared with text by people.

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

import kerasllm
from kerasllm import backend, plots
from kerasllm.corpora import local_docs, mini_c4
from kerasllm.evaluation import repeated_ngrams
from kerasllm.generation import TextGenerator, TokenizedPrompt
from kerasllm.models import MiniGPTCausalLM, mini_gpt
from kerasllm.pipeline import pretraining_dataset
from kerasllm.presets import load_causal_lm
from kerasllm.pretraining import pretrain_mini_gpt
from kerasllm.tokenizers import END_OF_TEXT

backend.set_up()  # for speed: how this process uses memory and GPUs

# %% [markdown]
# ## A trained model
#
# The model of the [last chapter](01_training_a_mini_gpt.ipynb) trained for a
# few minutes. This chapter and the [next](03_sampling_strategies.ipynb) use a
# larger one of the same kind. It trained for longer, also on the documentation
# of Python packages, and comes with `kerasllm` as the preset `mini_gpt_docs`
# (its card is `assets/mini_gpt_docs/README.md`). A
# [preset](../docs/api/asking.rst) holds a model, its weights and its
# vocabulary. With `SCALE = "book"`, the chapter instead trains the book's model
# on mini-C4, which takes an hour and a half on an A100 GPU.

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
end_of_text = tokenizer.token_to_id(END_OF_TEXT)

print(f"backend: {keras.backend.backend()}")
print(f"parameters: {model.count_params():,}")

# %% [markdown]
# ## The loop, by hand
#
# A prompt becomes token ids. The model reads them and returns, at *every*
# position, a vector of **logits**: one score for each token of the vocabulary,
# for being the token that comes next. To continue the text, only the last
# vector matters.

# %%
PROMPT = "Returns the number of"

token_ids = [int(i) for i in tokenizer(PROMPT)]
logits = ops.convert_to_numpy(model(np.array([token_ids])))
pieces = [tokenizer.id_to_token(i) for i in range(logits.shape[-1])]
print("token ids:", token_ids)
print("pieces:   ", [pieces[i] for i in token_ids])
print("logits:   ", logits.shape, "(texts, positions, vocabulary)")

# %% [markdown]
# (In SentencePiece vocabularies `▁` stands for a space.) A softmax turns the
# last logits into probabilities. These are the most likely tokens:

# %%
probabilities = ops.convert_to_numpy(ops.softmax(logits[0, -1]))
for i in np.argsort(-probabilities)[:5]:
    print(f"{probabilities[i]:6.1%}  {pieces[i]!r}")

# %% [markdown]
# Take the first of them, append it, and ask again. That is all there is to
# *generative decoding*: a loop of two lines, in which the output of the model
# becomes its next input. To always take the largest logit is called **greedy
# search**.

# %%
for _ in range(8):
    logits = model(np.array([token_ids]))[0, -1]
    token_ids.append(int(ops.argmax(logits)))

print(tokenizer.detokenize(token_ids))

# %% [markdown]
# ## The same loop as a function
#
# Listing 16.9 makes a function of the loop. How the next token is chosen is an
# argument: any function from logits to a token id will do. Such a function is
# called a **sampler**. `max_length` counts tokens, the prompt included.


# %%
def greedy_search(preds):
    """Return the most likely token."""
    return ops.argmax(preds, axis=-1)


def generate(prompt, sample_fn=greedy_search, max_length=64):
    """Continue a prompt until <|endoftext|> or `max_length`."""
    token_ids = [int(i) for i in tokenizer(prompt)]
    while len(token_ids) < max_length:
        logits = model(np.array([token_ids]))[0, -1]
        token_id = int(sample_fn(logits))
        if token_id == end_of_text:
            break
        token_ids.append(token_id)
    return tokenizer.detokenize(token_ids)


# %%
written = generate(PROMPT, max_length=12)
assert written == kerasllm.generate(model, tokenizer, PROMPT, max_length=12)
print(written)

# %% [markdown]
# The package's [`generate`](../docs/api/decoding.rst) gives the same text. It
# also checks what goes in, takes other stop tokens and a seed, and passes the
# tokens so far to samplers that want them.
#
# The second sampler of the book draws a token at random, each as often as the
# model says. A **temperature** divides the logits first. What it does is a
# subject of the next chapter.


# %%
def random_sample(preds, temperature=1.0):
    """Draw a token from the softmax of the logits."""
    preds = preds / temperature
    return keras.random.categorical(preds[None, :], num_samples=1)[0, 0]


# %% [markdown]
# Two functions that draw at random need not draw the same tokens. But over many
# draws, both must take a token as often as its probability says. We draw 1,000
# times with each function, and compare the share of the most likely token with
# its probability. The standard error of such a share is at most 1.6 points.

# %%
NUM_DRAWS = 1000
last_logits = ops.convert_to_tensor(np.log(probabilities))
best = int(probabilities.argmax())
seed = keras.random.SeedGenerator(0)
many = ops.repeat(last_logits[None], NUM_DRAWS, axis=0)
draws = {
    "written here": keras.random.categorical(many, 1, seed=seed)[:, 0],
    "the package's": kerasllm.random_sample(many, seed=seed),
}
print(f"probability of {pieces[best]!r}: {probabilities[best]:.1%}")
for name, ids in draws.items():
    share = np.mean(ops.convert_to_numpy(ids) == best)
    print(f"{name}: {share:.1%} of {NUM_DRAWS:,} draws")
    assert abs(share - probabilities[best]) < 5 * 0.016
assert 0 <= int(random_sample(last_logits)) < len(pieces)

# %% [markdown]
# ## Where the time goes
#
# A sampler is called once for each token, so it can carry a clock. We let the
# growing loop write a text twice and note the milliseconds of each token. In
# the next section, Figure 2.1 and Figure 2.2 compare them
# with a faster loop.

# %%
MAX_LENGTH = 24


def write_with_a_clock(generate_fn):
    """Return a greedy text and the milliseconds that each token took."""
    stamps = [time.perf_counter()]

    def greedy_with_a_clock(logits):
        token_id = int(greedy_search(logits))
        stamps.append(time.perf_counter())
        return token_id

    text = generate_fn(
        model, tokenizer, PROMPT, greedy_with_a_clock, MAX_LENGTH,
        stop_token_ids=None,
    )  # fmt: skip
    return text, np.diff(stamps) * 1000


def show(text):
    """Print a text in quotes, so that its line breaks can be seen."""
    print(textwrap.fill(repr(text), 78))


eager_text, first_time = write_with_a_clock(kerasllm.generate)
milliseconds = {
    "generate": first_time,
    "generate, again": write_with_a_clock(kerasllm.generate)[1],
}
show(eager_text)
for name, values in milliseconds.items():
    print(f"{name:25} {values.sum() / 1000:7.2f} s")

# %% [markdown]
# Called directly, `model(...)` runs *eagerly*: Python walks through the layers
# and hands the backend one small operation after another. Nothing is merged or
# planned ahead. And the text grows by one token at each step, so each step has
# **new shapes**. A backend such as JAX prepares every single operation anew for
# each shape that it meets.
#
# ## One shape, one compilation
#
# A compiled function is planned as a whole, which makes it fast, but it is made
# for one input shape. Listing 16.10 therefore fills the text up with zeros to
# `max_length` from the first step on. Then the model is compiled once, and the
# same function serves all steps, all prompts and all samplers.


# %%
def compiled_generate(prompt, sample_fn=greedy_search, max_length=64):
    """Continue a prompt by calling the compiled model on padded text."""
    token_ids = [int(i) for i in tokenizer(prompt)]
    padded = np.zeros((1, max_length), "int32")
    padded[0, : len(token_ids)] = token_ids
    for length in range(len(token_ids), max_length):
        logits = model.predict_on_batch(padded)[0, length - 1]
        token_id = int(sample_fn(logits))
        if token_id == end_of_text:
            break
        padded[0, length] = token_id
        token_ids.append(token_id)
    return tokenizer.detokenize(token_ids)


# %%
compiled_text, milliseconds["compiled_generate"] = write_with_a_clock(
    kerasllm.compiled_generate
)
milliseconds["compiled_generate, again"] = write_with_a_clock(
    kerasllm.compiled_generate
)[1]
assert compiled_generate(PROMPT, max_length=12) == written
assert compiled_text == eager_text

ax = plots.plot_comparison(
    {name: values.sum() / 1000 for name, values in milliseconds.items()},
    f"seconds for a text of {MAX_LENGTH} tokens ({keras.backend.backend()})",
)

# %% [markdown]
# *Figure 2.1. Seconds for the same text. The first call of each function may
# have to prepare things that the second call finds ready.*

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
# *Figure 2.2. The same, token by token. The axis is logarithmic: a step up is a
# factor of ten.*
#
# On JAX, Figure 2.2 shows three costs:
#
# - `generate` is slow at each length that it meets for the first time. Its
#   first tokens are cheap only because the cells above had been at these
#   lengths before.
# - `generate`, called again, finds all lengths prepared. What is left is the
#   price of sending many small operations one by one.
# - `compiled_generate` pays once, at its first token, for the compilation of
#   the whole model. From then on every token is cheap.
#
# TensorFlow's operations come ready-made, so there the first call of `generate`
# is hardly slower than the second. PyTorch runs eagerly either way, unless a
# model is compiled with `jit_compile=True`. There all curves lie close
# together, and padding gains nothing.
#
# May we pad at all? The zeros stand *after* the text, and every position
# attends only to itself and to what came before it. So what follows should not
# matter. We can check that:

# %%
length = len(token_ids)
padded = np.zeros((1, MAX_LENGTH), "int32")
padded[0, :length] = token_ids

plain_logits = ops.convert_to_numpy(model(np.array([token_ids])))[0, -1]
padded_logits = model.predict_on_batch(padded)[0, length - 1]
difference = np.abs(plain_logits - padded_logits).max()
print(f"largest logit:      {plain_logits.max():.4f}")
print(f"largest difference: {difference:.1e}")
assert difference < 1e-3

# %% [markdown]
# What remains is rounding.
#
# ## Where a text ends
#
# In training, every document was closed by the token `<|endoftext|>`. When the
# model chooses this token, it says that the text is complete. Has the model
# learned where documents end? We look at text that it never saw, at the
# positions where a document ends and at all others.

# %%
LENGTH = 100

held_out = pretraining_dataset(
    shards, tokenizer, LENGTH, 64, split="validation"
)
windows, next_tokens = next(held_out.take(1).as_numpy_iterator())
probabilities = ops.softmax(model.predict_on_batch(windows))

end_probability = ops.convert_to_numpy(probabilities)[:, :, end_of_text]
at_ends = next_tokens == end_of_text
print(f"document ends in these windows: {at_ends.sum()}")
print(f"probability of the end there:   {end_probability[at_ends].mean():.2%}")
print(f"everywhere else:                {end_probability[~at_ends].mean():.2%}")

# %% [markdown]
# It has learned something about ends. Greedy search stops only where the end is
# more likely than any other token, so a text often runs on to `max_length`.
# Other tokens may end a text, too. If the line break does, we get one line:

# %%
line_break = tokenizer.token_to_id("\n")
text, line = (
    kerasllm.compiled_generate(
        model, tokenizer, PROMPT, max_length=LENGTH, stop_token_ids=stop
    )
    for stop in (None, line_break)
)
print("no stop token:")
show(text)
print("up to the line break:")
show(line)
assert text.startswith(line) and len(line) < len(text)

# %% [markdown]
# ## Cached generation
#
# Padding pays for its single compilation with work. For each new token the
# model reads all `max_length` positions, though only one of them is new. None
# of the others has changed: a position attends to itself and to what came
# before it, so nothing that is appended can alter what was computed for it.
# Later positions ask two things of it. One is its **key**, with which they
# compare their query. The other is its **value**, which they receive.
#
# So we keep the keys and values of all positions in a **cache**. A new token
# then needs one query, one key and one value in each layer. The package's
# `MiniGPTCausalLM` has a method for this, which reads new tokens and returns
# the cache for the next call:


# %%
def cached_generate(prompt, sample_fn=greedy_search, max_length=64):
    """Continue a prompt without computing anything twice."""
    new_ids = token_ids = [int(i) for i in tokenizer(prompt)]
    cache = tuple(
        tuple(ops.zeros(shape) for shape in block.cache_shapes(1, max_length))
        for block in causal_lm.backbone.decoders
    )
    position = 0
    while len(token_ids) < max_length:
        logits, _, cache = causal_lm.call_with_cache(
            np.array([new_ids], "int32"), cache, position
        )
        position += len(new_ids)
        token_id = int(sample_fn(logits[0, -1]))
        if token_id == end_of_text:
            break
        new_ids, token_ids = [token_id], [*token_ids, token_id]
    return tokenizer.detokenize(token_ids)


# %%
generator = TextGenerator(causal_lm)
assert cached_generate(PROMPT, max_length=12) == written
assert generator.generate(PROMPT, 12) == written
cached_text = generator.generate(PROMPT, MAX_LENGTH, stop_token_ids=None)
assert cached_text == compiled_text
print("The same text with a cache:")
show(cached_text)

# %% [markdown]
# The package's [`TextGenerator`](../docs/api/decoding.rst) does this with a
# compiled step, for several texts at a time, for any sampler, and for the
# models of KerasHub, too.
#
# What does one more token cost, in short texts and in long ones? Figure 2.3
# answers that. Padded, it is
# one call on the whole text. Cached, we take the mean over all tokens of a
# text. To see the curves rise we need texts longer than our model can read. So
# we ask an untrained model of the same size with 1,024 positions. Its
# arithmetic costs the same.

# %%
sizes = causal_lm.backbone.get_config()
long_model = mini_gpt(
    tokenizer.vocabulary_size(),
    1024,
    sizes["hidden_dim"],
    sizes["intermediate_dim"],
    sizes["num_heads"],
    sizes["num_layers"],
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


lengths = [64, 256, 1024]
prices = {
    "padded": [padded_time(length) for length in lengths],
    "cached": [cached_time(length) for length in lengths],
}
print("tokens" + "".join(f"{name:>10}" for name in prices), " (milliseconds)")
for row in zip(lengths, *prices.values(), strict=True):
    print(f"{row[0]:6}" + "".join(f"{value:10.2f}" for value in row[1:]))
growth = {name: times[-1] / times[0] for name, times in prices.items()}
print(f"from 64 to 1,024 tokens, the padded price grows {growth['padded']:.0f} "
      f"times, the cached price {growth['cached']:.1f} times")  # fmt: skip

# %%
ax = plots.plot_curves(
    {name: (lengths, values) for name, values in prices.items()},
    "tokens in the text",
    f"time for one more token (milliseconds, {keras.backend.backend()})",
)
ax.set_xscale("log", base=2)
ax.set_yscale("log")

# %% [markdown]
# *Figure 2.3. The price of one more token. Both axes are logarithmic. The
# padded price grows with the length of the text, since all positions are
# computed again. The cached price grows much less. A new token has to read all
# weights, however short the text is, and in a longer text it reads some more
# keys and values.*
#
# The cache costs memory: two vectors for each layer and position.

# %%
floats = 2 * sizes["num_layers"] * sizes["hidden_dim"]
print(f"{floats} numbers, {4 * floats:,} bytes, for each token of a text")

# %% [markdown]
# With a cache it makes sense to show a text while it is written. `stream`
# yields pieces that are never half a character. Nothing is computed that nobody
# asks for.

# %%
for piece in generator.stream(PROMPT, MAX_LENGTH):
    print(piece, end="|")

# %% [markdown]
# ## Prompts that cannot work
#
# A prompt without tokens has no last position to read. A prompt that fills
# `max_length` leaves no room. And there is no embedding for positions beyond
# the last. Left alone, some of these mistakes crash deep inside a backend, and
# others silently return nonsense. So the package checks for them first:

# %%
mistakes = {
    "nothing to continue": {"prompt": ""},
    "no room left": {"prompt": "A tensor " * 20, "max_length": 16},
    "past the last position": {"prompt": PROMPT, "max_length": 10_000},
}
for name, arguments in mistakes.items():
    try:
        kerasllm.generate(model, tokenizer, **arguments)
    except ValueError as error:
        print(f"{name}:")
        print(textwrap.indent(textwrap.fill(str(error), 74), "    "), "\n")

# %% [markdown]
# ## Greedy search repeats itself
#
# Now that generating is cheap, let us read more of it. As prompts we take the
# first eight tokens of windows of held-out text, so that we know how people
# continued. (A window may begin in the middle of a sentence.)

# %%
PROMPT_LENGTH, NUM_TEXTS = 8, 32

prompts = [
    TokenizedPrompt(window[:PROMPT_LENGTH]) for window in windows[:NUM_TEXTS]
]
greedy_texts, sampled_texts = (
    generator.generate(
        prompts,
        LENGTH,
        stop_token_ids=None,
        return_logprobs=True,
        sampler=sampler,
        seed=0,
    )
    for sampler in (kerasllm.greedy_search, kerasllm.random_sample)
)
for generation in greedy_texts[:3]:
    show(generation.text)
    print()

# %% [markdown]
# The texts sound like documentation, and many of them go round in circles. To
# *measure* that, we count n-grams: runs of four tokens. The share that has
# occurred earlier in the same text is 0 where everything is new, and near 1 in
# an endless loop. A single number says little without something to compare it
# with, so Figure 2.4 also has random sampling and what people wrote after the
# same prompts.

# %%
repeated = {
    "greedy search": [repeated_ngrams(g.token_ids) for g in greedy_texts],
    "random sampling": [repeated_ngrams(g.token_ids) for g in sampled_texts],
    "held-out text": [
        repeated_ngrams(window[PROMPT_LENGTH:].tolist())
        for window in windows[:NUM_TEXTS]
    ],
}
ax = plots.plot_comparison(
    repeated, f"repeated 4-grams (share, in {LENGTH - PROMPT_LENGTH} tokens)"
)

# %% [markdown]
# *Figure 2.4. Each white dot is one of 32 texts, and a bar ends at their mean.
# People repeat themselves, too: documentation has tables, rulers and lists of
# similar arguments.*

# %%
means = {}
for name, values in repeated.items():
    means[name] = np.mean(values)
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    print(
        f"{name:15} {means[name]:6.1%} of the 4-grams are repeated, "
        f"± {1.96 * error:.1%}, {len(values)} texts"
    )
assert means["greedy search"] > 2 * means["held-out text"]

# %% [markdown]
# The numbers after ± are 95% intervals of the means.
#
# This is not a fault in the loop. Where the text gives no clear hint, common
# phrases are likely, and so are phrases that the text already contains. Greedy
# search takes the most likely token every time. Once a phrase has come round,
# the same context leads to the same choice again. But the answer of the model
# was never a single token. It was a whole vector of scores, and to take the
# largest is only one way to use it.
#
# ## Beam search
#
# Greedy search looks one token ahead. A token that seems best now may lead to
# a text that is less likely as a whole. **Beam search** keeps several prefixes,
# its *beams*. At each step it extends all of them by all tokens, and keeps the
# likeliest of the longer prefixes. The probability of a text is the product of
# the probabilities of its tokens, so we add their logarithms.


# %%
def beam_search(prompt, num_beams=4, max_length=32):
    """Return the likeliest continuation found, and its log-probability."""
    prompt_ids = [int(i) for i in tokenizer(prompt)]
    beams = [(0.0, prompt_ids)]
    for length in range(len(prompt_ids), max_length):
        padded = np.zeros((num_beams, max_length), "int32")
        for row, (_, token_ids) in enumerate(beams):
            padded[row, :length] = token_ids
        logits = model.predict_on_batch(padded)[: len(beams), length - 1]
        logprobs = ops.convert_to_numpy(ops.log_softmax(logits))
        extended = [
            (total + logprobs[row, i], [*token_ids, int(i)])
            for row, (total, token_ids) in enumerate(beams)
            for i in np.argsort(-logprobs[row])[:num_beams]
        ]
        beams = sorted(extended, key=lambda beam: -beam[0])[:num_beams]
    total, token_ids = beams[0]
    return tokenizer.detokenize(token_ids), total


# %%
beam_text, beam_logprob = beam_search(PROMPT)
packaged = generator.beam_search(
    PROMPT,
    num_beams=4,
    length_penalty=0,
    max_length=32,
    stop_token_ids=None,
    return_logprobs=True,
)
assert packaged.text == beam_text
np.testing.assert_allclose(sum(packaged.logprobs), beam_logprob, rtol=1e-3)
greedy, greedy_logprob = beam_search(PROMPT, num_beams=1)
print(f"greedy search, log-probability {greedy_logprob:.1f}:")
show(greedy)
print(f"beam search, log-probability {beam_logprob:.1f}:")
show(beam_text)
assert beam_logprob >= greedy_logprob - 1e-3

# %% [markdown]
# The package's `beam_search` finds the same text. It also keeps a cache for the
# beams, stops at stop tokens, and can divide by a power of the length, since
# longer texts are always less likely.
#
# The text of beam search is more likely. Where the two part, greedy search took
# the more likely token, and beam search gained more from those that followed
# the other one. But a likely text is not the same as a good one. People do not
# write the most likely text, either (Holtzman et al.,
# [2020](https://arxiv.org/abs/1904.09751)). Beam search is of use where there
# is one right answer, as in translation. For other text, the [next
# chapter](03_sampling_strategies.ipynb) goes the other way and uses chance.
#
# ## What we have seen
#
# - Generating is a loop of two lines: take the logits at the last position,
#   and append a token.
# - The eager loop meets a new shape at each token. Padding to one length gives
#   the same text with one compilation. On JAX and TensorFlow, Figure 2.1 shows
#   what that is worth.
# - Padding behind the text is safe, because attention looks only backwards. The
#   logits agree up to rounding.
# - With a cache of keys and values, the price of a token grows little with the
#   length of the text. The table above Figure 2.3 has the numbers.
# - A text ends at a stop token or at `max_length`.
# - Greedy search repeats more than twice as many 4-grams as people do after the
#   same prompts.
# - Beam search found a more likely text than greedy search did: its
#   log-probability is about 1.7 nats higher in 28 tokens.
#
# ## Try it
#
# 1. Set `KERAS_BACKEND` to `torch` or `tensorflow` before you start the
#    notebook, and compare Figure 2.2.
# 2. `TextGenerator.generate` takes a list of prompts. Compare
#    `generator.tokens_per_second` for one prompt and for eight. Why does a
#    token of eight texts not cost eight times as much?
# 3. Measure `repeated_ngrams` with `n=2` and `n=8`. With which does greedy
#    search differ most from the held-out text?
# 4. Search with 1, 2, 4 and 8 beams. How does the log-probability change? How
#    does the repetition?
# 5. What happens if you put the zeros of the padding *before* the text?
#
# [Solutions](solutions/02_generative_decoding.ipynb)

# %% [markdown]
# ## Quiz
#
# <details><summary>1. Which of the model's logits does the loop use?</summary>
#
# Those at the last position of the text. They score the token that comes next.
#
# </details>
# <details><summary>2. What is a sampler?</summary>
#
# A function from logits to a token id.
#
# </details>
# <details><summary>3. Why is the growing loop slow on JAX?</summary>
#
# Each step has new shapes, and every operation is prepared anew for each shape.
#
# </details>
# <details><summary>4. Why does the padding not change the text?</summary>
#
# It comes after the text. By the causal mask, no position sees a later one.
#
# </details>
# <details><summary>5. What does padding cost?</summary>
#
# Each step computes all `max_length` positions, although only one is new.
#
# </details>
# <details><summary>6. What does the cache hold?</summary>
#
# The keys and the values of all positions so far, for each layer.
#
# </details>
# <details><summary>7. Why does the cache not hold queries?</summary>
#
# A query is used only by its own position. Later positions do not ask for it.
#
# </details>
# <details><summary>8. When does a text end?</summary>
#
# When the sampler chooses a stop token, or when the text has `max_length`
# tokens.
#
# </details>
# <details><summary>9. What is beam search with a single beam?</summary>
#
# Greedy search.
#
# </details>
# <details><summary>10. Why does beam search add logarithms?</summary>
#
# The probability of a text is a product. The product of many small numbers is
# too small for a float, and the sum of their logarithms is not.
#
# </details>

# %% [markdown]
# ## Further reading
#
# - A. Holtzman et al., 2020, [*The Curious Case of Neural Text
#   Degeneration*](https://arxiv.org/abs/1904.09751): likely text is not good
#   text.
# - S. Welleck et al., 2020, [*Neural Text Generation with Unlikelihood
#   Training*](https://arxiv.org/abs/1908.04319): measuring repetition.
# - R. Pope et al., 2022, [*Efficiently Scaling Transformer
#   Inference*](https://arxiv.org/abs/2211.05102): the cache at scale.
# - Y. Wu et al., 2016, [*Google's Neural Machine Translation
#   System*](https://arxiv.org/abs/1609.08144), section 7: beam search.
# - KerasHub's [samplers](https://keras.io/keras_hub/api/samplers/).
