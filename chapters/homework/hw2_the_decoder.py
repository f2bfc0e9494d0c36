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
#     - GroupQueryAttention
#     - LayerNormalization
#     - MultiHeadAttention
#     - dot_product_attention
#     - layer_normalization
#     - scaled_dot_product_attention
#     graded:
#     - split_heads
#     - join_heads
#     - attention_weights
#     - self_attention
#     - layer_norm
#     - decoder_block
#     - embed
#     - unembed
#     - language_model
#     - count_parameters
#     - learning_rate
#     - make_model
#     - pretrain
# ---

# %% [markdown]
# # Homework 2: the decoder
#
# Given the tokens so far, a decoder scores every token that could come next.
# Here you write one from matrix products up: causal attention, the block
# around it, an embedding that is used in both directions. You count its
# parameters, and teach it the spelling of Python's manual in a minute.
# Chapters 1 and 2 of the course use each of these.
#
# | part | points |
# |---|---|
# | 1 Attention | 30 |
# | 2 The block | 20 |
# | 3 The tied embedding | 15 |
# | 4 Counting | 5 |
# | 5 Warmup | 5 |
# | 6 Pretraining, with a figure and a text graded by a person | 25 |
#
# It takes most people three to four hours. Rules:
#
# - Replace each `raise NotImplementedError()` by your code. The functions keep
#   their names and arguments. Add cells and functions as you like.
# - Write parts 1 to 5 with `keras.ops`: products, sums, softmax, shapes. What
#   has attention or normalization in it already is not allowed, such as
#   `keras.layers.MultiHeadAttention`, `keras.layers.LayerNormalization`,
#   `keras.ops.dot_product_attention`, `keras.ops.layer_normalization` or what
#   PyTorch, JAX and TensorFlow call these. NumPy is for data: what is computed
#   with it has no gradient, and part 6 needs one.
# - Arrays come in as NumPy arrays, tensors or Keras variables, in float32, and
#   a tensor of float32 goes out. Prefer `ops.add(a, b)` to `a + b` while
#   neither is a tensor yet, or begin with `ops.convert_to_tensor`.
# - It must run on JAX, TensorFlow and PyTorch. While TensorFlow trains, the
#   size of a batch is unknown: leave it to `ops.reshape` as `-1`.
# - The cells with tests cannot be changed. Grading restores them, and runs more
#   tests than you see, on inputs that differ each time.
# - Do not use the variables of test cells in your own: in grading the tests run
#   in another process, which calls your functions.
# - In grading a cell may take a minute, a call of a function 20 seconds, and
#   all together 4 GB of memory.
# - Before you hand it in, restart and run all, or
#   `kerasllm homework check hw2_the_decoder.ipynb`.

# %%
import math

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

# %% [markdown]
# ## The weights
#
# The functions that you write have no weights of their own: they are given
# them, in dicts. So they can be tried with any weights, and be trained in the
# end. `make_weights` makes a dict of them to begin with:


# %% nbgrader={"grade": false, "grade_id": "make_weights", "locked": true, "schema_version": 3, "solution": false, "task": false}
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


def random_block(dim, hidden_dim, seed):
    """Return weights of a block without zeros and ones, for tests."""
    import numpy as np

    rng = np.random.default_rng(seed)
    (block,) = make_weights(1, 1, dim, hidden_dim, 1, seed)["blocks"]
    return {
        name: (part + rng.normal(0, 0.3, part.shape)).astype("float32")
        for name, part in block.items()
    }


def to_array(value):
    """Turn what a function returned, a tensor or an array, into an array."""
    import numpy as np

    assert value is not None, "The function must return its result."
    if isinstance(value, (int, float, np.ndarray, np.generic)):
        return np.asarray(value)
    import keras

    return keras.ops.convert_to_numpy(value)


# %%
for name, part in make_weights(50, 10, 8, 32, 1)["blocks"][0].items():
    print(f"{name:14}", part.shape)

# %% [markdown]
# ## 1 Attention
#
# ### 1.1 Heads (5 points)
#
# A head is a slice of the vector at each position: of `dim` numbers, the first
# `dim // num_heads` belong to head 0, the next to head 1, and so on.
# `split_heads` gives heads an axis of their own, before that of the positions,
# and `join_heads` undoes it.


# %% nbgrader={"grade": false, "grade_id": "split_heads", "locked": false, "schema_version": 3, "solution": true, "task": false}
def split_heads(x, num_heads):
    """Cut vectors into heads.

    Args:
        x: float array `(batch, length, dim)`.
        num_heads: int that divides `dim`.

    Returns:
        float tensor `(batch, num_heads, length, dim // num_heads)`.
    """
    ### BEGIN SOLUTION
    _, length, dim = x.shape
    x = ops.reshape(x, (-1, length, num_heads, dim // num_heads))
    return ops.transpose(x, (0, 2, 1, 3))
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "join_heads", "locked": false, "schema_version": 3, "solution": true, "task": false}
def join_heads(x):
    """Put heads side by side again.

    Args:
        x: float array `(batch, num_heads, length, head_dim)`.

    Returns:
        float tensor `(batch, length, num_heads * head_dim)`.
    """
    ### BEGIN SOLUTION
    _, num_heads, length, size = x.shape
    x = ops.transpose(x, (0, 2, 1, 3))
    return ops.reshape(x, (-1, length, num_heads * size))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_heads", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

x = np.arange(24, dtype="float32").reshape(1, 4, 6)
heads = to_array(split_heads(x, 3))
assert heads.shape == (1, 3, 4, 2), (
    "`split_heads` returns (batch, num_heads, length, dim // num_heads). "
    f"Received: {heads.shape}."
)
assert heads[0, 1].tolist() == [[2, 3], [8, 9], [14, 15], [20, 21]], (
    "Head 1 of 3 has the third and fourth of six numbers, at every position. "
    f"Received: {heads[0, 1].tolist()}."
)
joined = to_array(join_heads(heads))
assert joined.shape == x.shape and np.array_equal(joined, x), (
    "`join_heads` must undo `split_heads`."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} heads")
for _ in range(4):
    batch, num_heads, length, size = (rng.randint(1, 5) for _ in range(4))
    noise = np.random.default_rng(rng.randrange(10**6))
    x = noise.normal(size=(batch, length, num_heads * size)).astype("float32")
    heads = to_array(split_heads(x, num_heads))
    assert heads.shape == (batch, num_heads, length, size), (
        "The shape must be right for any sizes."
    )
    assert heads.dtype == np.float32, "Heads must stay float32."
    for h in range(num_heads):
        part = x[..., h * size : (h + 1) * size]
        assert np.array_equal(heads[:, h], part), (
            "Each head must be its slice of the vectors, of all rows and "
            "positions."
        )
    other = noise.normal(size=(batch, num_heads, length, size))
    joined = to_array(join_heads(other.astype("float32")))
    expected = np.concatenate([other[:, h] for h in range(num_heads)], -1)
    assert joined.shape == expected.shape and np.allclose(joined, expected), (
        "Joined vectors must have the heads side by side, in order."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 1.2 Who looks where (10 points)
#
# The score of a pair of positions is the product of the query of the one and
# the key of the other, divided by the square root of the size of a head. A
# position sees itself and what is before it: scores of later positions do not
# count at all. Over the others runs a softmax, so that each row of the result
# sums to one.


# %% nbgrader={"grade": false, "grade_id": "attention_weights", "locked": false, "schema_version": 3, "solution": true, "task": false}
def attention_weights(query, key):
    """Compute how much each position takes from each other.

    Args:
        query: float array `(batch, num_heads, length, head_dim)`.
        key: float array of the same shape.

    Returns:
        float tensor `(batch, num_heads, length, length)`: in row `i` what
        position `i` takes from each position.
    """
    ### BEGIN SOLUTION
    length, size = query.shape[-2:]
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
    scores = scores / math.sqrt(size)
    positions = ops.arange(length)
    visible = positions[:, None] >= positions[None, :]
    return ops.softmax(ops.where(visible, scores, -1e9), axis=-1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_attention_weights", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

query = np.ones((1, 1, 3, 4), "float32")
rows = to_array(attention_weights(query, query))
assert rows.shape == (1, 1, 3, 3), (
    "There is a weight for each pair of positions, in each head. Received: "
    f"shape {rows.shape}."
)
assert np.allclose(rows.sum(-1), 1, atol=1e-3), (
    f"Each row must sum to one. Received: {rows.sum(-1).tolist()}."
)
assert np.allclose(np.triu(rows[0, 0], 1), 0), (
    "No position may take anything from a later one. Received: "
    f"{rows[0, 0].tolist()}."
)
assert np.allclose(rows[0, 0, 2], 1 / 3, atol=1e-3), (
    "Equal scores get equal weights. Received: "
    f"{rows[0, 0, 2].tolist()} in the last row."
)
key = np.array([[[[0, 0, 0, 0], [2, 2, 0, 0]]]], "float32")
rows = to_array(attention_weights(query[:, :, :2], key))
assert abs(rows[0, 0, 1, 1] - 1 / (1 + np.exp(-2))) < 1e-2, (
    "Scores are divided by the square root of the size of a head: 4 becomes "
    f"2 with four numbers a head. Received: a weight of {rows[0, 0, 1, 1]}."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} weights")
for scale in (1, 1, 30):
    batch, num_heads, length = (rng.randint(2, 5) for _ in range(3))
    size = rng.randint(2, 7)
    noise = np.random.default_rng(rng.randrange(10**6))
    shape = batch, num_heads, length, size
    query, key = (
        noise.normal(0, scale, shape).astype("float32") for _ in range(2)
    )
    if scale == 30:  # large scores, all of them negative
        query, key = abs(query), -abs(key)
    rows = to_array(attention_weights(query, key))
    assert rows.shape == (batch, num_heads, length, length), (
        "The shape must be right for any sizes."
    )
    assert rows.dtype == np.float32, "The weights must be float32."
    assert np.isfinite(rows).all(), (
        "Weights must be numbers for large scores, too."
    )
    assert np.allclose(rows.sum(-1), 1, atol=1e-3), "Rows must sum to one."
    assert (abs(np.triu(rows, 1)) < 1e-6).all(), (
        "A later position must get nothing, whatever its score: set the score "
        "to a very negative number before the softmax."
    )
    for b, h, i in np.ndindex(batch, num_heads, length):
        scores = [
            float(query[b, h, i].astype("float64") @ key[b, h, j]) / size**0.5
            for j in range(i + 1)
        ]
        exps = [np.exp(score - max(scores)) for score in scores]
        expected = np.array(exps) / sum(exps)
        assert np.allclose(rows[b, h, i, : i + 1], expected, atol=2e-3), (
            "Each row must be the softmax of the scaled scores that its "
            "position may see. For some random inputs it is not."
        )
### END HIDDEN TESTS

# %% [markdown]
# ### 1.3 Self-attention (15 points)
#
# Multiply the vectors by the matrices `query`, `key` and `value` (from the
# right: `x @ weights["query"]`), split each result into heads, mix the values
# with the weights of 1.2, join the heads, multiply by `output`. There are no
# biases here.


# %% nbgrader={"grade": false, "grade_id": "self_attention", "locked": false, "schema_version": 3, "solution": true, "task": false}
def self_attention(x, weights, num_heads):
    """Let each position take from itself and from those before it.

    Args:
        x: float array `(batch, length, dim)`.
        weights: dict with the matrices `query`, `key`, `value` and `output`,
            each `(dim, dim)`, and with others that are not used here.
        num_heads: int that divides `dim`.

    Returns:
        float tensor of the shape of `x`.
    """
    ### BEGIN SOLUTION
    query, key, value = (
        split_heads(ops.matmul(x, weights[name]), num_heads)
        for name in ("query", "key", "value")
    )
    mixed = ops.matmul(attention_weights(query, key), value)
    return ops.matmul(join_heads(mixed), weights["output"])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_self_attention", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
import numpy as np

block = random_block(8, 16, seed=1)
x = np.random.default_rng(1).normal(size=(2, 5, 8)).astype("float32")
y = to_array(self_attention(x, block, 2))
assert y.shape == x.shape, (
    f"The result has the shape of `x`. Received: {y.shape}."
)
changed = x.copy()
changed[:, 3] += 1
z = to_array(self_attention(changed, block, 2))
assert np.allclose(y[:, :3], z[:, :3], atol=1e-3), (
    "A change at position 3 must change nothing at positions 0 to 2."
)
assert not np.allclose(y[:, 3], z[:, 3], atol=1e-3), (
    "A position must see itself."
)
assert not np.allclose(y[:, 4], z[:, 4], atol=1e-3), (
    "A position must see those before it."
)
first = x[:, 0] @ block["value"] @ block["output"]
assert np.allclose(y[:, 0], first, atol=1e-2), (
    "The first position sees only itself: it gets its own value, multiplied "
    "by `output`."
)
### BEGIN HIDDEN TESTS
import os
import random


def slow_attention(x, w, num_heads):
    """Attend position by position and head by head."""
    x = x.astype("float64")
    size = x.shape[-1] // num_heads
    mixed = np.zeros_like(x)
    for b, i, h in np.ndindex(*x.shape[:2], num_heads):
        part = slice(h * size, (h + 1) * size)
        seen = x[b, : i + 1]
        query = (x[b, i] @ w["query"])[part]
        scores = (seen @ w["key"])[:, part] @ query / size**0.5
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        mixed[b, i, part] = shares @ (seen @ w["value"])[:, part]
    return mixed @ w["output"]


term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} attention")
for num_heads in rng.sample([1, 2, 3, 4], 3):
    batch, length, size = (rng.randint(2, 4) for _ in range(3))
    dim = num_heads * size
    w = random_block(dim, 3, rng.randrange(10**6))
    noise = np.random.default_rng(rng.randrange(10**6))
    x = noise.normal(size=(batch, length, dim)).astype("float32")
    y = to_array(self_attention(x, w, num_heads))
    assert y.dtype == np.float32, "The result must be float32."
    assert y.shape == x.shape, "The result must have the shape of `x`."
    assert np.allclose(y, slow_attention(x, w, num_heads), atol=5e-3), (
        "Each position must get the values of those that it sees, by their "
        "weights, head by head, times `output`. For some random weights it "
        "does not."
    )
    # Heads have no order, if `output` expects the new one.
    order = rng.sample(range(num_heads), num_heads)
    columns = [h * size + k for h in order for k in range(size)]
    moved = {
        name: w[name][:, columns] for name in ("query", "key", "value")
    } | {"output": w["output"][columns]}
    again = to_array(self_attention(x, moved, num_heads))
    assert np.allclose(y, again, atol=5e-3), (
        "Heads that change places, with their rows of `output`, must change "
        "nothing."
    )
    rows = rng.sample(range(batch), batch)
    again = to_array(self_attention(x[rows], w, num_heads))
    assert np.allclose(y[rows], again, atol=5e-3), (
        "The rows of a batch must know nothing of each other."
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 2 The block
#
# ### 2.1 Normalization (5 points)
#
# At each position subtract the mean of its numbers, divide by the square root
# of their variance plus `EPSILON`, then multiply by `scale` and add `offset`.

# %% nbgrader={"grade": false, "grade_id": "epsilon", "locked": true, "schema_version": 3, "solution": false, "task": false}
EPSILON = 1e-5


# %% nbgrader={"grade": false, "grade_id": "layer_norm", "locked": false, "schema_version": 3, "solution": true, "task": false}
def layer_norm(x, scale, offset):
    """Normalize the vector at each position.

    Args:
        x: float array `(batch, length, dim)`.
        scale: float array `(dim,)`.
        offset: float array `(dim,)`.

    Returns:
        float tensor of the shape of `x`.
    """
    ### BEGIN SOLUTION
    x = ops.subtract(x, ops.mean(x, axis=-1, keepdims=True))
    variance = ops.mean(ops.square(x), axis=-1, keepdims=True)
    x = x / ops.sqrt(variance + EPSILON)
    return ops.add(ops.multiply(x, scale), offset)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_layer_norm", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

x = np.random.default_rng(2).normal(3, 5, (2, 3, 64)).astype("float32")
one, zero = np.ones(64, "float32"), np.zeros(64, "float32")
y = to_array(layer_norm(x, one, zero))
assert y.shape == x.shape, (
    f"The result has the shape of `x`. Received: {y.shape}."
)
assert np.allclose(y.mean(-1), 0, atol=1e-2), (
    "At each position the mean must become zero."
)
assert np.allclose(y.std(-1), 1, atol=1e-2), (
    "At each position the standard deviation must become one."
)
z = to_array(layer_norm(x, 2 * one, zero + 7))
assert np.allclose(z, 2 * y + 7, atol=1e-2), (
    "`scale` is multiplied and `offset` added at the end."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} norm")
for size in (1, 0.01, 0):
    noise = np.random.default_rng(rng.randrange(10**6))
    dim = rng.randint(3, 9)
    x = noise.normal(1, size, (2, rng.randint(1, 4), dim)).astype("float32")
    scale, offset = noise.normal(size=(2, dim)).astype("float32")
    y = to_array(layer_norm(x, scale, offset))
    assert y.dtype == np.float32, "The result must be float32."
    for b, i in np.ndindex(*x.shape[:2]):
        numbers = [float(number) for number in x[b, i]]
        mean = sum(numbers) / dim
        variance = sum((number - mean) ** 2 for number in numbers) / dim
        expected = [
            (number - mean) / (variance + 1e-5) ** 0.5 * scale[k] + offset[k]
            for k, number in enumerate(numbers)
        ]
        assert np.allclose(y[b, i], expected, atol=5e-3), (
            "Each position must be normalized by itself, with the mean of the "
            "squares as variance and EPSILON added to it below the root. "
            "For some random inputs it is not."
        )
### END HIDDEN TESTS

# %% [markdown]
# ### 2.2 The block (15 points)
#
# Two steps, each with a residual sum that is then normalized:
#
# 1. self-attention, added to its input; `norm_1_scale`, `norm_1_offset`;
# 2. a feed-forward network, added to its input: `up`, `up_bias`, ReLU, `down`,
#    `down_bias`; then `norm_2_scale`, `norm_2_offset`.


# %% nbgrader={"grade": false, "grade_id": "decoder_block", "locked": false, "schema_version": 3, "solution": true, "task": false}
def decoder_block(x, weights, num_heads):
    """Run one block of a decoder.

    Args:
        x: float array `(batch, length, dim)`.
        weights: dict, one of the `blocks` of `make_weights`.
        num_heads: int that divides `dim`.

    Returns:
        float tensor of the shape of `x`.
    """
    ### BEGIN SOLUTION
    x = ops.add(x, self_attention(x, weights, num_heads))
    x = layer_norm(x, weights["norm_1_scale"], weights["norm_1_offset"])
    hidden = ops.add(ops.matmul(x, weights["up"]), weights["up_bias"])
    hidden = ops.matmul(ops.relu(hidden), weights["down"])
    x = x + ops.add(hidden, weights["down_bias"])
    return layer_norm(x, weights["norm_2_scale"], weights["norm_2_offset"])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_decoder_block", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
import numpy as np

x = np.random.default_rng(3).normal(size=(2, 4, 32)).astype("float32")
(block,) = make_weights(1, 1, 32, 16, 1, seed=3)["blocks"]
y = to_array(decoder_block(x, block, 4))
assert y.shape == x.shape, (
    f"The result has the shape of `x`. Received: {y.shape}."
)
assert np.allclose(y.mean(-1), 0, atol=1e-2), (
    "The last step of a block is a normalization."
)
silent = block | {"output": 0 * block["output"], "down": 0 * block["down"]}
z = to_array(decoder_block(x, silent, 4))
centered = x - x.mean(-1, keepdims=True)
assert np.allclose(z, centered / centered.std(-1, keepdims=True), atol=1e-2), (
    "Where attention and feed-forward network give zeros, only the "
    "normalized input is left: each is added to its input."
)
loud = silent | {"down_bias": np.arange(32, dtype="float32")}
assert not np.allclose(to_array(decoder_block(x, loud, 4)), z, atol=1e-2), (
    "`down_bias` belongs to the feed-forward network."
)
### BEGIN HIDDEN TESTS
import os
import random


def slow_norm(x, scale, offset):
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return x * scale + offset


def slow_block(x, w, num_heads):
    """Run a block in float64, position by position."""
    x = x.astype("float64")
    size = x.shape[-1] // num_heads
    result = np.zeros_like(x)
    for b, i in np.ndindex(*x.shape[:2]):
        seen, mixed = x[b, : i + 1], []
        for h in range(num_heads):
            part = slice(h * size, (h + 1) * size)
            scores = (seen @ w["key"][:, part]) @ (
                x[b, i] @ w["query"][:, part]
            )
            shares = np.exp((scores - scores.max()) / size**0.5)
            mixed += list(shares / shares.sum() @ seen @ w["value"][:, part])
        a = x[b, i] + np.array(mixed) @ w["output"]
        a = slow_norm(a, w["norm_1_scale"], w["norm_1_offset"])
        f = np.maximum(a @ w["up"] + w["up_bias"], 0)
        f = a + f @ w["down"] + w["down_bias"]
        result[b, i] = slow_norm(f, w["norm_2_scale"], w["norm_2_offset"])
    return result


term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} block")
for num_heads in rng.sample([1, 2, 3], 2):
    dim = num_heads * rng.randint(3, 6)
    length = rng.randint(3, 6)
    w = random_block(dim, rng.randint(5, 12), rng.randrange(10**6))
    noise = np.random.default_rng(rng.randrange(10**6))
    x = noise.normal(size=(2, length, dim)).astype("float32")
    y = to_array(decoder_block(x, w, num_heads))
    assert y.dtype == np.float32, "The result must be float32."
    assert np.allclose(y, slow_block(x, w, num_heads), atol=1e-2), (
        "The block must be attention, sum, normalization, feed-forward "
        "network with ReLU, sum, normalization. For some random weights it is "
        "not."
    )
    place = rng.randint(1, length - 1)
    changed = x.copy()
    changed[:, place:] = noise.normal(size=changed[:, place:].shape)
    z = to_array(decoder_block(changed, w, num_heads))
    assert np.allclose(y[:, :place], z[:, :place], atol=1e-4), (
        "Changing later positions must change nothing earlier."
    )
    assert not np.allclose(y[:, place:], z[:, place:], atol=1e-2), (
        "A block must depend on its input."
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 3 The tied embedding
#
# ### 3.1 Both directions (10 points)
#
# `embed` gives each token its row of `tokens` plus the row of `positions` of
# its place. `unembed` goes back: the score of a token is the product of the
# hidden state and the token's row, of the same matrix. A sequence longer than
# the table of positions is an error: raise `ValueError`. (JAX would otherwise
# answer with not-a-number.)


# %% nbgrader={"grade": false, "grade_id": "embed", "locked": false, "schema_version": 3, "solution": true, "task": false}
def embed(ids, tokens, positions):
    """Turn token ids into vectors.

    Args:
        ids: int array `(batch, length)`.
        tokens: float array `(vocabulary_size, dim)`.
        positions: float array `(longest, dim)`.

    Returns:
        float tensor `(batch, length, dim)`.

    Raises:
        ValueError: `length` is more than `longest`.
    """
    ### BEGIN SOLUTION
    length, longest = ids.shape[-1], positions.shape[0]
    if length > longest:
        raise ValueError(f"{length} tokens, but {longest} positions")
    places = ops.take(positions, ops.arange(length), axis=0)
    return ops.add(ops.take(tokens, ids, axis=0), places)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "unembed", "locked": false, "schema_version": 3, "solution": true, "task": false}
def unembed(x, tokens):
    """Score each token of the vocabulary at each position.

    Args:
        x: float array `(batch, length, dim)`.
        tokens: float array `(vocabulary_size, dim)`.

    Returns:
        float tensor `(batch, length, vocabulary_size)`, without softmax.
    """
    ### BEGIN SOLUTION
    return ops.matmul(x, ops.transpose(tokens))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_embedding", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

tokens = np.arange(10, dtype="float32").reshape(5, 2)
positions = np.array([[0, 0], [100, 0], [0, 100]], "float32")
x = to_array(embed(np.array([[4, 4], [0, 1]], "int32"), tokens, positions))
assert x.tolist() == [[[8, 9], [108, 9]], [[0, 1], [102, 3]]], (
    "The vector is the token's row plus the row of its place, which starts "
    f"from 0 in each sequence. Received: {x.tolist()}."
)
try:
    embed(np.zeros((1, 4), "int32"), tokens, positions)
except ValueError:
    refused = True
else:
    refused = False
assert refused, "Four tokens and three positions must be a `ValueError`."
scores = to_array(unembed(np.array([[[1, 10]]], "float32"), tokens))
assert scores.tolist() == [[[10, 32, 54, 76, 98]]], (
    "The score of a token is the product with its row of `tokens`. Received: "
    f"{scores.tolist()}."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} embedding")
for _ in range(3):
    batch, length, size, dim = (rng.randint(2, 6) for _ in range(4))
    noise = np.random.default_rng(rng.randrange(10**6))
    tokens = noise.normal(size=(size, dim)).astype("float32")
    positions = noise.normal(size=(length + 2, dim)).astype("float32")
    ids = noise.integers(0, size, (batch, length)).astype("int32")
    x = to_array(embed(ids, tokens, positions))
    assert x.shape == (batch, length, dim), "A token must get a vector."
    assert x.dtype == np.float32, "Vectors must be float32."
    scores = to_array(unembed(x, tokens))
    assert scores.shape == (batch, length, size), (
        "There must be a score for each token of the vocabulary."
    )
    for b, i in np.ndindex(batch, length):
        expected = tokens[ids[b, i]] + positions[i]
        assert np.allclose(x[b, i], expected, atol=1e-3), (
            "Each vector must be its token's row plus its place's row."
        )
        expected = [sum(x[b, i] * tokens[t]) for t in range(size)]
        assert np.allclose(scores[b, i], expected, atol=5e-3), (
            "Scores must be products with the rows of `tokens`, without a "
            "softmax."
        )
try:
    embed(np.zeros((2, length + 3), "int32"), tokens, positions)
except ValueError:
    refused = True
else:
    refused = False
assert refused, "A sequence longer than `positions` must be a `ValueError`."
### END HIDDEN TESTS

# %% [markdown]
# ### 3.2 The whole model (5 points)
#
# Embed, run the blocks one behind the other, and unembed with the same
# `tokens`.


# %% nbgrader={"grade": false, "grade_id": "language_model", "locked": false, "schema_version": 3, "solution": true, "task": false}
def language_model(ids, weights, num_heads):
    """Score at each position the tokens that could come next.

    Args:
        ids: int array `(batch, length)`.
        weights: dict as `make_weights` returns it.
        num_heads: int.

    Returns:
        float tensor `(batch, length, vocabulary_size)`.
    """
    ### BEGIN SOLUTION
    x = embed(ids, weights["tokens"], weights["positions"])
    for block in weights["blocks"]:
        x = decoder_block(x, block, num_heads)
    return unembed(x, weights["tokens"])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_language_model", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

weights = make_weights(11, 6, 8, 16, 2, seed=4)
ids = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], "int32")
scores = to_array(language_model(ids, weights, 2))
assert scores.shape == (2, 4, 11), (
    f"A score for each token, at each position. Received: {scores.shape}."
)
other = ids.copy()
other[:, 2] = 9
changed = to_array(language_model(other, weights, 2))
assert np.allclose(scores[:, :2], changed[:, :2], atol=1e-3), (
    "Another token at position 2 must change nothing before it."
)
assert not np.allclose(scores[:, 3], changed[:, 3], atol=1e-3), (
    "Another token at position 2 must change what follows."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} model")
for num_blocks in rng.sample([0, 1, 2, 3], 2):
    num_heads, length = rng.randint(1, 3), rng.randint(3, 6)
    dim, size = 4 * num_heads, rng.randint(8, 15)
    weights = make_weights(
        size, length + 1, dim, 7, num_blocks, rng.randrange(10**6)
    )
    weights["tokens"] *= 40
    weights["blocks"] = [
        random_block(dim, 7, rng.randrange(10**6)) for _ in range(num_blocks)
    ]
    noise = np.random.default_rng(rng.randrange(10**6))
    # Never token 0.
    ids = noise.integers(1, size, (2, length)).astype("int32")
    scores = to_array(language_model(ids, weights, num_heads))
    assert scores.dtype == np.float32, "Scores must be float32."

    x = (weights["tokens"][ids] + weights["positions"][:length]).astype(float)
    for w in weights["blocks"]:
        y = np.zeros_like(x)
        for b, i in np.ndindex(*ids.shape):
            mixed, seen = [], x[b, : i + 1]
            for h in range(num_heads):
                part = slice(4 * h, 4 * h + 4)
                dots = (
                    seen @ w["key"][:, part] @ (x[b, i] @ w["query"][:, part])
                )
                shares = np.exp((dots - dots.max()) / 2)
                mixed += list(
                    shares / shares.sum() @ seen @ w["value"][:, part]
                )
            a = x[b, i] + np.array(mixed) @ w["output"]
            a = (a - a.mean()) / np.sqrt(a.var() + 1e-5)
            a = a * w["norm_1_scale"] + w["norm_1_offset"]
            f = np.maximum(a @ w["up"] + w["up_bias"], 0)
            f = a + f @ w["down"] + w["down_bias"]
            f = (f - f.mean()) / np.sqrt(f.var() + 1e-5)
            y[b, i] = f * w["norm_2_scale"] + w["norm_2_offset"]
        x = y
    assert np.allclose(scores, x @ weights["tokens"].T, atol=3e-2), (
        "The model must be the embedding, all blocks in order, and the "
        "embedding in reverse. For some random weights it is not."
    )

    place = rng.randint(1, length - 1)
    other = ids.copy()
    other[:, place:] = 1 + other[:, place:] % (size - 1)
    changed = to_array(language_model(other, weights, num_heads))
    assert np.allclose(scores[:, :place], changed[:, :place], atol=1e-3), (
        "Changing later tokens must change nothing earlier."
    )
    doubled = dict(weights, tokens=weights["tokens"].copy())
    doubled["tokens"][0] *= 2
    again = to_array(language_model(ids, doubled, num_heads))
    assert np.allclose(again[..., 0], 2 * scores[..., 0], atol=3e-2), (
        "The row of a token must serve in the output, too: there is one matrix."
    )
    assert np.allclose(again[..., 1:], scores[..., 1:], atol=1e-3), (
        "The row of a token that does not occur must change its own score only."
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 4 Counting (5 points)
#
# How many numbers are there in the weights? From the sizes alone, without
# making them: the matrix of tokens counts once.


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


# %% nbgrader={"grade": true, "grade_id": "test_count_parameters", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
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
# ## 5 Warmup (5 points)
#
# The first gradients are large and point nowhere in particular. So the
# learning rate rises in a straight line from 0 at step 0 to `rate` at step
# `warmup_steps`, and stays there. In training `step` is a tensor of the
# backend, and `if` on a tensor does not compile: use `keras.ops`.


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


# %% nbgrader={"grade": true, "grade_id": "test_learning_rate", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
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
# ## 6 Pretraining
#
# ### 6.1 A model that Keras can train (5 points)
#
# Write a subclass of `keras.Model` and let `make_model` return one. It holds
# the weights as `keras.Variable`s (Keras finds them in attributes, also in
# dicts and lists), and its `call` is `language_model`.


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


# %% nbgrader={"grade": true, "grade_id": "test_make_model", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

weights = make_weights(7, 5, 8, 16, 2, seed=5)
ids = np.array([[1, 2, 3], [4, 5, 6]], "int32")
model = make_model(weights, 2)
scores = to_array(model(ids))
assert np.allclose(
    scores, to_array(language_model(ids, weights, 2)), atol=1e-3
), (
    "The model must begin with the weights that it is given, and be "
    "`language_model`."
)
counted = model.count_params()
assert counted == count_parameters(7, 5, 8, 16, 2), (
    "Keras must find each weight once, as `count_parameters` does. Received: "
    f"{counted}."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} keras")
for _ in range(2):
    num_heads, num_blocks = rng.randint(1, 2), rng.randint(1, 3)
    dim, hidden = 6 * num_heads, rng.randint(4, 9)
    size, length = rng.randint(5, 20), rng.randint(4, 8)
    weights = make_weights(
        size, length, dim, hidden, num_blocks, rng.randrange(10**6)
    )
    model = make_model(weights, num_heads)
    ids = np.random.default_rng(rng.randrange(10**6))
    ids = ids.integers(0, size, (2, length)).astype("int32")
    scores = to_array(model(ids))
    assert scores.shape == (2, length, size), "The model must return scores."
    assert np.allclose(
        scores, to_array(language_model(ids, weights, num_heads)), atol=1e-3
    ), "The model must be `language_model` with the weights that it was given."
    expected = (size + length) * dim + num_blocks * (
        4 * dim**2 + 2 * dim * hidden + hidden + 5 * dim
    )
    assert model.count_params() == expected, (
        "Keras must find each weight once, of all blocks. The embedding is "
        "tied: one matrix of tokens."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 6.2 Training (5 points)
#
# Compile the model with Adam and fit it. The learning rate is that of part 5
# (subclass `keras.optimizers.schedules.LearningRateSchedule`; Keras calls it
# with the step), the loss is the mean cross-entropy of the next token, in
# nats. The model gives scores, no probabilities: tell the loss so.


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


# %% nbgrader={"grade": true, "grade_id": "test_pretrain", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

# 0 1 2 3 0 1 2 3 ...: what comes next is no secret.
stream = np.arange(64 * 9) % 4
rows = stream.reshape(64, 9).astype("int32")
train = rows[:, :-1], rows[:, 1:]
model = make_model(make_weights(4, 8, 16, 32, 1, seed=6), 2)
losses = pretrain(model, train, train, 0.01, 5, 4, 3)
assert len(losses["loss"]) == len(losses["val_loss"]) == 3, (
    "Each epoch has a loss of training and one of validation."
)
assert 0.1 < losses["loss"][0] < 2, (
    "The loss begins at about the logarithm of the size of the vocabulary, "
    "1.39 here, and falls. Received: a mean of "
    f"{losses['loss'][0]} in the first epoch."
)
# Computed again: the model, and not what is said of it, must have learned.
shares = np.exp(to_array(model(train[0])).astype("float64"))
shares /= shares.sum(axis=-1, keepdims=True)
after = -np.log(np.take_along_axis(shares, train[1][..., None], -1)).mean()
assert after < 0.7, (
    "A sequence that repeats itself must be learned in 48 steps. Received: a "
    f"model with a loss of {after}."
)
assert abs(losses["val_loss"][-1] - after) < 2e-2, (
    "The last loss of validation must be that of the model after training. "
    f"Received: {losses['val_loss'][-1]} instead of {after}."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} train")


def slow_loss(scores, targets):
    total = 0
    for b, i in np.ndindex(*targets.shape):
        row = scores[b, i].astype("float64")
        total += np.log(np.exp(row - row.max()).sum()) + row.max()
        total -= row[targets[b, i]]
    return total / targets.size


size = rng.randint(6, 9)
noise = np.random.default_rng(rng.randrange(10**6))
weights = make_weights(size, 6, 12, 24, 1, rng.randrange(10**6))
weights["tokens"] *= 20
model = make_model(weights, 3)
train, held_out = (
    tuple(noise.integers(0, size, (2, rows, 6)).astype("int32"))
    for rows in (4, 3)
)
expected = [slow_loss(to_array(model(x)), y) for x, y in (train, held_out)]
# Each epoch is one step.
losses = pretrain(model, train, held_out, 0.01, 5, 4, 30)
assert abs(losses["loss"][0] - expected[0]) < 2e-2, (
    "The loss must be the mean cross-entropy of the targets, with scores "
    "taken for scores. For a random model it is not."
)
assert abs(losses["loss"][1] - losses["loss"][0]) < 1e-3, (
    "The first step has a learning rate of zero and must change nothing."
)
assert abs(losses["val_loss"][0] - expected[1]) < 2e-2, (
    "The second loss must be that of the rows held out."
)
after = slow_loss(to_array(model(train[0])), train[1])
assert after < 0.6 * expected[0], (
    "The same few rows, again and again, must be learned by heart. For some "
    "random rows the loss does not fall."
)
final = slow_loss(to_array(model(held_out[0])), held_out[1])
assert abs(losses["val_loss"][-1] - final) < 2e-2 * max(1, final), (
    "The losses of validation must be measured after each epoch. For the last "
    "one this is not so."
)
### END HIDDEN TESTS

# %% [markdown]
# ### 6.3 A figure (10 points, graded by a person)
#
# Pages of Python's own manual, which every installation carries, character by
# character. Everybody in the class has the same ones this term.

# %%
SEED = 0


# %% nbgrader={"grade": false, "grade_id": "read_rows", "locked": true, "schema_version": 3, "solution": false, "task": false}
def read_rows(seed, length):
    """Cut pages of Python's manual, drawn with a seed, into rows.

    Returns:
        The alphabet, a str, in which the id of a character is its place, and
        two pairs of inputs and targets: of 32 pages to train with, and of 8
        others.
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
    """Let a model write `count` characters more.

    What stands behind the last character does not matter: it is not seen.
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
# Train a model of two blocks, with `dim` 64, `hidden_dim` 256 and 4 heads, for
# 4 epochs in batches of 32. A rate of 0.004 after 50 steps of warmup is a good
# start. It takes half a minute or less; if your machine needs more, take fewer
# epochs. Draw both losses against the epochs. For comparison draw the loss of
# somebody who knows how often each character occurs on the training pages, and
# nothing else. Below, print what `continue_text` makes of `"The "`.

# %% nbgrader={"grade": true, "grade_id": "figure", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
keras.utils.set_random_seed(SEED)
model = make_model(make_weights(len(alphabet), LENGTH, 64, 256, 2), 4)
losses = pretrain(model, train, validation, 4e-3, 50, 32, 4)
often = np.bincount(train[1].ravel(), minlength=len(alphabet)) + 1
frequencies = -np.log(often / often.sum())[validation[1]].mean()
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
# ### 6.4 What the figure says (5 points, graded by a person)
#
# In three to six sentences: how far below the line of frequencies does the
# model come, and what must it have learned for that? What in the text that it
# writes is right, and what is not? In the first epoch the loss on held-out
# pages may well be below that on training pages: why?

# %% [markdown] nbgrader={"grade": true, "grade_id": "discussion", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# The model comes about one nat below the frequencies, so it gives the next
# character almost three times their chance: it uses the characters before. It
# has common words, spaces after commas, indentation; sentences make no sense,
# for which model and text are too small. The loss of training is a mean over
# the epoch, with the first steps in it, when the model knew nothing; that of
# the held-out pages is measured at the epoch's end.
