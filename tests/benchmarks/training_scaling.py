"""Tokens per second against the size of the model and the length of the text.

    python -m tests.benchmarks.training_scaling OUT

trains mini-GPTs of 1 to 40 million parameters, and one of 3.7 million on
windows of 64 to 1,024 tokens, with the same number of tokens in a batch, on
the three backends in turns. It writes OUT/training_scaling.png and
OUT/training_scaling.md.
"""

import argparse
import contextlib
import dataclasses
import pathlib

import matplotlib
from matplotlib import pyplot as plt

from kerasllm.models import mini_gpt
from kerasllm.plots import plot_curves
from tests.benchmarks.training_peers import SMALL
from tests.benchmarks.training_profile import BACKENDS
from tests.benchmarks.training_worker import Worker

TOKENS = 2048  # in a batch
LENGTHS = (64, 128, 256, 512, 1024)
# hidden_dim, num_layers, vocabulary_size
SIZES = ((128, 2, 4096), (256, 2, 4096), (256, 5, 6144), (384, 6, 8192),
         (512, 6, 16_384), (512, 8, 32_000))  # fmt: skip


def sized(hidden_dim, num_layers, vocabulary_size):
    return dataclasses.replace(
        SMALL,
        hidden_dim=hidden_dim,
        intermediate_dim=4 * hidden_dim,
        num_layers=num_layers,
        vocabulary_size=vocabulary_size,
        batch_size=TOKENS // SMALL.sequence_length,
    )


def stretched(length):
    return dataclasses.replace(
        SMALL, sequence_length=length, batch_size=TOKENS // length
    )


def count_params(recipe):
    """Count without building: of each width one block is enough."""
    one, two = (
        mini_gpt(
            recipe.vocabulary_size,
            recipe.sequence_length,
            recipe.hidden_dim,
            recipe.intermediate_dim,
            recipe.num_heads,
            layers,
        ).count_params()
        for layers in (1, 2)
    )
    return one + (recipe.num_layers - 1) * (two - one)


def speeds(recipe, arguments):
    """Return the best tokens per second by backend, which take turns."""
    with contextlib.ExitStack() as stack:
        workers = {
            backend: stack.enter_context(Worker(backend, recipe))
            for backend in BACKENDS
        }
        seconds = {backend: [] for backend in BACKENDS}
        for _ in range(arguments.repeats):
            for backend, worker in workers.items():
                seconds[backend].append(worker.seconds_a_step(arguments.steps))
    return {
        backend: TOKENS / min(of_one) for backend, of_one in seconds.items()
    }


def curves(xs, recipes, arguments):
    measured = [speeds(recipe, arguments) for recipe in recipes]
    return {
        name: (xs, [row[backend] for row in measured])
        for backend, name in BACKENDS.items()
    }


def table(first, xs, by_backend):
    lines = [f"| {first} | {' | '.join(by_backend)} |"]
    lines.append("|---" * (len(by_backend) + 1) + "|")
    for i, x in enumerate(xs):
        cells = [f"{ys[i]:,.0f}" for _, ys in by_backend.values()]
        lines.append(f"| {x} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    sizes = [sized(*size) for size in SIZES]
    lengths = [stretched(length) for length in LENGTHS]
    millions = [count_params(recipe) / 1e6 for recipe in sizes]
    by_size = curves(millions, sizes, arguments)
    by_length = curves(LENGTHS, lengths, arguments)
    matplotlib.use("agg")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    plot_curves(by_size, "million parameters", "tokens per second", left)
    plot_curves(by_length, "tokens in a window", "tokens per second", right)
    left.set(xscale="log", yscale="log")
    right.set(xscale="log", ylim=(0, None))
    right.set_xticks(LENGTHS, LENGTHS)
    figure.tight_layout()
    arguments.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out / "training_scaling.png", dpi=120)
    text = "\n\n".join([
        f"Tokens per second in training, {TOKENS} tokens in a batch, float32.",
        table("million parameters", [f"{m:.1f}" for m in millions], by_size),
        table("tokens in a window", LENGTHS, by_length),
    ])  # fmt: skip
    (arguments.out / "training_scaling.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
