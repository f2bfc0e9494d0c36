"""Rows of figures in a CSV file, for experiments that can be continued.

The experiments of `hallucination.py` and `inconsistency.py` have a function for
each part. What they note is written when a part is done.
"""

import argparse
import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from csv_rows import read_rows, write_rows

from kerasllm import backend
from kerasllm.evaluation import Share, area_under_curve

COLUMNS = "seed part way what hits size value low high".split()


class Notes:
    """The rows of one part, for one seed.

    Attributes:
        rows: list of dicts with the keys `COLUMNS`.
    """

    def __init__(self, seed, part):
        self.seed, self.part, self.rows = seed, part, []

    def __call__(self, way, what, flags=None, value=None, low=None, high=None):
        """Add a row.

        Args:
            way: str. What was done.
            what: str. What is counted, or measured.
            flags: list of bool, for a share with its Wilson interval.
            value: float, where there are no flags.
            low: float, the lower end of its interval.
            high: float, the upper end.
        """
        hits = size = ""
        if flags is not None:
            share = Share.of(flags)
            hits, size, value = share.hits, share.size, float(share)
            low, high = share.interval()
        numbers = [
            "" if number is None else f"{number:.3f}"
            for number in (value, low, high)
        ]
        values = [self.seed, self.part, way, what, hits, size, *numbers]
        self.rows.append(dict(zip(COLUMNS, values, strict=True)))
        print(*values, sep=",", flush=True)

    def mean(self, way, what, values, rounds=1000):
        """Add the mean of a number for each question, with its interval."""
        values = np.asarray(values, "float64")
        numbers = np.random.default_rng(0).integers(
            0, len(values), (rounds, len(values))
        )
        low, high = np.quantile(values[numbers].mean(1), (0.025, 0.975))
        self(way, what, value=values.mean(), low=low, high=high)

    def area(self, way, scores, flags, rounds=1000):
        """Add the area under the curve of scores, with its interval."""
        scores, flags = np.asarray(scores), np.asarray(flags)
        numbers = np.random.default_rng(0).integers(
            0, len(flags), (rounds, len(flags))
        )
        values = [area_under_curve(scores[i], flags[i]) for i in numbers]
        low, high = np.quantile(values, (0.025, 0.975))
        value = area_under_curve(scores, flags)
        self(way, "area", value=value, low=low, high=high)


def run(description, parts, path, defaults=None):
    """Run the parts that the command line names, and add their rows.

    Args:
        description: str, for `--help`.
        parts: dict from the name of a part to a function of the arguments and
            a `Notes`.
        path: path of the CSV file that `--csv` replaces.
        defaults: list of str, the parts without `--parts`. All, if `None`.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--parts", nargs="+", default=defaults or list(parts), choices=parts
    )
    parser.add_argument("--csv", type=pathlib.Path, default=path)
    parser.add_argument("--verbose", type=int, default=2)
    args = parser.parse_args()
    backend.set_up()
    for part in args.parts:
        done = {(row["seed"], row["part"]) for row in read_rows(args.csv)}
        if (str(args.seed), part) in done:
            print(f"{part}, seed {args.seed}: done before", flush=True)
            continue
        notes = Notes(args.seed, part)
        parts[part](args, notes)
        rows = read_rows(args.csv) + notes.rows
        write_rows(args.csv, COLUMNS, rows)


# Countries whose capital is one word, in both.
CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "Austria": "Vienna",
    "Hungary": "Budapest",
    "Poland": "Warsaw",
    "Greece": "Athens",
    "Sweden": "Stockholm",
    "Norway": "Oslo",
    "Denmark": "Copenhagen",
    "Finland": "Helsinki",
    "Ireland": "Dublin",
    "Belgium": "Brussels",
    "Switzerland": "Bern",
    "Russia": "Moscow",
    "Ukraine": "Kyiv",
    "Romania": "Bucharest",
    "Bulgaria": "Sofia",
    "Serbia": "Belgrade",
    "Croatia": "Zagreb",
    "Turkey": "Ankara",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Morocco": "Rabat",
    "Nigeria": "Abuja",
    "Ghana": "Accra",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Thailand": "Bangkok",
    "Indonesia": "Jakarta",
    "Iran": "Tehran",
    "Iraq": "Baghdad",
    "Canada": "Ottawa",
    "Cuba": "Havana",
    "Peru": "Lima",
    "Chile": "Santiago",
    "Australia": "Canberra",
    "Vietnam": "Hanoi",
}
