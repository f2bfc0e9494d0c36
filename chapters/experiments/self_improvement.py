"""What a weak start learns from its own right answers.

    python chapters/experiments/self_improvement.py --seed 0 --out FOLDER

The folder must have `steps_0.keras` and `weak_0.keras`, which `reasoning.py`
has left there. The weak start can work in steps, and seldom does. It learns

- `self_train`: in three rounds of self-training, each from the model before. A
  right answer counts only after steps that lead to it;
- `self_train_start`: the same, each round from the weak start;
- `self_train_lucky`: as `self_train`, but any right answer counts;
- `control`: from as many further examples of the kind that made it weak;
- `grpo`: from rewards for any right answer, until as many tokens are sampled
  as in `self_train`.

With `--ways grid`, settings of GRPO are changed one at a time, and all runs
sample as many tokens. With `--ways collapse`, it is run without what keeps it
stable. The problems to learn from are new to the models. So are those that are
measured, and they have numbers that no model was trained on.

Rows go to three files in `assets/reasoning/`: `improvement.csv`, what the
models can do; `rounds.csv`, each round of self-training; `grpo.csv`, each step
of GRPO. What is there already is not done again. The committed rows come from
`--seed 0`, `1` and `2`; there are none of `updates_4_narrow`. Rates were chosen
with `--pool 4 --seed 9`. What the start learns from a teacher is in
`teachers.py`.
"""

import argparse
import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
from reasoning import LENGTH, NOTES, measure, weak_examples
from reasoning_lab import Lab, add_arguments

from kerasllm import backend
from kerasllm.evaluation import Share
from kerasllm.reasoning import AnswerChecker
from kerasllm.schedules import WarmupSchedule
from kerasllm.tuning import finetune, grpo, self_train

COSTS = (
    "tokens_sampled examples updates sampling_seconds training_seconds "
    "cpu_seconds"
).split()
COLUMNS = [
    *"seed way num_steps right size low high steps_hold worked tokens".split(),
    *COSTS,
]
ROUND_COLUMNS = (
    "seed way round share_solved share_right num_kept diversity length entropy "
    "share_ended val_greedy val_greedy_error val_sampled val_sampled_error "
    "val_length loss tokens_sampled tokens_trained sampling_seconds "
    "training_seconds"
).split()
STEP_COLUMNS = (
    "seed way step reward reward_std equal_groups entropy completion_length "
    "truncated ratio clip_share kl loss sampled_tokens sampling_seconds "
    "training_seconds seconds"
).split()

ROUNDS, GENERATIONS = 3, 8
EPOCHS, BATCH_SIZE, RATE = 3, 16, 3e-4  # of supervised fine-tuning
# A tenth of the rate at which the parent has learned.
GRPO_RATE, WARMUP, PROMPTS = 3e-4, 5, 32
LONGEST_RUN = 90  # of GRPO; its tokens end it earlier
NO_CLIP = {"epsilon": 1.0, "epsilon_high": 1e6}
MAIN = (
    "parent weak self_train grpo control self_train_start self_train_lucky"
).split()
# What is changed of GRPO. With a single update of each sample, all ratios are
# 1, so clipping matters only with several.
GRID = {
    "std_of_batch": {"scale_rewards": "batch"},
    "no_std": {"scale_rewards": "none"},
    "dapo": {"loss_type": "dapo"},
    "dr_grpo": {"scale_rewards": "none", "loss_type": "dr_grpo"},
    "kl": {"beta": 0.04},
    "groups_of_4": {"num_generations": 4, "batch_size": 2 * PROMPTS},
    "groups_of_16": {"num_generations": 16, "batch_size": PROMPTS // 2},
    "updates_4": {"num_iterations": 4},
    "updates_4_narrow": {"num_iterations": 4, "epsilon": 0.05},
    "updates_4_no_clip": {"num_iterations": 4, **NO_CLIP},
}
HIGH_RATE = {"learning_rate": 3e-3}
COLLAPSE = {
    "high_rate": HIGH_RATE,
    "high_rate_4": {"num_iterations": 4, **HIGH_RATE},
    "high_rate_4_no_clip": {"num_iterations": 4, **HIGH_RATE, **NO_CLIP},
}
SETTINGS = {"grpo": {}, **GRID, **COLLAPSE}
GROUPS = {
    "main": MAIN,
    "grid": list(GRID),
    "collapse": list(COLLAPSE),
}


class CountUpdates(keras.callbacks.Callback):
    """Counts the updates of all rounds."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1


class EndAtTokens(CountUpdates):
    """Ends a run of `grpo` when it has sampled so many tokens."""

    def __init__(self, most):
        super().__init__()
        self.most, self.sampled = most, 0

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch)
        self.sampled += logs["sampled_tokens"]
        self.model.stop_training = self.sampled >= self.most


def learn_in_rounds(lab, causal_lm, way):
    """Self-train a model; return what it cost."""
    updates = CountUpdates()
    history = self_train(
        causal_lm,
        lab.practice,
        AnswerChecker(lab.checker.marker, way != "self_train_lucky"),
        lab.watched,
        rounds=ROUNDS,
        num_generations=GENERATIONS,
        tune_from="start" if way == "self_train_start" else "last",
        template=NOTES,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        learning_rate=RATE,
        sequence_length=LENGTH,
        seed=lab.seed,
        callbacks=[updates],
        verbose=lab.verbose,
    )
    lab.put("rounds.csv", ROUND_COLUMNS, history, seed=lab.seed, way=way)
    rounds = [logs for logs in history if logs["round"]]

    def total(name):
        return sum(logs[name] for logs in rounds)

    return {
        "tokens_sampled": total("tokens_sampled"),
        "examples": total("num_kept"),
        "updates": updates.count,
        "sampling_seconds": total("sampling_seconds"),
        "training_seconds": total("training_seconds"),
    }


def cost_of_rounds(lab):
    """Return a row of `self_train`, whose costs the others must equal."""
    found = lab.rows("improvement.csv", seed=lab.seed, way="self_train")
    if not found:
        raise SystemExit(f"First run `self_train` of seed {lab.seed}.")
    return found[0]


def tune(lab, causal_lm, examples):
    """Tune a model on examples; return what it cost."""
    updates, started = CountUpdates(), time.perf_counter()
    finetune(
        causal_lm,
        examples,
        template=NOTES,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        learning_rate=RATE,
        sequence_length=LENGTH,
        seed=lab.seed,
        callbacks=[updates],
        verbose=lab.verbose,
    )
    return {
        "tokens_sampled": 0,
        "examples": len(examples),
        "updates": updates.count,
        "sampling_seconds": 0.0,
        "training_seconds": time.perf_counter() - started,
    }


def learn_more_of_the_same(lab, causal_lm, way):
    """Tune a model on examples of the kind that it has seen last."""
    count = int(cost_of_rounds(lab)["examples"])
    some = [*lab.practice, *lab.more][:count]
    return tune(lab, causal_lm, weak_examples(some))


def learn_from_rewards(lab, causal_lm, way):
    """Run GRPO with the settings of a way; return what it cost."""
    settings = dict(SETTINGS[way])
    rate = settings.pop("learning_rate", GRPO_RATE)
    end = EndAtTokens(int(cost_of_rounds(lab)["tokens_sampled"]))
    prompts = [problem.prompt for problem in lab.practice]
    history = grpo(
        causal_lm,
        prompts,
        lab.checker.for_problems(lab.practice),
        steps=LONGEST_RUN,
        learning_rate=WarmupSchedule(rate, WARMUP),
        max_completion_length=LENGTH - max(map(num_tokens, prompts)),
        template=NOTES,
        seed=lab.seed,
        callbacks=[end],
        verbose=lab.verbose,
        **{
            "batch_size": PROMPTS,
            "num_generations": GENERATIONS,
            **settings,
        },
    )
    lab.put("grpo.csv", STEP_COLUMNS, history, seed=lab.seed, way=way)
    completions = PROMPTS * GENERATIONS * len(history)
    return {
        "tokens_sampled": int(end.sampled),
        "examples": completions,
        "updates": end.count * settings.get("num_iterations", 1),
        "sampling_seconds": sum(logs["sampling_seconds"] for logs in history),
        "training_seconds": sum(logs["training_seconds"] for logs in history),
    }


def num_tokens(text):
    return len(text.split())  # notes have spaces between tokens


def learn(lab, causal_lm, way):
    if way in SETTINGS:
        return learn_from_rewards(lab, causal_lm, way)
    if way == "control":
        return learn_more_of_the_same(lab, causal_lm, way)
    if way.startswith("self_train"):
        return learn_in_rounds(lab, causal_lm, way)
    return dict.fromkeys(COSTS, 0)


def run_way(lab, way):
    """Let a model learn, and measure it, unless that is done."""
    if lab.rows("improvement.csv", seed=lab.seed, way=way):
        print(f"{way}, seed {lab.seed}: done before", flush=True)
        return
    causal_lm = lab.load("steps" if way == "parent" else "weak")
    started = time.process_time()
    costs = learn(lab, causal_lm, way)
    costs["cpu_seconds"] = round(time.process_time() - started)
    if way not in ("parent", "weak"):
        causal_lm.save(lab.path_of(way))
    rows = [
        row | costs for row in measure(causal_lm, lab.final, lab.checker.marker)
    ]
    lab.put("improvement.csv", COLUMNS, rows, seed=lab.seed, way=way)
    print(f"{way}, seed {lab.seed}: {costs}", flush=True)


def summarize(lab):
    """Print the shares of right answers to problems as long as in training."""
    found = lab.rows("improvement.csv")
    longest = max(problem.num_steps for problem in lab.practice)
    for way in dict.fromkeys(row["way"] for row in found):
        its_own = [row for row in found if row["way"] == way]
        for seed in [*sorted({row["seed"] for row in its_own}), "all"]:
            some = [row for row in its_own if seed in ("all", row["seed"])]
            parts = []
            for what, is_longer in (("", False), ("longer: ", True)):
                right, size = (
                    sum(
                        int(row[column])
                        for row in some
                        if (int(row["num_steps"]) > longest) == is_longer
                    )
                    for column in ("right", "size")
                )
                share = Share(right, size)
                low, high = share.interval()
                parts.append(f"{what}{share:.1%} ({low:.1%} to {high:.1%})")
            print(f"{way:20} seed {seed:>3}: {', '.join(parts)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument(
        "--ways",
        nargs="+",
        default=["main"],
        choices=[*GROUPS, *sum(GROUPS.values(), [])],
    )
    args = parser.parse_args()
    backend.set_up()
    lab = Lab(args)
    for name in args.ways:
        for way in GROUPS.get(name, [name]):
            run_way(lab, way)
    summarize(lab)
    return 0


if __name__ == "__main__":
    sys.exit(main())
