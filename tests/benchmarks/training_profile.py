"""Where a training step goes: a table for each backend, by leaving things out.

    python -m tests.benchmarks.training_profile [--recipe laptop|book|small]

What a part costs is the time of the whole step less that of a step without
it; parts that overlap do not add up. Each step is timed in a process of its
own, one after the other, the best of some repeats, the whole one at both ends:
how far these two are apart is how far the rest can be believed.
"""

import argparse
import dataclasses

from kerasllm.models import RECIPES
from tests.benchmarks.training_peers import SMALL
from tests.benchmarks.training_worker import WITHOUT, Worker

BACKENDS = {"jax": "JAX", "tensorflow": "TensorFlow", "torch": "PyTorch"}


def milliseconds(arguments, backend, recipe, without):
    with Worker(
        backend, recipe, without=without, dtype=arguments.dtype
    ) as worker:
        return 1000 * min(
            worker.seconds_a_step(arguments.steps)
            for _ in range(arguments.repeats)
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    recipes = RECIPES | {"small": SMALL}
    parser.add_argument("--recipe", default="laptop", choices=recipes)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--backends", nargs="+", default=[*BACKENDS])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    recipe = recipes[arguments.recipe]
    recipe = dataclasses.replace(
        recipe, batch_size=arguments.batch_size or recipe.batch_size
    )
    columns = []
    for backend in arguments.backends:
        whole = milliseconds(arguments, backend, recipe, None)
        column = {"whole step, ms": f"{whole:.0f}"}
        for name in WITHOUT:
            rest = milliseconds(arguments, backend, recipe, name)
            # What is left when nothing is learnt is the way forward.
            part = rest if name == "training" else whole - rest
            label = "forward alone" if name == "training" else name
            column[label] = f"{part:.0f} ({part / whole:.0%})"
        again = milliseconds(arguments, backend, recipe, None)
        column["whole step again"] = f"{again:.0f}"
        columns.append(column)
    print(
        f"{arguments.recipe}, {recipe.batch_size} x {recipe.sequence_length}, "
        f"{arguments.dtype}\n"
    )
    print(f"| | {' | '.join(BACKENDS[b] for b in arguments.backends)} |")
    print("|---" * (len(columns) + 1) + "|")
    for label in columns[0]:
        print(f"| {label} | {' | '.join(c[label] for c in columns)} |")


if __name__ == "__main__":
    main()
