"""A small model with a vote against a larger one without, at equal computing.

    python chapters/experiments/model_sizes.py --seed 0 --out FOLDER

The folder must have `steps_0.keras` and `small_0.keras`, which `reasoning.py`
leaves there: two models that learned in the same way from the same worked
problems, the first twice as wide and with nearly four times the parameters.
Both solve the same held-out problems, once with the likeliest tokens and 16
times with samples at temperature 1, for a vote.

An answer costs 2 floating-point operations for each parameter and each token
that is read or written. The problem is read once, however many samples there
are. Attention is left out of this count, which for such short texts is little.

Rows are added to `assets/reasoning/sizes.csv`. Of a vote of fewer than 16, the
accuracy is the mean over subsets of the samples. `error` is the standard error
over problems, and `seconds` are those of one problem among many. What is there
already is not done again. The committed rows come from `--seed 0`, `1` and `2`.
"""

import argparse
import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from more_samples import FILES, measured_problems, sample, votes
from reasoning import LENGTH
from reasoning_lab import Lab, add_arguments
from self_improvement import num_tokens

from kerasllm import backend
from kerasllm.generation import TextGenerator

NAME = "sizes.csv"
COLUMNS = (
    "seed model parameters method n accuracy error problems tokens flops "
    "seconds"
).split()
MODELS = {"small": "small", "large": "parent"}
POOL_SIZE = 16
NS = (1, 2, 4, 8, 16)


def row_of(right, tokens, seconds, parameters, prompt_tokens, **more):
    """Return a row.

    Args:
        right: float `(num_problems,)`, how often each is answered rightly.
        tokens: float. Tokens that are written for a problem.
        seconds: float. The time of a problem.
        parameters: int.
        prompt_tokens: float. Tokens that are read of a problem.
        more: the other columns.
    """
    return more | {
        "parameters": parameters,
        "accuracy": float(np.mean(right)),
        "error": float(np.std(right, ddof=1) / len(right) ** 0.5),
        "problems": len(right),
        "tokens": float(tokens),
        "flops": float(2 * parameters * (prompt_tokens + tokens)),
        "seconds": float(seconds),
    }


def run_model(lab, size):
    """Ask a model once, and many times, unless that is done."""
    key = {"seed": lab.seed, "model": size}
    if lab.rows(NAME, **key):
        print(f"{key}: done before", flush=True)
        return
    problems = measured_problems(lab, is_large=False)
    prompts = [problem.prompt for problem in problems]
    causal_lm = lab.load(FILES[MODELS[size]])
    common = {
        "parameters": causal_lm.count_params(),
        "prompt_tokens": np.mean([num_tokens(prompt) for prompt in prompts]),
    }
    started = time.perf_counter()
    texts = TextGenerator(causal_lm).generate(
        prompts, LENGTH, strip_prompt=True
    )
    seconds = (time.perf_counter() - started) / len(prompts)
    tokens = np.mean([num_tokens(text) + 1 for text in texts])
    right = lab.checker(problems, texts)
    rows = [row_of(right, tokens, seconds, method="greedy", n=1, **common)]
    groups, seconds = sample(
        lab, MODELS[size], problems, POOL_SIZE, f"sizes_{POOL_SIZE}"
    )
    flags = np.array([[row["right"] for row in group] for group in groups])
    answers = [[row["answer"] for row in group] for group in groups]
    tokens = np.mean([row["tokens"] for group in groups for row in group])
    seconds /= flags.size
    rng = np.random.default_rng(lab.seed)
    for n in NS:
        share = votes(answers, flags, None, n, rng)
        costs = n * tokens, n * seconds
        rows.append(row_of(share, *costs, method="vote", n=n, **common))
    lab.put(NAME, COLUMNS, rows, **key)
    for row in rows:
        print(size, {k: row[k] for k in ("method", "n", "accuracy", "flops")})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    args = parser.parse_args()
    backend.set_up()
    lab = Lab(args)
    for size in MODELS:
        run_model(lab, size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
