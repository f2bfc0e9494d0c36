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
#     - transformers
#     forbidden_names:
#     - CosineDecay
#     - CosineDecayRestarts
#     - ExponentialDecay
#     - InverseTimeDecay
#     - PiecewiseConstantDecay
#     - PolynomialDecay
#     - clip_by_global_norm
#     - clip_by_norm
#     - clip_grad_norm_
#     - clipnorm
#     - global_clipnorm
#     - global_norm
#     graded:
#     - count_parameters
#     - learning_rate
#     - cosine_rate
#     - clip_gradients
#     - frequency_loss
#     - make_model
#     - mean_loss
#     - pretrain
# ---

# %% [markdown]
# # Homework 2b: Pretraining
#
# In Homework 2 you wrote a decoder. Here you train one: you count its
# parameters, plan the learning rate, clip gradients, decide what to compare the
# loss with, and teach a small model the spelling of Python's manual. Chapter 1
# of the course does the same on a larger scale.
#
# | part | points |
# |---|---|
# | 1 Counting | 10 |
# | 2 The learning rate | 20 |
# | 3 Clipping | 10 |
# | 4 A baseline | 10 |
# | 5 Pretraining | 35 |
# | 6 A figure, graded by a person | 15 |
#
# Rules:
#
# - Replace each `raise NotImplementedError()` with your code. Keep the names
#   and arguments of the functions. You may add cells and functions.
# - Write parts 2 and 3 with `keras.ops`. Ready-made schedules and clipping are
#   not allowed, such as `keras.optimizers.schedules.CosineDecay` or
#   `global_clipnorm`. If one appears in your code, the question loses its
#   points. Grading lists such names for the instructor.
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
#   homework check hw2b_pretraining.ipynb`.

# %%
import math

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

# %% [markdown]
# ## The model
#
# `language_model` is the decoder of Homework 2, written with ready-made
# attention and normalization. It receives its weights in nested dicts, as
# `make_weights` returns them.


# %% nbgrader={"grade": false, "grade_id": "language_model", "locked": true, "schema_version": 3, "solution": false, "task": false}
def make_weights(vocabulary_size, length, dim, hidden_dim, num_blocks, seed=0):
    """Return the initial weights of a model, in nested dicts of arrays."""
    import numpy as np

    rng = np.random.default_rng(seed)

    def matrix(rows, columns, scale=None):
        scale = rows**-0.5 if scale is None else scale
        return rng.normal(0, scale, (rows, columns)).astype("float32")

    def constant(value, size):
        return np.full(size, value, "float32")

    blocks = [
        {
            "query": matrix(dim, dim),
            "key": matrix(dim, dim),
            "value": matrix(dim, dim),
            "output": matrix(dim, dim),
            "norm_1_scale": constant(1, dim),
            "norm_1_offset": constant(0, dim),
            "up": matrix(dim, hidden_dim),
            "up_bias": constant(0, hidden_dim),
            "down": matrix(hidden_dim, dim),
            "down_bias": constant(0, dim),
            "norm_2_scale": constant(1, dim),
            "norm_2_offset": constant(0, dim),
        }
        for _ in range(num_blocks)
    ]
    return {
        "tokens": matrix(vocabulary_size, dim, 0.02),
        "positions": matrix(length, dim, 0.02),
        "blocks": blocks,
    }


def language_model(ids, weights, num_heads):
    """Score the tokens that could come next, at each position.

    Args:
        ids: int array or tensor `(batch, length)`.
        weights: dict as `make_weights` returns it.
        num_heads: int that divides the size of the vectors.

    Returns:
        float tensor `(batch, length, vocabulary_size)`.
    """
    import functools

    from keras import ops

    norm = functools.partial(ops.layer_normalization, epsilon=1e-5)
    length, dim = ids.shape[1], weights["tokens"].shape[1]
    heads = (-1, length, num_heads, dim // num_heads)
    tokens = ops.convert_to_tensor(weights["tokens"])
    x = ops.take(tokens, ids, axis=0)
    x = x + ops.convert_to_tensor(weights["positions"])[:length]
    for block in weights["blocks"]:
        w = {name: ops.convert_to_tensor(part) for name, part in block.items()}
        query, key, value = (
            ops.reshape(ops.matmul(x, w[name]), heads)
            for name in ("query", "key", "value")
        )
        mixed = ops.dot_product_attention(query, key, value, is_causal=True)
        mixed = ops.reshape(mixed, (-1, length, dim))
        x = x + ops.matmul(mixed, w["output"])
        x = norm(x, w["norm_1_scale"], w["norm_1_offset"])
        hidden = ops.relu(ops.matmul(x, w["up"]) + w["up_bias"])
        x = x + ops.matmul(hidden, w["down"]) + w["down_bias"]
        x = norm(x, w["norm_2_scale"], w["norm_2_offset"])
    return ops.matmul(x, ops.transpose(tokens))


def to_array(value):
    """Turn what a function returned, a tensor or an array, into an array."""
    import numpy as np

    assert value is not None, "The function must return its result."
    if isinstance(value, (int, float, np.ndarray, np.generic)):
        return np.asarray(value)
    import keras

    return keras.ops.convert_to_numpy(value)


# %%
weights = make_weights(50, 10, 8, 32, 1)
for name, part in weights["blocks"][0].items():
    print(f"{name:14}", part.shape)
print(language_model(np.zeros((1, 10), "int32"), weights, 2).shape)

# %% [markdown]
# ## 1 Counting (10 points)
#
# How many numbers do the weights contain? Compute it from the sizes alone,
# without making the weights. The matrix of tokens counts once, although it is
# used twice.


# %% nbgrader={"grade": false, "grade_id": "count_parameters", "locked": false, "schema_version": 3, "solution": true, "task": false}
def count_parameters(vocabulary_size, length, dim, hidden_dim, num_blocks):
    """Count the numbers in what `make_weights` would return.

    Args:
        vocabulary_size: int.
        length: int, how many positions there are.
        dim: int.
        hidden_dim: int, width of the feed-forward networks.
        num_blocks: int.

    Returns:
        int.
    """
    ### BEGIN SOLUTION
    attention = 4 * dim * dim
    feed_forward = 2 * dim * hidden_dim + hidden_dim + dim
    norms = 4 * dim
    blocks = num_blocks * (attention + feed_forward + norms)
    return (vocabulary_size + length) * dim + blocks
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_count_parameters", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
counted = count_parameters(50, 10, 8, 32, 0)
assert counted == 480, (
    "Without blocks there are 50 rows for tokens and 10 for positions, of 8 "
    f"numbers. Received: {counted!r}."
)
counted = count_parameters(50, 10, 8, 32, 3) - counted
assert counted == 3 * 840, (
    "A block has four matrices of attention, two of the feed-forward network "
    "with a bias each, and two normalizations of two vectors: 840 numbers in "
    f"all here. Received: {counted / 3} a block."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} count")


def slow_size(part):
    if isinstance(part, dict):
        return sum(slow_size(each) for each in part.values())
    if isinstance(part, list):
        return sum(slow_size(each) for each in part)
    return len(part.ravel())


for _ in range(8):
    sizes = [rng.randint(1, 20) for _ in range(4)] + [rng.randint(0, 4)]
    expected = slow_size(make_weights(*sizes))
    assert count_parameters(*sizes) == expected, (
        "The count must be that of weights really made. For some random "
        "sizes it is not."
    )
# Sizes whose weights no machine here would hold.
dim, number = rng.randint(10**5, 10**6), rng.randint(100, 1000)
one, more = (
    count_parameters(10**6, 10**5, dim, 4 * dim, n) for n in (1, number)
)
assert one - count_parameters(10**6, 10**5, dim, 4 * dim, 0) == (
    12 * dim * dim + 9 * dim
), "With a hidden size of 4 * dim, a block has 12 dim^2 + 9 dim numbers."
assert (more - one) == (number - 1) * (12 * dim * dim + 9 * dim), (
    "All blocks have the same size: count with integers, and make no arrays."
)
### END HIDDEN TESTS

# %% [markdown]
# ## 2 The learning rate
#
# ### 2.1 Warmup (10 points)
#
# The first gradients of a new model are large and point in no useful direction.
# So the learning rate rises in a straight line, from 0 at step 0 to `rate` at
# step `warmup_steps`, and then stays there. In training `step` is a tensor of
# the backend, and a Python `if` on a tensor does not compile. Use `keras.ops`.


# %% nbgrader={"grade": false, "grade_id": "learning_rate", "locked": false, "schema_version": 3, "solution": true, "task": false}
def learning_rate(step, rate, warmup_steps):
    """Return the learning rate of a step.

    Args:
        step: int, or int array or tensor of any shape.
        rate: float, the rate after the warmup.
        warmup_steps: int, at least 1.

    Returns:
        float32 tensor of the shape of `step`.
    """
    ### BEGIN SOLUTION
    done = ops.cast(step, "float32") / warmup_steps
    return rate * ops.minimum(done, 1.0)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_learning_rate", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

assert to_array(learning_rate(0, 0.5, 10)) == 0, "The rate begins at zero."
assert abs(to_array(learning_rate(5, 0.5, 10)) - 0.25) < 1e-6, (
    "Half the warmup is half the rate."
)
for step in (10, 11, 10**6):
    assert abs(to_array(learning_rate(step, 0.5, 10)) - 0.5) < 1e-6, (
        f"From step 10 on the rate stays what it is. It does not at {step}."
    )
rates = to_array(learning_rate(np.arange(4, dtype="int32"), 1.0, 2))
assert rates.dtype == np.float32 and rates.tolist() == [0, 0.5, 1, 1], (
    f"An array of steps gives an array of rates. Received: {rates!r}."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} warmup")
for _ in range(5):
    rate, warmup = rng.uniform(1e-5, 2), rng.randint(1, 500)
    steps = [0, 1, warmup - 1, warmup, warmup + 1, rng.randrange(10**4)]
    rates = to_array(learning_rate(np.array(steps, "int32"), rate, warmup))
    assert rates.shape == (6,), "There must be a rate for each step."
    for step, found in zip(steps, rates.tolist()):
        expected = rate if step >= warmup else rate * step / warmup
        assert abs(found - expected) < 1e-5 * rate, (
            "The rate must rise in a straight line up to the warmup's end "
            "and then stay. For some random steps it does not."
        )
### END HIDDEN TESTS

# %% [markdown]
# ### 2.2 Cosine decay (10 points)
#
# Many models are trained with a rate that falls again after the warmup. From
# step `warmup_steps` to step `total_steps` it follows half a period of a
# cosine, from `rate` down to 0. At the middle of the decay it is `rate / 2`.
# After `total_steps` it stays 0.


# %% nbgrader={"grade": false, "grade_id": "cosine_rate", "locked": false, "schema_version": 3, "solution": true, "task": false}
def cosine_rate(step, rate, warmup_steps, total_steps):
    """Return the learning rate of a step, with warmup and cosine decay.

    Args:
        step: int, or int array or tensor of any shape.
        rate: float, the highest rate.
        warmup_steps: int, at least 1.
        total_steps: int, more than `warmup_steps`.

    Returns:
        float32 tensor of the shape of `step`.
    """
    ### BEGIN SOLUTION
    step = ops.cast(step, "float32")
    done = (step - warmup_steps) / (total_steps - warmup_steps)
    decay = (1 + ops.cos(math.pi * ops.clip(done, 0, 1))) / 2
    return rate * ops.minimum(step / warmup_steps, 1.0) * decay
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_cosine_rate", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

rates = to_array(cosine_rate(np.arange(7, dtype="int32"), 1.0, 2, 6))
assert rates.shape == (7,) and rates.dtype == np.float32, (
    f"An array of steps gives an array of float32 rates. Received: {rates!r}."
)
assert np.allclose(rates[:3], [0, 0.5, 1], atol=1e-5), (
    f"The rate rises in a straight line in the warmup. Received: {rates[:3]}."
)
assert abs(rates[4] - 0.5) < 1e-5, (
    "At the middle of the decay the rate is half of the highest rate. "
    f"Received: {rates[4]}."
)
assert abs(rates[6]) < 1e-5, (
    f"At `total_steps` the rate is 0. Received: {rates[6]}."
)
### BEGIN HIDDEN TESTS
import math
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} cosine")
for _ in range(5):
    rate, warmup = rng.uniform(1e-5, 2), rng.randint(1, 300)
    total = warmup + rng.randint(1, 500)
    steps = [0, warmup, total, total + rng.randrange(1000)]
    steps += [rng.randrange(total) for _ in range(6)]
    rates = to_array(cosine_rate(np.array(steps, "int32"), rate, warmup, total))
    for step, found in zip(steps, rates.tolist()):
        if step < warmup:
            expected = rate * step / warmup
        else:
            share = min(1, (step - warmup) / (total - warmup))
            expected = rate * math.cos(share * math.pi / 2) ** 2
        assert abs(found - expected) < 1e-4 * rate, (
            "The rate must rise in a straight line, fall like half a period of "
            "a cosine, and stay 0. For some random steps it does not."
        )
### END HIDDEN TESTS


# %% [markdown]
# ## 3 Clipping (10 points)
#
# A single bad batch can produce a gradient that destroys a model. The global
# norm is the square root of the sum of the squares of all numbers in all
# gradients. If it is larger than `largest`, multiply every gradient by the same
# factor, so that the global norm becomes `largest`. Otherwise leave the
# gradients as they are. The direction of the step stays the same.


# %% nbgrader={"grade": false, "grade_id": "clip_gradients", "locked": false, "schema_version": 3, "solution": true, "task": false}
def clip_gradients(gradients, largest):
    """Make gradients smaller if their global norm is too large.

    Args:
        gradients: list of float arrays of any shapes.
        largest: float > 0, the largest global norm.

    Returns:
        list of float32 tensors of the same shapes.
    """
    ### BEGIN SOLUTION
    gradients = [ops.cast(each, "float32") for each in gradients]
    norm = ops.sqrt(sum(ops.sum(ops.square(each)) for each in gradients))
    factor = largest / ops.maximum(norm, largest)
    return [each * factor for each in gradients]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_clip_gradients", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

gradients = [np.array([3.0], "float32"), np.array([[0.0, 4.0]], "float32")]
clipped = [to_array(each) for each in clip_gradients(gradients, 1.0)]
assert [each.shape for each in clipped] == [(1,), (1, 2)], (
    f"Shapes stay. Received: {[each.shape for each in clipped]}."
)
assert np.allclose(clipped[0], [0.6]) and np.allclose(clipped[1], [[0, 0.8]]), (
    "The global norm of 3 and 4 is 5, so both are divided by 5. Received: "
    f"{clipped}."
)
clipped = [to_array(each) for each in clip_gradients(gradients, 7.0)]
assert np.allclose(clipped[0], [3]) and np.allclose(clipped[1], [[0, 4]]), (
    f"Gradients with a smaller norm stay as they are. Received: {clipped}."
)
clipped = to_array(clip_gradients([np.zeros(2, "float32")], 1.0)[0])
assert clipped.tolist() == [0, 0], (
    f"Gradients of zeros stay zeros. Received: {clipped}."
)
### BEGIN HIDDEN TESTS
import math
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} clip".encode()))
for _ in range(6):
    shapes = [
        tuple(rng.integers(1, 5, rng.integers(0, 4)).tolist())
        for _ in range(rng.integers(1, 6))
    ]
    gradients = [
        np.asarray(rng.normal(0, 3, shape), "float32") for shape in shapes
    ]
    numbers = [float(x) for each in gradients for x in each.ravel()]
    norm = math.sqrt(sum(x * x for x in numbers))
    largest = norm * float(rng.choice([0.1, 0.9, 1.5]))
    factor = min(1, largest / norm)
    clipped = clip_gradients(gradients, largest)
    assert len(clipped) == len(gradients), "Each gradient must be returned."
    for old, new in zip(gradients, clipped):
        new = to_array(new)
        assert new.shape == old.shape and new.dtype == np.float32, (
            "Shapes must stay, and gradients must be float32."
        )
        assert np.allclose(new, old * factor, rtol=1e-3, atol=1e-4), (
            "All gradients must be multiplied by one factor, which makes their "
            "global norm `largest` if it was larger. For some random gradients "
            "they are not."
        )
### END HIDDEN TESTS


# %% [markdown]
# ## 4 A baseline (10 points)
#
# A loss means little until you compare it with something. The simplest model
# knows how often each token occurs in the training text, and nothing else.
# Count the tokens of the training text and add one to every count, so that no
# token has the probability 0. Return the mean of $-\log p$ over the held-out
# tokens, in nats.


# %% nbgrader={"grade": false, "grade_id": "frequency_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def frequency_loss(train_ids, held_out_ids, vocabulary_size):
    """Return the loss of a model that knows only the frequencies of tokens.

    Args:
        train_ids: int array of any shape.
        held_out_ids: int array of any shape, not empty.
        vocabulary_size: int.

    Returns:
        float, in nats.
    """
    ### BEGIN SOLUTION
    counts = 1 + np.bincount(np.ravel(train_ids), minlength=vocabulary_size)
    return float(-np.log(counts / counts.sum())[held_out_ids].mean())
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_frequency_loss", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

loss = frequency_loss(np.array([0, 0, 1]), np.array([0, 1]), 2)
assert isinstance(loss, float), (
    f"The loss is a float. Received: {type(loss).__name__}."
)
assert abs(loss + (np.log(3 / 5) + np.log(2 / 5)) / 2) < 1e-6, (
    "With one added to each count, the probabilities are 3/5 and 2/5, and the "
    f"loss is 0.7136. Received: {loss}."
)
loss = frequency_loss(np.array([[0, 1]]), np.array([[2]]), 4)
assert abs(loss - np.log(6)) < 1e-6, (
    "A token that never occurs in the training text has a count of one: 1 of 6 "
    f"here. Received: {loss}."
)
### BEGIN HIDDEN TESTS
import math
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} frequency")
for _ in range(8):
    size = rng.randint(2, 12)
    train_ids, held_out_ids = (
        [[rng.randrange(size) for _ in range(5)] for _ in range(rows)]
        for rows in (rng.randrange(8), rng.randint(1, 8))
    )
    seen = [token for row in train_ids for token in row]
    losses = [
        math.log((len(seen) + size) / (seen.count(token) + 1))
        for row in held_out_ids
        for token in row
    ]
    loss = frequency_loss(
        np.array(train_ids, "int32").reshape(-1, 5),
        np.array(held_out_ids, "int32"),
        size,
    )
    assert abs(loss - sum(losses) / len(losses)) < 1e-4, (
        "The loss must be the mean of -log p over the held-out tokens, with p "
        "counted on the training tokens alone. For some random ones it is not."
    )
### END HIDDEN TESTS


# %% [markdown]
# ## 5 Pretraining
#
# ### 5.1 A model that Keras can train (15 points)
#
# Write a subclass of `keras.Model`, and let `make_model` return one. The model
# holds the weights as `keras.Variable`s. (Keras finds variables in attributes,
# including dicts and lists.) Its `call` returns what `language_model` returns.


# %% nbgrader={"grade": false, "grade_id": "make_model", "locked": false, "schema_version": 3, "solution": true, "task": false}
def make_model(weights, num_heads):
    """Make a trainable model that begins with these weights.

    Args:
        weights: dict as `make_weights` returns it.
        num_heads: int.

    Returns:
        keras.Model from ids `(batch, length)` to scores.
    """
    ### BEGIN SOLUTION
    return Decoder(weights, num_heads)


class Decoder(keras.Model):
    def __init__(self, weights, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.tokens = keras.Variable(weights["tokens"])
        self.positions = keras.Variable(weights["positions"])
        self.blocks = [
            {name: keras.Variable(part) for name, part in block.items()}
            for block in weights["blocks"]
        ]

    def call(self, ids):
        weights = {
            "tokens": self.tokens,
            "positions": self.positions,
            "blocks": self.blocks,
        }
        return language_model(ids, weights, self.num_heads)

    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_make_model", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
import numpy as np

weights = make_weights(7, 5, 8, 16, 2, seed=5)
ids = np.array([[1, 2, 3], [4, 5, 6]], "int32")
model = make_model(weights, 2)
scores = to_array(model(ids))
assert np.allclose(
    scores, to_array(language_model(ids, weights, 2)), atol=1e-3
), (
    "The model must start with the weights that it is given, and return what "
    "`language_model` returns."
)
counted = sum(to_array(part).size for part in model.trainable_weights)
assert counted == 1232, (
    f"Keras must find each weight once: 1232 numbers here. Received: {counted}."
)
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} keras".encode()))


def leaves(weights):
    """Return all arrays of nested dicts and lists, in a fixed order."""
    if isinstance(weights, np.ndarray):
        return [weights]
    inner = weights if isinstance(weights, list) else weights.values()
    return [leaf for each in inner for leaf in leaves(each)]


def random_weights(num_blocks):
    """Return weights without zeros and ones; no two of them are equal."""
    new = make_weights(size, length, dim, hidden, num_blocks)
    for leaf in leaves(new):
        leaf[...] = rng.normal(0, 0.7, leaf.shape)
    return new


for num_blocks in (1, 2):
    num_heads = int(rng.integers(1, 3))
    dim, hidden = 6 * num_heads, int(rng.integers(4, 9))
    size, length = int(rng.integers(5, 20)), int(rng.integers(4, 8))
    ids = rng.integers(0, size, (2, length)).astype("int32")
    weights = random_weights(num_blocks)
    model = make_model(weights, num_heads)
    scores = to_array(model(ids))
    assert scores.shape == (2, length, size), "The model must return scores."
    assert np.allclose(
        scores, to_array(language_model(ids, weights, num_heads)), atol=1e-2
    ), "The model must be `language_model` with the weights that it was given."
    # What Keras counts is not taken on trust: each weight is found by its
    # values, replaced by others, and moved by a step of training.
    found = [np.array(part) for part in model.get_weights()]
    places = [
        [i for i, part in enumerate(found) if np.array_equal(part, leaf)]
        for leaf in leaves(weights)
    ]
    assert all(len(place) == 1 for place in places) and len(found) == len(
        places
    ), (
        "Keras must find each weight once, of all blocks, and no others. The "
        "embedding is tied: there is one matrix of tokens."
    )
    other = random_weights(num_blocks)
    new = list(found)
    for (place,), leaf in zip(places, leaves(other)):
        new[place] = leaf
    model.set_weights(new)
    assert np.allclose(
        to_array(model(ids)),
        to_array(language_model(ids, other, num_heads)),
        atol=1e-2,
    ), "The model must compute with the weights that Keras finds and changes."
targets = 100 * rng.normal(size=scores.shape).astype("float32")
model.compile("sgd", "mse")
model.fit(ids, targets, verbose=0)
for old, part in zip(new, model.get_weights()):
    assert not np.array_equal(old, np.array(part)), (
        "Every weight must be trained: a step must change it. What is computed "
        "with NumPy has no gradient."
    )
### END HIDDEN TESTS


# %% [markdown]
# ### 5.2 Measuring (10 points)
#
# Compute the loss of a model on held-out rows: the mean cross-entropy of the
# targets over all positions, in nats. Run the model on `batch_size` rows at a
# time, so that long data fit into memory. The last batch may be smaller, and
# each position counts the same. The model returns logits.


# %% nbgrader={"grade": false, "grade_id": "mean_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mean_loss(model, x, y, batch_size=64):
    """Measure a model on rows.

    Args:
        model: what `make_model` returns. It is not changed.
        x: int32 array `(rows, length)`, inputs.
        y: int32 array of the same shape, targets.
        batch_size: int, how many rows the model reads at a time.

    Returns:
        float, the mean loss per position, in nats.
    """
    ### BEGIN SOLUTION
    total = 0.0
    for i in range(0, len(x), batch_size):
        logs = ops.log_softmax(model(x[i : i + batch_size]), axis=-1)
        targets = ops.convert_to_tensor(y[i : i + batch_size, :, None])
        chosen = ops.take_along_axis(logs, targets, axis=-1)
        total -= float(ops.convert_to_numpy(ops.sum(chosen)))
    return total / y.size
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_mean_loss", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

even = make_weights(5, 4, 6, 8, 1, seed=6)
even["tokens"] *= 0
model = make_model(even, 2)
x = np.array([[1, 2, 3, 4], [0, 1, 2, 3], [4, 3, 2, 1]], "int32")
loss = mean_loss(model, x, x, batch_size=2)
assert isinstance(loss, float), (
    f"The loss is a float. Received: {type(loss).__name__}."
)
assert abs(loss - np.log(5)) < 1e-3, (
    "A model that finds all 5 tokens equally likely has a loss of log 5, which "
    f"is 1.6094. Received: {loss}."
)
### BEGIN HIDDEN TESTS
import math
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} measure".encode()))
for rows, batch_size in ((7, 3), (4, 4), (5, 64)):
    size = int(rng.integers(4, 9))
    weights = make_weights(size, 6, 8, 8, 1, int(rng.integers(10**6)))
    weights["tokens"] *= 40
    x, y = rng.integers(0, size, (2, rows, 5)).astype("int32")
    # Another loss in each row, so that a mean of means is wrong.
    y[-1] = x[-1]
    total, scores = 0.0, to_array(language_model(x, weights, 2))
    for b, i in np.ndindex(rows, 5):
        row = scores[b, i].astype("float64").tolist()
        sizes = [math.exp(value - max(row)) for value in row]
        total += math.log(sum(sizes)) + max(row) - row[y[b, i]]
    loss = mean_loss(make_model(weights, 2), x, y, batch_size)
    assert abs(loss - total / y.size) < 1e-2, (
        "The loss must be the mean over all positions, also if the last batch "
        "is smaller. For some random models it is not."
    )
### END HIDDEN TESTS


# %% [markdown]
# ### 5.3 Training (10 points)
#
# Compile the model with Adam and train it with `fit`. Use the learning rate of
# 2.1: write a subclass of `keras.optimizers.schedules.LearningRateSchedule`,
# which Keras calls with the step. The loss is the mean cross-entropy of the
# next token, in nats. The model returns logits, not probabilities, so tell the
# loss (`from_logits`).


# %% nbgrader={"grade": false, "grade_id": "pretrain", "locked": false, "schema_version": 3, "solution": true, "task": false}
def pretrain(model, train, validation, rate, warmup_steps, batch_size, epochs):
    """Train a model to predict the next token.

    Args:
        model: what `make_model` returns; it is changed.
        train: pair of int32 arrays `(rows, length)`, inputs and targets.
        validation: pair of the same kind, which is only measured on.
        rate: float, the learning rate after the warmup.
        warmup_steps: int.
        batch_size: int.
        epochs: int.

    Returns:
        dict with the lists `loss` and `val_loss`, a float for each epoch.
    """
    ### BEGIN SOLUTION
    model.compile(
        optimizer=keras.optimizers.Adam(Warmup(rate, warmup_steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    history = model.fit(
        *train,
        validation_data=tuple(validation),
        batch_size=batch_size,
        epochs=epochs,
        verbose=0,
    ).history
    return {name: history[name] for name in ("loss", "val_loss")}


class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, rate, warmup_steps):
        self.rate = rate
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        return learning_rate(step, self.rate, self.warmup_steps)

    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_pretrain", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

# 0 1 2 3 0 1 2 3 ...: the next token is easy to predict.
stream = np.arange(64 * 9) % 4
rows = stream.reshape(64, 9).astype("int32")
train = rows[:, :-1], rows[:, 1:]
model = make_model(make_weights(4, 8, 16, 32, 1, seed=6), 2)
losses = pretrain(model, train, train, 0.01, 5, 4, 3)
assert len(losses["loss"]) == len(losses["val_loss"]) == 3, (
    "There is a training loss and a validation loss for each epoch."
)
assert 0.1 < losses["loss"][0] < 2, (
    "The loss starts at about the logarithm of the size of the vocabulary, "
    "1.39 here, and falls. Received: a mean of "
    f"{losses['loss'][0]} in the first epoch."
)
# Computed again from the model itself.
shares = np.exp(to_array(model(train[0])).astype("float64"))
shares /= shares.sum(axis=-1, keepdims=True)
after = -np.log(np.take_along_axis(shares, train[1][..., None], -1)).mean()
assert after < 0.7, (
    "A sequence that repeats itself must be learned in 48 steps. Received: a "
    f"model with a loss of {after}."
)
assert abs(losses["val_loss"][-1] - after) < 2e-2, (
    "The last validation loss must be the loss of the model after training. "
    f"Received: {losses['val_loss'][-1]} instead of {after}."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} train")


def slow_loss(model, rows):
    """Return the loss of a model, position by position."""
    total, targets = 0, rows[1]
    scores = to_array(model(rows[0]))
    for b, i in np.ndindex(*targets.shape):
        row = scores[b, i].astype("float64")
        total += np.log(np.exp(row - row.max()).sum()) + row.max()
        total -= row[targets[b, i]]
    return total / targets.size


def fresh_model():
    weights = make_weights(size, 6, 12, 24, 1, seed)
    weights["tokens"] *= 20
    return make_model(weights, 3)


size, seed = rng.randint(6, 9), rng.randrange(10**6)
noise = np.random.default_rng(rng.randrange(10**6))
train, held_out = (
    tuple(noise.integers(0, size, (2, rows, 6)).astype("int32"))
    for rows in (4, 3)
)
model = fresh_model()
before = [slow_loss(model, rows) for rows in (train, held_out)]
# One epoch of two steps: the first has a rate of 0, the second rate / 5.
old = [np.array(part) for part in model.get_weights()]
short = pretrain(model, train, held_out, 0.01, 5, 2, 1)
moved = max(
    np.abs(part - np.array(new)).max()
    for part, new in zip(old, model.get_weights())
)
assert abs(short["loss"][0] - before[0]) < 2e-2, (
    "The loss must be the mean cross-entropy of the targets, computed from "
    "logits. For a random model it is not."
)
assert 0.5 * 0.002 < moved < 1.1 * 0.002, (
    "Batches must have the size that is asked for. The first step must have a "
    "learning rate of 0, and the second one of rate / warmup_steps."
)
assert abs(short["val_loss"][0] - slow_loss(model, held_out)) < 2e-2, (
    "The second loss must be that of the rows held out."
)
# From here on each epoch is one step on all rows, so runs are equal. What a
# long run says of an epoch in between, a shorter one shows.
model, middle = fresh_model(), rng.randint(8, 20)
losses = pretrain(model, train, held_out, 0.01, 5, 4, 30)
assert abs(losses["loss"][1] - losses["loss"][0]) < 1e-3, (
    "The first step has a learning rate of zero and must change nothing."
)
assert slow_loss(model, train) < 0.6 * before[0], (
    "The same few rows, again and again, must be learned by heart. For some "
    "random rows the loss does not fall."
)
final = slow_loss(model, held_out)
assert abs(losses["val_loss"][-1] - final) < 2e-2 * max(1, final), (
    "Validation losses must be measured after each epoch. The last one is not."
)
model = fresh_model()
pretrain(model, train, held_out, 0.01, 5, 4, middle)
for name, said, rows in (
    ("loss", losses["loss"][middle], train),
    ("val_loss", losses["val_loss"][middle - 1], held_out),
):
    found = slow_loss(model, rows)
    assert abs(said - found) < 5e-2 * max(1, found), (
        f"`{name}` must be the loss of the model in every epoch. In the middle "
        "of a run it is not."
    )
### END HIDDEN TESTS


# %% [markdown]
# ## 6 A figure
#
# The text is pages of Python's own manual, which every installation contains,
# character by character. Everyone in the class works on the same pages this
# term.

# %%
SEED = 0


# %% nbgrader={"grade": false, "grade_id": "read_rows", "locked": true, "schema_version": 3, "solution": false, "task": false}
def read_rows(seed, length):
    """Cut pages of Python's manual, drawn with a seed, into rows.

    Returns:
        The alphabet, a str in which the position of a character is its id, and
        two pairs of inputs and targets: one from 32 pages to train on, and one
        from 8 other pages.
    """
    import pydoc_data.topics
    import random

    import numpy as np

    pages = [text for _, text in sorted(pydoc_data.topics.topics.items())]
    pages = random.Random(seed).sample(pages, 40)
    alphabet = "".join(sorted(set("".join(pages))))
    known = {character: i for i, character in enumerate(alphabet)}
    sides = []
    for part, most in ((pages[:32], 100_000), (pages[32:], 20_000)):
        ids = [known[character] for character in "".join(part)[:most]]
        num_rows = len(ids) // (length + 1)
        rows = np.array(ids[: num_rows * (length + 1)], "int32")
        rows = rows.reshape(num_rows, length + 1)
        sides.append((rows[:, :-1], rows[:, 1:]))
    return alphabet, *sides


def continue_text(model, alphabet, text, length, count=200, seed=0):
    """Let a model write `count` more characters.

    Padding after the last character does not matter: the model does not see it.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    for _ in range(count):
        ids = [alphabet.index(character) for character in text[-length:]]
        row = np.array([ids + [0] * (length - len(ids))], "int32")
        scores = model.predict_on_batch(row)[0, len(ids) - 1]
        chances = np.exp((scores - scores.max()).astype("float64") / 0.7)
        text += alphabet[rng.choice(len(alphabet), p=chances / chances.sum())]
    return text


# %%
LENGTH = 32
alphabet, train, validation = read_rows(SEED, LENGTH)
print(len(alphabet), "characters;", train[0].shape, validation[0].shape)

# %% [markdown]
# ### 6.1 Two losses and a line (10 points, graded by a person)
#
# Train a model of two blocks, with `dim` 64, `hidden_dim` 256, and 4 heads, for
# 4 epochs in batches of 32. A rate of 0.004 after 50 steps of warmup is a good
# start. If your machine is slow, use fewer epochs. Plot both losses against the
# epochs, and draw `frequency_loss` of the same pages for comparison. Below the
# figure, print what `continue_text` makes of `"The "`.

# %% nbgrader={"grade": true, "grade_id": "figure", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
keras.utils.set_random_seed(SEED)
model = make_model(make_weights(len(alphabet), LENGTH, 64, 256, 2), 4)
losses = pretrain(model, train, validation, 4e-3, 50, 32, 4)
frequencies = frequency_loss(train[1], validation[1], len(alphabet))
epochs = range(1, 1 + len(losses["loss"]))
figure, ax = plt.subplots()
ax.plot(epochs, losses["loss"], label="training pages, during the epoch")
ax.plot(epochs, losses["val_loss"], label="held-out pages, after it")
ax.axhline(frequencies, color="gray", label="frequencies of characters")
ax.set_xlabel("epochs")
ax.set_ylabel("loss, nats a character")
ax.set_ylim(bottom=0)
ax.legend()
plt.show()
print(losses)
print(continue_text(model, alphabet, "The ", LENGTH))
### END SOLUTION

# %% [markdown]
# ### 6.2 What the figure says (5 points, graded by a person)
#
# Write three to six sentences. How far below the line of frequencies does the
# model get, and what must it have learned to get there? What is right in the
# text that it writes, and what is not? In the first epoch the loss on held-out
# pages may be lower than the loss on training pages. Why?

# %% [markdown] nbgrader={"grade": true, "grade_id": "discussion", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# The model gets about one nat below the frequencies, so it gives the next
# character almost three times the probability. To do this it must use the
# preceding characters. Its text has common words, spaces after commas, and
# indentation. The sentences make no sense, because both the model and the text
# are too small. The training loss is a mean over the epoch and includes the
# first steps, when the model knew nothing. The loss on held-out pages is
# measured at the end of the epoch.
