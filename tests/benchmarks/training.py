"""Training speed: our model and the plain listing, side by side in one run.

    python -m tests.benchmarks.training [--recipe laptop|book] [--steps 20]

The plain listing is the chapter's model in our own words: Keras's attention
and dropout, positions looked up for each row, no checks. Both are trained by
`fit` on the same random tokens, in turns; what counts is the ratio.
"""

import argparse
import statistics
import time

import keras
import numpy as np
from keras import layers, ops

from kerasllm import backend
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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    recipe = get_recipe(arguments.recipe)
    batch_size = arguments.batch_size or recipe.batch_size
    rows = batch_size * arguments.steps
    x, y = np.random.default_rng(0).integers(
        0, recipe.vocabulary_size, (2, rows, recipe.sequence_length), "int32"
    )
    models = {"plain": plain_model(recipe), "ours": recipe.build()}
    for model in models.values():
        model.compile(
            keras.optimizers.Adam(1e-4),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        warm = slice(0, 2 * batch_size)
        model.fit(x[warm], y[warm], batch_size=batch_size, verbose=0)

    speeds = {name: [] for name in models}
    for _ in range(arguments.repeats):
        for name, model in models.items():
            start = time.perf_counter()
            model.fit(x, y, batch_size=batch_size, verbose=0)
            speeds[name].append(x.size / (time.perf_counter() - start))
    ratios = [a / b for a, b in zip(*speeds.values(), strict=True)]
    print(
        f"{backend.name()}, {backend.device_name()}, {arguments.recipe}: "
        f"{models['ours'].count_params():,} parameters, "
        f"batch {batch_size} x {recipe.sequence_length}"
    )
    for name, values in speeds.items():
        print(f"  {name:6} {statistics.median(values):>10,.0f} tokens/s")
    print(
        f"  ours / plain {1 / statistics.median(ratios):.2f} "
        f"(from {1 / max(ratios):.2f} to {1 / min(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
