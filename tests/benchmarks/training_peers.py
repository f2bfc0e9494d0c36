"""Training speed of the three backends and of Hugging Face, in turns.

    python -m tests.benchmarks.training_peers [--repeats 5] [--steps 10]

A mini-GPT of 3.7 million parameters on batches of 32 x 128 random tokens, and
Hugging Face's GPT-2 of the same sizes. Each has a process of its own and
trains while the others wait. The table has the tokens per second of the best
turn, for a neighbour can only take time away, the ratios of these, and in
brackets how far the ratios within a turn spread.
"""

import argparse
import contextlib
import dataclasses
import os

from kerasllm.models import RECIPES
from tests.benchmarks.training_worker import Worker

SMALL = dataclasses.replace(
    RECIPES["laptop"],
    vocabulary_size=4096,
    sequence_length=128,
    hidden_dim=256,
    intermediate_dim=768,
    num_heads=8,
    num_layers=4,
    batch_size=32,
)
MIXED = {"dtype": "mixed_bfloat16"}
TENSORFLOW = "TensorFlow"
COMPILED_PEER = "Hugging Face, compiled, bfloat16"
CONTESTANTS = {
    "JAX": ("jax", {}),
    "JAX, a virtual device a core": ("jax", {"devices": os.cpu_count()}),
    TENSORFLOW: ("tensorflow", {}),
    "PyTorch": ("torch", {}),
    "JAX, mixed_bfloat16": ("jax", MIXED),
    "TensorFlow, mixed_bfloat16": ("tensorflow", MIXED),
    "PyTorch, mixed_bfloat16": ("torch", MIXED),
    "Hugging Face": ("torch", {"peer": True}),
    "Hugging Face, compiled": ("torch", {"peer": True, "compiled": True}),
    "Hugging Face, compiled, autocast": (
        "torch",
        {"peer": True, "compiled": True, **MIXED},
    ),
    COMPILED_PEER: (
        "torch",
        {"peer": True, "compiled": True, "dtype": "bfloat16"},
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument(
        "--only", nargs="+", default=CONTESTANTS, metavar="NAME"
    )
    arguments = parser.parse_args()
    tokens = SMALL.batch_size * SMALL.sequence_length
    with contextlib.ExitStack() as stack:
        workers = {}
        for name in arguments.only:
            backend, job = CONTESTANTS[name]
            workers[name] = stack.enter_context(Worker(backend, SMALL, **job))
        speeds = {name: [] for name in workers}
        for _ in range(arguments.repeats):
            for name, worker in workers.items():
                seconds = worker.seconds_a_step(arguments.steps)
                speeds[name].append(tokens / seconds)
    print("| | tokens/s | over TensorFlow | over the compiled peer |")
    print("|---|---|---|---|")
    for name, values in speeds.items():
        cells = [f"{max(values):,.0f}"]
        for other in (TENSORFLOW, COMPILED_PEER):
            if other not in speeds:
                cells.append("")
                continue
            pairs = zip(values, speeds[other], strict=True)
            ratios = [ours / theirs for ours, theirs in pairs]
            cells.append(
                f"{max(values) / max(speeds[other]):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f})"
            )
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
