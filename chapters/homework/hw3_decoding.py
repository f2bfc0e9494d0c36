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
#   kerasllm:
#     forbidden:
#     - jax
#     - keras
#     - keras_hub
#     - kerasllm
#     - scipy
#     - tensorflow
#     - torch
#     - transformers
#     graded:
#     - greedy
#     - softmax
#     - draw
#     - keep_top_k
#     - keep_top_p
#     - keep_min_p
#     - penalize
#     - generate
#     - beam_search
#     - attend_with_cache
#     - decode_step
#     - step_multiplications
# ---

# %% [markdown]
# # Homework 3: Decoding
#
# A language model returns a logit for each token that could come next. The text
# that comes out also depends on how a token is chosen from these logits, again
# and again. In this homework you write the usual ways to choose, a search for
# the most probable continuation, and the cache that makes all of them fast.
# Chapters 2 and 3 of the course use most of them.
#
# | part | points |
# |---|---|
# | 1 From logits to a token | 15 |
# | 2 Leaving tokens out | 20 |
# | 3 Penalties and generation | 15 |
# | 4 Beam search | 15 |
# | 5 A cache | 20 |
# | 6 A figure, graded by a person | 15 |
#
# Rules:
#
# - Replace each `raise NotImplementedError()` with your code. Keep the names
#   and arguments of the functions. You may add cells and functions.
# - You cannot change the test cells. Grading restores them. It also runs tests
#   that you do not see, on inputs that differ each time.
# - If the test of one of your functions fails in grading, the tests that follow
#   use the solution's version of that function. So one mistake costs its own
#   points and no others. On your own machine the later tests use your function,
#   so fix the first failing test first.
# - You may use the standard library, NumPy, and Matplotlib. Libraries that
#   already contain what you are asked to write cannot be imported in grading.
# - Do not use the variables of test cells in your code. In grading, the tests
#   run in a separate process that calls your functions.
# - In grading, a cell may take one minute, a call of a function may take 20
#   seconds, and the whole notebook may use 4 GB of memory.
# - Before you hand the notebook in, restart and run all cells, or run `kerasllm
#   homework check hw3_decoding.ipynb`.

# %%
import matplotlib.pyplot as plt
import numpy as np

# %% [markdown]
# ## The model
#
# In parts 1 to 4 the model is an n-gram table, the simplest model there is. If
# the table has two axes, `model[a]` holds the logits after token `a`. If it has
# three, `model[a, b]` holds the logits after the tokens `a, b`, and so on.
# `next_logits` looks at as many of the last tokens as the table needs. Your
# functions receive a table and must work for any number of axes.
#
# One such table comes from pages of Python's own manual. Its tokens are words.
# Everyone in the class works on the same pages this term.

# %%
SEED = 0


# %% nbgrader={"grade": false, "grade_id": "next_logits", "locked": true, "schema_version": 3, "solution": false, "task": false}
def next_logits(model, tokens):
    """Return the logits, an array `(vocabulary,)`, of what follows tokens."""
    import numpy as np

    context = [int(token) for token in tokens][1 - np.ndim(model) :]
    if len(context) < np.ndim(model) - 1:
        raise ValueError(
            f"The model must be given {np.ndim(model) - 1} tokens or more. "
            f"Received: {len(context)}. Pass the whole text, prompt included."
        )
    return np.asarray(model)[tuple(context)]


def read_bigrams(seed, num_words=400):
    """Count pairs of words on 40 pages of Python's manual, drawn with a seed.

    Returns:
        list of words, the most frequent first, and the table of logits.
    """
    import collections
    import pydoc_data.topics
    import random
    import re

    import numpy as np

    pages = [text for _, text in sorted(pydoc_data.topics.topics.items())]
    pages = random.Random(seed).sample(pages, 40)
    texts = [re.findall(r"[a-z]+|[.,;:]", page.lower()) for page in pages]
    counts = collections.Counter(word for text in texts for word in text)
    words = [word for word, _ in counts.most_common(num_words)]
    ids = {word: i for i, word in enumerate(words)}
    table = np.full((len(words), len(words)), 0.01)
    for text in texts:
        for a, b in zip(text, text[1:]):
            if a in ids and b in ids:
                table[ids[a], ids[b]] += 1
    return words, np.log(table)


# %%
words, bigrams = read_bigrams(SEED)
print(words[:12])
after_the = next_logits(bigrams, [words.index("of"), words.index("the")])
print("after `the`:", [words[i] for i in np.argsort(-after_the)[:8]])

# %% [markdown]
# ## 1 From logits to a token
#
# ### 1.1 Greedy (5 points)
#
# Take the token with the largest logit. If several logits are equal, take the
# first.


# %% nbgrader={"grade": false, "grade_id": "greedy", "locked": false, "schema_version": 3, "solution": true, "task": false}
def greedy(logits):
    """Choose the most likely token.

    Args:
        logits: float array `(vocabulary,)`. `-inf` is a token that is out.

    Returns:
        int.
    """
    ### BEGIN SOLUTION
    return int(np.argmax(logits))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_greedy", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

token = greedy(np.array([-3.0, -1.0, -2.0]))
assert token == 1, f"The largest logit wins. Received: {token!r}."
assert isinstance(token, int), (
    f"A token is an int of Python. Received: {type(token).__name__}."
)
token = greedy(np.array([0.0, 2.0, 2.0]))
assert token == 1, f"Of equal logits the first wins. Received: {token!r}."
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} greedy".encode()))
for _ in range(20):
    # Small integers, so that there are ties.
    logits = rng.integers(-4, 3, rng.integers(1, 12)).astype("float64")
    logits[logits == -4] = -np.inf
    values = logits.tolist()
    assert greedy(logits) == values.index(max(values)), (
        "The first of the largest logits must win, whatever their signs. For "
        "some random ones it does not."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 1.2 Softmax with a temperature (5 points)
#
# Token $i$ has the probability $e^{l_i / T} / \sum_j e^{l_j / T}$. Logits may
# be large and $T$ may be small, so subtract a number that keeps the exponential
# from overflowing. A logit of `-inf` means a probability of 0.


# %% nbgrader={"grade": false, "grade_id": "softmax", "locked": false, "schema_version": 3, "solution": true, "task": false}
def softmax(logits, temperature=1.0):
    """Turn logits into probabilities.

    Args:
        logits: float array `(vocabulary,)`, with one finite value at least.
        temperature: float > 0.

    Returns:
        float array `(vocabulary,)` with a sum of 1.
    """
    ### BEGIN SOLUTION
    shifted = (logits - np.max(logits)) / temperature
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_softmax", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

probabilities = softmax(np.log([1.0, 2.0, 5.0]))
assert isinstance(probabilities, np.ndarray), "`softmax` returns an array."
assert np.allclose(probabilities, [0.125, 0.25, 0.625]), (
    "Probabilities are proportional to the exponentials of the logits. "
    f"Received: {probabilities}."
)
probabilities = softmax(np.log([1.0, 3.0]), 0.5)
assert np.allclose(probabilities, [0.1, 0.9]), (
    "Logits are divided by the temperature: at 0.5 the ratio of two "
    f"probabilities is squared. Received: {probabilities}."
)
probabilities = softmax(np.array([5000.0, 5000.0, -np.inf]))
assert np.allclose(probabilities, [0.5, 0.5, 0.0]), (
    "Large logits must not overflow, and -inf has the probability 0. "
    f"Received: {probabilities}."
)
### BEGIN HIDDEN TESTS
import math
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} softmax".encode()))
for _ in range(20):
    logits = rng.normal(size=rng.integers(2, 12)) * 3
    temperature = float(rng.uniform(0.2, 3))
    probabilities = softmax(logits, temperature)
    assert np.isclose(probabilities.sum(), 1), "Probabilities must sum to 1."
    sizes = [math.exp(logit / temperature) for logit in logits]
    assert np.allclose(probabilities, [size / sum(sizes) for size in sizes]), (
        "The probabilities must be right for any logits and temperature. For "
        "some random ones they are not."
    )
    moved = softmax(logits + rng.uniform(-1e5, 1e5), temperature)
    assert np.allclose(probabilities, moved, atol=1e-7), (
        "The same number added to all logits must change nothing."
    )
    limit = softmax(np.append(logits, logits.max()), 1e-6)
    best = np.append(logits, logits.max()) == logits.max()
    assert np.allclose(limit, best / best.sum()), (
        "As the temperature goes to 0, the largest logits must share all the "
        "probability equally."
    )
    assert np.allclose(softmax(logits, 1e9), 1 / len(logits), atol=1e-6), (
        "As the temperature grows, all tokens must become equally likely."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 1.3 Drawing a token (5 points)
#
# A number drawn uniformly from [0, 1) chooses the token: the first one at which
# the cumulative probability exceeds the number. Because of rounding, the
# cumulative probability may end slightly below 1. Even then, return a token
# whose probability is not 0.


# %% nbgrader={"grade": false, "grade_id": "draw", "locked": false, "schema_version": 3, "solution": true, "task": false}
def draw(probabilities, uniform):
    """Choose a token by a number between 0 and 1.

    Args:
        probabilities: float array `(vocabulary,)` with a sum of 1, but for
            rounding.
        uniform: float in [0, 1).

    Returns:
        int.
    """
    ### BEGIN SOLUTION
    sums = np.cumsum(probabilities)
    token = np.searchsorted(sums, uniform, side="right")
    return int(min(token, np.flatnonzero(probabilities)[-1]))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_draw", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

tokens = [draw(np.array([0.25, 0.5, 0.25]), u) for u in (0.1, 0.3, 0.7, 0.8)]
assert tokens == [0, 1, 1, 2], (
    "The token is the first at which the running sum exceeds the number. "
    f"Received: {tokens!r} for 0.1, 0.3, 0.7 and 0.8."
)
assert isinstance(tokens[0], int), "A token is an int of Python."
token = draw(np.array([0.0, 1.0]), 0.0)
assert token == 1, (
    "A token of probability 0 is never drawn, not by the number 0 either. "
    f"Received: {token!r}."
)
### BEGIN HIDDEN TESTS
import itertools
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} draw".encode()))
for _ in range(3):
    weights = rng.integers(0, 4, 6) + np.eye(6)[rng.integers(6)]
    probabilities = weights / weights.sum()
    numbers = (np.arange(120) + rng.uniform(0.2, 0.8)) / 120
    drawn = [draw(probabilities, float(number)) for number in numbers]
    counts = np.bincount(drawn, minlength=6)
    assert len(counts) == 6 and np.all(
        np.abs(counts - 120 * probabilities) <= 1
    ), (
        "Evenly spaced numbers must draw each token as often as its "
        "probability says."
    )
    assert drawn == sorted(drawn), (
        "A larger number never draws an earlier token."
    )
    for number, token in zip(numbers, drawn):
        sums = enumerate(itertools.accumulate(probabilities))
        expected = next(i for i, total in sums if total > number)
        assert token == expected, (
            "The token must be the first whose running sum exceeds the number."
        )
last = float(np.nextafter(1, 0))
for zeros in (0, 1, 3):
    token = draw(np.array([0.1] * 10 + [0.0] * zeros), last)
    assert token == 9, (
        "If rounding ends the running sum below the number, the last token "
        "that is not of probability 0 must be drawn."
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 2 Leaving tokens out
#
# Each token in the tail of the distribution is unlikely, but there are many of
# them, and one bad word can lead a text astray. Therefore some tokens are left
# out before drawing. Each function in this part returns new logits: unchanged
# for the tokens that stay, and `-inf` for those that go. Do not change the
# argument. Logits that are already `-inf` stay `-inf`.
#
# ### 2.1 Top-k (5 points)
#
# Keep the `k` largest logits. If logits are equal, keep the first ones, so that
# there are never more than `k`. If there are no more than `k` tokens, keep all.


# %% nbgrader={"grade": false, "grade_id": "keep_top_k", "locked": false, "schema_version": 3, "solution": true, "task": false}
def keep_top_k(logits, k):
    """Leave out all but the `k` most likely tokens.

    Args:
        logits: float array `(vocabulary,)`.
        k: int, at least 1.

    Returns:
        float array `(vocabulary,)`.
    """
    ### BEGIN SOLUTION
    kept = np.full(len(logits), -np.inf)
    order = np.argsort(-logits, kind="stable")[:k]
    kept[order] = logits[order]
    return kept
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_keep_top_k", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

logits = np.array([1.0, 4.0, 2.0, 3.0])
kept = keep_top_k(logits, 2)
assert np.array_equal(kept, [-np.inf, 4, -np.inf, 3]), (
    f"The 2 largest stay in their places, others are -inf. Received: {kept}."
)
assert logits.tolist() == [1, 4, 2, 3], "The argument is not changed."
kept = keep_top_k(np.array([0.0, 5.0, 5.0, 5.0]), 2)
assert np.array_equal(kept, [-np.inf, 5, 5, -np.inf]), (
    f"Of equal logits the first stay, never more than k. Received: {kept}."
)
assert np.array_equal(keep_top_k(logits, 9), logits), (
    "If there are fewer than k tokens, all stay."
)
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} top k".encode()))
for _ in range(40):
    logits = rng.integers(-5, 3, rng.integers(1, 30)).astype("float64")
    k = int(rng.integers(1, len(logits) + 2))
    kept = keep_top_k(logits, k)
    assert np.isfinite(kept).sum() == min(k, len(logits)), (
        "Exactly k tokens must stay, also if logits are equal."
    )
    for i, value in enumerate(logits.tolist()):
        # How many are ahead of it, counted one by one.
        ahead = sum(
            other > value or (other == value and j < i)
            for j, other in enumerate(logits.tolist())
        )
        assert kept[i] == (value if ahead < k else -np.inf), (
            "The largest logits must stay unchanged, the first of equals. For "
            "some random ones they do not."
        )
### END HIDDEN TESTS

# %% [markdown]
# ### 2.2 Top-p (10 points)
#
# Keep the smallest set of tokens that together have a probability of at least
# `p`. Go down from the most likely token until the sum reaches `p`, and take
# the first of equal tokens first. At least one token always stays. At `p = 1`
# all tokens stay, no matter how the sum is rounded.


# %% nbgrader={"grade": false, "grade_id": "keep_top_p", "locked": false, "schema_version": 3, "solution": true, "task": false}
def keep_top_p(logits, p):
    """Leave out the tail beyond a probability of `p`.

    Args:
        logits: float array `(vocabulary,)`.
        p: float in [0, 1].

    Returns:
        float array `(vocabulary,)`.
    """
    ### BEGIN SOLUTION
    if p >= 1:
        return np.array(logits)
    order = np.argsort(-logits, kind="stable")
    sums = np.cumsum(softmax(logits)[order])
    # The token that reaches `p` stays, too.
    stay = order[: np.searchsorted(sums, p) + 1]
    kept = np.full(len(logits), -np.inf)
    kept[stay] = logits[stay]
    return kept
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_keep_top_p", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

logits = np.log([0.15, 0.5, 0.05, 0.3])
kept = keep_top_p(logits, 0.7)
assert np.array_equal(np.isfinite(kept), [False, True, False, True]), (
    "The token that makes the sum reach p stays: 0.5 is not enough for 0.7, "
    f"0.5 + 0.3 is. Received: {kept}."
)
assert np.array_equal(kept[[1, 3]], logits[[1, 3]]), (
    "What stays keeps its logit and its place."
)
assert np.allclose(logits, np.log([0.15, 0.5, 0.05, 0.3])), (
    "The argument is not changed."
)
for p in (0.0, 0.1):
    kept = keep_top_p(logits, p)
    assert np.array_equal(np.isfinite(kept), [False, True, False, False]), (
        f"The most likely token always stays. Received: {kept} for p = {p}."
    )
kept = keep_top_p(np.zeros(4), 0.3)
assert np.array_equal(np.isfinite(kept), [True, True, False, False]), (
    f"Of equal tokens the first stay, as many as needed. Received: {kept}."
)
kept = keep_top_p(np.array([0.0, -50.0]), 1.0)
assert np.isfinite(kept).all(), "At p = 1 all tokens stay, the unlikely too."
### BEGIN HIDDEN TESTS
import itertools
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} top p".encode()))
for _ in range(25):
    weights = rng.uniform(0.01, 1, rng.integers(2, 8))
    probabilities = weights / weights.sum()
    p = float(rng.uniform(0.05, 0.99))
    kept = keep_top_p(np.log(weights) + rng.normal(), p)
    stays = np.isfinite(kept)
    # All sets of tokens, the smallest first: which is enough?
    for size in range(1, len(weights) + 1):
        sets = itertools.combinations(range(len(weights)), size)
        best = max(sets, key=lambda chosen: probabilities[list(chosen)].sum())
        if probabilities[list(best)].sum() >= p:
            break
    assert stays.sum() == len(best), (
        "The fewest tokens that together have a probability of p must stay. "
        "For some random logits there are more or fewer."
    )
    assert set(np.flatnonzero(stays).tolist()) == set(best), (
        "The tokens that stay must be the most likely ones."
    )
    more = np.isfinite(keep_top_p(np.log(weights), min(1.0, p + 0.2)))
    assert np.all(more | ~stays), "With a larger p no token may go that stayed."
    partly = np.append(np.log(weights), [-np.inf, -np.inf])
    again = np.isfinite(keep_top_p(partly, p))
    assert np.array_equal(again, [*stays, False, False]), (
        "A token that is out already must stay out and change nothing."
    )
size = int(rng.integers(5, 40))
assert np.isfinite(keep_top_p(np.zeros(size), 1.0)).all(), (
    "At p = 1 all tokens must stay."
)
for p in (0.0, 1e-12, 0.5):
    logits = np.append(rng.normal(size=size), 60.0)
    assert np.flatnonzero(np.isfinite(keep_top_p(logits, p))).tolist() == [
        size
    ], "If one token has nearly all the probability, it alone must stay."
### END HIDDEN TESTS

# %% [markdown]
# ### 2.3 Min-p (5 points)
#
# A token stays if its probability is at least `p` times the probability of the
# most likely token.


# %% nbgrader={"grade": false, "grade_id": "keep_min_p", "locked": false, "schema_version": 3, "solution": true, "task": false}
def keep_min_p(logits, p):
    """Leave out what is unlikely compared with the most likely token.

    Args:
        logits: float array `(vocabulary,)`.
        p: float in [0, 1].

    Returns:
        float array `(vocabulary,)`.
    """
    ### BEGIN SOLUTION
    ratios = np.exp(logits - np.max(logits))
    return np.where(ratios >= p, logits, -np.inf)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_keep_min_p", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

logits = np.log([0.16, 0.5, 0.04, 0.3])
kept = keep_min_p(logits, 0.2)
assert np.array_equal(np.isfinite(kept), [True, True, False, True]), (
    "0.2 of the largest probability, 0.5, is 0.1: tokens below that go. "
    f"Received: {kept}."
)
assert np.array_equal(kept[[0, 1, 3]], logits[[0, 1, 3]]), (
    "What stays keeps its logit and its place."
)
kept = keep_min_p(np.array([1.0, 3.0, 3.0]), 1.0)
assert np.array_equal(np.isfinite(kept), [False, True, True]), (
    f"At p = 1 only the most likely stay, all of equals. Received: {kept}."
)
assert np.array_equal(keep_min_p(logits, 0.0), logits), "At p = 0 all stay."
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} min p".encode()))
for _ in range(30):
    logits = rng.normal(size=rng.integers(2, 40)) * 2
    p = float(rng.uniform(0.01, 0.9))
    kept = keep_min_p(logits + rng.choice([0.0, 3000.0]), p)
    sizes = np.exp(logits)
    expected = [
        size / sum(sizes) >= p * max(sizes) / sum(sizes) for size in sizes
    ]
    assert np.isfinite(kept).tolist() == expected, (
        "Exactly the tokens with at least p times the largest probability "
        "must stay. For some random logits they do not."
    )
    partly = np.append(logits, -np.inf)
    assert keep_min_p(partly, p)[-1] == -np.inf, (
        "A token that is out already must stay out."
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 3 Penalties and generation
#
# ### 3.1 Frequency and presence (5 points)
#
# To reduce repetition, lower the logits of tokens that are already in the text.
# Subtract `frequency` once for each occurrence of a token, and subtract
# `presence` once if the token occurs at all. The logits of other tokens do not
# change.


# %% nbgrader={"grade": false, "grade_id": "penalize", "locked": false, "schema_version": 3, "solution": true, "task": false}
def penalize(logits, tokens, frequency, presence):
    """Lower the logits of tokens that occurred.

    Args:
        logits: float array `(vocabulary,)`. It is not changed.
        tokens: list of int, the text so far.
        frequency: float, subtracted for each time.
        presence: float, subtracted once.

    Returns:
        float array `(vocabulary,)`.
    """
    ### BEGIN SOLUTION
    counts = np.zeros(len(logits))
    np.add.at(counts, np.asarray(tokens, dtype=int), 1)
    return logits - frequency * counts - presence * (counts > 0)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_penalize", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

logits = np.array([1.0, 2.0, 3.0, 4.0])
lowered = penalize(logits, [2, 1, 2, 2], 0.5, 0.0)
assert np.allclose(lowered, [1, 1.5, 1.5, 4]), (
    "The frequency penalty is subtracted for each time that a token occurs. "
    f"Received: {lowered}."
)
lowered = penalize(logits, [2, 1, 2, 2], 0.0, 0.5)
assert np.allclose(lowered, [1, 1.5, 2.5, 4]), (
    "The presence penalty is subtracted once, however often a token occurs. "
    f"Received: {lowered}."
)
assert np.allclose(penalize(logits, [], 0.5, 0.5), logits), (
    "In an empty text no token has occurred."
)
assert logits.tolist() == [1, 2, 3, 4], "The argument is not changed."
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} penalize".encode()))
for _ in range(30):
    logits = rng.normal(size=8)
    logits[rng.integers(8)] = -np.inf
    tokens = rng.integers(0, 8, rng.integers(0, 12)).tolist()
    frequency, presence = rng.normal(size=2).tolist()
    lowered = penalize(logits, tokens, frequency, presence)
    for token in range(8):
        expected = logits[token]
        if token not in tokens:
            assert lowered[token] == expected, (
                "A token that has not occurred must keep its logit."
            )
            continue
        expected -= presence + frequency * tokens.count(token)
        assert np.isclose(lowered[token], expected), (
            "Both penalties must be subtracted, whatever the sign of the logit "
            "or the penalty. For some random ones they are not."
        )
### END HIDDEN TESTS

# %% [markdown]
# ### 3.2 Generation (10 points)
#
# Now combine the parts. For each new token:
#
# 1. Get the logits from `next_logits`.
# 2. Apply the penalties for all of the text so far, including the prompt.
# 3. At a temperature of 0, take the greedy token. Otherwise divide the logits
#    by the temperature.
# 4. Apply top-k, top-p, and min-p in this order, each to what the previous one
#    left. Skip those that are `None`.
# 5. Apply the softmax, and draw a token with a number from your own
#    `np.random.default_rng(seed)`.
#
# Then try it: `" ".join(words[i] for i in generate(bigrams, [0], 30, seed=1,
# min_p=0.1))`.


# %% nbgrader={"grade": false, "grade_id": "generate", "locked": false, "schema_version": 3, "solution": true, "task": false}
def generate(
    model,
    prompt,
    num_tokens,
    seed,
    temperature=1.0,
    top_k=None,
    top_p=None,
    min_p=None,
    frequency=0.0,
    presence=0.0,
):
    """Continue a text.

    Args:
        model: a table for `next_logits`.
        prompt: list of int.
        num_tokens: int, how many to add.
        seed: int.
        temperature: float, at least 0.
        top_k: int or `None`.
        top_p: float or `None`.
        min_p: float or `None`.
        frequency: float, see `penalize`.
        presence: float, see `penalize`.

    Returns:
        list of int, the new tokens without the prompt.
    """
    ### BEGIN SOLUTION
    rng, tokens = np.random.default_rng(seed), list(prompt)
    for _ in range(num_tokens):
        logits = next_logits(model, tokens)
        logits = penalize(logits, tokens, frequency, presence)
        if temperature == 0:
            tokens.append(greedy(logits))
            continue
        logits = logits / temperature
        if top_k is not None:
            logits = keep_top_k(logits, top_k)
        if top_p is not None:
            logits = keep_top_p(logits, top_p)
        if min_p is not None:
            logits = keep_min_p(logits, min_p)
        tokens.append(draw(softmax(logits), rng.random()))
    return tokens[len(prompt) :]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_generate", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

chain = np.log([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
tokens = generate(chain, [0], 5, seed=1, temperature=0)
assert list(tokens) == [1, 2, 0, 1, 2], (
    "At temperature 0 each token is the most likely after the one before it, "
    f"and the prompt is not returned. Received: {tokens!r}."
)
tokens = generate(chain, [0], 5, seed=1, top_k=1)
assert list(tokens) == [1, 2, 0, 1, 2], (
    f"With top_k=1 only the most likely is left. Received: {tokens!r}."
)
tokens = generate(chain, [0, 2], 3, seed=1, temperature=0, presence=9.0)
assert list(tokens) == [1, 2, 0], (
    "The prompt counts for the penalties, and when all tokens have occurred "
    f"they are even again. Received: {tokens!r}."
)
tokens = generate(chain, [0], 40, seed=1)
assert list(tokens) == list(generate(chain, [0], 40, seed=1)), (
    "The same seed gives the same text."
)
assert list(tokens) != list(generate(chain, [0], 40, seed=2)), (
    "Another seed gives another text."
)


### BEGIN HIDDEN TESTS
def allowed(logits, temperature, top_k=None, top_p=None, min_p=None):
    """Return what each token's probability must be, the plain way."""
    chance = {i: float(np.exp(x / temperature)) for i, x in enumerate(logits)}

    def share(chance):
        return {i: x / sum(chance.values()) for i, x in chance.items()}

    ranked = sorted(share(chance).items(), key=lambda item: -item[1])
    if top_k is not None:
        ranked = list(share(dict(ranked[:top_k])).items())
    if top_p is not None:
        short = [
            sum(x for _, x in ranked[:n]) < top_p for n in range(len(ranked))
        ]
        ranked = list(share(dict(ranked[: sum(short)])).items())
    if min_p is not None:
        ranked = [(i, x) for i, x in ranked if x >= min_p * ranked[0][1]]
    return share(dict(ranked))


import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} generate".encode()))
settings = [
    {"temperature": 1.0},
    {"temperature": 0.6},
    {"temperature": 2.0, "top_k": 4},
    {"temperature": 2.0, "top_p": 0.7},
    {"temperature": 0.5, "min_p": 0.25},
    {"temperature": 1.7, "top_k": 4, "top_p": 0.75, "min_p": 0.5},
]
for setting in settings:
    size, num = 5, 1500
    model = rng.uniform(-1, 1, (size, size))
    tokens = [
        0,
        *generate(model, [0], num, seed=int(rng.integers(10**6)), **setting),
    ]
    assert len(tokens) == num + 1, "There must be `num_tokens` new tokens."
    counts = np.zeros((size, size))
    for a, b in zip(tokens, tokens[1:]):
        counts[a, b] += 1
    statistic, freedom = 0.0, 0
    for a in range(size):
        chances = allowed(model[a], **setting)
        out = [b for b in range(size) if b not in chances]
        assert not counts[a, out].any(), (
            "A token that top-k, top-p or min-p leaves out must not appear. "
            "Their order, and the temperature before them, matter."
        )
        for b, chance in chances.items():
            expected = max(chance * counts[a].sum(), 1e-9)
            statistic += (counts[a, b] - expected) ** 2 / expected
        freedom += (len(chances) - 1) * bool(counts[a].any())
    # Chi-square. By chance a right answer fails less than once in a million
    # (z = 5.2, by the approximation of Wilson and Hilferty).
    spread = 2 / (9 * max(freedom, 1))
    limit = max(freedom, 1) * (1 - spread + 5.2 * spread**0.5) ** 3
    assert statistic < limit, (
        "After each token the next ones must be as frequent as the softmax of "
        "their logits over the temperature says, of those not left out."
    )
for _ in range(10):
    # Three axes: the two last tokens count.
    model = rng.normal(size=(4, 4, 4))
    prompt = rng.integers(0, 4, 5).tolist()
    frequency, presence = rng.uniform(0, 1, 2).tolist()
    new = generate(
        model, prompt, 12, seed=0, temperature=0, frequency=frequency,
        presence=presence,
    )  # fmt: skip
    text = list(prompt)
    for _ in range(12):
        values = [
            model[text[-2], text[-1], i]
            - frequency * text.count(i)
            - presence * (i in text)
            for i in range(4)
        ]
        text.append(values.index(max(values)))
    assert list(new) == text[5:], (
        "The logits must come from `next_logits` of all of the text, and the "
        "penalties count the prompt and what was generated."
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 4 Beam search (15 points)
#
# Greedy decoding may start with a likely token after which only unlikely ones
# can follow. Beam search keeps the `num_beams` most probable sequences. At each
# step it continues each of them with every token, and keeps the best
# `num_beams` of all continuations.
#
# The score of a sequence is the sum of the log-probabilities of its tokens. A
# sequence that ends with `end_id` is finished. It is not continued, keeps its
# score, and still competes with the others. (Tokens of the prompt do not finish
# a sequence.) Search until all sequences are finished or have `num_tokens`
# tokens.


# %% nbgrader={"grade": false, "grade_id": "beam_search", "locked": false, "schema_version": 3, "solution": true, "task": false}
def beam_search(model, prompt, num_tokens, num_beams, end_id=None):
    """Search for the most probable continuations.

    Args:
        model: a table for `next_logits`.
        prompt: list of int.
        num_tokens: int, the most tokens to add.
        num_beams: int, how many sequences to keep at each step.
        end_id: int, the token that ends a sequence, or `None`.

    Returns:
        list of at most `num_beams` pairs, the best first: the new tokens, a
        list of int, and their log-probability, a float.
    """
    ### BEGIN SOLUTION
    beams = [([], 0.0)]
    for _ in range(num_tokens):
        candidates = []
        for tokens, score in beams:
            if tokens and tokens[-1] == end_id:
                candidates.append((tokens, score))
                continue
            logits = next_logits(model, [*prompt, *tokens])
            log_probabilities = np.log(softmax(logits))
            for token, log_probability in enumerate(log_probabilities):
                candidates.append(
                    ([*tokens, token], score + float(log_probability))
                )
        beams = sorted(candidates, key=lambda beam: -beam[1])[:num_beams]
    return beams
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_beam_search_small", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

garden = np.log([[0.1, 0.5, 0.4], [0.34, 0.33, 0.33], [0.9, 0.06, 0.04]])
found = beam_search(garden, [0], 2, 2)
assert len(found) == 2 and list(found[0][0]) == [2, 0], (
    "Two beams find 2, 0 with a probability of 0.36, which begins with the "
    f"second best token. Received: {found!r}."
)
assert np.isclose(found[0][1], np.log(0.36)), (
    "The score is the sum of the log-probabilities of the new tokens. "
    f"Received: {found[0][1]!r}, not {np.log(0.36):.4f}."
)
assert list(found[1][0]) == [1, 0], (
    f"All beams are returned, the best first. Received: {found!r}."
)
found = beam_search(garden, [0], 2, 1)
assert [list(tokens) for tokens, _ in found] == [[1, 0]], (
    f"With one beam the search is greedy. Received: {found!r}."
)
found = beam_search(garden, [0], 3, 2, end_id=1)
assert [list(tokens) for tokens, _ in found] == [[1], [2, 0, 1]], (
    "A finished sequence keeps its place and its score, and is not continued. "
    f"Received: {found!r}."
)
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} one beam".encode()))
for _ in range(10):
    model = rng.normal(size=(5,) * int(rng.integers(2, 4)))
    # To add to all logits of a context changes no probability.
    model += 3 * rng.normal(size=(*model.shape[:-1], 1))
    prompt = rng.integers(0, 5, 3).tolist()
    text, score = list(prompt), 0.0
    for _ in range(6):
        logits = next_logits(model, text)
        text.append(int(np.argmax(logits)))
        score += float(np.log(np.exp(logits).max() / np.exp(logits).sum()))
    ((tokens, received),) = beam_search(model, prompt, 6, 1)
    assert list(tokens) == text[3:], (
        "With one beam the search must find what greedy decoding finds."
    )
    assert np.isclose(received, score), (
        "The score must be the sum of log-probabilities, not of logits, and "
        "without the prompt."
    )
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "test_beam_search_oracle", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

even = np.log(np.full((2, 2), 0.5))
found = beam_search(even, [0], 3, 8)
assert sorted(list(tokens) for tokens, _ in found) == [
    [a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)
], "With 8 beams all 8 sequences of 3 tokens are found, each once."
assert len(beam_search(even, [0], 2, 8)) == 4, (
    "There are no more sequences than possible."
)


### BEGIN HIDDEN TESTS
def log_probability(model, prompt, tokens):
    """Return the score of one sequence, token by token."""
    text, score = list(prompt), 0.0
    for token in tokens:
        sizes = np.exp(next_logits(model, text))
        score += float(np.log(sizes[token] / sizes.sum()))
        text.append(token)
    return score


import itertools
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} beams".encode()))
for case in range(18):
    size, length = int(rng.integers(2, 5)), int(rng.integers(1, 5))
    # The table sees all that is generated, so that no two sequences are equal.
    model = 2 * rng.normal(size=(size,) * (length + int(rng.integers(1, 3))))
    end = None if case % 3 == 0 else int(rng.integers(size))
    prompt = rng.integers(0, size, 5).tolist()
    if case % 3 == 1:
        prompt[-1] = end
    # Every sequence there is.
    whole = {
        sequence[: sequence.index(end) + 1] if end in sequence else sequence
        for sequence in itertools.product(range(size), repeat=length)
    }
    scores = {each: log_probability(model, prompt, each) for each in whole}
    best = sorted(whole, key=lambda each: -scores[each])
    found = beam_search(model, prompt, length, size**length, end)
    received = [tuple(int(token) for token in tokens) for tokens, _ in found]
    assert set(received) == whole and len(received) == len(whole), (
        "With enough beams every sequence must be found once: of `num_tokens` "
        "tokens, or up to the first new token that is `end_id`."
    )
    assert received == best, "The sequences must be sorted by their score."
    assert np.allclose(
        [score for _, score in found], [scores[each] for each in best]
    ), "Each score must be the log-probability of the whole sequence."
    # With fewer beams: the same steps, each score computed anew.
    for num_beams in (2, 3):
        beams = {()}
        for _ in range(length):
            grown = {each for each in beams if each and each[-1] == end}
            for each in beams - grown:
                grown |= {(*each, token) for token in range(size)}
            ranked = sorted(
                grown, key=lambda s: -log_probability(model, prompt, s)
            )
            beams = set(ranked[:num_beams])
        found = beam_search(model, prompt, length, num_beams, end)
        received = [
            tuple(int(token) for token in tokens) for tokens, _ in found
        ]
        expected = [each for each in ranked if each in beams]
        assert received == expected, (
            "At each step the best `num_beams` of all continuations and all "
            "finished sequences must go on. With random models they do not."
        )
### END HIDDEN TESTS

# %% [markdown]
# ## 5 A cache
#
# In a transformer, the key and the value at a position depend on the tokens up
# to that position and on nothing that comes later. If you keep them, you
# compute each of them only once. Here is a small transformer with one head, and
# a function that computes the logits at all positions without a cache. Read it
# carefully: your step must do the same for one position.


# %% nbgrader={"grade": false, "grade_id": "transformer", "locked": true, "schema_version": 3, "solution": false, "task": false}
def make_transformer(seed, vocabulary=11, dim=8, num_blocks=2, length=32):
    """Make a transformer with random weights, a dict of arrays."""
    import numpy as np

    rng = np.random.default_rng(seed)

    def weights(rows, columns):
        return rng.normal(size=(rows, columns)) / np.sqrt(rows)

    blocks = [
        {
            "query": weights(dim, dim),
            "key": weights(dim, dim),
            "value": weights(dim, dim),
            "output": weights(dim, dim),
            "up": weights(dim, 4 * dim),
            "down": weights(4 * dim, dim),
        }
        for _ in range(num_blocks)
    ]
    return {
        "tokens": rng.normal(size=(vocabulary, dim)),
        "positions": rng.normal(size=(length, dim)),
        "blocks": blocks,
    }


def normalize(x):
    """Divide each row by its root mean square."""
    import numpy as np

    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6)


def attend(queries, keys, values):
    """Let each position attend to itself and to those before it.

    Args:
        queries: float array `(length, dim)`.
        keys: float array `(length, dim)`.
        values: float array `(length, dim)`.

    Returns:
        float array `(length, dim)`.
    """
    import numpy as np

    length, dim = queries.shape
    scores = queries @ keys.T / np.sqrt(dim)
    scores[np.triu_indices(length, 1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ values


def forward(model, tokens):
    """Return the logits after each token, `(length, vocabulary)`."""
    import numpy as np

    x = model["tokens"][list(tokens)] + model["positions"][: len(tokens)]
    for block in model["blocks"]:
        y = normalize(x)
        attended = attend(
            y @ block["query"], y @ block["key"], y @ block["value"]
        )
        x = x + attended @ block["output"]
        hidden = np.maximum(normalize(x) @ block["up"], 0)
        x = x + hidden @ block["down"]
    return normalize(x) @ model["tokens"].T


def empty_cache(model):
    """Return a cache without positions: keys and values for each block."""
    import numpy as np

    dim = model["tokens"].shape[1]
    return [(np.zeros((0, dim)), np.zeros((0, dim))) for _ in model["blocks"]]


# %% [markdown]
# ### 5.1 Attention at one position (5 points)
#
# Append the key and the value of the new position to the cache. The query then
# attends to everything in the cache. Return a new cache and do not change the
# old one, so that two texts can continue from the same prefix.


# %% nbgrader={"grade": false, "grade_id": "attend_with_cache", "locked": false, "schema_version": 3, "solution": true, "task": false}
def attend_with_cache(query, key, value, cache):
    """Let a new position attend to itself and to those in the cache.

    Args:
        query: float array `(dim,)`.
        key: float array `(dim,)`.
        value: float array `(dim,)`.
        cache: pair of float arrays `(length, dim)`, keys and values.

    Returns:
        A pair: the output, `(dim,)`, and the new cache, a pair of float arrays
        `(length + 1, dim)`.
    """
    ### BEGIN SOLUTION
    keys = np.concatenate([cache[0], key[None]])
    values = np.concatenate([cache[1], value[None]])
    weights = softmax(keys @ query / np.sqrt(len(query)))
    return weights @ values, (keys, values)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_attend_with_cache", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

empty = (np.zeros((0, 2)), np.zeros((0, 2)))
one, two = np.array([1.0, 2.0]), np.array([3.0, 4.0])
output, cache = attend_with_cache(one, one, two, empty)
assert np.allclose(output, two), (
    "The first position sees only itself: the output is its value. Received: "
    f"{output}."
)
assert np.shape(cache[0]) == np.shape(cache[1]) == (1, 2), (
    "The new cache has the new key and value as its last rows."
)
output, longer = attend_with_cache(np.zeros(2), two, one, cache)
assert np.allclose(output, [2, 3]), (
    f"A query of zeros attends to all positions equally. Received: {output}."
)
assert np.array_equal(longer[0], [one, two]), (
    f"Keys stay in the order of their positions. Received: {longer[0]}."
)
assert np.shape(cache[0]) == (1, 2), "The old cache is not changed."
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} attend".encode()))
for _ in range(6):
    length, dim = int(rng.integers(2, 9)), int(rng.integers(2, 7))
    queries, keys, values = rng.normal(size=(3, length, dim)) * 2
    expected = attend(queries, keys, values)
    cache = (np.zeros((0, dim)), np.zeros((0, dim)))
    for i in range(length):
        output, cache = attend_with_cache(queries[i], keys[i], values[i], cache)
        assert np.allclose(output, expected[i], rtol=0, atol=1e-6), (
            "With a cache the output at every position must be that of "
            "`attend`: mind the scale and the order."
        )
        assert np.array_equal(cache[0], keys[: i + 1]) and np.array_equal(
            cache[1], values[: i + 1]
        ), "The cache must hold the keys and the values, unchanged."
    output, _ = attend_with_cache(1e4 * queries[0], keys[1], values[1], cache)
    assert np.isfinite(output).all(), "Large scores must not overflow."
### END HIDDEN TESTS

# %% [markdown]
# ### 5.2 One step of the transformer (10 points)
#
# Compute what `forward` computes, for one new token. Everything that you know
# about the earlier tokens is in the cache, a list with one pair for each block.
# The length of the cache is the position of the new token.


# %% nbgrader={"grade": false, "grade_id": "decode_step", "locked": false, "schema_version": 3, "solution": true, "task": false}
def decode_step(model, token, cache):
    """Compute the logits after one more token.

    Args:
        model: what `make_transformer` returns.
        token: int, the new token.
        cache: list of a pair of arrays `(length, dim)` for each block.

    Returns:
        A pair: the logits, `(vocabulary,)`, and the new cache.
    """
    ### BEGIN SOLUTION
    position = len(cache[0][0])
    x = model["tokens"][token] + model["positions"][position]
    new_cache = []
    for block, pair in zip(model["blocks"], cache, strict=True):
        y = normalize(x)
        attended, pair = attend_with_cache(
            y @ block["query"], y @ block["key"], y @ block["value"], pair
        )
        new_cache.append(pair)
        x = x + attended @ block["output"]
        hidden = np.maximum(normalize(x) @ block["up"], 0)
        x = x + hidden @ block["down"]
    return normalize(x) @ model["tokens"].T, new_cache
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_decode_step", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

model = make_transformer(0)
tokens = [3, 1, 4, 1, 5]
cache = empty_cache(model)
for i, token in enumerate(tokens):
    logits, cache = decode_step(model, token, cache)
    expected = forward(model, tokens[: i + 1])[-1]
    assert np.shape(logits) == expected.shape, (
        f"A step returns the logits after one token. Received: "
        f"{np.shape(logits)}."
    )
    assert np.allclose(logits, expected, rtol=0, atol=1e-6), (
        "With the cache the logits are those of `forward`. They are not at "
        f"position {i}."
    )
assert len(cache) == 2 and np.shape(cache[1][0]) == (5, 8), (
    "After 5 tokens the cache of each of the blocks has 5 rows."
)
first, _ = decode_step(model, 9, cache)
decode_step(model, 2, cache)
again, _ = decode_step(model, 9, cache)
assert np.array_equal(first, again), (
    "A step leaves its cache as it was: another can start from it."
)
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} step".encode()))
for num_blocks in (1, 2, 3):
    dim = int(rng.integers(2, 9))
    model = make_transformer(int(rng.integers(10**6)), 7, dim, num_blocks, 16)
    tokens = rng.integers(0, 7, 16).tolist()
    expected, cache = forward(model, tokens), empty_cache(model)
    for i, token in enumerate(tokens):
        before = cache
        logits, cache = decode_step(model, token, before)
        assert np.allclose(logits, expected[i], rtol=0, atol=1e-6), (
            "With the cache the logits must be those of `forward`, at every "
            "position and with any number of blocks."
        )
        for old, new in zip(before, cache, strict=True):
            for a, b in zip(old, new, strict=True):
                assert np.shape(b) == (i + 1, dim), (
                    "Each step must add one row to all keys and values."
                )
                assert np.array_equal(a, b[:i]), (
                    "A step must not compute the rows of earlier positions "
                    "again."
                )
    # Keys and values that come from no text. Code that reads the cache uses
    # them. Code that computes the past again, from tokens that it has kept
    # elsewhere, does not.
    length = int(rng.integers(1, 9))
    cache = [
        tuple(rng.normal(size=(2, length, dim))) for _ in range(num_blocks)
    ]
    logits, _ = decode_step(model, tokens[0], cache)
    x = model["tokens"][tokens[0]] + model["positions"][length]
    for block, (keys, values) in zip(model["blocks"], cache):
        y = x / np.sqrt(np.mean(x**2) + 1e-6)
        keys = [*keys, y @ block["key"]]
        values = [*values, y @ block["value"]]
        sizes = [np.exp(y @ block["query"] @ key / dim**0.5) for key in keys]
        mixed = sum(s * v for s, v in zip(sizes, values)) / sum(sizes)
        x = x + mixed @ block["output"]
        y = x / np.sqrt(np.mean(x**2) + 1e-6)
        x = x + (y @ block["up"]).clip(0) @ block["down"]
    expected = model["tokens"] @ (x / np.sqrt(np.mean(x**2) + 1e-6))
    assert np.allclose(logits, expected, rtol=0, atol=1e-6), (
        "What a step uses of the past must come from the keys and values in "
        "its cache, and from nothing else."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 5.3 What the cache saves (5 points)
#
# Count the multiplications in the matrix products of one block of `forward`
# that are needed for the logits after one more token. Include the four
# projections, the two feed-forward layers, and, in `attend`, the scores (also
# those that are set to `-inf`) and the weighted sums of the values. The product
# of an `(a, b)` and a `(b, c)` matrix has `a * b * c` multiplications. There
# are `past` tokens before the new one. Without a cache, all positions are
# computed again. With a cache, only the last one is.


# %% nbgrader={"grade": false, "grade_id": "step_multiplications", "locked": false, "schema_version": 3, "solution": true, "task": false}
def step_multiplications(past, dim, cached):
    """Count the multiplications of one block for one token more.

    Args:
        past: int, how many tokens there are before it.
        dim: int.
        cached: bool.

    Returns:
        int.
    """
    ### BEGIN SOLUTION
    length = past + 1
    rows = 1 if cached else length
    return rows * (12 * dim**2 + 2 * length * dim)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_step_multiplications", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
counted = step_multiplications(3, 2, cached=True)
assert counted == 64, (
    "One row of 2: 4 projections of 4, two layers of 16, scores and sums over "
    f"4 positions of 8 each. Received: {counted!r}, not 64."
)
counted = step_multiplications(3, 2, cached=False)
assert counted == 256, (
    f"Without a cache all 4 rows are computed. Received: {counted!r}, not 256."
)
### BEGIN HIDDEN TESTS
import os

import numpy as np

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} count".encode()))
for _ in range(20):
    past, dim = int(rng.integers(0, 200)), int(rng.integers(1, 20))
    (block,) = make_transformer(0, 2, dim, 1, 1)["blocks"]
    for cached in (True, False):
        rows = 1 if cached else past + 1
        # The oracle asks the weights for their shapes.
        products = [(rows, *weights.shape) for weights in block.values()]
        products += [(rows, dim, past + 1), (rows, past + 1, dim)]
        expected = sum(a * b * c for a, b, c in products)
        assert step_multiplications(past, dim, cached=cached) == expected, (
            "The count must be right for any number of tokens, none too, and "
            "any size."
        )
### END HIDDEN TESTS

# %% [markdown]
# ## 6 A figure
#
# ### 6.1 How many tokens stay (10 points, graded by a person)
#
# Use `bigrams`, the model of the manual, with 100 of its words as contexts. For
# temperatures from 0.5 to 2 (seven are enough), count the tokens that stay with
# top-k of 20, with top-p of 0.9, and with min-p of 0.1. Apply each alone, after
# the temperature. Plot the mean over the contexts against the temperature. Draw
# three curves on one pair of axes, and label them so that a reader who has not
# seen this page understands the figure. Think about the scale of the axis.

# %% nbgrader={"grade": true, "grade_id": "figure", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
temperatures = np.linspace(0.5, 2, 7)
ways = {
    "top-k, k = 20": lambda logits: keep_top_k(logits, 20),
    "top-p, p = 0.9": lambda logits: keep_top_p(logits, 0.9),
    "min-p, p = 0.1": lambda logits: keep_min_p(logits, 0.1),
}
figure, ax = plt.subplots()
for name, way in ways.items():
    means = [
        np.mean([np.isfinite(way(row / t)).sum() for row in bigrams[:100]])
        for t in temperatures
    ]
    ax.plot(temperatures, means, marker="o", label=name)
ax.set_yscale("log")
ax.set_xlabel("temperature")
ax.set_ylabel(f"tokens that stay, of {len(words)} (mean of 100 contexts)")
ax.legend()
plt.show()
### END SOLUTION

# %% [markdown]
# ### 6.2 What the figure says (5 points, graded by a person)
#
# Write four to six sentences. Why does the curve of top-p rise so much faster
# than that of min-p? Suppose that tokens were left out before the logits are
# divided by the temperature. What would the three curves look like, and what
# would the temperature still change? Finally, suppose that beam search used the
# cache of part 5. What must happen to the cache of a beam when it is replaced
# by a continuation of another beam?

# %% [markdown] nbgrader={"grade": true, "grade_id": "discussion", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# A higher temperature moves probability into the long tail. Top-p has to go far
# down the tail to collect 0.9, while min-p compares each token with the best
# one, and most of the tail stays far below a tenth of that. If tokens were left
# out before the temperature, the three sets would be those at temperature 1, so
# all curves would be flat. The temperature would still change how evenly the
# draw chooses among the tokens that stay. In beam search, the new beam needs
# the keys and values of the beam that it continues, so that cache must be
# copied.
