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
#     - kerasllm
#     - keras_hub
#     - keras_nlp
#     - sklearn
#     - transformers
#     - trl
#     graded:
#     - win_probability
#     - reward_loss
#     - reward_gradients
#     - last_scores
#     - fit_rewards
#     - best_of_n
#     - best_probabilities
#     - kl_bound
#     - expected_best
#     - response_logprobs
#     - dpo_loss
#     - implicit_rewards
#     - make_policy
#     - train_dpo
# ---

# %% [markdown]
# # Homework 5: Preferences
#
# Often nobody can write the best answer, but many people can say which of two
# answers is better. In this homework you learn from such comparisons in two
# ways. A reward model turns them into a score, and the best of $n$ answers by
# that score is given. Direct preference optimization (DPO) trains the language
# model itself. At the end you look for the point from which a better score
# means a worse answer. Section 16.4.1 of *Deep Learning with Python* tells of
# these methods.
#
# | part | points |
# |---|---|
# | 1 The model of Bradley and Terry | 15 |
# | 2 A reward model | 20 |
# | 3 Best of n | 20 |
# | 4 The loss of DPO | 20 |
# | 5 Training, with a figure and a text graded by a person | 25 |
#
# Rules:
#
# - Replace each `raise NotImplementedError()` with your code. Keep names and
#   arguments. You may add cells and functions.
# - Write `last_scores`, `response_logprobs`, `dpo_loss`, and part 5 with Keras
#   and `keras.ops`, because a result of NumPy has no gradient. Elsewhere you
#   may use NumPy.
# - Your code must run on JAX, TensorFlow, and PyTorch. In training, TensorFlow
#   does not know the batch size in advance, so pass `-1` for it to
#   `ops.reshape`.
# - You cannot change the test cells. Grading restores them. It also runs tests
#   that you do not see, on inputs that differ each time. Losses that your code
#   reports are computed again.
# - If the test of one of your functions fails in grading, the tests that follow
#   use the solution's version of that function. So one mistake costs its own
#   points and no others. On your own machine the later tests use your function,
#   so fix the first failing test first.
# - Do not use the variables of test cells in your code. In grading, the tests
#   run in a separate process that calls your functions.
# - In grading, a cell may take one minute, a call of a function may take 20
#   seconds, and the whole notebook may use 4 GB of memory.
# - Before you hand the notebook in, restart and run all cells, or run `kerasllm
#   homework check hw5_preferences.ipynb`.

# %%
import math

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops


# %% nbgrader={"grade": false, "grade_id": "to_array", "locked": true, "schema_version": 3, "solution": false, "task": false}
def to_array(value):
    """Turn what a function returned, a tensor or an array, into an array."""
    import numpy as np

    assert value is not None, "The function must return its result."
    if isinstance(value, (int, float, np.ndarray, np.generic)):
        return np.asarray(value)
    import keras

    return keras.ops.convert_to_numpy(value)


# %% [markdown]
# ## 1 The model of Bradley and Terry
#
# ### 1.1 Who wins (5 points)
#
# Each answer has a reward $r$, any number. Of two answers $a$ and $b$, people
# prefer $a$ with the probability
#
# $$\frac{e^{r_a}}{e^{r_a} + e^{r_b}}.$$
#
# Rewards may be large, and an exponential must not overflow. A number that is
# added to both rewards changes nothing, so look for a formula with the
# difference alone.


# %% nbgrader={"grade": false, "grade_id": "win_probability", "locked": false, "schema_version": 3, "solution": true, "task": false}
def win_probability(rewards, other_rewards):
    """Return how likely answers are preferred to other answers.

    Args:
        rewards: float array `(pairs,)`.
        other_rewards: float array `(pairs,)`.

    Returns:
        float array or tensor `(pairs,)`.
    """
    ### BEGIN SOLUTION
    return ops.sigmoid(ops.subtract(rewards, other_rewards))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_win_probability", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

rewards = np.array([2.0, np.log(3), 0.0], "float32")
others = np.array([2.0, 0.0, np.log(3)], "float32")
chances = to_array(win_probability(rewards, others))
assert chances.shape == (3,), (
    f"There is a probability for each pair. Received: {chances.shape}."
)
assert np.allclose(chances, [0.5, 0.75, 0.25], atol=1e-5), (
    "Equal rewards win half of the time, and a reward that is larger by log 3 "
    f"wins three times of four. Received: {chances}."
)
chances = to_array(
    win_probability(np.array([1000.0, -1000.0]), np.array([1000.0, 1000.0]))
)
assert np.allclose(chances, [0.5, 0.0], atol=1e-5), (
    f"Large rewards must not overflow. Received: {chances}."
)
### BEGIN HIDDEN TESTS
import math
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} win".encode()))
for scale in (4, 4, 10**4):
    # Whole numbers, so that their differences are exact.
    rewards, others = rng.integers(-scale, scale, (2, 12)).astype("float32")
    found = to_array(win_probability(rewards, others))
    for a, b, chance in zip(rewards.tolist(), others.tolist(), found):
        top = max(a, b)
        share = math.exp(a - top) / (math.exp(a - top) + math.exp(b - top))
        assert abs(chance - share) < 1e-4, (
            "The probability must be right for any rewards, large ones too. "
            "For some random ones it is not."
        )
    turned = to_array(win_probability(others, rewards))
    assert np.allclose(found + turned, 1, atol=1e-4), (
        "Of two answers, one must win: the two probabilities sum to 1."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 1.2 The loss (5 points)
#
# A reward model should find the comparisons that people made likely. If people
# also said how much better the chosen answer is, its reward should be larger by
# more than this margin $m$. The loss of a pair is
#
# $$-\log \sigma(r_\text{chosen} - r_\text{rejected} - m), \qquad
# \sigma(x) = \frac{1}{1 + e^{-x}},$$
#
# and the loss of a batch is the mean. A model can be wrong by far. Then
# $\sigma$ is rounded to 0, and its logarithm is not a number to train with.


# %% nbgrader={"grade": false, "grade_id": "reward_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def reward_loss(chosen, rejected, margin=None):
    """Compute the loss of a reward model.

    Args:
        chosen: float array `(pairs,)`, rewards of the chosen answers.
        rejected: float array `(pairs,)`, those of the rejected answers.
        margin: float, or float array `(pairs,)`; `None` for no margin.

    Returns:
        float, or a float array or tensor without axes.
    """
    ### BEGIN SOLUTION
    difference = ops.subtract(chosen, rejected)
    if margin is not None:
        difference = ops.subtract(difference, margin)
    return ops.mean(ops.softplus(-difference))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_reward_loss", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

zeros = np.zeros(3, "float32")
loss = to_array(reward_loss(zeros + 7, zeros + 7))
assert loss.shape == (), f"The loss is one number. Received: {loss.shape}."
assert abs(loss - np.log(2)) < 1e-5, (
    "Where both rewards are equal, the model has no opinion, and the loss is "
    f"log 2. Received: {loss}."
)
better = np.array([np.log(3), 0.0], "float32")
loss = to_array(reward_loss(better, zeros[:2]))
assert abs(loss - (np.log(4 / 3) + np.log(2)) / 2) < 1e-5, (
    "Two pairs with probabilities of 3/4 and 1/2: the mean of their losses is "
    f"0.4904. Received: {loss}."
)
loss = to_array(reward_loss(better, zeros[:2], np.array([np.log(3), 0])))
assert abs(loss - np.log(2)) < 1e-5, (
    "A difference that is just the margin has a loss of log 2. Received: "
    f"{loss}."
)
loss = to_array(reward_loss(zeros[:1] - 500, zeros[:1] + 500))
assert abs(loss - 1000) < 1e-2, (
    "A model that is wrong by 1000 has a loss of 1000, and not infinity. "
    f"Received: {loss}."
)
### BEGIN HIDDEN TESTS
import math
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} loss".encode()))
for scale in (1, 3, 300):
    chosen, rejected = rng.normal(0, scale, (2, 9)).astype("float32")
    margins = rng.uniform(0, 2, 9).astype("float32")
    for margin in (None, margins, float(margins[0])):
        gaps = chosen.astype("float64") - rejected
        gaps = gaps - (0 if margin is None else margin)
        losses = [
            math.log1p(math.exp(-abs(gap))) + max(-gap, 0)
            for gap in gaps.tolist()
        ]
        expected = sum(losses) / 9
        loss = to_array(reward_loss(chosen, rejected, margin))
        assert abs(loss - expected) < 1e-4 * (1 + expected), (
            "The loss must be the mean of -log sigmoid, with the margin taken "
            "from the difference, for any rewards. For some random ones it is "
            "not."
        )
    moved = to_array(reward_loss(chosen + 8, rejected + 8))
    assert abs(moved - to_array(reward_loss(chosen, rejected))) < 1e-3, (
        "The same number added to all rewards must change nothing."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 1.3 The gradient, by hand (5 points)
#
# What does a comparison teach? Derive the gradient of `reward_loss` on paper:
# by how much does the loss of the batch change with each of the rewards? Write
# the result as a formula. Do not use automatic differentiation or small
# differences. `win_probability` is useful here, and the result shows why pairs
# that a model is sure and right about teach it hardly anything.


# %% nbgrader={"grade": false, "grade_id": "reward_gradients", "locked": false, "schema_version": 3, "solution": true, "task": false}
def reward_gradients(chosen, rejected, margin=0.0):
    """Return the gradient of `reward_loss` with respect to the rewards.

    Args:
        chosen: float array `(pairs,)`.
        rejected: float array `(pairs,)`.
        margin: float, or float array `(pairs,)`.

    Returns:
        A pair of float arrays or tensors `(pairs,)`: for the chosen rewards
        and for the rejected ones.
    """
    ### BEGIN SOLUTION
    # How likely the model finds the opposite of what people said.
    wrong = win_probability(ops.add(rejected, margin), chosen)
    share = wrong / len(chosen)
    return -share, share
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_reward_gradients", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

pair = np.array([1.0, 1.0], "float32")
for_chosen, for_rejected = map(to_array, reward_gradients(pair, pair))
assert np.allclose(for_chosen, [-0.25, -0.25], atol=1e-5), (
    "At equal rewards, a pair pulls with a half. The loss is a mean of two "
    f"pairs, so with a quarter here. Received: {for_chosen}."
)
assert np.allclose(for_rejected, [0.25, 0.25], atol=1e-5), (
    "What a larger chosen reward takes from the loss, a larger rejected reward "
    f"adds to it. Received: {for_rejected}."
)
for_chosen, _ = map(
    to_array, reward_gradients(np.array([300.0]), np.array([0.0]))
)
assert np.allclose(for_chosen, [0], atol=1e-5), (
    "A pair that the model is sure and right about pulls with nothing. "
    f"Received: {for_chosen}."
)
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} gradient".encode()))


def slow_loss(rewards, margin):
    gaps = rewards[0] - rewards[1] - margin
    return np.mean([np.log(1 + np.exp(-gap)) for gap in gaps])


for pairs in (1, 3, 6):
    rewards = rng.normal(0, 2, (2, pairs))
    for margin in (0.0, rng.uniform(0.5, 2, pairs), 1.5):
        found = np.array(
            [
                to_array(part)
                for part in reward_gradients(
                    *rewards.astype("float32"), np.float32(margin)
                )
            ]
        )
        assert found.shape == (2, pairs), (
            "There must be a number for each chosen and each rejected reward."
        )
        for place in np.ndindex(2, pairs):
            step = np.zeros((2, pairs))
            step[place] = 1e-4
            slope = slow_loss(rewards + step, margin)
            slope = (slope - slow_loss(rewards - step, margin)) / 2e-4
            assert abs(found[place] - slope) < 1e-3, (
                "The gradient must be the slope of the loss in each reward, "
                "for any margin. For some random ones it is not."
            )
### END HIDDEN TESTS

# %% [markdown]
# ## 2 A reward model
#
# ### 2.1 The head (10 points)
#
# A reward model is a language model with another last layer. The layer maps the
# hidden state of the *last token* of an answer, the only one that has seen all
# of it, to one number. Answers of a batch have different lengths and are filled
# with padding, at the end or, for generation, at the beginning. The mask says
# which positions hold tokens. Padding also has hidden states, and nothing may
# depend on them.


# %% nbgrader={"grade": false, "grade_id": "last_scores", "locked": false, "schema_version": 3, "solution": true, "task": false}
def last_scores(states, mask, kernel):
    """Score sequences by the hidden state of their last token.

    Args:
        states: float array or tensor `(batch, length, dim)`.
        mask: bool or int array or tensor `(batch, length)`, true for tokens.
            Each sequence has one token at least.
        kernel: float array or tensor `(dim,)`.

    Returns:
        float tensor `(batch,)`.
    """
    ### BEGIN SOLUTION
    positions = ops.arange(mask.shape[1], dtype="int32")
    last = ops.max(ops.cast(mask, "int32") * positions, axis=1)  # (batch,)
    last = ops.take_along_axis(
        ops.convert_to_tensor(states), last[:, None, None], axis=1
    )  # (batch, 1, dim)
    return ops.matmul(last[:, 0], kernel)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_last_scores", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

states = np.array([[[1, 0], [2, 0], [3, 0], [4, 0]]] * 3, "float32")
mask = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]], bool)
scores = to_array(last_scores(states, mask, np.array([10, 1], "float32")))
assert scores.shape == (3,), (
    f"There is one score for each sequence. Received: {scores.shape}."
)
assert np.allclose(scores, [20, 40, 40], atol=1e-3), (
    "The last tokens are at the positions 1, 3, and 3, with the padding at "
    f"the end, at the beginning, and nowhere. Received: {scores}."
)
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} head".encode()))
for kind in ("bool", "int32", "bool"):
    batch, length, dim = (int(size) for size in rng.integers(3, 9, 3))
    starts = rng.integers(0, length, batch)
    ends = [int(rng.integers(start, length)) for start in starts]
    mask = np.zeros((batch, length), kind)
    states = rng.normal(size=(batch, length, dim)).astype("float32")
    kernel = rng.normal(size=dim).astype("float32")
    for i, (start, end) in enumerate(zip(starts, ends)):
        mask[i, start : end + 1] = 1
    scores = to_array(last_scores(states, mask, kernel))
    assert scores.shape == (batch,), "There must be one score a sequence."
    for i, end in enumerate(ends):
        expected = sum(
            float(a) * float(b) for a, b in zip(states[i, end], kernel)
        )
        assert abs(scores[i] - expected) < 1e-3, (
            "The score must be read at the last token, wherever the padding "
            "is. For some random masks it is not."
        )
    padded = np.where(mask[..., None], states, 1e4).astype("float32")
    padded = np.pad(padded, [(0, 0), (2, 3), (0, 0)], constant_values=-1e4)
    wider = np.pad(mask, [(0, 0), (2, 3)])
    assert np.allclose(
        to_array(last_scores(padded, wider, kernel)), scores, atol=1e-3
    ), "More padding, and what stands there, must not change the scores."
### END HIDDEN TESTS

# %% [markdown]
# ### 2.2 A fit (10 points)
#
# The simplest reward model is linear: the reward of an answer is $w \cdot x$,
# where $x$ are its features, such as counts of words. Find the $w$ that
# minimizes
#
# $$\sum_i -\log \sigma(w \cdot (x_i^\text{chosen} - x_i^\text{rejected}))
# + \frac{\lambda}{2} \lVert w \rVert^2.$$
#
# The second term keeps $w$ finite if the comparisons never contradict each
# other. This is logistic regression without an intercept, on differences of
# features. Any method will do, as long as it gets to the minimum: each number
# in $w$ must be right within 0.01. Newton's method takes about ten steps, and
# the gradient of 1.3 is half of it.


# %% nbgrader={"grade": false, "grade_id": "fit_rewards", "locked": false, "schema_version": 3, "solution": true, "task": false}
def fit_rewards(chosen, rejected, penalty):
    """Fit a linear reward model to comparisons.

    Args:
        chosen: float array `(pairs, dim)`, features of the chosen answers.
        rejected: float array `(pairs, dim)`, those of the rejected answers.
        penalty: float > 0, the lambda of the second term.

    Returns:
        float array `(dim,)`, the weights.
    """
    ### BEGIN SOLUTION
    x = np.asarray(chosen, "float64") - rejected
    weights = np.zeros(x.shape[1])
    for _ in range(30):
        wrong = 1 / (1 + np.exp(x @ weights))
        gradient = penalty * weights - x.T @ wrong
        curvature = (x * (wrong * (1 - wrong))[:, None]).T @ x
        curvature += penalty * np.eye(len(weights))
        weights -= np.linalg.solve(curvature, gradient)
    return weights
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_fit_rewards", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

chosen = np.array([[1.0], [1.0], [1.0], [0.0]])
weights = to_array(fit_rewards(chosen, 1 - chosen, 1e-3))
assert weights.shape == (1,), (
    f"There is a weight for each feature. Received: {weights.shape}."
)
assert abs(weights[0] - np.log(3)) < 1e-2, (
    "An answer with the feature wins three times of four against one without, "
    f"so its reward is larger by log 3, which is 1.0986. Received: {weights}."
)
weights = to_array(fit_rewards(chosen[:3], 1 - chosen[:3], 1.0))
assert abs(3 / (1 + np.exp(weights[0])) - weights[0]) < 2e-2, (
    "An answer with the feature wins three times of three. With a lambda of 1, "
    f"the weight is 0.8797. Received: {weights}."
)
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} fit".encode()))
for pairs, dim, penalty in ((30, 1, 0.5), (300, 4, 1.0), (60, 6, 5.0)):
    # Features with large means: only their differences count.
    features = rng.normal(3, 1, (pairs, 2, dim))
    features[..., 0] *= 0.3
    truth = rng.normal(size=dim)
    wins = rng.random(pairs) < 1 / (
        1 + np.exp((features[:, 1] - features[:, 0]) @ truth)
    )
    for i in np.flatnonzero(~wins):
        features[i] = features[i, ::-1].copy()
    chosen, rejected = features[:, 0], features[:, 1]
    weights = to_array(fit_rewards(chosen, rejected, penalty))
    assert weights.shape == (dim,), "There must be a weight for each feature."
    assert np.isfinite(weights).all(), "Weights must be finite."
    # What one more step of Newton's method would change.
    slope, curvature = penalty * weights, penalty * np.eye(dim)
    for a, b in zip(chosen, rejected):
        wrong = 1 / (1 + np.exp(np.clip((a - b) @ weights, -500, 500)))
        slope = slope - wrong * (a - b)
        curvature += wrong * (1 - wrong) * np.outer(a - b, a - b)
    missing = np.linalg.solve(curvature, slope)
    assert np.abs(missing).max() < 1e-2, (
        "The weights must be those of the minimum, where the gradient is zero. "
        "For some random comparisons they are not: mind that the losses are "
        "summed, and what the lambda adds."
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 3 Best of n
#
# ### 3.1 The best of the first n (5 points)
#
# Draw $n$ answers to a prompt and give the one with the highest score. The
# answers here are drawn already. Take the best of the first `n` answers to each
# prompt, and of equal scores the first.


# %% nbgrader={"grade": false, "grade_id": "best_of_n", "locked": false, "schema_version": 3, "solution": true, "task": false}
def best_of_n(answers, scores, n):
    """Choose an answer to each prompt.

    Args:
        answers: list with a list of str for each prompt, all of one length.
        scores: float array `(prompts, samples)`, the scores of the answers.
        n: int in [1, samples].

    Returns:
        list of str, one for each prompt.
    """
    ### BEGIN SOLUTION
    best = np.argmax(np.asarray(scores)[:, :n], axis=1)
    return [row[i] for row, i in zip(answers, best)]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_best_of_n", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

answers = [["a", "b", "c"], ["d", "e", "f"]]
scores = np.array([[-3.0, -1.0, 2.0], [5.0, 5.0, 7.0]])
best = best_of_n(answers, scores, 2)
assert list(best) == ["b", "d"], (
    "The highest score of the first two wins, and the first of equal scores. "
    f"Received: {best}."
)
best = best_of_n(answers, scores, 3)
assert list(best) == ["c", "f"], f"Of three, the last wins. Received: {best}."
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} best".encode()))
for _ in range(5):
    prompts, samples = int(rng.integers(1, 6)), int(rng.integers(2, 9))
    # Small integers, so that there are ties.
    scores = rng.integers(-4, 2, (prompts, samples)).astype("float64")
    answers = [[f"{p}.{s}" for s in range(samples)] for p in range(prompts)]
    for n in (1, int(rng.integers(1, samples)), samples):
        expected = []
        for row, values in zip(answers, scores.tolist()):
            place = 0
            for i in range(n):
                if values[i] > values[place]:
                    place = i
            expected.append(row[place])
        assert list(best_of_n(answers, scores, n)) == expected, (
            "The answer must be the first of the best of the first n. For some "
            "random scores it is not."
        )
### END HIDDEN TESTS

# %% [markdown]
# ### 3.2 How far it goes (5 points)
#
# Best of $n$ is a policy of its own: it gives good answers more often than the
# policy that it draws from. If that policy has finitely many answers, the new
# probabilities can be computed. The best of $n$ draws is answer $i$ or a worse
# one if all $n$ draws are.
#
# The distance between the two policies is the Kullback-Leibler divergence
# $\sum_i q_i \log (q_i / p_i)$, where $q$ is best of $n$. It is never more than
# $\log n - (n - 1) / n$ nats, whatever the policy and the scores are.


# %% nbgrader={"grade": false, "grade_id": "best_probabilities", "locked": false, "schema_version": 3, "solution": true, "task": false}
def best_probabilities(probabilities, scores, n):
    """Return how likely each answer is the best of `n` draws.

    Args:
        probabilities: float array `(answers,)`, those of one draw.
        scores: float array `(answers,)`, no two of them equal.
        n: int, at least 1.

    Returns:
        float array `(answers,)`, in the order of the arguments.
    """
    ### BEGIN SOLUTION
    order = np.argsort(scores)
    sums = np.cumsum(np.asarray(probabilities)[order])
    best = np.zeros(len(order))
    best[order] = np.diff(sums**n, prepend=0)
    return best
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "kl_bound", "locked": false, "schema_version": 3, "solution": true, "task": false}
def kl_bound(n):
    """Return how far best of `n` can be from the policy it draws from.

    Args:
        n: int, at least 1.

    Returns:
        float, in nats.
    """
    ### BEGIN SOLUTION
    return math.log(n) - (n - 1) / n
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_best_probabilities", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

best = to_array(
    best_probabilities(np.array([0.5, 0.2, 0.3]), np.array([1.0, 9.0, 4.0]), 2)
)
assert np.allclose(best, [0.25, 0.36, 0.39], atol=1e-6), (
    "Both of two draws are the first answer, the worst, in a quarter of all "
    "cases. At least one is the second answer, the best, with the probability "
    f"1 - 0.8 * 0.8. Received: {best}."
)
assert abs(kl_bound(1)) < 1e-9, (
    f"Best of 1 is the policy itself. Received: {kl_bound(1)}."
)
assert abs(kl_bound(4) - 0.6362943611) < 1e-6, (
    f"The bound is log n - (n - 1) / n. Received: {kl_bound(4)} for 4."
)
### BEGIN HIDDEN TESTS
import itertools
import math
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} far".encode()))
for n in (1, 2, 3, 4):
    size = int(rng.integers(2, 6))
    chances = rng.dirichlet(np.ones(size))
    scores = rng.permutation(size) - rng.uniform(0, 9)
    expected = np.zeros(size)
    # All that n draws can be.
    for drawn in itertools.product(range(size), repeat=n):
        winner = max(drawn, key=lambda i: scores[i])
        expected[winner] += math.prod(chances[i] for i in drawn)
    best = to_array(best_probabilities(chances, scores, n))
    assert np.allclose(best, expected, atol=1e-6), (
        "The probabilities must be those of the best of n draws, in the order "
        "of the answers. For some random policies they are not."
    )
    gone = sum(q * math.log(q / p) for q, p in zip(expected, chances) if q)
    assert gone <= kl_bound(n) + 1e-6, (
        "No policy may go farther than the bound. Some random ones do."
    )
n = int(rng.integers(5, 300))
# Very many answers, all equally likely: the bound is reached.
share = n * ((np.arange(10**5) + 0.5) / 10**5) ** (n - 1)
reached = np.mean(share * np.log(share + 1e-300))
assert abs(kl_bound(n) - reached) < 1e-2, (
    "The bound must be what is reached with very many answers. For some random "
    "n it is not."
)
### END HIDDEN TESTS

# %% [markdown]
# ### 3.3 A curve from one pool (10 points)
#
# How good is the answer that best of $n$ gives? Two scores are needed: the
# proxy, by which the answer is chosen, and the truth, by which the choice is
# measured. To draw a curve, you need all $n$ from 1 to 256. Fresh answers for
# each $n$ are expensive, and the first $n$ of a pool use little of it. There
# is a better way: average over *all* ways to take $n$ of the $M$ answers in the
# pool. The average is exact and needs no sampling. Of the $\binom{M}{n}$
# ways, in how many is a given answer the best?
#
# Binomial coefficients may be too large for a float, but Python's integers are
# exact, and so is their division.


# %% nbgrader={"grade": false, "grade_id": "expected_best", "locked": false, "schema_version": 3, "solution": true, "task": false}
def expected_best(proxy, truth, n):
    """Return the mean truth of the best of `n` answers by the proxy.

    Args:
        proxy: float array `(prompts, samples)`. No two scores of one prompt
            are equal.
        truth: float array `(prompts, samples)`.
        n: int in [1, samples].

    Returns:
        float, the mean over all prompts, and for each prompt over all ways to
        take `n` of its answers.
    """
    ### BEGIN SOLUTION
    size = np.shape(proxy)[1]
    ways = math.comb(size, n)
    # The others are among those with a lower score.
    weights = [math.comb(lower, n - 1) / ways for lower in range(size)]
    ordered = np.take_along_axis(truth, np.argsort(proxy, axis=1), axis=1)
    return float(np.mean(ordered @ np.array(weights)))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_expected_best", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

proxy = np.array([[2.0, 1.0, 3.0]])
truth = np.array([[10.0, 20.0, 60.0]])
for n, expected in ((1, 30), (2, (10 + 60 + 60) / 3), (3, 60)):
    found = expected_best(proxy, truth, n)
    assert abs(found - expected) < 1e-6, (
        "Of three answers there are three ways to take one, three to take two, "
        f"and one to take all. Received: {found} for n = {n}, not {expected}."
    )
### BEGIN HIDDEN TESTS
import itertools
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} curve".encode()))
for _ in range(4):
    prompts, samples = int(rng.integers(1, 4)), int(rng.integers(2, 9))
    proxy, truth = rng.normal(size=(2, prompts, samples))
    n = int(rng.integers(1, samples + 1))
    values = [
        t[max(chosen, key=lambda i: p[i])]
        for p, t in zip(proxy, truth)
        for chosen in itertools.combinations(range(samples), n)
    ]
    assert abs(expected_best(proxy, truth, n) - np.mean(values)) < 1e-5, (
        "The mean must be that over all ways to take n answers, each answer "
        "once at most. For some random scores it is not."
    )
proxy, truth = rng.normal(size=(2, 2, 1200))
half = expected_best(proxy, truth, 600)
assert np.isfinite(half), "Large pools must not overflow."
top = np.take_along_axis(truth, np.argsort(-proxy, axis=1)[:, :40], axis=1)
near = np.mean(top @ (0.5 ** np.arange(1, 41)))
assert abs(half - near) < 2e-2, (
    "Of half of a large pool, the best is the best of all in half of the "
    "cases, the second best in a quarter, and so on."
)
### END HIDDEN TESTS

# %% [markdown]
# ## 4 The loss of DPO
#
# ### 4.1 Log-probabilities of answers (10 points)
#
# A reward model is not the only way. DPO works on how likely the model finds
# whole answers. The log-probability of an answer is the sum, not the mean, of
# the log-probabilities of its tokens, each given everything before it. The
# logits at a position are about the *next* token. The mask says which tokens
# belong to the answer: neither those of the prompt nor padding. The first token
# of a sequence is never one of an answer. Logits may be large.


# %% nbgrader={"grade": false, "grade_id": "response_logprobs", "locked": false, "schema_version": 3, "solution": true, "task": false}
def response_logprobs(logits, ids, mask):
    """Return the log-probabilities of answers.

    Args:
        logits: float array or tensor `(batch, length, vocabulary)`.
        ids: int array or tensor `(batch, length)`, the tokens.
        mask: bool or float array or tensor `(batch, length)`, true or 1 for
            tokens of the answer.

    Returns:
        float tensor `(batch,)`, in nats.
    """
    ### BEGIN SOLUTION
    logs = ops.log_softmax(ops.cast(logits, "float32")[:, :-1], axis=-1)
    targets = ops.cast(ids, "int32")[:, 1:, None]
    chosen = ops.take_along_axis(logs, targets, axis=-1)[..., 0]
    return ops.sum(chosen * ops.cast(mask, "float32")[:, 1:], axis=-1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_response_logprobs", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

shares = np.array([[[1, 2, 1], [1, 1, 2], [6, 1, 1], [1, 1, 1]]], "float32")
ids = np.array([[0, 1, 2, 0]], "int32")
for mask, expected in (
    ([0, 1, 0, 0], np.log(1 / 2)),
    ([0, 0, 1, 1], np.log(1 / 2) + np.log(6 / 8)),
    ([0, 0, 0, 0], 0),
):
    found = to_array(
        response_logprobs(np.log(shares), ids, np.array([mask], bool))
    )
    assert found.shape == (1,), (
        f"There is one number for each sequence. Received: {found.shape}."
    )
    assert abs(found[0] - expected) < 1e-4, (
        "Token 1 has the probability 1/2, said by the logits at position 0. "
        "Token 2 has 1/2, said at position 1. The last token has 6/8, said at "
        f"position 2. With the mask {mask} the sum of logarithms is "
        f"{expected:.4f}. Received: {found[0]}."
    )
### BEGIN HIDDEN TESTS
import math
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} logprobs".encode()))
for scale, kind in ((1, "float32"), (2, "bool"), (200, "float32")):
    batch, length, size = (int(number) for number in rng.integers(2, 7, 3))
    logits = rng.normal(0, scale, (batch, length, size)).astype("float32")
    ids = rng.integers(0, size, (batch, length)).astype("int32")
    mask = (rng.random((batch, length)) < 0.6).astype(kind)
    mask[:, 0] = 0
    mask[0, 1:] = 1
    mask[-1] = 0
    found = to_array(response_logprobs(logits, ids, mask))
    assert np.isfinite(found).all(), "Large logits must not overflow."
    for b in range(batch):
        total = 0.0
        for i in range(1, length):
            row = logits[b, i - 1].astype("float64").tolist()
            top = max(row)
            sizes = [math.exp(value - top) for value in row]
            if mask[b, i]:
                total += row[ids[b, i]] - top - math.log(sum(sizes))
        assert abs(found[b] - total) < 1e-3 * (1 + abs(total)), (
            "The log-probability must be the sum over the tokens of the "
            "answer, each predicted by the position before it. For some random "
            "sequences it is not."
        )
    padded = [
        np.pad(array, [(0, 0), (0, 3), (0, 0)][: array.ndim])
        for array in (logits, ids, mask)
    ]
    assert np.allclose(
        to_array(response_logprobs(*padded)), found, rtol=1e-4, atol=1e-4
    ), "More padding must not change the log-probabilities."
### END HIDDEN TESTS

# %% [markdown]
# ### 4.2 The loss (5 points)
#
# A policy $\pi$ defines rewards: $\beta \log (\pi(y) / \pi_\text{ref}(y))$ is
# how much more likely it finds the answer $y$ than the reference, the model
# before training, does. DPO puts these implicit rewards into the loss of 1.2.
# With $z$ for the implicit reward of the chosen answer minus that of the
# rejected one, the loss of a pair is $-\log \sigma(z)$.
#
# If a share $\epsilon$ of the labels is assumed to be wrong (label smoothing),
# the loss is $-(1 - \epsilon) \log \sigma(z) - \epsilon \log \sigma(-z)$. The
# loss of a batch is the mean. Log-probabilities of long answers differ by
# hundreds.


# %% nbgrader={"grade": false, "grade_id": "dpo_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def dpo_loss(
    chosen,
    rejected,
    reference_chosen,
    reference_rejected,
    beta,
    label_smoothing=0.0,
):
    """Compute the loss of direct preference optimization.

    Args:
        chosen: float array or tensor `(pairs,)`, log-probabilities of the
            chosen answers under the policy.
        rejected: the same of the rejected answers.
        reference_chosen: the same of the chosen answers under the reference.
        reference_rejected: the same of the rejected answers.
        beta: float > 0.
        label_smoothing: float in [0, 0.5).

    Returns:
        float tensor without axes.
    """
    ### BEGIN SOLUTION
    for_chosen = ops.subtract(chosen, reference_chosen)
    for_rejected = ops.subtract(rejected, reference_rejected)
    z = beta * (for_chosen - for_rejected)
    losses = (1 - label_smoothing) * ops.softplus(-z)
    return ops.mean(losses + label_smoothing * ops.softplus(z))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_dpo_loss", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

same = np.array([-20.0, -31.0], "float32")
loss = to_array(dpo_loss(same, same - 4, same, same - 4, 0.1))
assert loss.shape == (), f"The loss is one number. Received: {loss.shape}."
assert abs(loss - np.log(2)) < 1e-5, (
    "Before training the policy is the reference: all implicit rewards are 0, "
    f"and the loss is log 2. Received: {loss}."
)
up = same + np.float32(2 * np.log(3))
loss = to_array(dpo_loss(up, same, same, same, 0.5))
assert abs(loss - np.log(4 / 3)) < 1e-5, (
    "A chosen answer that is 9 times more likely has an implicit reward of "
    "log 3 with a beta of 0.5, and a loss of log 4/3, which is 0.2877. "
    f"Received: {loss}."
)
loss = to_array(dpo_loss(up, same, same, same, 0.5, label_smoothing=0.25))
assert abs(loss - (0.75 * np.log(4 / 3) + 0.25 * np.log(4))) < 1e-5, (
    "If a quarter of the labels is wrong, the loss is 3/4 log 4/3 + 1/4 log 4, "
    f"which is 0.5623. Received: {loss}."
)
### BEGIN HIDDEN TESTS
import math
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} dpo".encode()))
for scale in (1, 5, 900):
    arrays = (-scale * rng.uniform(1, 4, (4, 6))).astype("float32")
    for smoothing in (0.0, float(rng.uniform(0.1, 0.4))):
        beta, total = float(rng.uniform(0.1, 0.9)), 0.0
        for a, b, c, d in arrays.T.astype("float64").tolist():
            z = beta * ((a - c) - (b - d))
            right, wrong = (
                math.log1p(math.exp(-abs(z))) + max(-s * z, 0) for s in (1, -1)
            )
            total += ((1 - smoothing) * right + smoothing * wrong) / 6
        loss = to_array(dpo_loss(*arrays, beta, smoothing))
        assert abs(loss - total) < 1e-3 * (1 + total), (
            "The loss must be the mean over the pairs, with beta inside the "
            "sigmoid, and finite for any log-probabilities. For some random "
            "ones it is not."
        )
### END HIDDEN TESTS

# %% [markdown]
# ### 4.3 What to log (5 points)
#
# The loss alone says little. Compute the means of the implicit rewards of the
# chosen and the rejected answers, the mean of the margin, which is their
# difference, and the accuracy. This is the share of pairs with a positive
# margin. An untrained policy has no positive margin, so its accuracy is 0.


# %% nbgrader={"grade": false, "grade_id": "implicit_rewards", "locked": false, "schema_version": 3, "solution": true, "task": false}
def implicit_rewards(
    chosen, rejected, reference_chosen, reference_rejected, beta
):
    """Describe a policy by its implicit rewards.

    Args:
        chosen: float array `(pairs,)`; these and the next three are as for
            `dpo_loss`.
        rejected: float array `(pairs,)`.
        reference_chosen: float array `(pairs,)`.
        reference_rejected: float array `(pairs,)`.
        beta: float > 0.

    Returns:
        dict of float, means over the pairs: `chosen_reward`,
        `rejected_reward`, `margin`, and `accuracy`.
    """
    ### BEGIN SOLUTION
    for_chosen = beta * (np.asarray(chosen) - reference_chosen)
    for_rejected = beta * (np.asarray(rejected) - reference_rejected)
    margin = for_chosen - for_rejected
    return {
        "chosen_reward": float(for_chosen.mean()),
        "rejected_reward": float(for_rejected.mean()),
        "margin": float(margin.mean()),
        "accuracy": float((margin > 0).mean()),
    }
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_implicit_rewards", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

same = np.array([-8.0, -16.0])
found = implicit_rewards(same, same - 1, same, same - 1, 0.5)
assert found["accuracy"] == 0, (
    "Before training no margin is positive, and a tie is not right. Received: "
    f"{found['accuracy']}."
)
found = implicit_rewards(same - [1, 4], same - [3, 2], same, same, 0.5)
for name, expected in (
    ("chosen_reward", -1.25),
    ("rejected_reward", -1.25),
    ("margin", 0),
    ("accuracy", 0.5),
):
    assert abs(found[name] - expected) < 1e-6, (
        "The chosen answers became less likely by 1 and by 4 nats, the "
        f"rejected ones by 3 and by 2. With a beta of 0.5, `{name}` is "
        f"{expected}. Received: {found[name]}."
    )
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} implicit".encode()))
for _ in range(5):
    pairs, beta = int(rng.integers(1, 9)), float(rng.choice([0.25, 0.5, 2]))
    # Whole numbers, so that there are ties.
    arrays = -rng.integers(5, 9, (4, pairs)).astype("float32")
    rows = [
        (beta * (a - c), beta * (b - d)) for a, b, c, d in arrays.T.tolist()
    ]
    expected = {
        "chosen_reward": sum(a for a, _ in rows) / pairs,
        "rejected_reward": sum(b for _, b in rows) / pairs,
        "margin": sum(a - b for a, b in rows) / pairs,
        "accuracy": sum(a > b for a, b in rows) / pairs,
    }
    found = implicit_rewards(*arrays, beta)
    for name, value in expected.items():
        assert abs(found[name] - value) < 1e-4, (
            f"`{name}` must be right for any log-probabilities, with the "
            "reference taken off. For some random ones it is not."
        )
### END HIDDEN TESTS

# %% [markdown]
# ## 5 Training
#
# The policy is the smallest language model there is, a table: `table[a]` holds
# the logits of the word after word `a`. It answers travelers who ask about a
# town. The words of an answer are `river`, `craft`, and `feast` (each of them a
# fact), `thanks`, and `hmm`. An `<end>` follows, and more of them fill up the
# sequence. The next cell defines all of this, and also the true reward, which
# nobody knows outside of such a small world.


# %% nbgrader={"grade": false, "grade_id": "world", "locked": true, "schema_version": 3, "solution": false, "task": false}
WORDS = ["<end>", "<ask>", "river", "craft", "feast", "thanks", "hmm"]
LENGTH = 20  # words of a sequence, `<ask>` included
FEATURES = ["facts", "repeated facts", "thanks", "hmms"]
# Of 100 answers, how many go on with each word after each word.
PERCENT = """
100  0  0  0  0  0  0
  4  0 22 20 18 16 20
 25  0  8 18 15 20 14
 25  0 15  8 18 20 14
 25  0 18 15  8 20 14
 25  0 12 12 12 32  7
 10  0 20 20 20 10 20
"""


def start_table():
    """Return the table of the policy before training, float32 `(7, 7)`."""
    import numpy as np

    rows = [line.split() for line in PERCENT.split("\n")[1:-1]]
    return np.log(np.maximum(np.array(rows, "float32") / 100, 1e-9))


def table_logits(ids, table):
    """Return the logits of the word after each word.

    Args:
        ids: int array or tensor of any shape.
        table: float array, tensor, or variable `(words, words)`.

    Returns:
        float tensor `(..., words)`.
    """
    from keras import ops

    # The gradient of `take` comes in pieces with TensorFlow, and Adam would
    # make other steps of them.
    return ops.matmul(ops.one_hot(ids, table.shape[0]), table)


def sample(table, count, seed):
    """Draw answers.

    Returns:
        A pair: the sequences, int32 `(count, LENGTH)`, which begin with
        `<ask>`, and a bool mask of the same shape, true for the words of the
        answer and its first `<end>`.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    chances = np.exp(table - np.max(table, axis=1, keepdims=True))
    sums = np.cumsum(chances, axis=1, dtype="float64")
    ids = np.zeros((count, LENGTH), "int32")
    mask = np.zeros((count, LENGTH), bool)
    ids[:, 0] = WORDS.index("<ask>")
    for i in range(1, LENGTH):
        mask[:, i] = ids[:, i - 1] != 0
        bounds = sums[ids[:, i - 1]]
        drawn = rng.random(count) * bounds[:, -1]
        chosen = np.minimum((bounds <= drawn[:, None]).sum(axis=1), 6)
        ids[:, i] = np.where(mask[:, i], chosen, 0)
    return ids, mask


def count_features(ids, mask):
    """Count what is in answers: float `(..., 4)`, in the order of FEATURES."""
    import numpy as np

    counts = [((ids == word) & mask).sum(axis=-1) for word in range(7)]
    facts = sum((counts[word] > 0).astype(int) for word in (2, 3, 4))
    repeated = counts[2] + counts[3] + counts[4] - facts
    return np.stack([facts, repeated, *counts[5:]], axis=-1).astype("float64")


def true_reward(features):
    """Return how good answers are: float `(...,)`."""
    import numpy as np

    facts, repeated, thanks, hmms = np.moveaxis(features, -1, 0)
    # Two are polite, a third one adds nothing, and more annoy.
    courtesy = np.minimum(thanks, 2) - np.maximum(thanks - 3, 0)
    return facts - 0.5 * repeated + courtesy - 0.3 * hmms


def compare(count, seed):
    """Draw pairs of answers, and ask people which is better.

    People prefer an answer as often as Bradley and Terry say.

    Returns:
        dict of `ids`, int32, and `mask`, bool, both `(count, 2, LENGTH)`. Of
        each pair, the chosen answer comes first.
    """
    import numpy as np

    ids, mask = sample(start_table(), 2 * count, seed)
    pairs = {
        "ids": ids.reshape(count, 2, LENGTH),
        "mask": mask.reshape(count, 2, LENGTH),
    }
    rewards = true_reward(count_features(**pairs))
    rng = np.random.default_rng([seed, 1])
    gaps = rewards[:, 0] - rewards[:, 1]
    second = rng.random(count) > 1 / (1 + np.exp(-gaps))
    return {
        name: np.where(second[:, None, None], part[:, ::-1], part)
        for name, part in pairs.items()
    }


def measure_table(table, seed, count=4000):
    """Measure a policy on answers of its own.

    Returns:
        dict of float: `kl`, the divergence from the start in nats, and
        `true_reward`, both means over `count` answers.
    """
    import numpy as np

    def logs(table):
        table = np.asarray(table, "float64")
        table = table - table.max(axis=1, keepdims=True)
        return table - np.log(np.exp(table).sum(axis=1, keepdims=True))

    ids, mask = sample(table, count, seed)
    ratios = (logs(table) - logs(start_table()))[ids[:, :-1], ids[:, 1:]]
    return {
        "kl": float((ratios * mask[:, 1:]).sum(axis=1).mean()),
        "true_reward": float(true_reward(count_features(ids, mask)).mean()),
    }


# %%
ids, mask = sample(start_table(), 5, seed=0)
rewards = true_reward(count_features(ids, mask))
for row, its_mask, reward in zip(ids, mask, rewards):
    print(f"{reward:5.1f}", " ".join(WORDS[i] for i in row[its_mask]))

# %% [markdown]
# ### 5.1 A policy with its loss (5 points)
#
# Write a subclass of `keras.Model`, and let `make_policy` return one. It holds
# the table as a `keras.Variable` in the attribute `table`, its only weight. Its
# `call` receives a dict as `compare` returns it and returns the
# log-probabilities of both answers of each pair. `table_logits` computes the
# logits. (Do not index the table yourself, or Adam would make other steps with
# TensorFlow.)
#
# The model also needs its loss. While `fit` trains, Keras calls the method
# `compute_loss(x, y, y_pred, sample_weight, training)` of the model: `y_pred`
# is what `call` returned, and `y` is what `fit` was given under that name, here
# the log-probabilities under the reference. Let it return your `dpo_loss`. Give
# `sample_weight` and `training` default values.


# %% nbgrader={"grade": false, "grade_id": "make_policy", "locked": false, "schema_version": 3, "solution": true, "task": false}
def make_policy(table, beta):
    """Make a policy that can be trained on pairs.

    Args:
        table: float32 array `(words, words)`, logits of the word after each
            word.
        beta: float > 0, for the loss.

    Returns:
        keras.Model with the attribute `table`, from a dict of `ids`, int
        `(pairs, 2, length)`, and `mask`, bool of the same shape, to
        log-probabilities `(pairs, 2)`.
    """
    ### BEGIN SOLUTION
    return Policy(table, beta)


class Policy(keras.Model):
    def __init__(self, table, beta):
        super().__init__()
        self.table = keras.Variable(table)
        self.beta = beta

    def call(self, x):
        length = x["ids"].shape[-1]
        ids = ops.reshape(x["ids"], (-1, length))  # (2 * pairs, length)
        mask = ops.reshape(x["mask"], (-1, length))
        logits = table_logits(ids, self.table)
        return ops.reshape(response_logprobs(logits, ids, mask), (-1, 2))

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return dpo_loss(y_pred[:, 0], y_pred[:, 1], y[:, 0], y[:, 1], self.beta)

    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_make_policy", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

table = np.log(np.array([[1, 1, 2], [1, 3, 4], [2, 1, 1]], "float32"))
pairs = {
    "ids": np.array([[[1, 2, 0], [1, 0, 0]]], "int32"),
    "mask": np.array([[[0, 1, 1], [0, 1, 0]]], bool),
}
policy = make_policy(table, 0.5)
found = to_array(policy(pairs))
assert found.shape == (1, 2), (
    f"There is a number for each answer of each pair. Received: {found.shape}."
)
assert np.allclose(found, np.log([[1 / 4, 1 / 8]]), atol=1e-4), (
    "Word 2 follows word 1 with 4/8, and word 0 follows word 2 with 2/4. Word "
    f"0 follows word 1 with 1/8. Received: {np.exp(found)}."
)
assert np.allclose(to_array(policy.table), table), (
    "The attribute `table` is the table."
)
assert [to_array(part).shape for part in policy.trainable_weights] == [
    (3, 3)
], "Keras finds one weight to train, the table."
reference = np.array([[-1.0, -1.0], [-2.0, -5.0]], "float32")
scores = np.array([[-3.0, -6.0], [-2.0, -4.0]], "float32")
loss = to_array(policy.compute_loss(pairs, reference, scores))
expected = to_array(dpo_loss(*scores.T, *reference.T, 0.5))
assert abs(loss - expected) < 1e-4, (
    "`compute_loss` returns your `dpo_loss`, with the first column for the "
    f"chosen answers. Received: {loss} instead of {expected}."
)
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} policy".encode()))
size, length = int(rng.integers(3, 8)), int(rng.integers(3, 9))
beta = float(rng.uniform(0.1, 2))
old, new = rng.normal(size=(2, size, size)).astype("float32")
policy = make_policy(old, beta)
for table, pairs in ((old, 1), (new, 4)):
    policy.set_weights([table])
    ids = rng.integers(0, size, (pairs, 2, length)).astype("int32")
    mask = rng.random((pairs, 2, length)) < 0.7
    mask[..., 0] = False
    logs = np.log(np.exp(table) / np.exp(table).sum(axis=1, keepdims=True))
    expected = np.zeros((pairs, 2))
    for i, j, k in np.ndindex(pairs, 2, length - 1):
        if mask[i, j, k + 1]:
            expected[i, j] += logs[ids[i, j, k], ids[i, j, k + 1]]
    scores = to_array(policy({"ids": ids, "mask": mask}))
    assert np.allclose(scores, expected, atol=1e-3), (
        "The policy must return the log-probabilities of both answers, with "
        "the weight that Keras finds and changes. For some random tables it "
        "does not."
    )
reference = scores + rng.normal(size=scores.shape).astype("float32")
gaps = (scores[:, 0] - reference[:, 0]) - (scores[:, 1] - reference[:, 1])
expected = np.mean(np.log(1 + np.exp(-beta * gaps)))
loss = to_array(
    policy.compute_loss({"ids": ids, "mask": mask}, reference, scores)
)
assert abs(loss - expected) < 1e-3, (
    "`compute_loss` must be the loss of DPO, with the beta that was given. For "
    "random log-probabilities it is not."
)
### END HIDDEN TESTS

# %% [markdown]
# ### 5.2 Training (5 points)
#
# The reference is the policy as it is when training begins. It does not change
# while the policy does, so compute its log-probabilities once, before the first
# step. Compile the model with Adam, without a loss, because the model has its
# own. Then call `fit` with the pairs and, as `y`, the log-probabilities under
# the reference. Let `fit` shuffle the pairs. To run `after_epoch` between
# epochs, use `on_epoch_end` of `keras.callbacks.LambdaCallback`.


# %% nbgrader={"grade": false, "grade_id": "train_dpo", "locked": false, "schema_version": 3, "solution": true, "task": false}
def train_dpo(policy, pairs, rate, batch_size, epochs, after_epoch=None):
    """Train a policy with direct preference optimization.

    Args:
        policy: what `make_policy` returns; it is changed.
        pairs: dict of `ids` and `mask`, as `compare` returns it.
        rate: float, the learning rate.
        batch_size: int.
        epochs: int.
        after_epoch: function without arguments, called after each epoch;
            `None` for none.

    Returns:
        list of float, the loss of each epoch.
    """
    ### BEGIN SOLUTION
    reference = ops.convert_to_numpy(policy(pairs))
    callbacks = []
    if after_epoch is not None:
        callbacks.append(
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: after_epoch()
            )
        )
    policy.compile(optimizer=keras.optimizers.Adam(rate))
    history = policy.fit(
        pairs,
        reference,
        batch_size=batch_size,
        epochs=epochs,
        callbacks=callbacks,
        verbose=0,
    )
    return history.history["loss"]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_train_dpo", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

# Word 2 is preferred to word 3, after any word.
firsts = np.arange(8, dtype="int32") % 4
pairs = {
    "ids": np.array([[[a, 2], [a, 3]] for a in firsts], "int32"),
    "mask": np.array([[[False, True]] * 2] * 8),
}
policy = make_policy(np.zeros((4, 4), "float32"), 1.0)
losses = train_dpo(policy, pairs, 0.05, 8, 10)
assert len(losses) == 10, "There is a loss for each epoch."
assert abs(losses[0] - np.log(2)) < 1e-3, (
    "At the first step the policy is its own reference, so the loss is log 2. "
    f"Received: {losses[0]}."
)
table = to_array(policy.table)
assert np.all(table[:, 2] - table[:, 3] > 0.5), (
    "After ten steps of 0.05, word 2 must be more likely than word 3, after "
    "each word."
)
# Computed again, with log 1/4 for all words under the reference.
after = np.mean(np.log(1 + np.exp(table[:, 3] - table[:, 2])))
assert after < losses[-1] < after + 0.1, (
    "The losses must be those of the policy, against the reference from before "
    f"the first step. Received: at the end {losses[-1]}, before a step to "
    f"{after}."
)
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} train".encode()))
size, length, count = int(rng.integers(4, 7)), int(rng.integers(5, 8)), 6
beta, rate = float(rng.uniform(0.3, 1)), 0.02
ids = rng.integers(0, size, (count, 2, length)).astype("int32")
mask = np.arange(length) < rng.integers(3, length + 1, (count, 2, 1))
mask[..., 0] = False
start = rng.normal(size=(size, size)).astype("float32")
# How often word b follows word a in the chosen answer, minus in the rejected.
follows = np.zeros((count, size, size))
for i, j, k in np.ndindex(count, 2, length - 1):
    if mask[i, j, k + 1]:
        follows[i, ids[i, j, k], ids[i, j, k + 1]] += 1 - 2 * j


def gaps_and_slopes(table):
    """Return for each pair the log-ratio, not yet of the reference."""
    shares = np.exp(table) / np.exp(table).sum(axis=1, keepdims=True)
    gaps = (follows * np.log(shares)).sum(axis=(1, 2))
    return gaps, follows - follows.sum(axis=2, keepdims=True) * shares


# Each epoch is one step of Adam on all pairs.
table, first, second = start.astype("float64"), 0.0, 0.0
reference, _ = gaps_and_slopes(table)
expected = []
for step in range(1, 9):
    gaps, slopes = gaps_and_slopes(table)
    z = beta * (gaps - reference)
    expected.append(np.mean(np.log(1 + np.exp(-z))))
    pulls = -beta / (1 + np.exp(z)) / count
    slope = (pulls[:, None, None] * slopes).sum(axis=0)
    first = 0.9 * first + 0.1 * slope
    second = 0.999 * second + 0.001 * slope**2
    scale = np.sqrt(second / (1 - 0.999**step)) + 1e-7
    table = table - rate * first / (1 - 0.9**step) / scale
policy = make_policy(start, beta)
losses = train_dpo(policy, {"ids": ids, "mask": mask}, rate, count, 8)
assert np.allclose(losses, expected, atol=5e-3), (
    "The loss must be that of DPO in each epoch, with Adam at the rate that is "
    "asked for, and with the policy from before training as the reference. For "
    "a random policy it is not."
)
gaps, _ = gaps_and_slopes(to_array(policy.table).astype("float64"))
reached = np.mean(np.log(1 + np.exp(-beta * (gaps - reference))))
gaps, _ = gaps_and_slopes(table)
best = np.mean(np.log(1 + np.exp(-beta * (gaps - reference))))
assert abs(reached - best) < 5e-3, (
    "Training must change the table as the losses say. For a random policy the "
    "table does not have the loss that it should have in the end."
)
# A callback that fails shows that it is called, and when: `set_weights` wants
# an argument, and gets none.
policy.set_weights([start])
try:
    train_dpo(
        policy,
        {"ids": ids, "mask": mask},
        1e-3,
        count // 2,
        3,
        policy.set_weights,
    )
except TypeError:
    called = True
else:
    called = False
assert called, "`after_epoch` must be called, without arguments."
largest = np.abs(to_array(policy.table) - start).max()
assert 1.2e-3 < largest < 2.1e-3, (
    "`after_epoch` must be called after each epoch, and batches must have the "
    "size that is asked for: two steps of half the pairs, and then the call."
)
### END HIDDEN TESTS

# %% [markdown]
# ### 5.3 A figure (10 points, graded by a person)
#
# People have compared 1,000 pairs of answers. Everyone in the class has the
# same comparisons this term.

# %%
SEED = 0

# %%
train, held_out = compare(1000, SEED), compare(1000, SEED + 1000)
print({name: part.shape for name, part in train.items()})

# %% [markdown]
# - Fit two reward models to `train` with `fit_rewards` and a penalty of 1. The
#   first has the four features of `count_features`. The second has a fifth, the
#   square of the number of `thanks`. Print the weights, and the share of pairs
#   in `held_out` that each of them gets right.
# - Draw 51,200 answers of the start, a pool of 256 for each of 200 travelers.
#   To the scores of a reward model add a little noise, such as normal numbers
#   times 1e-6, because many of them are equal. With `expected_best`, compute
#   the true reward of best of $n$ for $n = 1, 2, 4, ..., 256$ with each
#   reward model, and the proxy reward with the first. Add a constant to the
#   proxy, so that it begins where the truth begins.
# - Train a policy on `train` for 20 epochs in batches of 50, with a beta of 0.1
#   and a rate of 0.02. Before training and after each epoch, call
#   `measure_table`. Print `implicit_rewards` and the mean log-probabilities of
#   the chosen and the rejected answers in `held_out`, before and after
#   training.
#
# Plot the true reward against the divergence from the start in nats: best of
# $n$ with each reward model at its `kl_bound`, and DPO at its `kl`. Draw the
# proxy, too. Label the points of best of $n$ with $n$.

# %% nbgrader={"grade": true, "grade_id": "figure", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
keras.utils.set_random_seed(SEED)


def four_features(ids, mask):
    return count_features(ids, mask)


def five_features(ids, mask):
    features = count_features(ids, mask)
    square = features[..., 2:3] ** 2
    return np.concatenate([features, square], axis=-1)


ns = 2 ** np.arange(9)
bounds = [kl_bound(int(n)) for n in ns]
ids, mask = (
    part.reshape(200, 256, LENGTH)
    for part in sample(start_table(), 51_200, SEED + 2000)
)
truth = true_reward(count_features(ids, mask))
noise = 1e-6 * np.random.default_rng(SEED).normal(size=truth.shape)
figure, ax = plt.subplots()
for name, features in {
    "four features": four_features,
    "five features": five_features,
}.items():
    pair_features = features(**train)
    weights = fit_rewards(pair_features[:, 0], pair_features[:, 1], 1.0)
    scores = features(**held_out) @ weights
    right = np.mean(scores[:, 0] > scores[:, 1])
    print(name, weights.round(2), f"right on held-out pairs: {right:.3f}")
    proxy = features(ids, mask) @ weights + noise
    for n in (32, 256):
        best = proxy[:, :n].argmax(axis=1)
        means = count_features(ids, mask)[np.arange(200), best].mean(axis=0)
        print(f"  in best of {n}:", dict(zip(FEATURES, means.round(2))))
    curve = [expected_best(proxy, truth, int(n)) for n in ns]
    print("  truth:", np.round(curve, 2))
    ax.plot(bounds, curve, marker="o", label=f"best of n, {name}")
    if features is four_features:
        said = np.array([expected_best(proxy, proxy, int(n)) for n in ns])
        said += curve[0] - said[0]
        ax.plot(bounds, said, "--", label="proxy, four features")
        for n, x, y in zip(ns, bounds, curve):
            ax.annotate(str(n), (x, y), (0, 6), textcoords="offset points")

policy = make_policy(start_table(), 0.1)
before = policy.predict(held_out, verbose=0)
points = []


def measure():
    points.append(
        measure_table(ops.convert_to_numpy(policy.table), SEED + len(points))
    )


measure()
train_dpo(policy, train, 0.02, 50, 20, measure)
after = policy.predict(held_out, verbose=0)
print(implicit_rewards(*after.T, *before.T, 0.1))
print("log-probabilities:", before.mean(axis=0), "then", after.mean(axis=0))
print("DPO:", [{k: round(v, 2) for k, v in p.items()} for p in points])
ax.plot(
    [point["kl"] for point in points],
    [point["true_reward"] for point in points],
    marker=".",
    label="DPO, epoch by epoch",
)
ax.set_xlabel("divergence from the start, nats (for best of n, at most)")
ax.set_ylabel("mean reward")
ax.legend()
plt.show()
### END SOLUTION

# %% [markdown]
# ### 5.4 What the figure says (5 points, graded by a person)
#
# Write five to eight sentences. At which $n$ does the true reward with the
# first reward model peak, and what makes it fall? (Look at what is in answers
# that are best of 256.) The second model is right on only a few more of the
# held-out pairs. Why is it so much better at 256, and would ten times as many
# comparisons of the same kind have helped the first one? Suppose that the
# errors of a reward model were normal numbers, independent of the answers.
# Would the true reward fall at some $n$? Up to which divergence does DPO help,
# and what do its answers become after that?

# %% [markdown] nbgrader={"grade": true, "grade_id": "discussion", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# With four features, the true reward peaks at n = 32. From there on nearly all
# chosen answers have all three facts, so the proxy can only be raised by more
# thanks: 2.8 of them on average at 32, and 4.5 at 256, where each one costs a
# point. The model counts every thanks as a gain, because few of the answers
# that people compared have more than two. The held-out pairs are drawn like
# those for training, so they hardly contain what best of 256 chooses, and being
# right on them says little about it. Ten times as many comparisons would help
# little, because a weight for a count cannot rise and then fall; with 10,000
# the peak moves to 64, and the fall stays. With independent normal errors, a
# higher proxy means a higher truth on average, so the curve would rise more
# slowly but never fall. DPO helps up to a little more than one nat. After that its answers
# have more and more thanks, too, because the table knows only the last word and
# not how many there were.
