"""Trains a teacher that is larger than its students, and knows more problems.

    python chapters/experiments/larger_teacher.py --out FOLDER

The teacher has twice the width of the models of `reasoning.py`, so nearly four
times the parameters, and learns the worked solutions of nearly three times as
many problems. None of these has numbers that are held out, and none is among
those that a student of `teachers.py` learns from. What a problem may look like
is the same.

The model goes to `larger_0.keras` in the folder, where `teachers.py` finds it.
Before it is measured, it is compared with the parents of the students, on
held-out problems that are not those of the final figures. The folder must have
`steps_0.keras`, whose tokenizer it takes. What the teacher can do is added to
`assets/reasoning/teachers.csv` as `larger`. Width, rate and epochs were the
first that were tried.
"""

import argparse
import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from reasoning import build, measure, problems, train
from reasoning_lab import Lab, add_arguments
from teachers import COLUMNS, COSTS, LARGER, NAME, num_tokens

from kerasllm import backend
from kerasllm.evaluation import Share
from kerasllm.reasoning import as_instructions

POOLS = (1, 4, 5)  # seeds of problems; `Lab` has 3
FACTOR = 2
EPOCHS, RATE, BATCH_SIZE = 5, 2e-3, 64


def more_problems(lab, structures):
    """Return problems to train on, each once, none of them of the lab."""
    found = {}
    for pool in POOLS:
        found |= {p.prompt: p for p in problems(structures, pool)[0]}
    for problem in lab.practice:
        found.pop(problem.prompt, None)
    return list(found.values())


def watch(lab, causal_lm):
    """Return the share of right answers to the lab's watched problems."""
    (row,) = measure(causal_lm, {0: lab.watched}, lab.checker.marker)
    return Share(row["right"], row["size"])


def make(lab, structures):
    """Train the teacher, unless that is done; return what it cost."""
    costs = dict.fromkeys(COSTS, 0)
    if lab.path_of(LARGER).exists():
        return costs
    some = more_problems(lab, structures)
    causal_lm = build(
        lab.load("steps").preprocessor.tokenizer, lab.seed, FACTOR
    )
    examples = as_instructions(some, "steps")
    print(f"{causal_lm.count_params():,} parameters, {len(some):,} problems")
    started = time.perf_counter()
    seconds = train(
        causal_lm, examples, EPOCHS, RATE, BATCH_SIZE, lab.seed, lab.verbose
    )
    causal_lm.save(lab.path_of(LARGER))
    return costs | {
        "examples": len(examples),
        "tokens_trained": EPOCHS
        * sum(num_tokens(example.response) + 1 for example in examples),
        "training_seconds": time.perf_counter() - started,
        "cpu_seconds": round(seconds),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    args = parser.parse_args()
    backend.set_up()
    lab = Lab(args)
    key = {"seed": lab.seed, "way": LARGER}
    costs = make(lab, args.structures)
    for name in (LARGER, "steps"):
        share = watch(lab, lab.load(name))
        print(f"{name}, watched problems: {share:.1%}", flush=True)
    if lab.rows(NAME, **key):
        print(f"{key}: done before")
        return 0
    rows = measure(lab.load(LARGER), lab.final, lab.checker.marker)
    lab.put(NAME, COLUMNS, [row | costs for row in rows], **key)
    print([row["right"] for row in rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())
