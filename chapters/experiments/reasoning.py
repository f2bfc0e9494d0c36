"""What steps are worth: answers alone, worked solutions, and dots.

    python chapters/experiments/reasoning.py --seed 0 --out FOLDER

Three models of the same size begin with the same random weights and learn from
the same problems, in the same order and for as many epochs. One of them learns
the answers, one the worked solutions, and one the answers after dots, as many
as the steps have tokens. They are asked about problems with other numbers.

A fourth model is the weak start of what comes later: the one that works in
steps, tuned a little more on other problems, most of them with the answer
alone. It still can work, and seldom does. With `--ways small`, a model of half
the width learns the worked solutions.

Rows are added to `assets/reasoning/ways.csv`, or to the file that `--csv`
names, and models are kept in the folder. What is there already is not done
again, so a run that was interrupted goes on where it stopped. The rows that are
committed come from `--seed 0`, `1` and `2`. The structures and the numbers of
examples and epochs were chosen with `--pool 2 --seed 9`, on other problems: of
two structures alone, or more examples, many answers are learned without steps.
"""

import argparse
import io
import os
import pathlib
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import sentencepiece
from csv_rows import read_rows, write_rows

from kerasllm import backend
from kerasllm.evaluation import Share
from kerasllm.files import assets_dir
from kerasllm.generation import TextGenerator
from kerasllm.models import (
    MiniGPTBackbone,
    MiniGPTCausalLM,
    MiniGPTCausalLMPreprocessor,
    MiniGPTTokenizer,
)
from kerasllm.prompts import PromptTemplate
from kerasllm.reasoning import (
    AnswerChecker,
    as_instructions,
    find_equations,
    split_problems,
    word_problems,
)
from kerasllm.tokenizers import END_OF_TEXT
from kerasllm.tuning import finetune

COLUMNS = (
    "seed way num_examples epochs num_steps right size low high "
    "steps_hold worked tokens parameters cpu_seconds"
).split()
WAYS = ("steps", "direct", "dots", "weak")
# As `steps`, with another width.
FACTORS = {"small": 0.5}
# Notes have no delimiters: an answer comes after the question mark.
NOTES = PromptTemplate("notes", "", "", "", "")

LENGTH = 72  # tokens of a question with its solution
STEPS = (2, 5)  # of all problems
MOST_STEPS = 4  # of those to learn from
MAX_NUMBER = 30
STRUCTURES = ["changes", "comparing", "flows", "prices"]
POOL = 16_000  # problems that are made up, to be split
MEASURED = 200  # problems for each number of steps
WEAK_EXAMPLES, WEAK_EPOCHS, WEAK_RATE = 1000, 3, 3e-4
BARE = 0.7  # of these, with the answer alone
SIZES = {"hidden_dim": 64, "intermediate_dim": 256, "num_heads": 4,
         "num_layers": 2}  # fmt: skip


def problems(structures, seed=1):
    """Return problems to train on, and held-out ones by number of steps.

    Whatever the seed is, the same numbers are held out.
    """
    pool = word_problems(
        POOL, seed=seed, num_steps=STEPS, structures=structures,
        max_number=MAX_NUMBER, notation="notes",
    )  # fmt: skip
    split = split_problems(pool, max_steps=MOST_STEPS, validation_fraction=0.2)
    held_out = {}
    for problem in split.numbers + split.longer:
        held_out.setdefault(problem.num_steps, []).append(problem)
    return split.train, dict(sorted(held_out.items()))


def first_of_each(held_out, count=MEASURED):
    return {steps: some[:count] for steps, some in held_out.items()}


def make_tokenizer(problems):
    """Return a tokenizer whose tokens are words, signs and whole numbers."""
    words = {str(number) for number in range(MAX_NUMBER + 1)} | {"."}
    for problem in problems:
        words.update(problem.prompt.split(), problem.solution.split())
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(sorted(words))]),
        model_writer=model,
        model_type="word",
        vocab_size=2 * len(words),
        hard_vocab_limit=False,
        user_defined_symbols=[END_OF_TEXT],
        bos_id=-1,
        eos_id=-1,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    tokenizer = MiniGPTTokenizer(model.getvalue())
    unknown = [w for w in sorted(words) if list(tokenizer(w)) == [0]]
    if unknown:
        raise ValueError(f"The vocabulary lacks: {unknown}.")
    return tokenizer


def build(tokenizer, seed, factor=1):
    """Return an untrained model, so many times as wide."""
    keras.utils.set_random_seed(seed)
    sizes = SIZES | {
        name: int(factor * SIZES[name])
        for name in ("hidden_dim", "intermediate_dim")
    }
    backbone = MiniGPTBackbone(
        tokenizer.vocabulary_size(), LENGTH, dropout=0.0, **sizes
    )
    return MiniGPTCausalLM(
        backbone, MiniGPTCausalLMPreprocessor(tokenizer, LENGTH)
    )


def train(causal_lm, examples, epochs, rate, batch_size, seed, verbose):
    """Tune a model; return the seconds of processor time."""
    started = time.process_time()
    steps = epochs * -(-len(examples) // batch_size)
    warmup = steps // 20
    finetune(
        causal_lm,
        examples,
        template=NOTES,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=keras.optimizers.schedules.CosineDecay(
            0.0, steps - warmup, warmup_target=rate, warmup_steps=warmup
        ),
        sequence_length=LENGTH,
        seed=seed,
        verbose=verbose,
    )
    return time.process_time() - started


def weak_examples(problems):
    """Return examples of which most have the answer alone."""
    num_bare = round(BARE * len(problems))
    bare, worked = problems[:num_bare], problems[num_bare:]
    return as_instructions(bare, "direct") + as_instructions(worked, "steps")


def measure(causal_lm, held_out, marker):
    """Ask about held-out problems; return a dict for each number of steps."""
    generator, checker = TextGenerator(causal_lm), AnswerChecker(marker)
    rows = []
    for steps, some in held_out.items():
        texts = generator.generate(
            [problem.prompt for problem in some], LENGTH, strip_prompt=True
        )
        flags = checker(some, texts).astype(bool)
        share = Share.of(flags)
        low, high = share.interval()
        right = [text for text, flag in zip(texts, flags, strict=True) if flag]
        rows.append(
            {
                "num_steps": steps,
                "right": share.hits,
                "size": share.size,
                "low": f"{low:.3f}",
                "high": f"{high:.3f}",
                # Of the right answers, those whose steps are all right, too.
                "steps_hold": sum(map(has_right_steps, right)),
                "worked": sum(bool(find_equations(text)) for text in texts),
                "tokens": sum(len(text.split()) for text in texts),
            }
        )
    return rows


def has_right_steps(text):
    equations = find_equations(text)
    return bool(equations) and all(e.holds for e in equations)


def summarize(rows):
    """Print the shares of right answers for three and more steps."""
    for way in [*WAYS, *FACTORS]:
        found = [
            row
            for row in rows
            if row["way"] == way and 3 <= int(row["num_steps"]) <= MOST_STEPS
        ]
        runs = {(row["seed"], row["epochs"]) for row in found}
        for seed, epochs in sorted(runs):
            of_seed = [
                row
                for row in found
                if (row["seed"], row["epochs"]) == (seed, epochs)
            ]
            right, size = (
                sum(int(row[column]) for row in of_seed)
                for column in ("right", "size")
            )
            share = Share(right, size)
            low, high = share.interval()
            print(
                f"{way:6} seed {seed}, {epochs} epochs: {share:.1%} of {size} "
                f"with 3 to {MOST_STEPS} steps ({low:.1%} to {high:.1%})"
            )


def run(args):
    """Train and measure one model for each way, unless it is done."""
    path = pathlib.Path(args.csv)
    train_problems, held_out = problems(args.structures, args.pool)
    tokenizer = make_tokenizer(train_problems + sum(held_out.values(), []))
    held_out = first_of_each(held_out)
    folder = pathlib.Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    for way in args.ways:
        some, epochs, rate = (
            train_problems[: args.examples],
            args.epochs,
            args.rate,
        )
        if way == "weak":
            some = train_problems[args.examples :][:WEAK_EXAMPLES]
            epochs, rate = WEAK_EPOCHS, WEAK_RATE
        key = [str(args.seed), way, str(len(some)), str(epochs)]
        rows = read_rows(path)
        if key in [[row[column] for column in COLUMNS[:4]] for row in rows]:
            print(f"{way}, seed {args.seed}: done before", flush=True)
            continue
        if way == "weak":
            causal_lm = keras.saving.load_model(
                folder / f"steps_{args.seed}.keras"
            )
            examples = weak_examples(some)
        else:
            causal_lm = build(tokenizer, args.seed, FACTORS.get(way, 1))
            examples = as_instructions(some, "steps" if way in FACTORS else way)
        seconds = train(
            causal_lm, examples, epochs, rate, args.batch_size, args.seed,
            args.verbose,
        )  # fmt: skip
        causal_lm.save(folder / f"{way}_{args.seed}.keras")
        for row in measure(causal_lm, held_out, some[0].marker):
            row |= dict(zip(COLUMNS[:4], key, strict=True))
            row["parameters"] = causal_lm.count_params()
            row["cpu_seconds"] = round(seconds)
            rows.append(row)
            print(row, flush=True)
        write_rows(path, COLUMNS, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pool", type=int, default=1, help="seed of problems")
    parser.add_argument("--out", required=True, help="folder for the models")
    parser.add_argument("--csv", default=assets_dir() / "reasoning/ways.csv")
    parser.add_argument("--ways", nargs="+", default=WAYS,
                        choices=[*WAYS, *FACTORS])  # fmt: skip
    parser.add_argument("--structures", nargs="+", default=STRUCTURES)
    parser.add_argument("--examples", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--verbose", type=int, default=2)
    args = parser.parse_args()
    backend.set_up()
    run(args)
    summarize(read_rows(pathlib.Path(args.csv)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
