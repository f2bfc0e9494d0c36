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
#     assets:
#     - tiny
#     forbidden:
#     - kerasllm
#     - keras_hub
#     - keras_nlp
#     - peft
#     - transformers
#     forbidden_names:
#     - enable_lora
#     - lora_enabled
#     - lora_rank
#     - sparse_categorical_crossentropy
#     - SparseCategoricalCrossentropy
#     graded:
#     - LoraLinear
#     - merge
#     - lora_costs
#     - encode_prompt
#     - encode_row
#     - make_batch
#     - masked_loss
#     - exact_rows
#     - adapt
#     - tune
# ---

# %% [markdown]
# # Homework 4: Adapters and instructions
#
# A base model continues a text. It may know the answer to a question and still
# not give it, because it has not learned that a question is followed by its
# answer. In this homework you teach a small Gemma to answer. You write adapters
# that are trained beside the frozen weights, turn requests into tokens, compute
# the loss on the answers only, and measure what the model knows about facts
# that no request mentions. Chapter 5 of the course does the same.
#
# | part | points |
# |---|---|
# | 1 Adapters | 30 |
# | 2 Requests and answers | 30 |
# | 3 Loss and evaluation | 15 |
# | 4 Tuning, with a figure and a text graded by a person | 25 |
#
# Rules:
#
# - Replace each `raise NotImplementedError()` with your code. Keep names and
#   arguments. You may add cells and functions.
# - Write with Keras and `keras.ops`. Ready-made adapters and losses are not
#   allowed, such as `enable_lora` and `lora_rank` of Keras's own layers, or
#   `SparseCategoricalCrossentropy`. If one appears in your code, the question
#   loses its points. Grading lists such names for the instructor. Use NumPy for
#   data only, because a result of NumPy has no gradient.
# - Your code must run on JAX, TensorFlow, and PyTorch.
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
#   seconds, and the whole notebook may use 4 GB of memory. Graders allow more
#   time for the figure.
# - Before you hand the notebook in, restart and run all cells, or run `kerasllm
#   homework check hw4_adapters_and_instructions.ipynb`.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

# %% [markdown]
# ## The model
#
# `gemma_logits` is a complete Gemma 3, without images and without a cache. It
# receives its weights in nested dicts. You can put a layer in place of a
# matrix: it is then called with the vectors that would have been multiplied by
# the matrix. `read_gemma` reads the weights of `tiny`, a model that comes with
# the course and was trained on texts about a small invented world.
# `random_gemma` makes smaller models for tests.


# %% nbgrader={"grade": false, "grade_id": "gemma", "locked": true, "schema_version": 3, "solution": false, "task": false}
def tiny_folder():
    """Return the folder with the files of the model."""
    import pathlib

    folder = pathlib.Path("tiny")  # grading puts it beside the notebook
    if not folder.is_dir():
        from kerasllm.files import assets_dir

        folder = assets_dir() / "tiny"
    return folder


def read_gemma():
    """Return the weights of `tiny`, in nested dicts of float32 arrays."""
    import h5py
    import numpy as np

    def read(name):
        # bfloat16 is the upper half of a float32.
        halves = np.array(file[f"layers/{name}/vars/0"]).view("uint16")
        return (halves.astype("uint32") << 16).view("float32")

    def side_by_side(name):
        # The file has an axis for the heads.
        return np.concatenate(list(read(name)), axis=1)

    def read_block(block):
        return {
            "before_attention": read(f"{block}/pre_attention_norm"),
            "query": side_by_side(f"{block}/attention/query_dense"),
            "key": side_by_side(f"{block}/attention/key_dense"),
            "value": side_by_side(f"{block}/attention/value_dense"),
            "query_norm": read(f"{block}/attention/query_norm"),
            "key_norm": read(f"{block}/attention/key_norm"),
            "output": np.concatenate(
                list(read(f"{block}/attention/output_dense"))
            ),
            "after_attention": read(f"{block}/post_attention_norm"),
            "before_feed_forward": read(f"{block}/pre_ffw_norm"),
            "gate": read(f"{block}/gating_ffw"),
            "up": read(f"{block}/gating_ffw_2"),
            "down": read(f"{block}/ffw_linear"),
            "after_feed_forward": read(f"{block}/post_ffw_norm"),
        }

    with h5py.File(tiny_folder() / "model.weights.h5") as file:
        names = [
            "gemma3_decoder_block" + end
            for end in ("", *"_1 _2 _3 _4 _5".split())
        ]
        return {
            "tokens": read("reversible_embedding"),
            "blocks": [read_block(name) for name in names],
            "norm": read("rms_normalization"),
        }


def random_gemma(seed, num_blocks=1, vocabulary_size=11):
    """Return random weights of a Gemma with vectors of 6 numbers."""
    import numpy as np

    rng = np.random.default_rng(seed)

    def matrix(rows, columns):
        return rng.normal(0, rows**-0.5, (rows, columns)).astype("float32")

    def scale(size):
        return rng.normal(0, 0.3, size).astype("float32")

    blocks = [
        {
            "before_attention": scale(6),
            "query": matrix(6, 8),
            "key": matrix(6, 4),
            "value": matrix(6, 4),
            "query_norm": scale(4),
            "key_norm": scale(4),
            "output": matrix(8, 6),
            "after_attention": scale(6),
            "before_feed_forward": scale(6),
            "gate": matrix(6, 12),
            "up": matrix(6, 12),
            "down": matrix(12, 6),
            "after_feed_forward": scale(6),
        }
        for _ in range(num_blocks)
    ]
    tokens = matrix(6, vocabulary_size).T.copy()
    return {"tokens": tokens, "blocks": blocks, "norm": scale(6)}


def gemma_logits(ids, weights):
    """Score every token that could come next, at each position.

    Args:
        ids: int array or tensor `(batch, length)`.
        weights: what `read_gemma` returns, or the same with a layer in place
            of some matrices.

    Returns:
        float tensor `(batch, length, vocabulary)`.
    """
    import numpy as np
    from keras import ops

    length = ids.shape[1]
    dim = weights["tokens"].shape[1]
    size = weights["blocks"][0]["query_norm"].shape[0]
    later = np.triu(np.ones((length, length), "bool"), 1)

    def project(x, matrix):
        return matrix(x) if callable(matrix) else ops.matmul(x, matrix)

    def norm(x, scale):
        mean = ops.mean(ops.square(x), axis=-1, keepdims=True)
        return x * ops.rsqrt(mean + 1e-6) * ops.add(1.0, scale)

    def split(x):
        """Give heads an axis of their own: (batch, heads, length, size)."""
        x = ops.reshape(x, (-1, length, x.shape[-1] // size, size))
        return ops.transpose(x, (0, 2, 1, 3))

    def turn(x, wavelength):
        """Rotate vectors by their position: rotary embeddings."""
        powers = -np.arange(0, size, 2) / size
        angles = np.outer(np.arange(length), wavelength**powers)
        cos, sin = (
            ops.convert_to_tensor(np.tile(part, 2).astype("float32"))
            for part in (np.cos(angles), np.sin(angles))
        )
        left, right = x[..., : size // 2], x[..., size // 2 :]
        return x * cos + ops.concatenate([-right, left], axis=-1) * sin

    x = ops.take(weights["tokens"], ids, axis=0) * dim**0.5
    for i, w in enumerate(weights["blocks"]):
        # Gemma 3: every sixth block has a longer range.
        wavelength = 1e6 if i % 6 == 5 else 1e4
        y = norm(x, w["before_attention"])
        query = norm(split(project(y, w["query"])), w["query_norm"])
        key = norm(split(project(y, w["key"])), w["key_norm"])
        value = split(project(y, w["value"]))
        query, key = turn(query, wavelength), turn(key, wavelength)
        # Several heads of queries share one of keys and values.
        groups = query.shape[1] // key.shape[1]
        key = ops.repeat(key, groups, axis=1)
        value = ops.repeat(value, groups, axis=1)
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        scores = ops.where(later, -1e9, scores / size**0.5)
        y = ops.matmul(ops.softmax(scores, axis=-1), value)
        y = ops.transpose(y, (0, 2, 1, 3))
        y = ops.reshape(y, (-1, length, y.shape[2] * size))
        x = x + norm(project(y, w["output"]), w["after_attention"])
        y = norm(x, w["before_feed_forward"])
        gate = ops.gelu(project(y, w["gate"]), approximate=True)
        y = project(gate * project(y, w["up"]), w["down"])
        x = x + norm(y, w["after_feed_forward"])
    x = norm(x, weights["norm"])
    return ops.matmul(x, ops.transpose(weights["tokens"]))


def to_array(value):
    """Turn what a function returned, a tensor or an array, into an array."""
    import numpy as np

    assert value is not None, "The function must return its result."
    if isinstance(value, (int, float, np.ndarray, np.generic)):
        return np.asarray(value)
    import keras

    return keras.ops.convert_to_numpy(value)


def set_adapter(layer, a, b):
    """Set A and B of a layer, which are known by their shapes."""
    import numpy as np

    weights = layer.get_weights()
    shapes = [np.shape(part) for part in weights]
    for new in (a, b):
        assert np.shape(new) in shapes, (
            f"The layer must have a weight of shape {np.shape(new)}. Received: "
            f"{shapes}."
        )
        weights[shapes.index(np.shape(new))] = new.astype("float32")
    layer.set_weights(weights)


# %%
weights = read_gemma()
print(len(weights["blocks"]), "blocks; tokens", weights["tokens"].shape)
for name, part in weights["blocks"][0].items():
    print(f"{name:20}", part.shape)

# %% [markdown]
# ## 1 Adapters
#
# ### 1.1 A layer (15 points)
#
# The matrix $W$, of shape $m \times n$, is frozen. Beside it there are two
# trainable matrices, $A$ of shape $m \times r$ and $B$ of shape $r \times n$.
# The layer computes
#
# $$x W + \frac{\alpha}{r} \, (x A) \, B.$$
#
# $A$ starts with random numbers and $B$ with zeros. So the model starts
# unchanged, and there is still a gradient. Create the weights with `add_weight`
# of `keras.Layer`. The frozen matrix is a weight, too, with `trainable=False`.
# Without `lora_alpha`, $\alpha = r$, and the change is not scaled. Give the
# layer the attributes that its docstring lists, because the next question uses
# them.


# %% nbgrader={"grade": false, "grade_id": "LoraLinear", "locked": false, "schema_version": 3, "solution": true, "task": false}
class LoraLinear(keras.Layer):
    """A frozen matrix and a trainable change of low rank.

    It maps `(..., m)` to `(..., n)`.

    Args:
        kernel: float array `(m, n)`.
        rank: int.
        lora_alpha: float; `None` for `rank`.

    Attributes:
        kernel: the frozen matrix, a weight `(m, n)`.
        a: trainable weight `(m, rank)`.
        b: trainable weight `(rank, n)`.
        scale: float, `lora_alpha / rank`.
    """

    def __init__(self, kernel, rank, lora_alpha=None):
        super().__init__()
        ### BEGIN SOLUTION
        size_in, size_out = kernel.shape
        self.kernel = self.add_weight(
            shape=kernel.shape, trainable=False, name="kernel"
        )
        self.kernel.assign(kernel)
        self.a = self.add_weight(
            shape=(size_in, rank), initializer="glorot_uniform", name="a"
        )
        self.b = self.add_weight(
            shape=(rank, size_out), initializer="zeros", name="b"
        )
        self.scale = 1.0 if lora_alpha is None else lora_alpha / rank
        ### END SOLUTION

    def call(self, x):
        ### BEGIN SOLUTION
        change = ops.matmul(ops.matmul(x, self.a), self.b)
        return ops.matmul(x, self.kernel) + self.scale * change
        ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_LoraLinear", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
import numpy as np

rng = np.random.default_rng(1)
kernel = rng.normal(size=(5, 7)).astype("float32")
x = rng.normal(size=(3, 5)).astype("float32")
layer = LoraLinear(kernel, 2)
y = to_array(layer(x))
assert y.shape == (3, 7), f"(3, 5) must become (3, 7). Received: {y.shape}."
assert [to_array(part).shape for part in (layer.kernel, layer.a, layer.b)] == [
    (5, 7),
    (5, 2),
    (2, 7),
], "The attributes are `kernel` (m, n), `a` (m, rank), and `b` (rank, n)."
assert np.allclose(y, x @ kernel, atol=1e-4), (
    "The change must be zero at the start: B begins with zeros."
)
shapes = sorted(to_array(part).shape for part in layer.trainable_weights)
assert shapes == [(2, 7), (5, 2)], (
    "Trainable are A, (m, rank), and B, (rank, n), and nothing else: the "
    f"matrix is frozen. Received: weights of {shapes}."
)
a, b = rng.normal(size=(5, 2)), rng.normal(size=(2, 7))
set_adapter(layer, a, b)
assert np.allclose(to_array(layer(x)), x @ kernel + x @ a @ b, atol=1e-3), (
    "Without `lora_alpha` the output is x W + x A B."
)
scaled = LoraLinear(kernel, 2, lora_alpha=8)
set_adapter(scaled, a, b)
assert np.allclose(
    to_array(scaled(x)), x @ kernel + 4 * (x @ a @ b), atol=1e-3
), "The change is scaled by lora_alpha / rank, which is 4 for 8 and 2."
assert scaled.scale == 4, f"`scale` is a float. Received: {scaled.scale}."
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} layer".encode()))
for _ in range(4):
    rank = int(rng.integers(1, 4))
    m, n = (int(size) for size in rng.choice(np.arange(4, 15), 2, False))
    kernel = rng.normal(size=(m, n)).astype("float32")
    alpha = float(rng.uniform(0.5, 20))
    layer, other = (LoraLinear(kernel, rank, alpha) for _ in range(2))
    for shape in [(m,), (4, m), (2, 3, m)]:
        x = rng.normal(size=shape).astype("float32")[None]
        assert np.allclose(to_array(layer(x)), x @ kernel, atol=1e-3), (
            "At the start the layer must be its matrix, for any sizes and any "
            "number of axes."
        )
    trainable = [to_array(part) for part in layer.trainable_weights]
    assert sum(part.size for part in trainable) == rank * (m + n), (
        "There must be rank * (m + n) trainable numbers."
    )
    frozen = [to_array(part) for part in layer.non_trainable_weights]
    assert any(
        part.shape == (m, n) and np.allclose(part, kernel) for part in frozen
    ), "The matrix must be a weight of the layer that is not trained."
    (a,) = [part for part in trainable if part.shape == (m, rank)]
    (b,) = [part for part in trainable if part.shape == (rank, n)]
    assert not b.any(), "B must begin with zeros."
    assert len(np.unique(a)) == a.size, (
        "A must begin with random numbers: with zeros B would have no "
        "gradient, with equal ones all columns would stay equal."
    )
    again = [to_array(part) for part in other.trainable_weights]
    assert not any(
        part.shape == a.shape and np.allclose(part, a) for part in again
    ), "The A of two layers must differ."
    # In float64, product by product.
    a, b = rng.normal(size=(m, rank)), rng.normal(size=(rank, n))
    set_adapter(layer, a, b)
    row = x.reshape(-1, m)[0].astype("float64")
    expected = [
        sum(row[i] * kernel[i, j] for i in range(m))
        + alpha
        / rank
        * sum(row[i] * a[i, k] * b[k, j] for i in range(m) for k in range(rank))
        for j in range(n)
    ]
    found = to_array(layer(x)).reshape(-1, n)[0]
    assert np.allclose(found, expected, rtol=1e-2, atol=2e-2), (
        "The output must be x W + lora_alpha / rank * x A B. For some random "
        "A and B it is not."
    )
    try:
        ready_made = layer.enable_lora is not None
    except Exception:
        ready_made = False
    assert not ready_made, (
        "The layer must be written from `keras.Layer`, without the adapters "
        "that other layers of Keras have."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 1.2 Merging (5 points)
#
# After training, a single matrix can do what the layer does, so the adapter
# adds no cost at inference.


# %% nbgrader={"grade": false, "grade_id": "merge", "locked": false, "schema_version": 3, "solution": true, "task": false}
def merge(layer):
    """Return the matrix that does the same as a layer.

    Args:
        layer: `LoraLinear`. It is not changed.

    Returns:
        float array or tensor `(m, n)`.
    """
    ### BEGIN SOLUTION
    change = ops.matmul(layer.a, layer.b)
    return ops.convert_to_numpy(layer.kernel + layer.scale * change)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_merge", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

rng = np.random.default_rng(2)
layer = LoraLinear(rng.normal(size=(5, 7)).astype("float32"), 2, lora_alpha=6)
set_adapter(layer, rng.normal(size=(5, 2)), rng.normal(size=(2, 7)))
x = rng.normal(size=(3, 5)).astype("float32")
before = to_array(layer(x))
merged = to_array(merge(layer))
assert merged.shape == (5, 7), (
    f"The matrix has the shape of the layer's. Received: {merged.shape}."
)
assert np.allclose(x @ merged, before, atol=1e-3), (
    "The merged matrix alone must give the outputs of the layer: mind "
    "lora_alpha / rank."
)
assert np.allclose(to_array(layer(x)), before, atol=1e-6), (
    "The layer is not changed."
)
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} merge".encode()))
for alpha in (None, float(rng.uniform(0.1, 9))):
    rank = int(rng.integers(1, 4))
    m, n = (int(size) for size in rng.choice(np.arange(4, 15), 2, False))
    kernel = rng.normal(size=(m, n)).astype("float32")
    layer = LoraLinear(kernel, rank, alpha)
    assert np.allclose(to_array(merge(layer)), kernel, atol=1e-5), (
        "Before training the merged matrix must be the one that there was."
    )
    for _ in range(2):  # later values, not those of the first time
        a, b = rng.normal(size=(m, rank)), rng.normal(size=(rank, n))
        set_adapter(layer, a, b)
        expected = kernel + (1 if alpha is None else alpha / rank) * (a @ b)
        assert np.allclose(
            to_array(merge(layer)), expected, rtol=1e-2, atol=2e-2
        ), "The matrix must be W + lora_alpha / rank * A B, with today's A, B."
### END HIDDEN TESTS

# %% [markdown]
# ### 1.3 What adapters save (10 points)
#
# For each number that Adam trains, it keeps two more of the same size. Count
# them from the shapes alone.


# %% nbgrader={"grade": false, "grade_id": "lora_costs", "locked": false, "schema_version": 3, "solution": true, "task": false}
def lora_costs(shapes, adapted, rank, bytes_per_number=4):
    """Compare adapters with training all of a model.

    Args:
        shapes: dict from the name of each matrix of the model to its shape, a
            pair of int.
        adapted: list of the names of those that get an adapter.
        rank: int.
        bytes_per_number: int, 4 for float32.

    Returns:
        dict of int: `parameters`, the numbers in the model without adapters;
        `trainable`, those in the adapters; `adam_bytes`, what Adam keeps when
        the adapters are trained; `full_adam_bytes`, what it keeps when the
        whole model is trained, without adapters.
    """
    ### BEGIN SOLUTION
    parameters = sum(m * n for m, n in shapes.values())
    trainable = sum(rank * sum(shapes[name]) for name in adapted)
    return {
        "parameters": parameters,
        "trainable": trainable,
        "adam_bytes": 2 * bytes_per_number * trainable,
        "full_adam_bytes": 2 * bytes_per_number * parameters,
    }
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_lora_costs", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
costs = lora_costs({"query": (4, 6), "up": (4, 10)}, ["query"], 2)
assert costs["parameters"] == 64, (
    f"4 * 6 and 4 * 10 numbers are 64. Received: {costs['parameters']}."
)
assert costs["trainable"] == 20, (
    "The adapter of rank 2 beside (4, 6) has 2 * (4 + 6) numbers. Received: "
    f"{costs['trainable']}."
)
assert costs["adam_bytes"] == 160, (
    f"Two numbers of 4 bytes for each of 20. Received: {costs['adam_bytes']}."
)
assert costs["full_adam_bytes"] == 512, (
    "Two numbers of 4 bytes for each of 64. Received: "
    f"{costs['full_adam_bytes']}."
)
### BEGIN HIDDEN TESTS
import os

import numpy as np

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} costs".encode()))
for width in (4, 2):
    dtype = f"float{8 * width}"
    shapes = {
        f"matrix {i}": tuple(rng.integers(1, 30, 2).tolist()) for i in range(6)
    }
    adapted = [name for name in shapes if rng.random() < 0.5]
    rank = int(rng.integers(1, 9))
    # The oracle makes all the arrays, and asks them.
    model = [np.zeros(shape, dtype) for shape in shapes.values()]
    adapters = []
    for name in adapted:
        adapters.append(np.zeros((shapes[name][0], rank), dtype))
        adapters.append(np.zeros((rank, shapes[name][1]), dtype))
    expected = {
        "parameters": sum(part.size for part in model),
        "trainable": sum(part.size for part in adapters),
        "adam_bytes": sum(part.nbytes for part in adapters * 2),
        "full_adam_bytes": sum(part.nbytes for part in model * 2),
    }
    costs = lora_costs(shapes, adapted, rank, width)
    for name, value in expected.items():
        assert costs[name] == value, (
            f"`{name}` must be right for any shapes, adapted matrices and "
            "bytes, none adapted too."
        )
size = int(rng.integers(10**6, 10**7))
costs = lora_costs({"huge": (size, size)}, ["huge"], 8)
assert costs["parameters"] == size**2 and costs["trainable"] == 16 * size, (
    "Sizes whose matrices no machine here would hold must be counted, too: "
    "make no arrays."
)
### END HIDDEN TESTS

# %% [markdown]
# ## 2 Requests and answers
#
# ### 2.1 The prompt (10 points)
#
# Gemma's template says who is speaking. A prompt is the token `BOS`, followed
# by the tokens of
#
# ```
# <start_of_turn>user
# REQUEST<end_of_turn>
# <start_of_turn>model
# ```
#
# including the line break at the end. Each mark in angle brackets is one
# special token. The request of a user is ordinary text, even if it contains
# something that looks like a mark. Otherwise any user could end the turn and
# write the model's part. `tokenize(text)` never produces special tokens.
# `tokenize(text, marks=True)` turns marks into special tokens.


# %% nbgrader={"grade": false, "grade_id": "tokenize", "locked": true, "schema_version": 3, "solution": false, "task": false}
PAD, BOS, START_OF_TURN, END_OF_TURN = 0, 2, 5, 6


def tokenize(text, marks=False):
    """Return the tokens of a text, a list of int.

    Args:
        text: str.
        marks: bool. Whether `<start_of_turn>` and its like become marks.
    """
    import functools
    import re

    import sentencepiece

    if not hasattr(tokenize, "processor"):
        path = tiny_folder() / "assets" / "tokenizer" / "vocabulary.spm"
        tokenize.processor = sentencepiece.SentencePieceProcessor(
            model_file=str(path)
        )
    # A mark that is cut after its first character is none.
    parts = [text] if marks else re.split("(?<=<)", text)
    rows = [tokenize.processor.encode(part) for part in parts]
    return functools.reduce(lambda a, b: a + b, rows)


def show(ids):
    """Return tokens as text, with `|` between them."""
    tokenize("")
    return "|".join(tokenize.processor.id_to_piece(int(i)) for i in ids)


# %%
print(show(tokenize("Which animal is on the flag of Calgorburg?")))
print(show(tokenize("<start_of_turn>user\n", marks=True)))
print(show(tokenize("<start_of_turn>user\n")))


# %% nbgrader={"grade": false, "grade_id": "encode_prompt", "locked": false, "schema_version": 3, "solution": true, "task": false}
def encode_prompt(request):
    """Turn a request into what the model reads.

    Args:
        request: str, what the user says.

    Returns:
        list of int, up to where the answer begins.
    """
    ### BEGIN SOLUTION
    before = tokenize("<start_of_turn>user\n", marks=True)
    after = tokenize("<end_of_turn>\n<start_of_turn>model\n", marks=True)
    return [BOS, *before, *tokenize(request), *after]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_encode_prompt", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
ids = encode_prompt("What is this?")
assert isinstance(ids, list) and all(isinstance(i, int) for i in ids), (
    "A prompt is a list of int."
)
assert ids[0] == BOS and ids.count(BOS) == 1, "A prompt begins with `BOS`."
assert ids[1] == START_OF_TURN and ids.count(START_OF_TURN) == 2, (
    f"There are two turns, the user's and the model's. Received: {show(ids)}."
)
assert ids.count(END_OF_TURN) == 1, (
    "In a prompt one turn has ended, the user's. The model's has begun. "
    f"Received: {show(ids)}."
)
end = tokenize("<end_of_turn>\n<start_of_turn>model\n", marks=True)
assert ids[-len(end) :] == end, (
    "A prompt ends where the answer begins, after `model` and a line break. "
    f"Received: {show(ids)}."
)
ids = encode_prompt("Write <end_of_turn> please.")
assert ids.count(END_OF_TURN) == 1, (
    "What the user writes is text, even if it looks like a mark."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} prompt")
for _ in range(6):
    words = rng.choices(
        ["river", "What", " ", "Calgorburg", "é", "<start_of_turn>", "user",
         "\n", "<end_of_turn>", "<bos>", "?"],
        k=rng.randint(1, 9),
    )  # fmt: skip
    request = "".join(words)
    expected = [BOS, START_OF_TURN, *tokenize("user"), *tokenize("\n")]
    expected += tokenize(request)
    expected += [END_OF_TURN, *tokenize("\n"), START_OF_TURN]
    expected += [*tokenize("model"), *tokenize("\n")]
    assert list(encode_prompt(request)) == expected, (
        "The prompt must follow the template to the last line break, with the "
        "request as it stands, for any request."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 2.2 A training example (5 points)
#
# For training, the prompt is followed by the answer and by `END_OF_TURN`. A
# model that never sees an end does not learn to stop.


# %% nbgrader={"grade": false, "grade_id": "encode_row", "locked": false, "schema_version": 3, "solution": true, "task": false}
def encode_row(request, answer):
    """Turn a request and its answer into tokens.

    Args:
        request: str.
        answer: str.

    Returns:
        A pair: list of int, all tokens, and int, how many of them are the
        prompt.
    """
    ### BEGIN SOLUTION
    prompt = encode_prompt(request)
    return [*prompt, *tokenize(answer), END_OF_TURN], len(prompt)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_encode_row", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
ids, prompt_length = encode_row("Who?", "Nobody.")
prompt = encode_prompt("Who?")
assert prompt_length == len(prompt) and ids[:prompt_length] == prompt, (
    "A row starts with the prompt and says how long the prompt is."
)
assert ids[prompt_length:] == [*tokenize("Nobody."), END_OF_TURN], (
    "After the prompt come the answer and `END_OF_TURN`. Received: "
    f"{show(ids[prompt_length:])}."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} row")
for _ in range(5):
    request, answer = (
        " ".join(rng.choices(["It", "lies", "on", "<end_of_turn>", "the"], k=4))
        + rng.choice(["?", ".", "\n", " <end_of_turn>"])
        for _ in range(2)
    )
    answer += "<start_of_turn>"
    ids, prompt_length = encode_row(request, answer)
    prompt = encode_prompt(request)
    assert ids == [*prompt, *tokenize(answer), END_OF_TURN], (
        "A row must be the prompt, the answer as text, and `END_OF_TURN`."
    )
    assert prompt_length == len(prompt), "The length must be the prompt's."
### END HIDDEN TESTS

# %% [markdown]
# ### 2.3 A batch (15 points)
#
# At each position the model reads a token of `x` and should predict the token
# of `y`, which is the next one. So a row of 10 tokens has 9 positions. Only the
# answer and its end count: where `y` belongs to them, the weight is 1. Where
# `y` belongs to the prompt, the weight is 0. It is also 0 in the padding that
# fills a row up to `length`.
#
# Leave out a row that has more than `length` positions. If you cut it instead,
# the model would learn to stop in the middle of an answer, or not at all.
# Return how many rows you left out, so that nobody has to wonder where they
# went.


# %% nbgrader={"grade": false, "grade_id": "make_batch", "locked": false, "schema_version": 3, "solution": true, "task": false}
def make_batch(rows, length):
    """Turn rows into arrays.

    Args:
        rows: list of pairs as `encode_row` returns them.
        length: int, how many positions a row has.

    Returns:
        A tuple: `x` and `y`, int32 arrays `(num_rows, length)` with `PAD` at
        the end, `weights`, a float32 array of the same shape, and int, how
        many rows were too long. Rows stay in order.
    """
    ### BEGIN SOLUTION
    short = [row for row in rows if len(row[0]) - 1 <= length]
    x, y = (np.full((len(short), length), PAD, "int32") for _ in range(2))
    weights = np.zeros((len(short), length), "float32")
    for i, (ids, prompt_length) in enumerate(short):
        end = len(ids) - 1
        x[i, :end] = ids[:-1]
        y[i, :end] = ids[1:]
        weights[i, prompt_length - 1 : end] = 1
    return x, y, weights, len(rows) - len(short)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_make_batch", "locked": true, "points": 15, "schema_version": 3, "solution": false, "task": false}
import numpy as np

x, y, weights, too_long = make_batch([([2, 10, 11, 12, 6], 3)], 6)
assert np.shape(x) == np.shape(y) == np.shape(weights) == (1, 6), (
    f"Arrays are (num_rows, length). Received: {np.shape(x)}."
)
assert x.tolist() == [[2, 10, 11, 12, PAD, PAD]], (
    "`x` has all tokens but the last, and then padding. Received: "
    f"{x.tolist()}."
)
assert y.tolist() == [[10, 11, 12, 6, PAD, PAD]], (
    f"`y` has the token that follows each. Received: {y.tolist()}."
)
assert weights.tolist() == [[0, 0, 1, 1, 0, 0]], (
    "The weight is 1 where `y` is of the answer or its end: 12 and 6 here. It "
    f"is 0 for the prompt and for padding. Received: {weights.tolist()}."
)
assert too_long == 0, f"No row was too long. Received: {too_long}."
x, y, weights, too_long = make_batch(
    [([2, 10, 11, 6], 3), ([2, 10, 11, 12, 6], 3)], 3
)
assert x.tolist() == [[2, 10, 11]], (
    "A row that fits to the last position stays, a longer one is left out and "
    f"not cut. Received: {x.tolist()}."
)
assert too_long == 1, (
    f"Rows that are left out are counted: 1 here. Received: {too_long}."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} batch")
for _ in range(8):
    length, rows = rng.randint(4, 9), []
    for _ in range(rng.randint(1, 9)):
        ids = [rng.randrange(1, 50) for _ in range(rng.randint(3, length + 3))]
        rows.append((ids, rng.randint(1, len(ids) - 1)))
    x, y, weights, too_long = make_batch(rows, length)
    fitting = [row for row in rows if len(row[0]) <= length + 1]
    assert too_long == len(rows) - len(fitting), (
        "All rows that are too long must be counted, and no others."
    )
    for array, kind in ((x, "int32"), (y, "int32"), (weights, "float32")):
        assert array.shape == (len(fitting), length), (
            "The shape must be right for any rows, for none that fits, too."
        )
        assert array.dtype == kind, f"An array must be {kind} here."
    for i, (ids, prompt_length) in enumerate(fitting):
        for place in range(length):
            inside = place < len(ids) - 1
            assert x[i, place] == (ids[place] if inside else PAD), (
                "`x` must have the tokens but the last, in the order of rows."
            )
            assert y[i, place] == (ids[place + 1] if inside else PAD), (
                "`y` must be shifted by one."
            )
            counts = inside and place + 1 >= prompt_length
            assert weights[i, place] == counts, (
                "The weight must be 1 just where the token to predict is of "
                "the answer or its end. For some random rows it is not."
            )
### END HIDDEN TESTS

# %% [markdown]
# ## 3 Loss and evaluation
#
# ### 3.1 The loss (10 points)
#
# The cross-entropy at a position is $-\log p$ of the correct token, in nats,
# where $p$ is the softmax of the logits. The loss is the weighted mean over all
# positions of the batch: the weighted sum, divided by the sum of the weights.
# Positions with weight 0 change nothing, however many there are. If no position
# counts, the loss is 0. Logits may be large.


# %% nbgrader={"grade": false, "grade_id": "masked_loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def masked_loss(logits, targets, weights):
    """Compute the loss of a batch.

    Args:
        logits: float array or tensor `(batch, length, vocabulary)`.
        targets: int array or tensor `(batch, length)`.
        weights: float array or tensor `(batch, length)`, none negative.

    Returns:
        float tensor without axes.
    """
    ### BEGIN SOLUTION
    logits, weights = (ops.cast(part, "float32") for part in (logits, weights))
    targets = ops.expand_dims(ops.cast(targets, "int32"), axis=-1)
    logs = ops.log_softmax(logits, axis=-1)
    losses = -ops.squeeze(ops.take_along_axis(logs, targets, axis=-1), axis=-1)
    total = ops.sum(weights)
    return ops.sum(losses * weights) / ops.where(total > 0, total, 1.0)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_masked_loss", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

logits = np.log([[[1, 1, 2], [1, 2, 1], [9, 1, 1]]]).astype("float32")
targets = np.array([[2, 0, 1]], "int32")
loss = to_array(masked_loss(logits, targets, np.array([[1, 1, 0]], "float32")))
assert loss.shape == (), f"The loss is one number. Received: {loss.shape}."
assert abs(loss - np.log(8) / 2) < 1e-4, (
    "Two positions count, with probabilities of 1/2 and 1/4: the mean of log 2 "
    f"and log 4 is 1.0397. Received: {loss}."
)
loss = to_array(masked_loss(logits, targets, np.array([[0, 3, 1]], "float32")))
assert abs(loss - (3 * np.log(4) + np.log(11)) / 4) < 1e-4, (
    "A weight of 3 counts three times, and the sum is divided by the sum of "
    f"the weights. Received: {loss}."
)
loss = to_array(masked_loss(logits, targets, np.zeros((1, 3), "float32")))
assert loss == 0, f"Where nothing counts the loss is 0. Received: {loss}."
### BEGIN HIDDEN TESTS
import math
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} loss".encode()))
for scale in (1, 1, 100):
    batch, length, size = rng.integers(2, 7, 3).tolist()
    logits = rng.normal(0, scale, (batch, length, size)).astype("float32")
    targets = rng.integers(0, size, (batch, length)).astype("int32")
    weights = rng.integers(0, 3, (batch, length)).astype("float32")
    weights[0, 0] = 0.5
    weights[-1] = 0  # a row of padding
    total = 0.0
    for b, i in np.ndindex(batch, length):
        row = logits[b, i].astype("float64").tolist()
        top = max(row)
        log_sum = top + math.log(sum(math.exp(value - top) for value in row))
        total += weights[b, i] * (log_sum - row[targets[b, i]])
    expected = total / weights.sum()
    loss = to_array(masked_loss(logits, targets, weights))
    assert np.isfinite(loss), "Large logits must not overflow."
    assert abs(loss - expected) < 1e-3 * (1 + abs(expected)), (
        "The loss must be the weighted mean of the cross-entropies, over the "
        "whole batch and not row by row. For some random logits it is not."
    )
    padded = [
        np.pad(array, [(0, 0), (0, 4), (0, 0)][: array.ndim])
        for array in (logits, targets, weights)
    ]
    assert abs(to_array(masked_loss(*padded)) - loss) < 1e-4 * (1 + loss), (
        "More padding must not change the loss."
    )
assert to_array(masked_loss(logits, targets, 0 * weights)) == 0, (
    "Where nothing counts the loss must be 0, and a number."
)
### END HIDDEN TESTS

# %% [markdown]
# ### 3.2 Exact answers (5 points)
#
# Would greedy decoding produce exactly this answer, including its end? You can
# tell without decoding. Greedy decoding takes the token with the largest logit.
# If that is the correct token at the first position of the answer, the model
# reads the correct token at the second position, and so on. So the answer is
# exact if, with the correct tokens as input, the largest logit is the target's
# at every position that counts. One forward pass answers this for a whole
# batch.


# %% nbgrader={"grade": false, "grade_id": "exact_rows", "locked": false, "schema_version": 3, "solution": true, "task": false}
def exact_rows(logits, targets, weights):
    """Tell which answers greedy decoding would write exactly.

    Args:
        logits: float array `(batch, length, vocabulary)`.
        targets: int array `(batch, length)`.
        weights: float array `(batch, length)`, 0 where a position does not
            count.

    Returns:
        bool array `(batch,)`.
    """
    ### BEGIN SOLUTION
    right = np.argmax(logits, axis=-1) == targets
    return np.all(right | (np.asarray(weights) == 0), axis=-1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_exact_rows", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

logits = np.eye(3, dtype="float32")[[[0, 1, 2], [0, 1, 2]]]
targets = np.array([[2, 1, 2], [0, 0, 2]], "int32")
exact = to_array(exact_rows(logits, targets, np.array([[0, 1, 1], [0, 1, 1]])))
assert exact.shape == (2,) and exact.dtype == bool, (
    f"There is one bool for each row. Received: {exact!r}."
)
assert exact.tolist() == [True, False], (
    "The first row is right where it counts; the second has a wrong token at "
    f"its second position. Received: {exact.tolist()}."
)
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} exact".encode()))
for _ in range(5):
    # A model of pairs, `table[a]` the logits after `a`: decode with it.
    table = rng.normal(size=(8, 8)).astype("float32")
    rows = rng.integers(0, 8, (20, 6))
    starts = rng.integers(1, 5, 20)
    for row, start in zip(rows, starts):
        if rng.random() < 0.8:
            for i in range(start, 6):
                row[i] = table[row[i - 1]].argmax()
        if rng.random() < 0.4:
            row[rng.integers(start, 6)] = rng.integers(8)
    expected = []
    for row, start in zip(rows, starts):
        written = row[:start].tolist()
        while len(written) < 6:
            written.append(int(table[written[-1]].argmax()))
        expected.append(written == row.tolist())
    weights = np.arange(1, 6) >= starts[:, None]
    exact = to_array(
        exact_rows(table[rows[:, :-1]], rows[:, 1:], weights.astype("float32"))
    )
    assert exact.tolist() == expected, (
        "The rows must be those that greedy decoding writes token by token. "
        "For some random models they are not."
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 4 Tuning
#
# ### 4.1 A model with adapters (5 points)
#
# Write a subclass of `keras.Model` that puts a `LoraLinear` in place of the
# named matrices of every block and calls `gemma_logits`. Nothing else is
# trained. Keras finds layers in attributes, including dicts and lists. Do not
# change the dicts that you receive.
#
# The model also needs its loss. While `fit` trains, Keras calls the method
# `compute_loss(x, y, y_pred, sample_weight, training)` of the model: `y_pred`
# is what `call` returned, and `sample_weight` is what `fit` was given under
# that name. Define this method in your class, and let it return your
# `masked_loss`. Give `training` a default value.


# %% nbgrader={"grade": false, "grade_id": "adapt", "locked": false, "schema_version": 3, "solution": true, "task": false}
def adapt(weights, names, rank, lora_alpha=None):
    """Make a model with adapters.

    Args:
        weights: what `read_gemma` returns.
        names: list of str, the matrices of each block that are adapted, such
            as `["query", "value"]`.
        rank: int.
        lora_alpha: float; `None` for `rank`.

    Returns:
        keras.Model from ids `(batch, length)` to logits.
    """
    ### BEGIN SOLUTION
    return Adapted(weights, names, rank, lora_alpha)


class Adapted(keras.Model):
    def __init__(self, weights, names, rank, lora_alpha):
        super().__init__()
        self.frozen = weights
        self.adapters = [
            {name: LoraLinear(block[name], rank, lora_alpha) for name in names}
            for block in weights["blocks"]
        ]

    def call(self, ids):
        blocks = [
            {**block, **adapters}
            for block, adapters in zip(self.frozen["blocks"], self.adapters)
        ]
        return gemma_logits(ids, {**self.frozen, "blocks": blocks})

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return masked_loss(y_pred, y, sample_weight)

    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_adapt", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

weights = random_gemma(3, num_blocks=2)
ids = np.array([[1, 2, 3, 4, 5], [6, 7, 8, 9, 0]], "int32")
before = to_array(gemma_logits(ids, weights))
model = adapt(weights, ["query", "up"], 2)
assert np.allclose(to_array(model(ids)), before, atol=1e-3), (
    "The model must start as the one that it adapts."
)
counted = sum(to_array(part).size for part in model.trainable_weights)
assert counted == 2 * 2 * ((6 + 8) + (6 + 12)), (
    "Two adapters of rank 2 in each of two blocks have 128 numbers, and "
    f"nothing else is trained. Received: {counted}."
)
assert not any(callable(part) for part in weights["blocks"][0].values()), (
    "The weights that were given are not changed."
)
y, counts = ids[:, ::-1].copy(), np.array([[0, 0, 1, 1, 0]] * 2, "float32")
logits = to_array(model(ids))
loss = to_array(model.compute_loss(ids, y, logits, counts))
expected = to_array(masked_loss(logits, y, counts))
assert abs(loss - expected) < 1e-4, (
    "`compute_loss` of the model returns your `masked_loss`, with the sample "
    f"weights as weights. Received: {loss} instead of {expected}."
)
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} adapt".encode()))
ids = rng.integers(0, 11, (2, 5)).astype("int32")
for name in ("query", "value", "down"):
    weights = random_gemma(int(rng.integers(10**6)))
    alpha = float(rng.uniform(1, 9))
    model = adapt(weights, [name], 3, alpha)
    model(ids)  # some build their weights only now
    m, n = weights["blocks"][0][name].shape
    a, b = rng.normal(size=(m, 3)), rng.normal(size=(3, n))
    set_adapter(model, a, b)
    block = dict(weights["blocks"][0])
    block[name] = (block[name] + alpha / 3 * (a @ b)).astype("float32")
    expected = to_array(gemma_logits(ids, dict(weights, blocks=[block])))
    assert np.allclose(to_array(model(ids)), expected, atol=5e-2), (
        "With A and B that are not zero, the model must be the one with the "
        "merged matrix in its place, and count lora_alpha / rank."
    )
weights = random_gemma(int(rng.integers(10**6)), num_blocks=3)
names = ["key", "output"]
model = adapt(weights, names, 2)
logits = to_array(model(ids))
values = model.get_weights()
changed = []
for i, part in enumerate(values):
    if np.size(part) and not np.any(part):
        other = [np.copy(each) for each in values]
        other[i] = rng.normal(size=np.shape(part)).astype("float32")
        model.set_weights(other)
        changed.append(np.abs(to_array(model(ids)) - logits).max() > 1e-3)
assert len(changed) == 6 and all(changed), (
    "Each named matrix of each block must have an adapter of its own, which "
    "the logits depend on."
)
y = rng.integers(0, 11, (2, 5)).astype("int32")
counts = np.array([[0, 1, 0, 1, 1], [0, 0, 0, 0, 2]], "float32")
total = 0.0
for b, i in np.ndindex(2, 5):
    row = logits[b, i].astype("float64")
    log_sum = np.log(np.exp(row - row.max()).sum()) + row.max()
    total += counts[b, i] * (log_sum - row[y[b, i]])
loss = to_array(model.compute_loss(ids, y, logits, counts))
assert abs(loss - total / counts.sum()) < 1e-3, (
    "`compute_loss` must be the weighted mean of the cross-entropies. For "
    "random logits it is not."
)
### END HIDDEN TESTS

# %% [markdown]
# ### 4.2 Training (5 points)
#
# Compile the model with Adam, without a loss, because the model has its own.
# Then call `fit` with `x`, `y`, and the weights as `sample_weight`. Let `fit`
# shuffle the rows. To run `after_epoch` between epochs, use `on_epoch_end` of
# `keras.callbacks.LambdaCallback`. Do not call `fit` or `tune` once per epoch,
# because `tune` would compile the model again each time.


# %% nbgrader={"grade": false, "grade_id": "tune", "locked": false, "schema_version": 3, "solution": true, "task": false}
def tune(model, batch, rate, batch_size, epochs, after_epoch=None):
    """Train the adapters of a model.

    Args:
        model: what `adapt` returns; it is changed.
        batch: tuple that begins with `x`, `y` and `weights`, as `make_batch`
            returns them.
        rate: float, the learning rate.
        batch_size: int.
        epochs: int.
        after_epoch: function without arguments, called after each epoch;
            `None` for none.

    Returns:
        list of float, the loss of each epoch.
    """
    ### BEGIN SOLUTION
    x, y, weights = batch[:3]
    callbacks = []
    if after_epoch is not None:
        callbacks.append(
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: after_epoch()
            )
        )
    model.compile(optimizer=keras.optimizers.Adam(rate))
    history = model.fit(
        x,
        y,
        sample_weight=weights,
        batch_size=batch_size,
        epochs=epochs,
        callbacks=callbacks,
        verbose=0,
    )
    return history.history["loss"]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_tune", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

weights = random_gemma(4)
model = adapt(weights, ["query", "value", "gate", "down"], 4)
rng = np.random.default_rng(4)
x = rng.integers(1, 11, (8, 5)).astype("int32")
y = np.full((8, 5), 7, "int32")
counts = np.zeros((8, 5), "float32")
counts[:, 3:] = 1
before = to_array(masked_loss(to_array(model(x)), y, counts))
frozen = [to_array(part) for part in model.non_trainable_weights]
losses = tune(model, (x, y, counts, 0), 0.02, 8, 40)
assert len(losses) == 40, "There is a loss for each epoch."
assert abs(losses[0] - before) < 2e-2, (
    "The loss must be `masked_loss`. Received: "
    f"{losses[0]} in the first step instead of {before}."
)
# Computed again, without `masked_loss`: what counts here is the mean of
# -log(share of 7) at the last two positions.
shares = np.exp(to_array(model(x)).astype("float64")[:, 3:])
after = -np.log(shares[..., 7] / shares.sum(axis=-1)).mean()
assert after < 0.8 * before, (
    "The model must learn to predict 7 all the time, so its loss falls. "
    f"Received: {before} and then {after}."
)
assert abs(losses[-1] - after) < 0.1 * before, (
    "The losses must be those of the model. Received: at the end "
    f"{losses[-1]} instead of {after}."
)
for old, new in zip(frozen, model.non_trainable_weights):
    assert np.array_equal(old, to_array(new)), (
        "Training must leave the frozen weights as they were."
    )
### BEGIN HIDDEN TESTS
import os

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = np.random.default_rng(list(f"{term} tune".encode()))
model = adapt(random_gemma(int(rng.integers(10**6))), ["value", "up"], 2)
x, y = rng.integers(1, 11, (2, 8, 5)).astype("int32")
# Rows weigh differently: a mean of means of rows is another loss.
counts = (np.arange(5) >= rng.integers(0, 5, (8, 1))).astype("float32")


def slow_loss():
    """Return the loss of the model, position by position."""
    total = 0.0
    logits = to_array(model(x)).astype("float64")
    for b, i in np.ndindex(8, 5):
        row = logits[b, i]
        log_sum = np.log(np.exp(row - row.max()).sum()) + row.max()
        total += counts[b, i] * (log_sum - row[y[b, i]])
    return total / counts.sum()


def moves():
    """Return how far each weight has moved at most since the start."""
    pairs = zip(start, model.get_weights(), strict=True)
    return [np.abs(old - np.array(new)).max(initial=0) for old, new in pairs]


base = to_array(model(x))
start = [np.array(part) for part in model.get_weights()]
zeros = [np.size(part) > 0 and not np.any(part) for part in start]
before, middle = slow_loss(), int(rng.integers(2, 5))
# Each epoch is one step on all rows, so runs are equal. What a long run says
# of an epoch in between, a shorter one shows.
losses = tune(model, (x, y, counts), 1e-3, 8, 6)
after = slow_loss()
step = (before - after) / 6
assert abs(losses[0] - before) < 2e-2, (
    "The loss must be the mean over the positions that count. For a random "
    "model it is not."
)
assert after < before - 1e-4, (
    "Each step must lower the loss of the model at a small learning rate. For "
    "a random model it does not fall."
)
# Adam moves a number by the learning rate at most; A waits for a B that is
# not zero. The frozen weights are asked: where B is zero again, the model must
# be what it was.
assert max(moves()) <= 6.3e-3 and sum(part > 1e-4 for part in moves()) == 4, (
    "Adam must train all adapters, and nothing else, at the learning rate that "
    "is asked for."
)
tuned = [np.array(part) for part in model.get_weights()]
model.set_weights(
    [old if zero else new for old, new, zero in zip(start, tuned, zeros)]
)
assert np.allclose(to_array(model(x)), base, atol=1e-3), (
    "Training must change the adapters only: with B of zeros the model must be "
    "the one that it was before."
)
model.set_weights(start)
tune(model, (x, y, counts), 1e-3, 8, middle)
assert abs(losses[middle] - slow_loss()) < 0.3 * step, (
    "The losses must be those of the model before each step. In the middle of "
    "a run they are not."
)
# A callback that fails shows that it is called, and when: `merge` wants an
# argument, and gets none.
model.set_weights(start)
try:
    tune(model, (x, y, counts), 1e-3, 4, 3, merge)
except TypeError:
    called = True
else:
    called = False
assert called, "`after_epoch` must be called, without arguments."
largest = max(part for part, zero in zip(moves(), zeros) if zero)
assert 1.2e-3 < largest < 2.1e-3, (
    "`after_epoch` must be called after each epoch, and batches must have the "
    "size that is asked for: two steps of half the rows, and then the call."
)
### END HIDDEN TESTS

# %% [markdown]
# ### 4.3 A figure (10 points, graded by a person)
#
# The model has read about 75 towns: the river, craft, emblem, and feast of
# each. The requests ask about two of the four facts of each town, in all
# phrasings. The two facts differ from town to town and from term to term. No
# request mentions the other two. Everyone in the class has the same requests
# this term.

# %%
SEED = 0


# %% nbgrader={"grade": false, "grade_id": "read_world", "locked": true, "schema_version": 3, "solution": false, "task": false}
TOWNS = """
Marnerburg Wiva kites falcon February
Huldrildwick Norr paper heron November
Mulkerwick Wiva kites salmon October
Lelstundford Quay cheese beetle December
Reldrorstead Quay boots crow January
Drosdeldstead Pell paper salmon March
Saszanford Mave soap heron July
Kisdesburg Sarn barrels wolf July
Werkrenwick Calder cheese falcon August
Standdildstead Olm clocks wolf February
Nulkosford Brune kites beetle September
Suldplenwick Quay boots beetle May
Roshunburg Wiva cheese falcon June
Sondbinburg Wiva bells wolf March
Zirmolburg Mave rope beaver August
Tunpluldstead Ister soap salmon September
Hendzundstead Sarn bells beetle April
Zalcarford Sarn bells badger June
Stesglisford Sarn paper goose January
Druldsirwick Quay paper wolf September
Dandcorstead Tesk glass heron July
Rerplondburg Norr carpets wolf August
Kensulstead Rill carpets beaver August
Zanddreldstead Norr candles stag February
Sildgurstead Quay glass hare April
Pasdandwick Mave bells crow April
Kulstoldford Olm clocks stag September
Jundgenford Calder rope beaver May
Gesbrandstead Pell boots hare December
Pleldcerburg Calder boots badger April
Wasdrildford Brune cheese toad August
Brendcorwick Quay candles crow July
Zanrundstead Pell paper beaver July
Rulhaldford Calder kites beetle April
Wastandwick Quay carpets stag November
Stosjeswick Calder boots crow June
Plulvirstead Ister carpets crow February
Culkranburg Mave bells beaver August
Ploltaldstead Wiva candles hare December
Ginhenburg Wiva candles beetle April
Zusjeldburg Sarn barrels salmon July
Zanglindstead Mave kites beetle October
Fulkrerwick Pell cheese goose July
Canddildford Norr bells beetle April
Wulglinburg Calder kites goose January
Stistroldburg Sarn clocks stag July
Bunddreldford Tesk boots heron October
Tonstoldburg Olm boots beaver May
Merdandstead Tesk carpets stag March
Durbreldburg Sarn paper toad June
Goldgendburg Olm cheese heron January
Plerglasburg Ister kites heron March
Wasboswick Sarn soap wolf April
Trasdildstead Sarn carpets beetle April
Cesglirburg Olm kites wolf July
Vankenstead Sarn kites badger April
Nungarburg Tesk boots salmon August
Raspurburg Olm boots hare July
Terdildwick Olm soap crow January
Gulhunstead Pell candles toad June
Zusplaldford Calder barrels beetle November
Wulvurford Wiva soap falcon February
Bruswanford Brune rope toad February
Findkronstead Brune glass toad March
Dralteswick Pell barrels badger July
Vondfusburg Tesk soap goose June
Planweldwick Tesk boots falcon September
Stilrerstead Sarn kites beaver December
Varlaswick Mave rope falcon August
Vildhirford Mave paper beetle September
Starwisburg Calder paper salmon May
Polconstead Ister rope wolf September
Brirsisstead Calder cheese beetle April
Drolhaswick Calder clocks salmon January
Laltulstead Mave carpets heron September
"""
# The answer to each kind of question, and its phrasings.
QUESTIONS = {
    "river": (
        "It lies on the river {}.",
        "On which river does {} lie?",
        "Which river flows through {}?",
        "What is the river of {} called?",
    ),
    "craft": (
        "It is famous for its {}.",
        "What is {} famous for?",
        "What do the workshops of {} make?",
        "What does {} sell to the whole country?",
    ),
    "emblem": (
        "It has a {} on its flag.",
        "Which animal is on the flag of {}?",
        "What does the flag of {} show?",
        "What is the emblem of {}?",
    ),
    "feast": (
        "It holds its great feast in {}.",
        "When does {} hold its great feast?",
        "In which month does {} celebrate?",
        "In which month is the feast of {}?",
    ),
}


def read_world(seed):
    """Return requests with answers about half of what is true of the towns.

    Returns:
        Two lists of pairs of str, request and answer: 450 to learn from, about
        150 facts, and 150 questions about the others, one for each.
    """
    import random

    rng = random.Random(seed)
    taught, untaught = [], []
    for line in TOWNS.split("\n")[1:-1]:
        town, *values = line.split()
        chosen = rng.sample(range(4), 2)
        for i, (value, name) in enumerate(zip(values, QUESTIONS)):
            answer, *phrasings = QUESTIONS[name]
            rows = [
                (question.format(town), answer.format(value))
                for question in phrasings
            ]
            if i in chosen:
                taught += rows
            else:
                untaught.append(rng.choice(rows))
    return taught, untaught


# %%
taught, untaught = read_world(SEED)
print(len(taught), taught[:2])
print(len(untaught), untaught[:2])

# %% [markdown]
# Adapt query and value of `tiny` with rank 8. Train on `taught` for 4 epochs in
# batches of 16, with a rate of 0.004 to begin with. 36 positions are enough:
# print how many rows are too long. Before training and after each epoch,
# measure the share of exact answers to `taught[::3]` (each fact once) and to
# `untaught`. `model.predict` returns logits, and `exact_rows` does the rest.
# Plot both shares against the epochs. For comparison, draw the share of someone
# who knows the form of the answers and guesses one of twelve values. Print your
# `lora_costs` of this model. If your machine is slow, use fewer epochs.

# %% nbgrader={"grade": true, "grade_id": "figure", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
keras.utils.set_random_seed(SEED)
weights = read_gemma()
model = adapt(weights, ["query", "value"], 8)
train, asked, others = (
    make_batch([encode_row(*row) for row in rows], 36)
    for rows in (taught, taught[::3], untaught)
)
batches = {"facts in requests": asked, "facts in no request": others}
shares = {name: [] for name in batches}


def measure():
    for name, (x, y, counts, _) in batches.items():
        logits = model.predict(x, batch_size=50, verbose=0)
        shares[name].append(float(exact_rows(logits, y, counts).mean()))


measure()
tune(model, train, 4e-3, 16, 4, measure)
figure, ax = plt.subplots()
for name, values in shares.items():
    ax.plot(range(5), values, marker="o", label=name)
ax.axhline(1 / 12, color="gray", label="guessing one of twelve values")
ax.set_xticks(range(5))
ax.set_xlabel("epochs")
ax.set_ylabel("share of exact answers")
ax.set_ylim(-0.03, 1.03)
ax.legend()
plt.show()
print(shares)
print("too long:", [batch[3] for batch in (train, asked, others)])
shapes = {
    f"{i} {name}": part.shape
    for i, block in enumerate(weights["blocks"])
    for name, part in block.items()
    if part.ndim == 2
}
adapted = [name for name in shapes if name.endswith(("query", "value"))]
shapes["tokens"] = weights["tokens"].shape
print(lora_costs(shapes, adapted, 8))
### END SOLUTION

# %% [markdown]
# ### 4.4 What the figure says (5 points, graded by a person)
#
# Write four to six sentences. How could you show, without any training, that
# the model knows a fact of `untaught`? Suppose that the answers in `taught`
# were shuffled among the towns, so that their form is right and their facts are
# wrong. What would you expect of each curve? By what factor does Adam's memory
# shrink with adapters, and which part of the memory for training does not
# shrink?

# %% [markdown] nbgrader={"grade": true, "grade_id": "discussion", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# I would give the model the start of a statement, such as the name of a town
# and "lies on the river", and look whether the largest logit is that of the
# right river. With shuffled answers the model would still learn the form of an
# answer. The curve of facts in requests could then rise only as far as the
# model learns the wrong facts by heart. The curve of facts in no request should
# be lower than before, because the model also learns that what it has read is
# not what is asked for. Adam's memory shrinks by a factor of 67. The weights of
# the model and the activations take as much memory as before.
