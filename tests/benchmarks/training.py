"""Training speed: our model and the plain listing, side by side in one run.

    python -m tests.benchmarks.training [--recipe laptop|book] [--steps 20]
    python -m tests.benchmarks.training --memory --recipe book --batch-size 8

The plain listing is the chapter's model in our own words: Keras's attention
and dropout, positions looked up for each row, no checks. "chunked" is ours
with the loss in chunks, "remat" computes the blocks twice as well. All are
trained by `fit` on the same random tokens, in turns; what counts is the ratio.
Memory is measured in a process for each, on Linux.
"""

import argparse
import dataclasses
import pathlib
import statistics
import subprocess
import sys
import time

import keras
import numpy as np
from keras import layers, ops

from kerasllm import backend, training
from kerasllm.models import get_recipe


class PlainDecoder(keras.Layer):
    def __init__(self, recipe):
        super().__init__()
        size, heads = recipe.hidden_dim, recipe.num_heads
        self.attention = layers.MultiHeadAttention(
            heads, size // heads, dropout=recipe.dropout
        )
        self.norm_1 = layers.LayerNormalization()
        self.wide = layers.Dense(recipe.intermediate_dim, activation="relu")
        self.narrow = layers.Dense(size)
        self.norm_2 = layers.LayerNormalization()
        self.dropout = layers.Dropout(recipe.dropout)

    def call(self, x):
        mixed = self.attention(query=x, key=x, value=x, use_causal_mask=True)
        x = self.norm_1(x + self.dropout(mixed))
        return self.norm_2(x + self.dropout(self.narrow(self.wide(x))))


class PlainEmbedding(keras.Layer):
    def __init__(self, recipe):
        super().__init__()
        size = recipe.hidden_dim
        self.tokens = layers.Embedding(recipe.vocabulary_size, size)
        self.positions = layers.Embedding(recipe.sequence_length, size)

    def call(self, x, reverse=False):
        if reverse:
            return ops.matmul(x, ops.transpose(self.tokens.embeddings))
        places = ops.cumsum(ops.ones_like(x), axis=-1) - 1
        return self.tokens(x) + self.positions(places)


def plain_model(recipe):
    inputs = keras.Input((None,), dtype="int32")
    embedding = PlainEmbedding(recipe)
    x = layers.LayerNormalization()(embedding(inputs))
    for _ in range(recipe.num_layers):
        x = PlainDecoder(recipe)(x)
    return keras.Model(inputs, embedding(x, reverse=True))


def contestants(recipe):
    """Return, by name, what makes a model and the parts of its loss."""
    chunks = max(2, recipe.loss_chunks)
    remat = dataclasses.replace(recipe, remat=True)
    return {
        "plain": lambda: (plain_model(recipe), 1),
        "ours": lambda: (recipe.build(), 1),
        "chunked": lambda: (recipe.build(), chunks),
        "remat": lambda: (remat.build(), chunks),
    }


def compiled(make):
    """Return the model, and its `fit` on tokens and labels."""
    model, objective, prepare = training.next_token_objective(*make())
    model.compile(keras.optimizers.Adam(1e-4), **objective)

    def fit(x, y, batch_size):
        x, y = prepare(x, y)
        model.fit(x, y, batch_size=batch_size, verbose=0)

    return model, fit


def measure_speed(arguments, recipe, batch_size):
    rows = batch_size * arguments.steps
    x, y = tokens(recipe, rows)
    models = {name: compiled(f) for name, f in contestants(recipe).items()}
    for _, fit in models.values():
        fit(x[: 2 * batch_size], y[: 2 * batch_size], batch_size)
    speeds = {name: [] for name in models}
    for _ in range(arguments.repeats):
        for name, (_, fit) in models.items():
            start = time.perf_counter()
            fit(x, y, batch_size)
            speeds[name].append(x.size / (time.perf_counter() - start))
    for name, values in speeds.items():
        ratios = [
            ours / plain
            for ours, plain in zip(values, speeds["plain"], strict=True)
        ]
        print(
            f"  {name:8}{statistics.median(values):>10,.0f} tokens/s, "
            f"{statistics.median(ratios):.2f} of plain "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


def measure_memory(name, recipe, batch_size):
    """Print the most memory that a step takes, model and optimizer included."""
    before = resident("VmRSS")
    _, fit = compiled(contestants(recipe)[name])
    x, y = tokens(recipe, 2 * batch_size)
    fit(x, y, batch_size)
    # What compiling took is forgotten.
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    fit(x, y, batch_size)
    print(f"  {name:8}{(resident('VmHWM') - before) / 1e9:>10.2f} GB")


def resident(field):
    """Return a line of Linux's account of this process, in bytes."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


def tokens(recipe, rows):
    return np.random.default_rng(0).integers(
        0, recipe.vocabulary_size, (2, rows, recipe.sequence_length), "int32"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="instead of time")
    parser.add_argument("--memory-of", help="one of them, in this process")
    arguments = parser.parse_args()
    recipe = get_recipe(arguments.recipe)
    batch_size = arguments.batch_size or recipe.batch_size
    if arguments.memory_of:
        measure_memory(arguments.memory_of, recipe, batch_size)
        return
    print(
        f"{backend.name()}, {backend.device_name()}, {arguments.recipe}: "
        f"batch {batch_size} x {recipe.sequence_length}",
        flush=True,
    )
    if arguments.memory:
        for name in contestants(recipe):
            command = [sys.executable, "-m", "tests.benchmarks.training"]
            command += ["--recipe", arguments.recipe]
            command += ["--batch-size", str(batch_size), "--memory-of", name]
            subprocess.run(command, check=True)
    else:
        measure_speed(arguments, recipe, batch_size)


if __name__ == "__main__":
    main()
