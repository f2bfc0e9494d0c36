"""Learning from preferences: reward models, best of n, listing 16.15, DPO.

    python chapters/experiments/preferences.py --seed 0 --out FOLDER

A model that knows the facts of the small world, and answers in all manners
(`politeness.py`), is the start. A labeller who agrees with the true score on
73% of the pairs compares its answers. From these comparisons reward models are
trained, the best of n answers is chosen, and the start is tuned: in rounds, as
in listing 16.15, by DPO, and by GRPO against a weak reward model.

Each stage adds its rows to `assets/preferences/preferences.csv`, or to the
file that `--csv` names, and keeps models and texts in the folder. What is
there already is not done again. `--part tuning` measures on other names than
`--part final`; with it, and with `--seed 9`, the numbers in `RECIPE` were
chosen. One of them changed later: hacking was first looked for every 15 steps.

The rows that are committed come from `--seed` 0, 1 and 2. The stages `dpo_sft`,
`ipo` and `grpo_kl` were done for seed 0 alone, and `watch` not for seed 1. Two
processes must not write to the same file at a time, so each seed had its own,
and they were joined.
"""

import argparse
import csv
import functools
import json
import math
import os
import pathlib
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import politeness
from politeness import PRESET, Prompts, Scale, Track, sample, scores_of_all

from kerasllm import backend
from kerasllm.evaluation import Share, best_of_n_kl, best_of_n_scores
from kerasllm.files import assets_dir, whole_file
from kerasllm.instructions import Instruction, TokenizedInstructions
from kerasllm.preferences import (
    BradleyTerry,
    TokenizedPairs,
    read_preferences,
    write_preferences,
)
from kerasllm.presets import load_causal_lm
from kerasllm.prompts import get_template
from kerasllm.tuning import (
    BestOfEach,
    RewardModel,
    StopAtRewardHacking,
    dpo,
    finetune,
    grpo,
    prefer,
    train_reward_model,
)

COLUMNS = (
    "seed part stage method x measure value low high size cpu_seconds"
).split()
SMALL, MEDIUM, LARGE = 250, 1000, 4000  # comparisons
FEWER = 1600  # for variants of DPO
NS = [1, 2, 4, 8, 16, 32, 64, 128, 256]
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

    def learn(self, stage):
        """Do a stage, unless it is done, and write its rows."""
        key = [str(self.seed), self.part, stage]
        if key in [
            [row[c] for c in COLUMNS[:3]] for row in read_rows(self.path)
        ]:
            print(f"{stage}, seed {self.seed}: done before", flush=True)
            return
        started = time.process_time()
        rows = STAGES[stage](self)
        seconds = round(time.process_time() - started)
        for row in rows:
            row |= dict(zip(COLUMNS[:3], key, strict=True))
            row["cpu_seconds"] = seconds
            print(" ".join(str(row[c]) for c in COLUMNS), flush=True)
        write_rows(self.path, read_rows(self.path) + rows)

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
    return _row(
        method, x, measure, values.mean(), values.mean() - half,
        values.mean() + half, len(values),
    )  # fmt: skip


def of_share(method, x, measure, flags):
    """Return a row of a share, with its interval."""
    share = Share.of(flags)
    return _row(method, x, measure, share, *share.interval(), share.size)


def of_number(method, x, measure, value):
    """Return a row of a number that is no estimate."""
    return _row(method, x, measure, value, None, None, None)


def _row(method, x, measure, value, low, high, size):
    value, low, high = (
        n if n is None or isinstance(n, int) else f"{float(n):.5g}"
        for n in (value, low, high)
    )
    row = {"method": method, "x": x, "measure": measure, "value": value}
    row |= {"low": low, "high": high, "size": size}
    return {k: "" if v is None else v for k, v in row.items()}


# --- The stages, in their order


def learn_manners(run):
    """Tune the preset on demonstrations: the start."""
    causal_lm, recipe = load_causal_lm(PRESET), RECIPE["start"]
    examples = politeness.demonstrations(
        run.world, recipe["per_fact"], seed=run.seed
    )
    finetune(
        causal_lm, examples, epochs=recipe["epochs"],
        batch_size=recipe["batch_size"],
        learning_rate=falling_rate(recipe, recipe["epochs"], examples),
        sequence_length=politeness.LENGTH, seed=run.seed, verbose=run.verbose,
    )  # fmt: skip
    causal_lm.save_weights(run.folder / "start.weights.h5")
    known = {
        which: politeness.knows(causal_lm, prompts, run.truth).tolist()
        for which, prompts in run.questions_of_facts().items()
    }
    run.write("known.json", known)
    texts, _ = sample(causal_lm, run.held_out, 4, seed=[run.seed, 1])
    run.write("start.json", texts)
    true = scores_of_all(run.truth, run.held_out, texts).mean(axis=1)
    rows = [
        of_mean("start", "", "true", true),
        of_number("start", "", "tokens_trained", recipe["epochs"]
                  * tokens_of(causal_lm, examples)),
        *run.facts(causal_lm, "start"),
    ]  # fmt: skip
    judged = [
        (is_known, run.truth.judge(prompt, text))
        for prompt, some, is_known in zip(
            run.held_out, texts, known["held_out"], strict=True
        )
        for text in some
    ]
    right = [found.right for is_known, found in judged if is_known]
    rows.append(of_share("start", "", "right_of_known", right))
    for name in vars(judged[0][1]):
        counts = [getattr(found, name) for _, found in judged]
        rows.append(of_mean("start", "", f"mean_{name}", counts))
    return rows


def compare(run):
    """Sample answers of the start, and have pairs of them labelled."""
    rows, pairs, recipe = [], {}, RECIPE["compared"]
    count, learnable = recipe["answers"], run.learnable[: recipe["prompts"]]
    for name, prompts, size in (
        ("train", learnable, LARGE), ("held_out", run.held_out, None)
    ):  # fmt: skip
        texts, num_tokens = sample(
            run.reference, prompts, count, seed=[run.seed, 2]
        )
        if name == "train":
            rows.append(of_number("", "", "tokens_sampled", num_tokens))
        # No answer is in two pairs.
        pairs[name] = [
            (prompt, *some[i : i + 2])
            for prompt, some in zip(prompts, texts, strict=True)
            for i in range(0, count, 2)
            if some[i] != some[i + 1]
        ]
        np.random.default_rng([run.seed, 3]).shuffle(pairs[name])
        pairs[name] = [tuple(pair) for pair in pairs[name][:size]]
    labeller = BradleyTerry.with_agreement(
        run.truth, pairs["train"], seed=run.seed
    )
    rows.append(of_number("", "", "scale", labeller.scale))
    for name, some in pairs.items():
        labelled = labeller.label(some)
        write_preferences(labelled, run.folder / f"{name}.jsonl")
        better = true_differences(run.truth, labelled)
        rows += [
            of_number(name, "", "pairs", len(some)),
            of_share(name, "", "agreement", better[better != 0] > 0),
            of_share(name, "", "ties", better == 0),
        ]
    return rows


def learn_reward(num_pairs, run):
    """Train a reward model on some of the comparisons."""
    reward_model = RewardModel(run.reference)
    train = run.preferences("train")[:num_pairs]
    recipe = RECIPE["reward"]
    epochs = recipe["epochs"][num_pairs]
    logs = train_reward_model(
        reward_model, train, epochs=epochs, batch_size=recipe["batch_size"],
        learning_rate=falling_rate(recipe, epochs, train),
        sequence_length=politeness.LENGTH, seed=run.seed, verbose=run.verbose,
    )  # fmt: skip
    reward_model.save_weights(run.folder / f"reward_{num_pairs}.weights.h5")
    held_out = run.preferences("held_out")
    chosen, rejected = (
        reward_model.predict(
            [each.prompt for each in held_out],
            [getattr(each, name) for each in held_out],
            batch_size=64,
        )
        for name in ("chosen", "rejected")
    )
    better = true_differences(run.truth, held_out)
    is_right = np.sign(chosen - rejected) == np.sign(better)
    pairs = TokenizedPairs.of(
        train, reward_model.preprocessor, reward_model.template,
        politeness.LENGTH,
    )  # fmt: skip
    return [
        of_share("truth", num_pairs, "accuracy", is_right[better != 0]),
        of_share("labels", num_pairs, "accuracy", chosen > rejected),
        of_number("train", num_pairs, "accuracy", logs[-1]["accuracy"]),
        of_number("train", num_pairs, "tokens_trained",
                  epochs * pairs.num_tokens),
    ]  # fmt: skip


def sample_pool(run):
    """Sample as many answers to each prompt as the largest n."""
    prompts = run.held_out[: RECIPE["pool_prompts"]]
    texts, num_tokens = sample(
        run.reference, prompts, max(NS), seed=[run.seed, 4], at_once=1024
    )
    run.write("pool.json", texts)
    return [of_number("", "", "tokens_sampled", num_tokens)]


def best_of_n(run):
    """Choose the best of n answers by each reward model, and by the truth."""
    texts = run.read("pool.json")
    prompts = run.held_out[: len(texts)]
    true = scores_of_all(run.truth, prompts, texts)
    polite = scores_of_all(politeness.count_courtesies, prompts, texts)
    rows = [of_number("bound", n, "kl", best_of_n_kl(n)) for n in NS]
    for method in (SMALL, LARGE, "truth"):
        proxy = true
        if method != "truth":
            proxy = scores_of_all(run.reward(method), prompts, texts)
        scores = best_of_n_scores(proxy, true, NS)  # (num_prompts, len(NS))
        proxies = best_of_n_scores(proxy, proxy, NS)
        courtesies = best_of_n_scores(proxy, polite, NS)
        peak = int(scores.mean(axis=0).argmax())
        rows.append(of_number(method, "", "peak", NS[peak]))
        for i, n in enumerate(NS):
            rows += [
                of_mean(method, n, "true", scores[:, i]),
                of_mean(method, n, "proxy", proxies[:, i]),
                of_mean(method, n, "courtesies", courtesies[:, i]),
                # The same prompts, so the differences vary less.
                of_mean(method, n, "change_from_peak",
                        scores[:, i] - scores[:, peak]),
            ]  # fmt: skip
        for n, other in ((4, 1), (16, 4)):
            gain = scores[:, NS.index(n)] - scores[:, NS.index(other)]
            rows.append(of_mean(method, n, f"gain_over_{other}", gain))
    return rows


def tune_in_rounds(run):
    """Tune the start as in listing 16.15."""
    causal_lm, reward = run.start(), run.reward(LARGE)
    history = prefer(
        causal_lm, run.learnable, reward, run.held_out, true_score=run.truth,
        sequence_length=politeness.LENGTH, seed=run.seed,
        sampling_batch_size=512, verbose=run.verbose, **RECIPE["prefer"],
    )  # fmt: skip
    rows = []
    for logs in history:
        for measure in ("true_score", "reward", "kl", "length"):
            value, error = logs[f"val_{measure}"], logs[f"val_{measure}_error"]
            name = {"true_score": "true", "reward": "proxy"}.get(
                measure, measure
            )
            rows.append(
                _row("rounds", logs["round"], name, value, value - 1.96 * error,
                     value + 1.96 * error, len(run.held_out))
            )  # fmt: skip
    for measure in ("tokens_sampled", "tokens_trained"):
        total = sum(logs.get(measure, 0) for logs in history)
        rows.append(of_number("rounds", "", measure, total))
    return rows + of_tuned(run, causal_lm, "rounds")


def tune_by_dpo(method, run, num_pairs, **options):
    """Tune the start on the comparisons by DPO."""
    causal_lm, train = run.start(), run.preferences("train")[:num_pairs]
    options = RECIPE["dpo"] | options
    # The reward model is not used, only measured.
    track = Track(
        run.held_out, run.reward(LARGE), run.truth, run.reference,
        RECIPE["every"]["dpo"], 1, run.preferences("held_out")[:200], run.seed,
    )  # fmt: skip
    dpo(
        causal_lm, train, sequence_length=politeness.LENGTH, seed=run.seed,
        callbacks=[track], verbose=run.verbose, **options,
    )  # fmt: skip
    pairs = TokenizedPairs.of(
        train, causal_lm.preprocessor,
        get_template("auto", causal_lm.preprocessor.tokenizer),
        politeness.LENGTH,
    )  # fmt: skip
    tokens = options["epochs"] * pairs.num_tokens
    return [
        *of_track(track, method),
        of_number(method, "", "tokens_trained", tokens),
        *of_tuned(run, causal_lm, method),
    ]


def tune_on_chosen(run):
    """Tune the start on the chosen answers alone, as in supervised tuning."""
    causal_lm = run.start()
    examples = [
        Instruction(each.prompt, each.chosen)
        for each in run.preferences("train")
    ]
    finetune(
        causal_lm, examples, sequence_length=politeness.LENGTH, seed=run.seed,
        verbose=run.verbose, **RECIPE["sft"],
    )  # fmt: skip
    tokens = RECIPE["sft"]["epochs"] * tokens_of(causal_lm, examples)
    return [
        of_number("sft", "", "tokens_trained", tokens),
        *of_tuned(run, causal_lm, "sft"),
    ]


def tune_by_grpo(method, run, beta):
    """Tune the start against the weak reward model, beyond the peak."""
    causal_lm, reward = run.start(), run.reward(SMALL)
    track = Track(
        run.held_out, reward, run.truth, run.reference, RECIPE["every"]["grpo"],
        4, seed=run.seed,
    )  # fmt: skip
    logs = grpo(
        causal_lm, run.learnable, reward, beta=beta, seed=run.seed,
        callbacks=[track], verbose=run.verbose, **RECIPE["grpo"],
    )  # fmt: skip
    return [
        *of_track(track, method),
        # The sampler and the teacher agree on how likely tokens are.
        of_number(method, 1, "ratio", logs[0]["ratio"]),
        of_number(method, "", "tokens_sampled",
                  sum(each["sampled_tokens"] for each in logs)),
    ]  # fmt: skip


def stop_at_hacking(run):
    """Do so once more, with a callback that ends the run in time."""
    causal_lm, reward = run.start(), run.reward(SMALL)
    every = RECIPE["every"]["grpo"]
    stop = StopAtRewardHacking(
        run.held_out, reward, run.truth, every=every,
        num_generations=4, sequence_length=politeness.LENGTH, seed=run.seed,
    )  # fmt: skip
    grpo(
        causal_lm, run.learnable, reward, beta=0.0, seed=run.seed,
        callbacks=[stop], verbose=run.verbose, **RECIPE["grpo"],
    )  # fmt: skip
    rows = [
        of_number("watch", found["step"], measure, found[measure])
        for found in stop.history
        for measure in ("true_score", "reward", "change", "low", "high")
    ]
    best = max(stop.history, key=lambda found: found["true_score"])
    rows += [
        of_number("watch", "", "is_hacked", int(stop.watch.is_hacked)),
        of_number("watch", "", "stopped_at", stop.history[-1]["step"]),
        of_number("watch", "", "best_at", best["step"]),
    ]
    return rows


def of_track(track, method):
    """Return the rows of a `Track`."""
    rows = [
        of_mean(method, record["step"], measure, values)
        for record in track.records
        for measure, values in record.items()
        if measure != "step"
    ]
    peak = track.at_peak()
    change = track.records[-1]["true"] - peak["true"]
    rows += [
        of_number(method, "", "peak", peak["step"]),
        of_mean(method, track.records[-1]["step"], "change_from_peak", change),
    ]
    if track.first_alarm is not None:
        rows.append(of_number(method, "", "first_alarm", track.first_alarm))
    return rows


def of_tuned(run, causal_lm, method):
    """Return what a tuned model is worth, compared with the start."""
    texts, num_tokens = sample(causal_lm, run.held_out, 4, seed=[run.seed, 1])
    true, before = (
        scores_of_all(run.truth, run.held_out, some).mean(axis=1)
        for some in (texts, run.read("start.json"))
    )
    asked = [prompt for prompt in run.held_out for _ in range(4)]
    answered = [text for some in texts for text in some]
    ratios = politeness.log_ratios(
        causal_lm, run.reference, asked, answered
    ).reshape(-1, 4)
    causal_lm.save_weights(run.folder / f"{method}.weights.h5")
    return [
        of_mean(method, "end", "true", true),
        of_mean(method, "end", "gain", true - before),
        of_mean(method, "end", "kl", ratios.mean(axis=1)),
        of_number(method, "end", "tokens_an_answer", num_tokens / len(asked)),
        *run.facts(causal_lm, method),
    ]


def true_differences(truth, preferences):
    """Return true scores of chosen answers, minus those of the others."""
    prompts = [each.prompt for each in preferences]
    chosen, rejected = (
        np.array(truth(prompts, [getattr(each, name) for each in preferences]))
        for name in ("chosen", "rejected")
    )
    return chosen - rejected


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


STAGES = {
    "start": learn_manners,
    "comparisons": compare,
    **{
        f"reward_{size}": functools.partial(learn_reward, size)
        for size in (SMALL, MEDIUM, LARGE)
    },
    "pool": sample_pool,
    "best_of_n": best_of_n,
    "rounds": tune_in_rounds,
    "dpo": functools.partial(tune_by_dpo, "dpo", num_pairs=LARGE),
    # What keeps the log-probabilities up, on fewer comparisons.
    "dpo_sft": functools.partial(
        tune_by_dpo, "dpo_sft", num_pairs=FEWER, sft_weight=1.0
    ),
    "ipo": functools.partial(
        tune_by_dpo, "ipo", num_pairs=FEWER, loss_type="ipo"
    ),
    "sft": tune_on_chosen,
    "grpo": functools.partial(tune_by_grpo, "grpo", beta=0.0),
    "grpo_kl": functools.partial(tune_by_grpo, "grpo_kl", beta=0.1),
    "watch": stop_at_hacking,
}


def read_rows(path):
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, help="folder for the models")
    parser.add_argument(
        "--csv", default=assets_dir() / "preferences/preferences.csv"
    )
    parser.add_argument("--part", default="final", choices=["tuning", "final"])
    parser.add_argument("--stages", default=";".join(STAGES))
    parser.add_argument("--verbose", type=int, default=2)
    args = parser.parse_args()
    backend.set_up()
    keras.utils.set_random_seed(args.seed)
    run = Run(args)
    for stage in args.stages.split(";"):
        run.learn(stage)
    return 0


if __name__ == "__main__":
    sys.exit(main())
