"""What the experiments with the weak start share: problems, models, rows.

`reasoning.py` makes the models. `self_improvement.py`, `teachers.py`,
`more_samples.py`, `model_sizes.py` and `attention_to_steps.py` use them on
other problems. The two that the chapter begins with are presets:

    python chapters/experiments/reasoning_lab.py --seed 0 --out FOLDER

copies `steps_0.keras` and `weak_0.keras` from the folder to
`assets/reasoning/`.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
from csv_rows import read_rows, write_rows
from reasoning import MEASURED, STRUCTURES, first_of_each, problems

from kerasllm.files import assets_dir
from kerasllm.reasoning import AnswerChecker

PRACTICE, WATCHED = 320, 70  # to learn from; of each length, to watch


def add_arguments(parser):
    """Add the arguments of a `Lab`."""
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pool", type=int, default=3, help="seed of problems")
    parser.add_argument("--out", required=True, help="folder with the models")
    parser.add_argument("--csv", default=assets_dir() / "reasoning")
    parser.add_argument("--structures", nargs="+", default=STRUCTURES)
    parser.add_argument("--verbose", type=int, default=0)


class Lab:
    """Problems that are new to the models of a seed, and the results.

    Args:
        args: of the command line; see `add_arguments`.

    Attributes:
        practice: list of `Problem`, to learn from.
        more: list of `Problem`, more of them.
        final: dict from a number of steps to a list of held-out `Problem`s.
        watched: list of `Problem`, other held-out ones, with as many steps as
            those to learn from.
        checker: `AnswerChecker`.
    """

    def __init__(self, args):
        self.seed, self.verbose = args.seed, args.verbose
        self.folder, self.csv = pathlib.Path(args.out), pathlib.Path(args.csv)
        known, measured = problems(args.structures)
        seen = {p.prompt for p in [*known, *sum(measured.values(), [])]}
        train, held_out = problems(args.structures, args.pool)
        train = [p for p in train if p.prompt not in seen]
        held_out = {
            steps: [p for p in some if p.prompt not in seen]
            for steps, some in held_out.items()
        }
        self.practice, self.more = train[:PRACTICE], train[PRACTICE:]
        self.final = first_of_each(held_out)
        longest = max(p.num_steps for p in self.practice)
        self.watched = [
            problem
            for steps, some in held_out.items()
            if steps <= longest
            for problem in some[MEASURED:][:WATCHED]
        ]
        self.checker = AnswerChecker(self.practice[0].marker)

    def path_of(self, name, suffix=".keras"):
        return self.folder / f"{name}_{self.seed}{suffix}"

    def load(self, name):
        return keras.saving.load_model(self.path_of(name))

    def rows(self, name, **fixed):
        """Return the rows of a file that have these values."""
        fixed = {key: str(value) for key, value in fixed.items()}
        return [
            row
            for row in read_rows(self.csv / name)
            if all(row[key] == value for key, value in fixed.items())
        ]

    def put(self, name, columns, new, **fixed):
        """Put rows into a file, in place of those with the same values."""
        old = self.rows(name, **fixed)
        rows = [row for row in self.rows(name) if row not in old]
        rows += [
            {key: tidy((fixed | row).get(key, "")) for key in columns}
            for row in new
        ]
        write_rows(self.csv / name, columns, rows)


def tidy(value):
    """Return a number with as many digits as it deserves."""
    return f"{value:.4g}" if isinstance(value, float) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    lab = Lab(parser.parse_args())
    for name in ("steps", "weak"):
        lab.load(name).save_to_preset(str(lab.csv / name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
