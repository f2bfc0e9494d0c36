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
#     - AdditiveAttention
#     - Attention
#     - BatchNormalization
#     - GroupNormalization
#     - GroupQueryAttention
#     - GroupedQueryAttention
#     - LayerNorm
#     - LayerNormalization
#     - MultiHeadAttention
#     - MultiheadAttention
#     - RMSNorm
#     - RMSNormalization
#     - UnitNormalization
#     - aten
#     - batch_normalization
#     - dot_product_attention
#     - layer_normalization
#     - multi_head_attention_forward
#     - native_layer_norm
#     - rms_normalization
#     - scaled_dot_product_attention
#     - standardize
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
# ---

# %% [markdown]
# # Homework 2: The decoder
#
# A decoder reads the tokens so far and scores every token that could come next.
# In this homework you write one from matrix products up: causal attention, the
# block around it, and an embedding that is used in both directions. Homework 2b
# trains such a model. Chapter 1 of the course uses all of these parts.
#
# | part | points |
# |---|---|
# | 1 Attention | 40 |
# | 2 The block | 25 |
# | 3 The tied embedding | 20 |
# | 4 A figure, graded by a person | 15 |
#
# Rules:
#
# - Replace each `raise NotImplementedError()` with your code. Keep the names
#   and arguments of the functions. You may add cells and functions.
# - Write with `keras.ops`: products, sums, softmax, shapes. Attention and
#   normalization are what you are asked to write, so ready-made versions are
#   not allowed, whether they come from Keras, PyTorch, JAX, or TensorFlow. The
#   next cell but one switches them off.
# - If a ready-made version appears in your code under any name, the question
#   loses its points. Grading lists such names for the instructor. It also lists
#   code that looks names up while it runs, such as `getattr` with a computed
#   name.
# - Arrays come in as NumPy arrays, tensors, or Keras variables, in float32.
#   Return a float32 tensor. As long as no operand is a tensor, use `ops.add(a,
#   b)` rather than `a + b`, or begin with `ops.convert_to_tensor`.
# - Your code must run on JAX, TensorFlow, and PyTorch. In training, TensorFlow
#   does not know the batch size in advance, so pass `-1` for it to
#   `ops.reshape`.
# - You cannot change the test cells. Grading restores them. It also runs tests
#   that you do not see, on inputs that differ each time.
# - If the test of one of your functions fails in grading, the tests that follow
#   use the solution's version of that function. So one mistake costs its own
#   points and no others. On your own machine the later tests use your function,
#   so fix the first failing test first.
# - Do not use the variables of test cells in your code. In grading, the tests
#   run in a separate process that calls your functions.
# - In grading, a cell may take one minute, a call of a function may take 20
#   seconds, and the whole notebook may use 4 GB of memory.
# - Before you hand the notebook in, restart and run all cells, or run `kerasllm
#   homework check hw2_the_decoder.ipynb`.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
from keras import ops


# %% nbgrader={"grade": false, "grade_id": "switch_off", "locked": true, "schema_version": 3, "solution": false, "task": false}
def switch_off():
    """Make ready-made attention and normalization refuse to work here."""
    import re
    import sys

    if "keras" not in sys.modules:
        return  # the process that runs the tests has no use for them
    names = re.compile(
        r"(?i)attention|(layer|rms|batch|group|unit|instance)_?norm"
        r"|normalization|standardize$"
    )
    modules = re.compile(
        r"keras\.|(torch|torch\.nn(\..*)?|torch\._C(\._nn)?|torch\._VF)$"
        r"|jax\.nn|jax\._src\.nn|tensorflow\..*nn$"
    )

    def refuse(self=None, *args, **kwargs):
        raise NotImplementedError(
            "Ready-made attention and normalization are switched off in this "
            "notebook. Write them with products, sums, and softmax."
        )

    for place, module in list(sys.modules.items()):
        if not modules.match(place):
            continue
        for name, value in list(vars(module).items()):
            if not names.search(name) or not callable(value):
                continue
            if isinstance(value, type):
                value.__init__ = refuse
                continue
            if hasattr(value, "__code__") and not value.__closure__:
                value.__code__ = refuse.__code__
            setattr(module, name, refuse)
    for other in ("jax", "tensorflow", "torch"):
        # Keras runs on one of them; the others are not needed here.
        sys.modules.setdefault(other, None)


switch_off()


# %% [markdown]
# ## The weights
#
# The functions that you write own no weights. They receive them as arguments,
# in dicts, so you can try them with any weights. `make_weights` returns such a
# dict:


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
# ### 1.1 Heads (10 points)
#
# A head is a slice of the vector at each position. The first `dim // num_heads`
# of the `dim` numbers belong to head 0, the next ones to head 1, and so on.
# `split_heads` gives the heads an axis of their own, in front of the axis of
# the positions. `join_heads` undoes this.


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
    """Join heads side by side.

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


# %% nbgrader={"grade": true, "grade_id": "test_heads", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
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
# ### 1.2 Attention weights (15 points)
#
# The score of two positions is the dot product of the first position's query
# and the second position's key, divided by the square root of the head size.
# Each position sees itself and the positions before it. Mask the scores of all
# later positions, so that they do not count at all. Then apply a softmax to
# each row, so that the row sums to one.


# %% nbgrader={"grade": false, "grade_id": "attention_weights", "locked": false, "schema_version": 3, "solution": true, "task": false}
def attention_weights(query, key):
    """Compute how much each position attends to each other one.

    Args:
        query: float array `(batch, num_heads, length, head_dim)`.
        key: float array of the same shape.

    Returns:
        float tensor `(batch, num_heads, length, length)`: row `i` holds
        what position `i` takes from each position.
    """
    ### BEGIN SOLUTION
    length, size = query.shape[-2:]
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
    scores = scores / math.sqrt(size)
    positions = ops.arange(length)
    visible = positions[:, None] >= positions[None, :]
    return ops.softmax(ops.where(visible, scores, -1e9), axis=-1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_attention_weights", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
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
    "Scores are divided by the square root of the head size: 4 becomes 2 for "
    f"a head size of four. Received: a weight of {rows[0, 0, 1, 1]}."
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
        "Weights must be finite for large scores, too."
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
# Multiply the vectors by the matrices `query`, `key`, and `value`, from the
# right: `x @ weights["query"]`. Split each result into heads. Use the weights
# of 1.2 to mix the values, join the heads, and multiply by `output`. There are
# no biases in this part.


# %% nbgrader={"grade": false, "grade_id": "self_attention", "locked": false, "schema_version": 3, "solution": true, "task": false}
def self_attention(x, weights, num_heads):
    """Let each position attend to itself and to those before it.

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
        "Reordering the heads, and the rows of `output` with them, must "
        "change nothing."
    )
    rows = rng.sample(range(batch), batch)
    again = to_array(self_attention(x[rows], w, num_heads))
    assert np.allclose(y[rows], again, atol=5e-3), (
        "The rows of a batch must not influence each other."
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 2 The block
#
# ### 2.1 Normalization (10 points)
#
# At each position, subtract the mean of the numbers. Divide by the square root
# of their variance plus `EPSILON`. Then multiply by `scale` and add `offset`.

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


# %% nbgrader={"grade": true, "grade_id": "test_layer_norm", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
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
            "squares as variance and EPSILON added to it inside the root. "
            "For some random inputs it is not."
        )
### END HIDDEN TESTS

# %% [markdown]
# ### 2.2 The block (15 points)
#
# A decoder block has two parts, attention and a feed-forward network. Each part
# has a residual connection, which adds the part's input to its output. Models
# differ in where they put the normalization:
#
# | placement | one part of the block | example |
# |---|---|---|
# | post-norm | `x = norm(x + part(x))` | the Transformer of 2017, the model of Chapter 1 |
# | pre-norm | `x = x + part(norm(x))` | GPT-2, the model of Homework 3 |
# | both | `x = x + norm(part(norm(x)))` | Gemma 3, the model of Homework 4 |
#
# With post-norm, the sum itself is normalized. With pre-norm, the sum passes
# through the block untouched, and only the input of each part is normalized.
# Gemma normalizes the output of each part as well.
#
# Write a block with post-norm:
#
# 1. Self-attention, added to its input. Then normalize with `norm_1_scale` and
#    `norm_1_offset`.
# 2. A feed-forward network, added to its input: `up`, `up_bias`, ReLU, `down`,
#    `down_bias`. Then normalize with `norm_2_scale` and `norm_2_offset`.


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
    "If attention and feed-forward network return zeros, the normalized "
    "input is left, because each is added to its input."
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
# `embed` returns, for each token, its row of `tokens` plus the row of
# `positions` for its position. `unembed` goes the other way: the score of a
# token is the dot product of the hidden state and the token's row of the same
# matrix. Raise `ValueError` if a sequence is longer than the table of
# positions. (Without that check, JAX would return values that are not numbers.)


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
# ### 3.2 The whole model (10 points)
#
# Embed the tokens, run the blocks one after another, and unembed with the same
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


# %% nbgrader={"grade": true, "grade_id": "test_language_model", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
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
# ## 4 A figure
#
# ### 4.1 Why scores are scaled (10 points, graded by a person)
#
# How evenly does a position spread its attention? The entropy of a row of
# attention weights, $-\sum_j w_j \log w_j$ in nats, measures this. It is $\log
# n$ if all $n$ positions get the same weight, and 0 if one position gets
# everything.
#
# Draw random queries and keys from a standard normal distribution, for 32
# positions and head sizes of 1, 2, 4, and so on up to 256. Compute the mean
# entropy of the last row, over at least 50 heads, in two ways: with
# `attention_weights` as it is, and without the division by the square root of
# the head size. (You can multiply the queries by that square root first.) Plot
# both means against the head size, and draw $\log 32$ for comparison. Think
# about the scale of the axis, and label axes and curves.

# %% nbgrader={"grade": true, "grade_id": "figure", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
rng = np.random.default_rng(0)
sizes = [2**i for i in range(9)]
scaled, unscaled = [], []
for size in sizes:
    query, key = rng.normal(size=(2, 1, 100, 32, size)).astype("float32")
    for means, factor in ((scaled, 1), (unscaled, np.float32(size**0.5))):
        rows = to_array(attention_weights(factor * query, key))[:, :, -1]
        entropies = -np.sum(rows * np.log(rows + 1e-30), axis=-1)
        means.append(float(entropies.mean()))
figure, ax = plt.subplots()
ax.plot(sizes, scaled, marker="o", label="scores divided by the root")
ax.plot(sizes, unscaled, marker="o", label="scores as they are")
ax.axhline(np.log(32), color="gray", label="equal weights, log 32")
ax.set_xscale("log", base=2)
ax.set_xlabel("head size")
ax.set_ylabel("entropy of the last row, nats")
ax.set_ylim(bottom=0)
ax.legend()
plt.show()
print(scaled, unscaled)
### END SOLUTION


# %% [markdown]
# ### 4.2 What the figure says (5 points, graded by a person)
#
# Write three to six sentences. Why does one curve fall and the other one stay
# level? What would small entropies at the start mean for training? In a model
# with pre-norm blocks nothing normalizes the sum that runs through the blocks.
# What happens to that sum as the model gets deeper, and what should happen to
# it before `unembed`?

# %% [markdown] nbgrader={"grade": true, "grade_id": "discussion", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# Without scaling, the variance of a score is the head size, because a score is
# a sum of that many products with variance one. The largest score is then far
# above the others, and the softmax gives it nearly everything. Divided by the
# square root, scores have variance one at every size, so the curve stays level.
# With a small entropy each position copies a single other one, and the gradient
# through the softmax is close to zero, so training starts slowly. With
# pre-norm, every part adds to the sum, so it grows with the depth. It should be
# normalized once more before `unembed`.
