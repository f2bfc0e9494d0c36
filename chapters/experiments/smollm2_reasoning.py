"""A real model on word problems: asked directly, for steps, with examples.

    python chapters/experiments/smollm2_reasoning.py

SmolLM2 answers the problem of section 16.4.4, about Judy's letters, and 50
problems of the package's own, of one to four steps. It is asked

- `direct`: to reply with the number alone;
- `steps`: to think step by step;
- `worked`: after four other problems with their worked solutions.

Each way gets one greedy answer. The last two also get eight samples at a
temperature of 0.7, for a vote. The column `sample` is `greedy`, or the number
of the sample.

So small a model seldom writes the marker that it is asked for. So its answer
is the last number of the text here, which is a lenient rule, and the column
`marked` tells whether a strict checker finds an answer, too. Rows are added to
`assets/reasoning/smollm2.csv`, a few problems at a time, and what is there
already is not done again. All greedy answers take ten to twenty minutes on one
core, and the samples of `worked` another five. The committed rows are these.
The samples of `steps` come last and would take about three times as long.
"""

import argparse
import csv
import os
import pathlib
import re
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from kerasllm import backend
from kerasllm.chat import ChatModel
from kerasllm.files import assets_dir, whole_file
from kerasllm.generation import TextGenerator
from kerasllm.reasoning import (
    AnswerChecker,
    Problem,
    direct_prompt,
    find_equations,
    read_number,
    step_prompt,
    word_problems,
    worked_prompt,
)
from kerasllm.samplers import chain

_NUMBER = re.compile(r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")
COLUMNS = (
    "way sample problem num_steps answer right marked steps_hold tokens "
    "seconds text"
).split()
JUDY = Problem(
    "Judy wrote a 2-page letter to 3 friends twice a week for 3 months. How "
    "many letters did she write? Count a month as 4 weeks.",
    72,
    "3 * 2 = 6\n6 * 4 = 24\n24 * 3 = 72\nANSWER: 72",
    3,
    "judy",
)
NUM_PROBLEMS, NUM_EXAMPLES, SEED = 50, 4, 8
MAX_NUMBER = 50
LONGEST = {"direct": 24, "steps": 128, "worked": 64}  # tokens of an answer
NUM_SAMPLES, TEMPERATURE = 8, 0.7
BATCH_SIZE, SAMPLED_SIZE = 17, 4  # problems at a time, for samples fewer
# Ways, and whether to sample.
RUNS = (
    ("direct", False),
    ("steps", False),
    ("worked", False),
    ("worked", True),
    ("steps", True),
)


def make_problems():
    """Return the worked examples, and the problems that are asked."""
    made = word_problems(
        NUM_EXAMPLES + NUM_PROBLEMS, SEED, (1, 4), max_number=MAX_NUMBER
    )
    return made[:NUM_EXAMPLES], [JUDY, *made[NUM_EXAMPLES:]]


def prompts_of(way, chat, examples, problems):
    """Return what the model reads, as its generator takes it."""
    if way == "worked":  # a text that goes on, without a chat
        return [worked_prompt(p.prompt, examples) for p in problems]
    ask = direct_prompt if way == "direct" else step_prompt
    return [chat.prompt(ask(problem.prompt)) for problem in problems]


def answer(generator, prompts, way, **options):
    """Return the texts to prompts, and the seconds of one prompt."""
    started = time.perf_counter()
    sequences = generator.make_sequences(prompts, 2048)
    longest = max(len(sequence.prompt_ids) for sequence in sequences)
    texts = generator.generate(
        prompts,
        longest + LONGEST[way],
        strip_prompt=True,
        stop_strings="Question:" if way == "worked" else (),
        **options,
    )
    return texts, (time.perf_counter() - started) / len(prompts)


def rows_of(problem, texts, way, tokenizer, seconds):
    """Return rows for the answers to a problem."""
    checker, rows = AnswerChecker(), []
    for sample, text in texts:
        numbers = _NUMBER.findall(text)
        found = read_number(numbers[-1]) if numbers else None
        equations = find_equations(text)
        rows.append(
            {
                "way": way,
                "sample": sample,
                "problem": problem.prompt,
                "num_steps": problem.num_steps,
                "answer": "" if found is None else found,
                "right": int(found == problem.answer),
                "marked": int(checker.find(text) is not None),
                "steps_hold": int(
                    bool(equations) and all(e.holds for e in equations)
                ),
                "tokens": len(tokenizer(text)),
                "seconds": f"{seconds:.2f}",
                # Of all others there would be too much.
                "text": text.strip() if problem is JUDY else "",
            }
        )
    return rows


def run_way(way, chat, examples, problems, sampled, first):
    """Ask a batch of problems in one way; return rows.

    Args:
        way: str.
        chat: `ChatModel`.
        examples: list of worked `Problem`s.
        problems: list of `Problem`, the batch.
        sampled: bool. Whether to sample.
        first: int. The number of the batch's first problem.
    """
    prompts = prompts_of(way, chat, examples, problems)
    tokenizer = chat.causal_lm.preprocessor.tokenizer
    rows = []
    generator, options = TextGenerator(chat.causal_lm), {}
    if sampled:
        generator = TextGenerator(chat.causal_lm, chain(TEMPERATURE))
        options = {"num_samples": NUM_SAMPLES}
    seeds = [SEED + first + i for i in range(len(problems))]
    groups, seconds = answer(generator, prompts, way, seed=seeds, **options)
    for problem, texts in zip(problems, groups, strict=True):
        named = [("greedy", texts)]
        if sampled:
            named = [(str(i), text) for i, text in enumerate(texts)]
        rows += rows_of(problem, named, way, tokenizer, seconds)
    return rows


def is_of(row, way, sampled, problem):
    return (
        row["way"] == way
        and (row["sample"] != "greedy") == sampled
        and row["problem"] == problem.prompt
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", default=assets_dir() / "reasoning/smollm2.csv")
    args = parser.parse_args()
    path = pathlib.Path(args.csv)
    rows = []
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    backend.set_up()
    chat = ChatModel.from_preset("smollm2", template="chatml")
    examples, problems = make_problems()
    for way, sampled in RUNS:
        size = SAMPLED_SIZE if sampled else BATCH_SIZE
        for first in range(0, len(problems), size):
            some = problems[first : first + size]
            if any(is_of(row, way, sampled, some[0]) for row in rows):
                continue
            rows += run_way(way, chat, examples, some, sampled, first)
            with whole_file(path) as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            print(f"{way}, sampled={sampled}: from {first} on", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
