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
# A language model predicts the next token of a text. In this chapter we train
# one from the beginning: we cut text into tokens, cut the tokens into
# windows, build a small Transformer, and train it on two cores in a few
# minutes.
#
# This chapter mirrors sections 16.1, 16.2, 16.2.1 and 16.2.2 of Chollet and
# Watson, *Deep Learning with Python*, third edition. Its listings are written
# here in our own words. After each one we check that it computes the same
# numbers as the version in the package, and use that version from there on.
#
# ## What you will see
#
# - How GPT-1 grew into GPT-3 within two years.
# - How a vocabulary of subwords is learned, and how text becomes windows.
# - Why a validation split must be made on documents. We count the documents
#   that a careless split puts on both sides.
# - The decoder, the embedding that works in both directions, and the whole
#   model, each in less than thirty lines.
# - What a learning rate warmup is worth, measured.
# - A model that learns to name the next token more than twice as often as the
#   best constant guess does, and what its attention looks at.

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
import contextlib
import dataclasses
import io
import pathlib
import tempfile
import zipfile

import keras
import keras_hub
import matplotlib.pyplot as plt
import numpy as np
import sentencepiece
import tensorflow as tf  # tf.data reads the text on every backend
from keras import layers, ops

import kerasllm
from kerasllm import backend, plots
from kerasllm.corpora import local_docs, mini_c4
from kerasllm.evaluation import Share
from kerasllm.files import cache_dir
from kerasllm.generation import compiled_generate
from kerasllm.pipeline import pretraining_dataset
from kerasllm.pretraining import pretrain
from kerasllm.recipes import get_recipe
from kerasllm.tokenizers import END_OF_TEXT, train_sentence_piece

backend.set_up()  # for speed: how this process uses memory and GPUs
keras.utils.set_random_seed(0)

# %% [markdown]
# ## A short history
#
# The first GPT appeared in 2018. Its successors kept its architecture almost
# unchanged. What changed was the size, of the model and of the text that it
# read. Figure 1.1 shows both, together with the model that section 16.2 of the
# book trains. The [history](../docs/history.md) on this site tells more.

# %%
history_of_gpt = {
    "GPT-1 (2018)": (117e6, 0.985e9),
    "GPT-2 (2019)": (1.542e9, 10e9),
    "GPT-3 (2020)": (175e9, 499e9),
}
ax = plots.plot_curves(
    {
        "OpenAI's models": tuple(zip(*history_of_gpt.values(), strict=True)),
        "the book's mini-GPT": ([41.8e6], [0.96e9]),
    },
    "parameters",
    "words or tokens in the training text",
)
ax.set_xscale("log")
ax.set_yscale("log")
for name, point in history_of_gpt.items():
    ax.annotate(
        name,
        point,
        xytext=(8, -10),
        textcoords="offset points",
        fontsize=9,
    )
ax.margins(0.15)

# %% [markdown]
# *Figure 1.1. Three generations of GPT, on logarithmic axes. From the first
# to the third, the parameters grew 1,500 times and the text about 500 times.
# Sources: GPT-1 read BooksCorpus, 985 million words (Radford et al., 2018;
# Zhu et al., [2015](https://arxiv.org/abs/1506.06724)). GPT-2 read 40 GB of
# web pages (Radford et al., 2019), about 10 billion tokens if a token takes
# four bytes, which is our estimate. The text of GPT-3 had 499 billion tokens,
# of which its training used 300 (Brown et al.,
# [2020](https://arxiv.org/abs/2005.14165)).*
#
# GPT-1 had to be tuned for each task. GPT-2 did some tasks without any tuning,
# and GPT-3 could be told what to do by a few examples in its prompt.
#
# ## What a language model is
#
# A language model assigns a probability to each token that might come next,
# given the text so far. The probability of a whole text is the product of the
# probabilities of its tokens, each given all tokens before it. So a model
# that is good at the next token is good at text.
#
# The simplest language model counts. To say what follows a word, it looks up
# what has followed this word before. The next cell does so for the word
# "Returns".
#
# One name in the next cell chooses the scale of this chapter. `"laptop"`
# trains for a few minutes on the documentation that this installation carries.
# `"book"` is the published run: 41.8 million parameters and a billion tokens of
# the web. It takes an hour and a half on an A100 (200,000 tokens a second), and
# six hours on a T4.

# %%
SCALE = "laptop"
recipe = get_recipe(SCALE)
if SCALE == "laptop":
    recipe = dataclasses.replace(recipe, epochs=4, steps_per_epoch=80)
shards = local_docs() if SCALE == "laptop" else mini_c4()
print(len(shards), "shards on", keras.backend.backend())

followers = collections.Counter()
with open(shards[0], encoding="utf-8") as file:
    for line in file:
        words = line.replace("\\n", " ").split()
        followers.update(
            after
            for word, after in zip(words, words[1:], strict=False)
            if word == "Returns" and after.isalpha()
        )
for word, count in followers.most_common(4):
    print(
        f"after 'Returns' comes {word!r}: {Share(count, followers.total()):.0%}"
    )

# %% [markdown]
# A model that counts pairs of words knows nothing about the rest of the
# sentence. To count longer contexts does not help, because most long contexts
# occur only once. A neural network instead learns to compute the
# probabilities from the whole context, and so it can use contexts that it has
# never seen.
#
# ## Text
#
# Training text comes in **shards**: plain text files with a document on each
# line. Line breaks inside a document are written as the two characters `\n`,
# so that a document stays on its line.

# %%
with open(shards[0], encoding="utf-8") as file:
    document = file.readline().replace("\\n", "\n")
print(document[:400])

# %% [markdown]
# The book trains on mini-C4, a part of a crawl of the web. Listing 16.1
# downloads and unpacks it:


# %%
def download_shards(address, directory):
    """Download a ZIP archive of shards; return their paths."""
    folder = keras.utils.get_file(
        origin=address, extract=True, cache_dir=directory
    )
    return sorted(pathlib.Path(folder).rglob("shard*.txt"))


# %% [markdown]
# To try it without a network, we make a small archive and give its address on
# this machine. The package's [`mini_c4`](../docs/api/text.rst) finds the same
# text in it. It adds a checksum, so that a file which was cut off in the
# middle of its download is noticed, and it sorts the shards. Their order
# decides the order of the batches.

# %%
with tempfile.TemporaryDirectory() as folder:
    archive = pathlib.Path(folder, "small-c4.zip")
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(3):
            file.writestr(f"shard{number}.txt", f"Document {number}.\n")
    with contextlib.redirect_stdout(io.StringIO()):  # no progress bars
        ours = download_shards(archive.as_uri(), f"{folder}/ours")
        theirs = mini_c4(f"{folder}/theirs", url=archive.as_uri())
    texts = [[pathlib.Path(p).read_text() for p in ps] for ps in (ours, theirs)]
    assert texts[0] == texts[1] and len(ours) == 3
    print(texts[0])

# %% [markdown]
# ## Tokens
#
# A vocabulary of whole words would never be complete, and single characters
# make texts long. **Subwords** lie between the two. Common words are one
# token, and rare words are spelled in pieces.
#
# How are the pieces found? One way is to begin with single characters and to
# merge, again and again, the pair of neighbors that occurs most often. This is
# *byte-pair encoding* (Sennrich et al.,
# [2016](https://arxiv.org/abs/1508.07909)). Here are the first merges on a few
# thousand words of our text:

# %%
with open(shards[0], encoding="utf-8") as file:
    text = "".join(file.readline().replace("\\n", " ") for _ in range(200))
word_counts = collections.Counter(text.split())
spelled = {word: list("▁" + word) for word in word_counts}
for step in range(10):
    pairs = collections.Counter()
    for word, pieces in spelled.items():
        for pair in zip(pieces, pieces[1:], strict=False):
            pairs[pair] += word_counts[word]
    (left, right), count = pairs.most_common(1)[0]
    print(f"merge {step + 1:2}: {left!r:6} + {right!r:4} ({count} times)")
    for pieces in spelled.values():
        i = 0
        while i + 1 < len(pieces):
            if pieces[i : i + 2] == [left, right]:
                pieces[i : i + 2] = [left + right]
            i += 1
print("The words are now spelled", [*spelled.values()][:4])

# %% [markdown]
# Our vocabulary is trained by SentencePiece, which goes the other way. Its
# *unigram* method (Kudo, [2018](https://arxiv.org/abs/1804.10959)) begins with
# many candidates, gives each of them a probability, and drops those whose loss
# hurts the least, until the vocabulary has the size that was asked for. With
# the probabilities that remain, a text is cut so that the product of its
# pieces is as large as possible.

# %%
RUN = cache_dir("runs") / f"chapter-1-{pathlib.Path(shards[0]).parent.name}"
vocabulary_file = RUN / "vocabulary.spm"
tokenizer = train_sentence_piece(
    shards, recipe.vocabulary_size, path=vocabulary_file
)
processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.proto)
for pieces in processor.nbest_encode_as_pieces(" flattened", 3):
    score = sum(processor.get_score(processor.piece_to_id(p)) for p in pieces)
    print(f"log-probability {score:6.1f}: {pieces}")

# %% [markdown]
# The first line is how the tokenizer cuts the word. (`▁` stands for a space.)
# Listing 16.2 makes a tokenizer from the file with a vocabulary. It turns text
# into integers and back:

# %%
from_file = keras_hub.tokenizers.SentencePieceTokenizer(str(vocabulary_file))

sentence = "Returns the shape of a tensor, unflabbergasted."
ids = from_file(sentence)
assert from_file.detokenize(ids) == sentence
np.testing.assert_array_equal(ids, tokenizer(sentence))
print([tokenizer.id_to_token(int(i)) for i in ids])
print(len(sentence), "characters,", len(ids), "tokens")

# %% [markdown]
# [`train_sentence_piece`](../docs/api/text.rst) adds the training, a token for
# the line break, and the token `<|endoftext|>`, which will close each document.
#
# ## Windows
#
# Training needs sequences of equal length. So we tokenize each document, close
# it with `<|endoftext|>`, put all documents one behind the other, and cut the
# stream into **windows**. A window holds one token more than the model sees.
# Without its last token it is the input `x`. Without its first token it is the
# target `y`: at each position, the token that comes next. Listing 16.3 does
# this with `tf.data`:

# %%
end_of_text = tokenizer.token_to_id(END_OF_TEXT)


def read_file(filename):
    """Read a shard; return a dataset of its documents as vectors of tokens."""
    documents = tf.data.TextLineDataset(filename)
    documents = documents.map(
        lambda text: tf.strings.regex_replace(text, r"\\n", "\n")
    )
    return documents.map(
        lambda text: tf.concat([tokenizer(text), [end_of_text]], axis=0),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def make_windows(filenames, sequence_length, batch_size):
    """Return a dataset of batches (x, y) of all shards."""
    tokens = tf.data.Dataset.from_tensor_slices(filenames).interleave(
        read_file, cycle_length=32, num_parallel_calls=tf.data.AUTOTUNE
    )
    windows = tokens.rebatch(sequence_length + 1, drop_remainder=True)
    pairs = windows.map(lambda window: (window[:-1], window[1:]))
    return pairs.batch(batch_size).prefetch(8)


# %%
written = make_windows(shards, recipe.sequence_length, recipe.batch_size)
packaged = pretraining_dataset(
    shards, tokenizer, recipe.sequence_length, recipe.batch_size
)
for (x, y), (their_x, their_y) in zip(written.take(20), packaged, strict=False):
    np.testing.assert_array_equal(x, their_x)
    np.testing.assert_array_equal(y, their_y)
print("x", x.shape, " y", y.shape, " of", int(packaged.cardinality()))
print("x starts", x[0, :8].numpy())
print("y starts", y[0, :8].numpy())

# %% [markdown]
# The package's [`pretraining_dataset`](../docs/api/text.rst) gives the same
# batches. It tokenizes many documents at a time, which is faster. It counts
# the tokens first, so that the number of batches is known, shuffles, shares
# the shards among several machines, and makes a validation split.
#
# ## A split that does not leak
#
# A validation split is there to measure the model on text that it has not
# read. How do we make one? It is tempting to shuffle the windows and put some
# of them aside. But a window begins in the middle of a document, and the rest
# of the document lies in the neighboring windows. So most documents end up on
# both sides.
#
# The package instead decides for each document, before there are windows, on
# which side it goes. A hash of its text decides, so that a copy of a document
# always goes with it. Let us count the documents with text on both sides, for
# both kinds of split. The split of windows is the control: it shows that this
# count is able to find a leak.

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
print(int(train_dataset.cardinality()), "batches to train on,", end=" ")
print(int(validation_dataset.cardinality()), "to validate on")


def read_windows(dataset):
    """Return the windows of a dataset, int (windows, sequence_length + 1)."""
    return np.concatenate(
        [np.concatenate([x, y[:, -1:]], axis=1) for x, y in dataset]
    )


def whole_documents(windows):
    """Return the documents that lie whole in a stream of windows: a set."""
    stream = windows.ravel()
    ends = np.flatnonzero(stream == end_of_text) + 1
    return {document.tobytes() for document in np.split(stream, ends)[1:-1]}


# Ours: no document of one side may be among those of the other side.
held_out = whole_documents(read_windows(validation_dataset))
trained_on = whole_documents(read_windows(train_dataset.take(1000)))
leaked = len(held_out & trained_on)

# The control: one window in fifty is put aside, whatever document it is from.
windows = read_windows(packaged.take(1000))
document_of_token = np.cumsum(windows.ravel() == end_of_text)
document_of_token = document_of_token.reshape(windows.shape)
is_aside = np.random.default_rng(0).random(len(windows)) < 0.02
aside, rest = document_of_token[is_aside], document_of_token[~is_aside]
leaked_by_windows = len(np.intersect1d(aside, rest))

touched = len(np.unique(aside))
print(f"split by document: {leaked} of {len(held_out)} documents leak")
print(
    f"split by window: {leaked_by_windows} of {touched} documents leak, "
    f"{leaked_by_windows / touched:.0%}"
)
assert leaked == 0 < leaked_by_windows

# %% [markdown]
# A split of windows leaks nearly every document of which it puts a part aside.
# Then the validation loss would also reward a model for learning documents by
# heart.
#
# ## Attention that looks back
#
# A GPT is the decoder of a Transformer without an encoder. Its input is the
# text so far, and it must not look ahead: at each position, the next token is
# what it has to guess. So position $i$ may attend to positions $0$ to $i$
# only. The **causal mask** in Figure 1.2 says so.

# %%
causal_mask = np.tril(np.ones((8, 8)))
figure, ax = plt.subplots(figsize=(3.4, 3.4), layout="constrained")
ax.imshow(causal_mask, cmap="Blues", vmax=1.6)
for row, column in np.ndindex(8, 8):
    ax.text(column, row, f"{causal_mask[row, column]:.0f}", ha="center",
            va="center", fontsize=9)  # fmt: skip
_ = ax.set(
    xlabel="position that is attended to", ylabel="position that attends"
)

# %% [markdown]
# *Figure 1.2. The causal mask of eight positions. Where there is a 0, the
# attention weight is set to zero, so no position receives anything from a
# later one.*
#
# A decoder block applies attention under this mask, and then two dense layers
# to each position on its own. Around both runs a *residual connection*, which
# adds the input to the result, and a LayerNorm follows each sum. This is
# listing 16.4:


# %%
class TransformerDecoder(keras.Layer):
    def __init__(self, hidden_dim, intermediate_dim, num_heads, dropout=0.1):
        super().__init__()
        self.self_attention = layers.MultiHeadAttention(
            num_heads, hidden_dim // num_heads, dropout=dropout
        )
        self.self_attention_layernorm = layers.LayerNormalization()
        self.feed_forward_1 = layers.Dense(intermediate_dim, activation="relu")
        self.feed_forward_2 = layers.Dense(hidden_dim)
        self.feed_forward_layernorm = layers.LayerNormalization()
        self.dropout = layers.Dropout(dropout)

    def call(self, inputs):
        # (batch_size, length, hidden_dim), here and after each step
        x = self.self_attention(inputs, inputs, use_causal_mask=True)
        x = self.self_attention_layernorm(inputs + self.dropout(x))
        residual = x
        x = self.feed_forward_2(self.feed_forward_1(x))
        return self.feed_forward_layernorm(residual + self.dropout(x))


# %%
def numpy_of(tensor):
    return ops.convert_to_numpy(tensor)


vectors = np.random.default_rng(0).normal(size=(2, 10, 32)).astype("float32")
written, packaged = (
    decoder(32, 64, num_heads=4)
    for decoder in (TransformerDecoder, kerasllm.TransformerDecoder)
)
written(vectors), packaged(vectors)  # the first call makes the weights
written.set_weights(packaged.get_weights())
np.testing.assert_allclose(
    numpy_of(written(vectors)), numpy_of(packaged(vectors)), atol=1e-5
)

changed = vectors.copy()
changed[:, 6:] = 0  # another future
difference = numpy_of(packaged(vectors)) - numpy_of(packaged(changed))
assert np.abs(difference[:, :6]).max() < 1e-6 < np.abs(difference[:, 6:]).max()
print("Positions 0 to 5 do not notice that positions 6 to 9 have changed.")

# %% [markdown]
# The package's [`TransformerDecoder`](../docs/api/model.rst) gives the same
# numbers. It also takes a padding mask, keeps keys and values in a cache for
# [generation](02_generative_decoding.ipynb), and can save memory in training
# by gradient checkpointing.
#
# ## An embedding for both ends
#
# The first layer turns token ids into vectors, and adds a vector for each
# position, because attention alone does not know the order. The last step
# needs the opposite: from a vector, a score for each token. Listing 16.5 uses
# one matrix for both. In reverse, it multiplies a hidden state by the vector
# of each token. The more alike the two are, the higher the score.


# %%
class PositionalEmbedding(keras.Layer):
    def __init__(self, sequence_length, input_dim, output_dim):
        super().__init__()
        self.token_embeddings = layers.Embedding(input_dim, output_dim)
        self.position_embeddings = layers.Embedding(sequence_length, output_dim)

    def call(self, inputs, reverse=False):
        if reverse:  # (..., output_dim) to (..., input_dim)
            vectors = self.token_embeddings.embeddings
            return ops.matmul(inputs, ops.transpose(vectors))
        positions = self.position_embeddings(ops.arange(ops.shape(inputs)[-1]))
        return self.token_embeddings(inputs) + positions


# %%
token_ids = np.arange(20, dtype="int32").reshape(2, 10)
written, packaged = (
    embedding(16, 50, 32)
    for embedding in (PositionalEmbedding, kerasllm.PositionalEmbedding)
)
written(token_ids), packaged(token_ids)
written.set_weights(packaged.get_weights())
for inputs, reverse in ((token_ids, False), (vectors, True)):
    ours, theirs = (
        numpy_of(layer(inputs, reverse=reverse))
        for layer in (written, packaged)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    print(inputs.shape, "becomes", ours.shape)

# %% [markdown]
# The scores are called **logits**. A softmax turns them into probabilities.
# Why does the model not end with the softmax? Because the loss needs the
# *logarithm* of a probability. A probability that is too small for a float
# becomes 0, and the logarithm of 0 is minus infinity. Computed from logits in
# one step, nothing is lost:

# %%
surprising = np.array([0.0, 200.0], "float32")  # logits of two tokens
with np.errstate(divide="ignore"):
    in_two_steps = np.log(numpy_of(ops.softmax(surprising)))
in_one_step = numpy_of(ops.log_softmax(surprising))
print("logarithm of the softmax:", in_two_steps)
print("log-softmax in one step: ", in_one_step)

# %% [markdown]
# So the loss will be told `from_logits=True`, and [samplers](
# 03_sampling_strategies.ipynb) will take logits, too.
#
# The package's [`PositionalEmbedding`](../docs/api/model.rst) also checks the
# length of its input (a position that is not in the table silently gives NaN
# on JAX), and computes logits in float32 whatever the precision of the rest.
#
# ## The model
#
# Listing 16.6 puts the parts together: an embedding, some decoder blocks, and
# the same embedding in reverse.


# %%
def build_mini_gpt(vocabulary_size, recipe):
    """Return a model from token ids to logits."""
    inputs = keras.Input(shape=(None,), dtype="int32")
    embedding = kerasllm.PositionalEmbedding(
        recipe.sequence_length, vocabulary_size, recipe.hidden_dim
    )
    x = embedding(inputs)
    x = layers.LayerNormalization()(x)
    for _ in range(recipe.num_layers):
        x = kerasllm.TransformerDecoder(
            recipe.hidden_dim,
            recipe.intermediate_dim,
            recipe.num_heads,
            recipe.dropout,
        )(x)
    return keras.Model(inputs, embedding(x, reverse=True))


# %%
vocabulary_size = tokenizer.vocabulary_size()
written = build_mini_gpt(vocabulary_size, recipe)
model = recipe.build(vocabulary_size)  # calls the package's `mini_gpt`
written.set_weights(model.get_weights())
x, y = next(validation_dataset.as_numpy_iterator())
np.testing.assert_allclose(
    numpy_of(written(x[:2])), numpy_of(model(x[:2])), atol=1e-4
)
print(
    f"{written.count_params():,} parameters, logits {tuple(model(x[:2]).shape)}"
)

# %% [markdown]
# [`mini_gpt`](../docs/api/model.rst) builds the same model and gives names to
# its layers. At the sizes of the book it has 41,800,768 parameters. What would
# it have if each end had a matrix of its own?

# %%
book = get_recipe("book")
book_parameters = book.build().count_params()
matrix = book.vocabulary_size * book.hidden_dim
untied = book_parameters + matrix
print(f"laptop  {model.count_params():>12,}")
print(f"book    {book_parameters:>12,}")
print(f"untied  {untied:>12,}")
print(f"sharing saves {matrix:,} parameters, {matrix / untied:.0%} of them")

# %% [markdown]
# ## Warmup
#
# The first gradients of a fresh Transformer are large and say little: the
# model does not even know yet which words are common. A **warmup** keeps the
# first steps small, and reaches the full learning rate after a while. In Keras
# a learning rate may be a function of the step. Listing 16.7 (Figure 1.3 shows
# the result):


# %%
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, rate=2e-4, warmup_steps=1000):
        self.rate = rate
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        return self.rate * ops.minimum(step / self.warmup_steps, 1.0)


# %%
written = WarmupSchedule(recipe.learning_rate, recipe.warmup_steps)
schedule = kerasllm.WarmupSchedule(recipe.learning_rate, recipe.warmup_steps)
for step in (0, 1, 50, 100, 1000):
    np.testing.assert_allclose(written(step), schedule(step), rtol=1e-6)
ax = plots.plot_schedule(schedule, 5 * recipe.warmup_steps)

# %% [markdown]
# *Figure 1.3. The learning rate rises for 100 steps and stays there.*
#
# [`WarmupSchedule`](../docs/api/model.rst) of the package can also be saved
# together with an optimizer, and refuses rates that make no sense.
#
# ## `compile` and `fit`
#
# Everything is ready for training. Listing 16.8 is two calls: `compile` chooses
# an optimizer, a loss and a metric, and `fit` takes the steps. The loss is the
# *cross-entropy*: minus the logarithm of the probability that the model gave
# to the token which came next, as a mean over all positions.


# %%
def compile_and_fit(model, dataset, learning_rate):
    """Train on each batch once; return the mean loss."""
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(dataset, shuffle=False, verbose=0)
    return history.history["loss"][0]


# %%
SMALL = dataclasses.replace(
    recipe, sequence_length=64, hidden_dim=96, intermediate_dim=384, dropout=0.0
)
short = pretraining_dataset(
    shards, tokenizer, SMALL.sequence_length, 16, split="train", num_batches=200
).cache()
first, second = (SMALL.build(vocabulary_size) for _ in range(2))
second.set_weights(first.get_weights())
short_warmup = kerasllm.WarmupSchedule(recipe.learning_rate, warmup_steps=10)
ours = compile_and_fit(first, short.take(20), short_warmup)
theirs = pretrain(
    second,
    short.take(20),
    directory=None,
    epochs=1,
    learning_rate=short_warmup,
    verbose=0,
)[0]["loss"]
np.testing.assert_allclose(ours, theirs, rtol=1e-3)
print(f"mean loss of 20 steps: {ours:.3f} and {theirs:.3f}")
alike = np.log(vocabulary_size)
print(f"loss of a model to which all tokens are alike: {alike:.3f}")

# %% [markdown]
# [`pretrain`](../docs/api/training.rst) takes the same steps. It adds
# checkpoints, so that a run of hours survives a power failure and ends where it
# would have ended anyway, and stops at a loss that is not a number.
#
# Does warmup help? We train the small model for 200 steps at a learning rate
# that is rather high for it, twice with a warmup of 100 steps and twice
# without. The two runs of a pair start from the same weights, and all see the
# same text. Figure 1.4 compares the losses.


# %%
class StepLosses(keras.callbacks.Callback):
    """Keeps the loss of each step; Keras reports the mean so far."""

    def on_train_begin(self, logs=None):
        self.losses, self.total = [], 0.0

    def on_train_batch_end(self, batch, logs=None):
        total = logs["loss"] * (batch + 1)
        self.losses.append(total - self.total)
        self.total = total


curves = {"no warmup": [], "100 steps of warmup": []}
for seed in (0, 1):
    for name, warmup_steps in zip(curves, (0, 100), strict=True):
        small = SMALL.build(vocabulary_size)
        rng = np.random.default_rng(seed)
        for weight in small.trainable_weights:
            if weight.path.endswith(("kernel", "embeddings")):
                scale = 0.03 if "embeddings" in weight.path else 0.07
                weight.assign(rng.normal(0, scale, weight.shape))
        small.compile(
            keras.optimizers.Adam(kerasllm.WarmupSchedule(6e-3, warmup_steps)),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        steps = StepLosses()
        small.fit(short, verbose=0, shuffle=False, callbacks=[steps])
        curves[name].append(steps.losses)

# %%
smooth = {
    name: (np.arange(5, 200, 10), np.mean(runs, axis=0).reshape(20, 10).mean(1))
    for name, runs in curves.items()
}
ax = plots.plot_curves(smooth, "training step", "loss (nats per token)")
ends = [np.mean(np.array(runs)[:, -40:], axis=1) for runs in curves.values()]
for name, end in zip(curves, ends, strict=True):
    print(f"{name:19} loss over the last 40 steps: {end[0]:.2f}, {end[1]:.2f}")
without, with_warmup = (end.mean() for end in ends)
print(f"mean: {without:.2f} without warmup, {with_warmup:.2f} with it")

# %% [markdown]
# *Figure 1.4. The loss with and without warmup, each a mean of two runs and of
# ten steps. Without warmup the loss falls sooner, as one would expect of
# larger steps. Then the runs with warmup overtake it and stay ahead.*
#
# ## Mixed precision
#
# On a GPU, and on recent CPUs, arithmetic in 16 bits is faster and takes half
# the memory. The format *bfloat16* has the range of float32, but only eight
# bits for the digits, so that steps between numbers are coarse. A **mixed**
# policy computes in bfloat16 and keeps the weights in float32. Otherwise many
# updates would be lost, because they are smaller than the distance to the next
# number:

# %%
one, update = (ops.cast(number, "bfloat16") for number in (1.0, 0.001))
print("1 + 0.001 in bfloat16:", float(one + update))

keras.config.set_dtype_policy("mixed_bfloat16")
half = SMALL.build(vocabulary_size)
keras.config.set_dtype_policy("float32")
half.set_weights(small.get_weights())
print("weights", half.weights[0].dtype, " logits", half(x[:1, :64]).dtype)

cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
losses = [
    float(cross_entropy(y[:, :64], network(x[:, :64])))
    for network in (small, half)
]
print(f"loss in float32 {losses[0]:.4f}, in mixed precision {losses[1]:.4f}")
assert abs(losses[0] - losses[1]) < 0.02

# %% [markdown]
# The loss hardly changes. `mini_gpt` returns float32 logits under each policy,
# since a softmax over thousands of tokens needs more than eight bits. On a GPU,
# train with `"mixed_bfloat16"`. On a laptop it depends on the processor, so
# this chapter stays with float32.
#
# ## Training
#
# Now the long cell. It trains for a few minutes, or finds the work done. If you
# stop it, run it again: it goes on from its last checkpoint with the same
# batches. After each epoch it prints the loss and a continuation of "Return a
# new". Figure 1.5 shows the losses. (The times printed below were taken on a
# machine that was busy with other work. On two free cores, an epoch takes less
# than a minute.)

# %%
history = pretrain(
    model,
    train_dataset,
    validation_dataset,
    directory=RUN,
    epochs=recipe.epochs,
    steps_per_epoch=recipe.steps_per_epoch,
    validation_steps=recipe.validation_steps,
    learning_rate=schedule,
    loss_chunks=recipe.loss_chunks,
    sample=lambda model: compiled_generate(
        model, tokenizer, "Return a new", max_length=32
    ),
    verbose=2,
)

# %%
ax = plots.plot_history(history)

# %% [markdown]
# *Figure 1.5. The loss after each epoch, on the text that the model trains on
# and on held-out documents. Both still fall. (The training loss is a mean over
# the epoch, so it lags behind the other.)*
#
# ## What was learned
#
# The loss is measured in *nats* per token. Its exponential is the
# **perplexity**: the number of equally likely tokens between which the model
# is, in effect, still undecided. Is that good? To judge the accuracy we need
# something to compare it with. The simplest guess is to name the most common
# token each time. We measure both on all held-out windows.

# %%
model.compile(
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    weighted_metrics=["accuracy"],
)
scores = model.evaluate(validation_dataset, verbose=0, return_dict=True)
targets = np.concatenate([y.numpy().ravel() for _, y in validation_dataset])
counts = np.bincount(targets)
right = Share(round(scores["accuracy"] * len(targets)), len(targets))
low, high = right.interval()
commonest = tokenizer.id_to_token(int(counts.argmax()))
print(f"{len(targets):,} held-out tokens")
print(f"always {commonest!r}: {counts.max() / len(targets):.1%} right")
print(f"the model: {right:.1%} right (95% interval {low:.1%} to {high:.1%})")
print(f"loss {scores['loss']:.2f}, perplexity {np.exp(scores['loss']):.0f}")
assert right > 2 * counts.max() / len(targets)

# %% [markdown]
# What does the model look at when it guesses? Figure 1.6 shows the attention
# weights of its first block. Each row shows how one position divides its
# attention among itself and the positions before it.

# %%
sentence = "Returns the sum of the elements of an array."
token_ids = np.array([tokenizer(sentence)])
hidden = model.get_layer("embedding_layernorm")(
    model.get_layer("embedding")(token_ids)
)
_, attention = model.get_layer("decoder_0").self_attention(
    hidden, hidden, use_causal_mask=True, return_attention_scores=True
)
attention = numpy_of(attention)[0]  # (heads, positions, positions)
assert np.allclose(attention.sum(-1), 1, atol=1e-5)
assert np.allclose(np.triu(attention, 1), 0)

pieces = [tokenizer.id_to_token(int(i)) for i in token_ids[0]]
figure, axes = plt.subplots(1, 4, figsize=(12, 3.6), layout="constrained")
for number, ax in enumerate(axes):
    ax.imshow(attention[number], cmap="Blues", vmin=0)
    ax.set_title(f"head {number}", fontsize=10)
    ax.set_xticks(range(len(pieces)), pieces, rotation=90, fontsize=8)
    ax.set_yticks(range(len(pieces)), pieces if number == 0 else [], fontsize=8)

# %% [markdown]
# *Figure 1.6. Attention weights of the four heads of the first block, darker
# for larger weights. A row attends, a column is attended to. Above the
# diagonal all weights are zero: that is the causal mask at work. The heads
# divide their attention in different ways.*
#
# This model is small and has trained for minutes. Chapters
# [2](02_generative_decoding.ipynb) and [3](03_sampling_strategies.ipynb)
# therefore use a larger one that comes with the package. It was trained in the
# same way on the same kind of text, only longer.
#
# ## What we have seen
#
# - A corpus becomes windows of tokens, and the target of a window is the window
#   itself, one position later.
# - A split by documents leaks none of them. A split by windows leaks nearly
#   all that it touches.
# - One embedding serves both ends of the model. In the book's model this saves
#   16,384,000 parameters, 28% of the 58.2 million that two would need.
# - With small first steps the loss of the small model ends lower, by the
#   numbers above Figure 1.4.
# - After a few minutes, the model names the next token more than twice as
#   often as the best constant guess does. The book's model reaches about 36%
#   on mini-C4, with a vocabulary of 32,000.
#
# ## Try it
#
# 1. Split the corpus by window, but with windows of 32 tokens. Does a larger
#    or a smaller share of the documents leak? Why?
# 2. Continue the merges to 200 steps. Which words have become one token?
# 3. Remove `use_causal_mask=True` from the decoder. Show that a later token now
#    changes the logits at earlier positions. Why would the training loss of
#    such a model be worth nothing?
# 4. Compare the held-out loss after 150 steps with `dropout` of 0, 0.1 and 0.3.
#    Why does dropout make little difference in a run this short?
# 5. Interrupt the training cell and run it again. At which step does it
#    continue?
#
# [Solutions](solutions/01_training_a_mini_gpt.ipynb)

# %% [markdown]
# ## Quiz
#
# <details><summary>1. What does a language model compute?</summary>
#
# A probability for each token of the vocabulary to come next, given the text
# so far.
#
# </details>
# <details><summary>2. Why does a window hold one token more than the model
# sees?</summary>
#
# The input is the window without its last token, the target is the window
# without its first. So each position has a next token.
#
# </details>
# <details><summary>3. Why is a split of shuffled windows a leak?</summary>
#
# The windows of one document fall on both sides. The model is then validated
# on the rest of documents that it has trained on.
#
# </details>
# <details><summary>4. What does the causal mask prevent?</summary>
#
# That a position receives information from later positions, and thus sees the
# token that it has to predict.
#
# </details>
# <details><summary>5. Why does the model need position embeddings?</summary>
#
# Attention is a weighted mean, in which the order of the positions plays no
# part. The position vectors add the order.
#
# </details>
# <details><summary>6. What does the embedding do in reverse?</summary>
#
# It multiplies a hidden state by the vector of each token. The products are
# the logits.
#
# </details>
# <details><summary>7. Sharing saves 16.4 million parameters. Why is that 28%
# and not 39%?</summary>
#
# The saving is compared with the model that does not share, 58.2 million. To
# *add* a second matrix to the 41.8 million would add 39%.
#
# </details>
# <details><summary>8. Why does the loss take logits and not
# probabilities?</summary>
#
# The logarithm of a very small probability is lost in two steps, since the
# softmax rounds it to zero. In one step it is exact.
#
# </details>
# <details><summary>9. A model's loss is 4.0 nats per token. What is its
# perplexity?</summary>
#
# The exponential of 4, about 55.
#
# </details>
# <details><summary>10. Why does mixed precision keep the weights in
# float32?</summary>
#
# Many updates are smaller than the distance between two neighboring numbers
# of 16 bits, and would be rounded away.
#
# </details>

# %% [markdown]
# ## Further reading
#
# - A. Radford, K. Narasimhan, T. Salimans and I. Sutskever, 2018, *Improving
#   Language Understanding by Generative Pre-Training*: GPT-1.
# - A. Radford et al., 2019, *Language Models are Unsupervised Multitask
#   Learners*: GPT-2.
# - T. Brown et al., 2020, [*Language Models are Few-Shot
#   Learners*](https://arxiv.org/abs/2005.14165): GPT-3.
# - A. Vaswani et al., 2017, [*Attention Is All You
#   Need*](https://arxiv.org/abs/1706.03762): the Transformer.
# - O. Press and L. Wolf, 2017, [*Using the Output Embedding to Improve Language
#   Models*](https://arxiv.org/abs/1608.05859): one matrix for both ends.
# - T. Kudo and J. Richardson, 2018,
#   [*SentencePiece*](https://arxiv.org/abs/1808.06226): the tokenizer.
# - R. Xiong et al., 2020, [*On Layer Normalization in the Transformer
#   Architecture*](https://arxiv.org/abs/2002.04745): why warmup helps.
# - P. Micikevicius et al., 2018, [*Mixed Precision
#   Training*](https://arxiv.org/abs/1710.03740).
# - Keras's guide to [mixed
#   precision](https://keras.io/api/mixed_precision/).
