"""What the stages of `preferences.py` share: the recipe, a run, its rows."""

import functools
import json
import math
import pathlib
import time

import keras
import numpy as np
import politeness
from csv_rows import read_rows, write_rows
from politeness import PRESET, Prompts, Scale

from kerasllm.evaluation import Share
from kerasllm.files import whole_file
from kerasllm.instructions import TokenizedInstructions
from kerasllm.preferences import read_preferences
from kerasllm.presets import load_causal_lm
from kerasllm.prompts import get_template
from kerasllm.tuning import BestOfEach, RewardModel

COLUMNS = (
    "seed part stage method x measure value low high size cpu_seconds"
).split()
SMALL, MEDIUM, LARGE = 250, 1000, 4000  # comparisons
UNKNOWN = 200  # names that do not exist, to ask about

RECIPE = {
    "start": {"per_fact": 3, "epochs": 2, "batch_size": 16, "rate": 1e-3},
    "compared": {"prompts": 1800, "answers": 6},
    "reward": {
        "epochs": {SMALL: 4, MEDIUM: 2, LARGE: 2}, "batch_size": 16,
        "rate": 1e-3,
    },
    "pool_prompts": 150,
    # The rewards of different prompts cannot be compared, so each prompt keeps
    # its best answer. The share that is best over all prompts loses more facts.
    "prefer": {
        "rounds": 3, "num_generations": 4, "keep": BestOfEach(1),
        "prompts_per_round": 600, "epochs": 1, "batch_size": 16,
        "learning_rate": 3e-5,
    },
    "dpo": {"beta": 0.1, "batch_size": 16, "learning_rate": 5e-5, "epochs": 1},
    "sft": {"batch_size": 16, "learning_rate": 2e-4, "epochs": 1},
    "grpo": {
        "steps": 40, "batch_size": 8, "num_generations": 8,
        "learning_rate": 1e-4, "max_completion_length": 56,
    },
    "every": {"dpo": 50, "grpo": 10},
}  # fmt: skip


class Run:
    """A run with one seed on one half of the names.

    Args:
        args: what the command line says.
    """

    def __init__(self, args):
        self.seed, self.part, self.verbose = args.seed, args.part, args.verbose
        self.folder = pathlib.Path(args.out) / f"{args.part}_{args.seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = pathlib.Path(args.csv)
        self.world, self.truth = politeness.make_world()
        self.prompts = Prompts.of(self.world)
        self.held_out = self.prompts.held_out[args.part]
        self.learnable = list(self.prompts.train)
        np.random.default_rng(args.seed).shuffle(self.learnable)

    # --- Models and texts of earlier stages

    def start(self):
        """Return a new copy of the start."""
        causal_lm = load_causal_lm(PRESET)
        causal_lm.load_weights(self.folder / "start.weights.h5")
        return causal_lm

    @functools.cached_property
    def reference(self):
        return self.start()

    def reward(self, num_pairs):
        """Return a trained reward model, in units of the start's answers."""
        reward_model = RewardModel(self.reference)
        reward_model.load_weights(
            self.folder / f"reward_{num_pairs}.weights.h5"
        )
        texts = self.read("start.json")
        return Scale.of(reward_model, self.held_out, texts)

    def preferences(self, name):
        return list(read_preferences(self.folder / f"{name}.jsonl"))

    def read(self, name):
        return json.loads((self.folder / name).read_text("utf-8"))

    def write(self, name, value):
        with whole_file(self.folder / name) as file:
            json.dump(value, file)

    # --- Rows

    def learn(self, stage, function):
        """Do a stage, unless it is done, and write its rows.

        Args:
            stage: str, the name of the stage.
            function: callable from this run to a list of rows.
        """
        key = [str(self.seed), self.part, stage]
        if key in [
            [row[c] for c in COLUMNS[:3]] for row in read_rows(self.path)
        ]:
            print(f"{stage}, seed {self.seed}: done before", flush=True)
            return
        started = time.process_time()
        rows = function(self)
        seconds = round(time.process_time() - started)
        for row in rows:
            row |= dict(zip(COLUMNS[:3], key, strict=True))
            row["cpu_seconds"] = seconds
            print(" ".join(str(row[c]) for c in COLUMNS), flush=True)
        write_rows(self.path, COLUMNS, read_rows(self.path) + rows)

    def facts(self, causal_lm, method):
        """Return rows of the facts that the start knew and a model has lost."""
        known = self.read("known.json")
        rows = []
        for which, prompts in self.questions_of_facts().items():
            before = np.array(known[which])
            now = politeness.knows(causal_lm, prompts, self.truth)
            rows += [
                of_share(method, "", f"{which}_known", now),
                of_share(method, "", f"{which}_lost", ~now[before]),
            ]
            if not before.all():
                rows.append(of_share(method, "", f"{which}_won", now[~before]))
        prompts = [q.text for q in self.world.questions("unknown")][:UNKNOWN]
        refused = politeness.knows(causal_lm, prompts, self.truth)
        return [*rows, of_share(method, "", "unknown_refused", refused)]

    def questions_of_facts(self):
        return {"all": self.prompts.facts, "held_out": self.held_out}


def of_mean(method, x, measure, values):
    """Return a row of a mean, with its interval."""
    values = np.asarray(values, "float64")
    half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    return row_of(
        method, x, measure, values.mean(), values.mean() - half,
        values.mean() + half, len(values),
    )  # fmt: skip


def of_share(method, x, measure, flags):
    """Return a row of a share, with its interval."""
    share = Share.of(flags)
    return row_of(method, x, measure, share, *share.interval(), share.size)


def of_number(method, x, measure, value):
    """Return a row of a number that is no estimate."""
    return row_of(method, x, measure, value, None, None, None)


def row_of(method, x, measure, value, low, high, size):
    """Return a row of the file; what is `None` is left empty."""
    value, low, high = (
        n if n is None or isinstance(n, int) else f"{float(n):.5g}"
        for n in (value, low, high)
    )
    row = {"method": method, "x": x, "measure": measure, "value": value}
    row |= {"low": low, "high": high, "size": size}
    return {k: "" if v is None else v for k, v in row.items()}


def falling_rate(recipe, epochs, examples):
    """Return a learning rate that falls to zero over a run."""
    steps = epochs * -(-len(examples) // recipe["batch_size"])
    return keras.optimizers.schedules.CosineDecay(recipe["rate"], steps)


def tokens_of(causal_lm, examples):
    """Return the number of tokens of examples with their prompts."""
    preprocessor = causal_lm.preprocessor
    template = get_template("auto", preprocessor.tokenizer)
    return TokenizedInstructions.of(
        examples, preprocessor, template, politeness.LENGTH
    ).num_tokens
