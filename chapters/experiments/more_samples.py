"""What more samples of a problem are worth, and who should choose among them.

    python chapters/experiments/more_samples.py --seed 0 --out FOLDER

A model solves each held-out problem 32 times at temperature 1. Then one answer
is chosen, by

- `vote`: the commonest answer;
- `mean_logprob`: the answer of the sample that the model is surest of;
- `verifier`: the answer of the sample with the highest reward. The verifier is
  a reward model that has learned to prefer right solutions of other problems
  to wrong ones, both sampled from the same model;
- `weighted`: the commonest answer, where a vote counts as much as the verifier
  believes in it.

`one` is the accuracy of a single sample, and `pass` the share of problems of
which at least one sample is right: what a perfect verifier would reach. For
fewer than 32, the accuracy is the mean over subsets of the samples, all of
them, or for votes some. Rows such as `vote - one` have differences, whose
errors are those of pairs. With `--pool_size 256`, a larger pool of samples of
fewer problems shows whether too many of them fool the verifier.

The models are `weak`, `parent` and, between them, `self_train`, the one after
self-training; `self_improvement.py` leaves it. Rows are added to
`assets/reasoning/samples.csv`. What is there already is not done again. The
committed rows come from `--seed 0`, `1` and `2`, `--models self_train weak`.
"""

import argparse
import json
import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from reasoning import LENGTH, NOTES
from reasoning_lab import Lab, add_arguments

from kerasllm import backend
from kerasllm.evaluation import best_of_n_scores, pass_at_k
from kerasllm.files import read_records, whole_file
from kerasllm.generation import TextGenerator, majority_vote, weighted_vote
from kerasllm.preferences import Preference
from kerasllm.samplers import chain
from kerasllm.tuning import RewardModel, train_reward_model

COLUMNS = (
    "seed model pool_size n method accuracy error problems tokens seconds score"
).split()
MODELS = ("weak", "self_train", "parent")
# Of each model, its file.
FILES = {"weak": "weak", "self_train": "self_train", "parent": "steps",
         "small": "small", "large": "large"}  # fmt: skip

POOL_SIZE, LARGE_POOL = 32, 256
NS = [1, 2, 4, 8, 16, 32, 64, 128, 256]
OF_EACH, OF_LARGE = 100, 30  # problems of each length, and for a large pool
SUBSETS = 20  # of samples, for each n of a vote
AT_ONCE = 256  # samples in a batch
# Of the verifier: problems, samples of each, and pairs of each at most.
PROBLEMS, ATTEMPTS, PAIRS = 600, 8, 4
EPOCHS, BATCH_SIZE, RATE = 3, 32, 1e-3


def sample(lab, model, problems, count, name):
    """Sample solutions, or read them; return a list for each problem.

    Args:
        lab: `Lab`.
        model: name of a model.
        problems: list of `Problem`.
        count: int. Solutions of each.
        name: name of the file that keeps them.

    Returns:
        A list of lists of dicts, and the seconds that it took.
    """
    path = lab.path_of(f"samples_{model}_{name}", ".jsonl")
    if not path.exists():
        generator = TextGenerator(lab.load(FILES[model]), chain(1.0))
        started = time.perf_counter()
        rows = []
        size = max(1, AT_ONCE // count)
        for first in range(0, len(problems), size):
            some = problems[first : first + size]
            texts = generator.generate(
                [problem.prompt for problem in some],
                LENGTH,
                # A single seed would give all problems the same luck.
                seed=[10_000 * lab.seed + first + i for i in range(len(some))],
                strip_prompt=True,
                return_logprobs=True,
                num_samples=count,
            )
            for problem, its_own in zip(some, texts, strict=True):
                rows += [as_row(lab, problem, text) for text in its_own]
        seconds = time.perf_counter() - started
        with whole_file(path) as file:
            for row in [{"seconds": seconds}, *rows]:
                file.write(json.dumps(row) + "\n")
    (first, _), *rest = read_records(path, "A file of samples")
    rows = [row for row, _ in rest]
    if [row["prompt"] for row in rows[::count]] != [p.prompt for p in problems]:
        raise SystemExit(f"{path} has other problems. Remove it.")
    groups = [rows[i : i + count] for i in range(0, len(rows), count)]
    return groups, first["seconds"]


def as_row(lab, problem, text):
    answer = lab.checker.find(text.text)
    return {
        "prompt": problem.prompt,
        "response": text.text.strip(),
        # Only equality matters to a vote.
        "answer": None if answer is None else str(answer),
        "right": bool(lab.checker([problem], [text.text])[0]),
        "logprob": float(np.mean(text.logprobs or [-1e9])),
        "tokens": len(text.token_ids) + 1,
    }


def pairs(groups, most=PAIRS):
    """Return right solutions with wrong ones of the same problem.

    Equal solutions count once, as otherwise bare answers would be most.
    """
    preferences = []
    for group in groups:
        right, wrong = [], []
        for row in group:
            side = right if row["right"] else wrong
            if row["response"] not in side:
                side.append(row["response"])
        if not right or not wrong:
            continue
        prompt = group[0]["prompt"]
        for i in range(min(most, max(len(right), len(wrong)))):
            chosen, rejected = right[i % len(right)], wrong[i % len(wrong)]
            preferences.append(Preference(prompt, chosen, rejected))
    return preferences


def train_verifier(lab, model):
    """Return a reward model that prefers right solutions."""
    path = lab.path_of(f"verifier_{model}")
    if path.exists():
        return keras.saving.load_model(path)
    verifier = RewardModel(lab.load(FILES[model]), template=NOTES)
    train, _ = sample(
        lab, model, lab.more[:PROBLEMS], ATTEMPTS, "to_learn_from"
    )
    watched, _ = sample(lab, model, lab.watched, ATTEMPTS, "watched")
    history = train_reward_model(
        verifier,
        pairs(train),
        pairs(watched),
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        learning_rate=RATE,
        sequence_length=LENGTH,
        center_coefficient=0.01,
        seed=lab.seed,
        verbose=lab.verbose,
    )
    print(f"verifier of {model}: {len(pairs(train))} pairs, {history[-1]}")
    verifier.save(path)
    return verifier


def votes(answers, right, weights, n, rng):
    """Return how often votes among n samples are right: an array.

    Args:
        answers: list of lists of str or `None`, those of each problem.
        right: bool `(num_problems, pool_size)`.
        weights: float `(num_problems, pool_size)`, or `None` for equal ones.
        n: int.
        rng: `numpy.random.Generator`.

    Returns:
        float `(num_problems,)`, means over subsets.
    """
    shares = np.zeros(len(answers))
    for i, its_own in enumerate(answers):
        both = zip(its_own, right[i], strict=True)
        right_ones = {answer for answer, is_right in both if is_right}
        for _ in range(SUBSETS):
            chosen = rng.permutation(len(its_own))[:n]
            some = [its_own[j] for j in chosen]
            if weights is None:
                winner = majority_vote(some)
            else:
                winner = weighted_vote(some, weights[i][chosen])
            shares[i] += winner in right_ones
    return shares / SUBSETS


def accuracies(groups, rewards, n, rng):
    """Return the accuracy for each problem by the way to choose: a dict."""
    right = np.array([[row["right"] for row in group] for group in groups])
    logprobs = np.array([[row["logprob"] for row in group] for group in groups])
    answers = [[row["answer"] for row in group] for group in groups]
    found = {
        "one": right.mean(axis=1),
        "vote": votes(answers, right, None, n, rng),
        "mean_logprob": best_of_n_scores(logprobs, right, [n])[:, 0],
        "verifier": best_of_n_scores(rewards, right, [n])[:, 0],
        "weighted": votes(answers, right, 1 / (1 + np.exp(-rewards)), n, rng),
        "pass": pass_at_k(right.shape[1], right.sum(axis=1), n),
    }
    differences = {
        f"{a} - {b}": found[a] - found[b]
        for a, b in (
            ("vote", "one"),
            ("verifier", "vote"),
            ("weighted", "vote"),
        )
    }
    return found | differences


def measured_problems(lab, is_large):
    """Return held-out problems as long as those to learn from: a list."""
    count = OF_LARGE if is_large else OF_EACH
    longest = max(problem.num_steps for problem in lab.practice)
    return [
        problem
        for steps, some in lab.final.items()
        if steps <= longest
        for problem in some[:count]
    ]


def run_model(lab, model, pool_size):
    """Sample from a model, choose, and add rows, unless that is done."""
    key = {"seed": lab.seed, "model": model, "pool_size": pool_size}
    if lab.rows("samples.csv", **key):
        print(f"{key}: done before", flush=True)
        return
    problems = measured_problems(lab, pool_size > POOL_SIZE)
    verifier = train_verifier(lab, model)
    name = f"measured_{pool_size}"
    groups, seconds = sample(lab, model, problems, pool_size, name)
    flat = [row for group in groups for row in group]
    started = time.perf_counter()
    rewards = verifier.predict(
        [row["prompt"] for row in flat],
        [shortened(row) for row in flat],
        batch_size=AT_ONCE,
    ).reshape(-1, pool_size)
    checking = time.perf_counter() - started
    # Of one sample: tokens, seconds, and those of the verifier.
    costs = [
        float(np.mean([row["tokens"] for row in flat])),
        seconds / len(flat),
        checking / len(flat),
    ]
    rows = []
    for n in [n for n in NS if n <= pool_size]:
        rows += rows_of(groups, rewards, n, costs, lab.seed)
    lab.put("samples.csv", COLUMNS, rows, **key)


def shortened(row):
    """Return a response that leaves room for the end token.

    One that never ended has as many words as the model can read, and no answer.
    """
    room = LENGTH - 1 - len(row["prompt"].split())
    return " ".join(row["response"].split()[:room])


def rows_of(groups, rewards, n, costs, seed):
    """Return the rows of all ways to choose among n samples: dicts."""
    tokens, sampling, checking = costs
    chosen = float(best_of_n_scores(rewards, rewards, [n]).mean())
    found = accuracies(groups, rewards, n, np.random.default_rng(seed))
    rows = []
    for method, values in found.items():
        is_checked = method.startswith(("verifier", "weighted"))
        row = {
            "n": n,
            "method": method,
            "accuracy": float(values.mean()),
            "error": float(values.std(ddof=1) / len(values) ** 0.5),
            "problems": len(values),
            "tokens": n * tokens,
            "seconds": n * (sampling + checking * is_checked),
        }
        if method == "verifier":
            row["score"] = chosen
        if n == 1 or method != "one":
            rows.append(row)
    return rows


def summarize(lab):
    for row in lab.rows("samples.csv", seed=lab.seed):
        if int(row["n"]) in (1, 16, 32, 256):
            print(
                f"{row['model']:10} pool {row['pool_size']:>3} n {row['n']:>3} "
                f"{row['method']:16} {float(row['accuracy']):.3f} "
                f"+- {1.96 * float(row['error']):.3f}"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--models", nargs="+", default=MODELS,
                        choices=list(FILES))  # fmt: skip
    parser.add_argument("--pool_size", type=int, default=POOL_SIZE,
                        choices=[POOL_SIZE, LARGE_POOL])  # fmt: skip
    args = parser.parse_args()
    backend.set_up()
    lab = Lab(args)
    for model in args.models:
        run_model(lab, model, args.pool_size)
    summarize(lab)
    return 0


if __name__ == "__main__":
    sys.exit(main())
