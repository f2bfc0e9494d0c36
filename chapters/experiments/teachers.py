"""What a weak start learns from a teacher: from its solutions, or its logits.

    python chapters/experiments/teachers.py --seed 0 --out FOLDER

The student is the weak start of `self_improvement.py`. The teacher is the model
that works in steps, from which the start was made. The folder must have
`weak_0.keras` and `steps_0.keras`, which `reasoning.py` leaves there. The
teacher solves the problems from which the student can also teach itself, again
and again, until as many tokens are sampled as in its self-training. Then the
student learns

- `solutions`: the teacher's right solutions, as in supervised fine-tuning;
- `logits`: on the same solutions, the teacher's distribution of each token;
- `logits_all`: the same on all of the teacher's solutions, right or wrong, so
  that nobody has to know the answers;
- `on_policy`: the teacher's distribution of each token, on all solutions of the
  *student*, in three rounds.

With `--ways larger`, a larger teacher is trained, of seed 0 for all students.
It has twice the width, so nearly four times the parameters, and learns for as
many steps as the first teacher from four and a half times as many problems,
none of them with held-out numbers, and none that the students learn from. This
was the only recipe that was tried. It is compared with the first teacher on
problems that are not those of the final figures, and kept in the folder. Then
`solutions_larger` and `logits_larger` learn from it.

Of the solutions of a problem, four different ones are kept at most. Epochs,
rate and batches are those of self-training, and none was chosen for a teacher.
Rows are added to `assets/reasoning/teachers.csv`. What is there already is not
done again. The committed rows come from `--seed 0`, `1` and `2`, those of
`larger` from `0`. Compare with `self_train` and, for the first teacher itself,
`parent` in `improvement.csv`.
"""

import argparse
import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
from keras import ops
from reasoning import (
    LENGTH,
    NOTES,
    STRUCTURES,
    build,
    measure,
    problems,
    train,
)
from reasoning_lab import Lab, add_arguments
from self_improvement import (
    BATCH_SIZE,
    EPOCHS,
    GENERATIONS,
    RATE,
    ROUNDS,
    cost_of_rounds,
    num_tokens,
    tune,
)

from kerasllm import backend
from kerasllm.evaluation import Share
from kerasllm.generation import TextGenerator
from kerasllm.instructions import Instruction, TokenizedInstructions
from kerasllm.reasoning import as_instructions
from kerasllm.samplers import chain
from kerasllm.tuning import token_model

NAME = "teachers.csv"
COSTS = (
    "tokens_sampled solutions_sampled share_right examples tokens_trained "
    "sampling_seconds training_seconds cpu_seconds"
).split()
COLUMNS = [
    *"seed way num_steps right size low high steps_hold worked tokens".split(),
    *COSTS,
]
WAYS = ("solutions", "logits", "logits_all", "on_policy")
LARGER = "larger"
OF_LARGER = (f"solutions_{LARGER}", f"logits_{LARGER}")
# The recipe of the larger teacher. Problems have other seeds than the lab's.
FACTOR, POOLS = 2, (1, 4, 5)
LARGER_EPOCHS, LARGER_RATE, LARGER_BATCH_SIZE = 3, 2e-3, 64
MOST_OF_EACH = 4  # solutions of a problem
PROMPTS = 32  # problems in a batch of samples


class KLDivergence(keras.losses.Loss):
    """From a teacher's distribution of the next token to the student's.

    Both are given as logits. As in `finetune`, all tokens of responses in a
    batch count equally.
    """

    def __init__(self):
        super().__init__(reduction="mean_with_sample_weight")

    def call(self, y_true, y_pred):
        teacher = ops.log_softmax(ops.cast(y_true, "float32"))
        student = ops.log_softmax(ops.cast(y_pred, "float32"))
        # (batch_size, length, vocabulary_size) -> (batch_size, length)
        return ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)


def distill(lab, student, teacher, examples, epochs=EPOCHS):
    """Tune a student on what a teacher would say after each token."""
    tokens = TokenizedInstructions.of(
        examples, student.preprocessor, NOTES, LENGTH
    )
    steps = tokens.num_batches(BATCH_SIZE)

    def batches():
        endless = tokens.endless(BATCH_SIZE, lab.seed)
        for inputs, _, weights in endless.as_numpy_iterator():
            yield inputs, teacher.predict_on_batch(inputs), weights

    teacher, model = token_model(teacher), token_model(student)
    model.compile(keras.optimizers.Adam(RATE), KLDivergence())
    model.fit(
        batches(), steps_per_epoch=steps, epochs=epochs, verbose=lab.verbose
    )


def sample(lab, causal_lm, most, seed, rounds=100):
    """Solve the problems again and again, until `most` tokens are sampled.

    Returns:
        list of lists of str, the solutions of each problem, and the number of
        tokens.
    """
    generator = TextGenerator(causal_lm, chain(1.0))
    practice = lab.practice
    solutions, count = [[] for _ in practice], 0
    for number in range(rounds):
        for first in range(0, len(practice), PROMPTS):
            if count >= most:
                return solutions, count
            some = practice[first : first + PROMPTS]
            start = 1_000_000 * seed + 1000 * number + first
            groups = generator.generate(
                [problem.prompt for problem in some],
                LENGTH,
                seed=[start + i for i in range(len(some))],
                strip_prompt=True,
                num_samples=GENERATIONS,
            )
            for i, texts in enumerate(groups, first):
                solutions[i] += [text.strip() for text in texts]
                count += sum(num_tokens(text) + 1 for text in texts)
    return solutions, count


def keep(lab, solutions, only_right):
    """Return different solutions of each problem, a few at most: a list."""
    examples = []
    for problem, texts in zip(lab.practice, solutions, strict=True):
        different = list(dict.fromkeys(filter(None, texts)))
        if only_right:
            flags = lab.checker([problem] * len(different), different)
            both = zip(different, flags, strict=True)
            different = [text for text, flag in both if flag]
        examples += [
            Instruction(problem.prompt, text)
            for text in different[:MOST_OF_EACH]
        ]
    return examples


def share_right(lab, solutions):
    """Return the share of right solutions of all that were sampled."""
    flags = [
        flag
        for problem, texts in zip(lab.practice, solutions, strict=True)
        for flag in lab.checker([problem] * len(texts), texts)
    ]
    return sum(map(float, flags)) / len(flags)


def costs_of(lab, solutions, tokens, examples, epochs=EPOCHS):
    return {
        "tokens_sampled": tokens,
        "solutions_sampled": sum(map(len, solutions)),
        "share_right": share_right(lab, solutions),
        "examples": len(examples),
        "tokens_trained": epochs
        * sum(num_tokens(example.response) + 1 for example in examples),
    }


def more_problems(lab):
    """Return problems for a larger teacher, none of them of the students."""
    found = {}
    for pool in POOLS:
        found |= {p.prompt: p for p in problems(STRUCTURES, pool)[0]}
    for problem in lab.practice:
        found.pop(problem.prompt, None)
    return list(found.values())


def watch(lab, causal_lm):
    """Return the share of right answers to the lab's watched problems."""
    (row,) = measure(causal_lm, {0: lab.watched}, lab.checker.marker)
    return Share(row["right"], row["size"])


def train_larger(lab):
    """Train the larger teacher; return it and what it cost."""
    smaller = lab.load("steps")
    causal_lm = build(smaller.preprocessor.tokenizer, lab.seed, FACTOR)
    examples = as_instructions(more_problems(lab), "steps")
    started = time.perf_counter()
    train(
        causal_lm,
        examples,
        LARGER_EPOCHS,
        LARGER_RATE,
        LARGER_BATCH_SIZE,
        lab.seed,
        lab.verbose,
    )
    for name, model in (("smaller", smaller), (LARGER, causal_lm)):
        print(
            f"{name} teacher, {model.count_params():,} parameters: "
            f"{watch(lab, model):.1%} of the watched problems",
            flush=True,
        )
    return causal_lm, dict.fromkeys(COSTS, 0) | {
        "examples": len(examples),
        "tokens_trained": LARGER_EPOCHS
        * sum(num_tokens(example.response) + 1 for example in examples),
        "training_seconds": time.perf_counter() - started,
    }


def load_teacher(lab, way):
    if way in OF_LARGER:
        return keras.saving.load_model(lab.folder / f"{LARGER}_0.keras")
    return lab.load("steps")


def learn_from_teacher(lab, student, way):
    """Tune a student on solutions of a teacher; return what it cost."""
    most = int(cost_of_rounds(lab)["tokens_sampled"])
    teacher = load_teacher(lab, way)
    started = time.perf_counter()
    solutions, tokens = sample(lab, teacher, most, seed=lab.seed)
    sampled = time.perf_counter()
    examples = keep(lab, solutions, only_right=way != "logits_all")
    if way.startswith("solutions"):
        tune(lab, student, examples)
    else:
        distill(lab, student, teacher, examples)
    return costs_of(lab, solutions, tokens, examples) | {
        "sampling_seconds": sampled - started,
        "training_seconds": time.perf_counter() - sampled,
    }


def learn_on_policy(lab, student, way):
    """Let a teacher score what the student writes; return what it cost.

    An epoch on each round's solutions, since they are the student's own only
    for as long as it has not changed much.
    """
    most = int(cost_of_rounds(lab)["tokens_sampled"])
    teacher, rounds, seconds = lab.load("steps"), [], [0.0, 0.0]
    for number in range(ROUNDS):
        started = time.perf_counter()
        solutions, tokens = sample(
            lab, student, most, seed=100 * (number + 1) + lab.seed, rounds=1
        )
        sampled = time.perf_counter()
        examples = keep(lab, solutions, only_right=False)
        distill(lab, student, teacher, examples, epochs=1)
        rounds.append(costs_of(lab, solutions, tokens, examples, epochs=1))
        seconds[0] += sampled - started
        seconds[1] += time.perf_counter() - sampled
    costs = {key: sum(costs[key] for costs in rounds) for key in rounds[0]}
    return costs | {
        "share_right": rounds[-1]["share_right"],
        "sampling_seconds": seconds[0],
        "training_seconds": seconds[1],
    }


def run_way(lab, way):
    """Let a student learn, and measure it, unless that is done."""
    if lab.rows(NAME, seed=lab.seed, way=way):
        print(f"{way}, seed {lab.seed}: done before", flush=True)
        return
    started = time.process_time()
    if way == LARGER:
        causal_lm, costs = train_larger(lab)
        causal_lm.save(lab.path_of(LARGER))
    else:
        causal_lm = lab.load("weak")
        learn = learn_on_policy if way == "on_policy" else learn_from_teacher
        costs = learn(lab, causal_lm, way)
    costs["cpu_seconds"] = round(time.process_time() - started)
    rows = measure(causal_lm, lab.final, lab.checker.marker)
    lab.put(
        NAME, COLUMNS, [row | costs for row in rows], seed=lab.seed, way=way
    )
    some = [row for row in rows if row["num_steps"] <= 4]
    right, size = (sum(row[key] for row in some) for key in ("right", "size"))
    print(f"{way}, seed {lab.seed}: {right} of {size}, {costs}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument(
        "--ways", nargs="+", default=WAYS, choices=[*WAYS, LARGER, *OF_LARGER]
    )
    args = parser.parse_args()
    backend.set_up()
    lab = Lab(args)
    for way in args.ways:
        run_way(lab, way)
    return 0


if __name__ == "__main__":
    sys.exit(main())
