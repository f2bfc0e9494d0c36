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
# # Solutions: retrieval-augmented generation
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/kerasllm/kerasllm/blob/main/chapters/solutions/09_retrieval.ipynb)
#
# One way to solve the exercises of [chapter 9](../09_retrieval.ipynb).

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
import random

import keras
import numpy as np

from kerasllm import backend
from kerasllm.chat import ChatModel
from kerasllm.evaluation import Share
from kerasllm.retrieval import Embedder, Store, train_embedder
from kerasllm.toyworld import World

backend.set_up()
keras.utils.set_random_seed(0)
rng = random.Random(0)


def say(entity, attribute):
    text = rng.choice(attribute.sentences).format(
        name=entity.name, value=entity.facts[attribute.name]
    )
    return text[0].upper() + text[1:]


def pairs_of(world):
    return [
        (
            rng.choice(attribute.questions).format(name=entity.name),
            say(entity, attribute),
        )
        for entity in world.entities
        for attribute in entity.attributes()
    ]


world = World(77)
pairs = pairs_of(world)
passages = [passage for _, passage in pairs]
asked = rng.sample(pairs, 200)
training_pairs = pairs_of(World(100)) + pairs_of(World(101))


def train(temperature):
    """Return an embedder, trained as in the chapter."""
    embedder = Embedder.from_preset("tiny", dtype="float32")
    steps = len(training_pairs) // 64
    train_embedder(
        embedder,
        training_pairs,
        epochs=1,
        batch_size=64,
        learning_rate=keras.optimizers.schedules.CosineDecay(
            0.0, steps, warmup_target=1e-3, warmup_steps=2
        ),
        temperature=temperature,
        verbose=0,
    )
    return embedder


def percent(share):
    low, high = share.interval()
    return f"{share:.1%} ({low:.1%} to {high:.1%})"


# %% [markdown]
# ## 1. A temperature of 1

# %%
numbers = {passage: number for number, passage in enumerate(passages)}
gold = np.array([numbers[passage] for _, passage in asked])
scores = {}
for temperature in (0.05, 1.0):
    embedder = train(temperature)
    keys = embedder(passages)
    queries = embedder([question for question, _ in asked])
    scores[temperature] = queries @ keys.T  # (num_questions, num_passages)
    found = np.argmax(scores[temperature], axis=1) == gold
    print(
        f"temperature {temperature}: recall@1 {percent(Share.of(found))}, "
        f"cosine with its own "
        f"{scores[temperature][np.arange(200), gold].mean():.2f}"
    )
    if temperature == 0.05:
        trained, trained_keys = embedder, keys

# %% [markdown]
# Cosines are between -1 and 1. At a temperature of 1, the softmax over 64
# passages cannot tell them apart, even if the right one has a cosine of 1 and
# all others of 0: its probability would be $e / (e + 63)$, which is 4%. The
# loss stays high whatever the model does, and most of its gradient pushes all
# other passages away equally, instead of the few that are nearly as close as
# the right one.
#
# ## 2. Other weights

# %%
store = Store(":memory:", trained)
store.add(passages, [str(number) for number in range(len(passages))])
rankings = {
    mode: [
        [int(hit.id) for hit in store.search(question, 100, mode)]
        for question, _ in asked
    ]
    for mode in ("vector", "bm25")
}


def first_of(by_vector, by_words, weight):
    """Return the best passage if BM25's vote has a weight."""
    fused = collections.Counter()
    for share, ranking in ((1, by_vector), (weight, by_words)):
        for rank, number in enumerate(ranking, 1):
            fused[number] += share / (60 + rank)
    return max(fused, key=lambda number: (fused[number], -number))


def recall(weight, part):
    """Return recall@1 on a part of the questions."""
    return Share.of(
        first_of(rankings["vector"][i], rankings["bm25"][i], weight) == gold[i]
        for i in part
    )


weights = (0, 0.01, 0.03, 0.1, 0.3, 1)
for weight in weights:
    print(f"weight {weight:4}: {recall(weight, range(100)):.0%}")
best = max(weights, key=lambda weight: recall(weight, range(100)))
others = range(100, 200)
print(f"on the other half, weight {best}: {percent(recall(best, others))}")
print(f"on the other half, weight 0: {percent(recall(0, others))}")

# %% [markdown]
# No weight is better than none. A small vote changes hardly anything, and a
# larger one overrules an embedder that is right more often than BM25 is. Had
# several weights been a little better on the first half, only the second half
# could have told whether that was more than luck.
#
# ## 3. Four facts in one passage

# %%
together = [" ".join(passages[i : i + 4]) for i in range(0, len(passages), 4)]
with Store(":memory:", trained) as long_store:
    long_store.add(together, [str(i) for i in range(len(together))])
    for mode in ("bm25", "vector", "hybrid"):
        flags = [
            long_store.search(question, 1, mode)[0].id == str(number // 4)
            for (question, _), number in zip(asked, gold, strict=True)
        ]
        print(f"{mode:7} recall@1 {percent(Share.of(flags))}")

# %% [markdown]
# BM25 gains most: it always knew the name, and now the name is enough. All
# three are nearly always right, and hybrid search is as good as the best of
# them, because its two parts are about equally good. The price is paid by the
# model that answers. It has to find the one fact among four, and reads four
# times as many tokens.
#
# ## 4. A cache for similar questions

# %%
others = [(e, a) for e in world.entities for a in e.attributes()]
some = rng.sample(others, 300)
first, second = [], []
for entity, attribute in some:
    one, two = rng.sample(attribute.questions, 2)
    first.append(one.format(name=entity.name))
    second.append(two.format(name=entity.name))
cosines = trained(second) @ trained(first).T  # (new, earlier)
same = np.diagonal(cosines)
wrong = np.where(np.eye(len(some), dtype=bool), -1, cosines).max(axis=1)
limit = np.median(same)
print(f"limit {limit:.3f}: {np.mean(same >= limit):.0%} of the paraphrases")
print(f"questions about something else: {np.mean(wrong >= limit):.0%}")

# %% [markdown]
# Of the questions that are about something else than all the earlier ones would
# be, one in twelve is closer to one of them than half of the paraphrases are.
# Most of these are about another name, in the same words. Such a cache gives
# some people a fast and wrong answer.
#
# ## 5. Two phrasings

# %%
model = ChatModel.from_preset("tiny_instruct", dtype="float32")
groups = [World(0).questions("untaught", seed) for seed in (0, 1)]
chosen = [
    i
    for i, (one, two) in enumerate(zip(*groups, strict=True))
    if one.text != two.text
][:100]
answers = [
    model.ask([questions[i].text for i in chosen], max_length=64)
    for questions in groups
]
equal = np.array([one == two for one, two in zip(*answers, strict=True)])
right = np.array(
    [
        answer == groups[0][i].answer
        for answer, i in zip(answers[0], chosen, strict=True)
    ]
)
print(f"equal: {percent(Share.of(equal))}")
print(f"right if equal: {percent(Share.of(right[equal]))}")
print(f"right if not: {percent(Share.of(right[~equal]))}")

# %% [markdown]
# Asking twice in other words is the cheapest check of what a model says. It
# notices inventions that change with the words. It does not notice what the
# model has learned wrong, because that stays the same.
