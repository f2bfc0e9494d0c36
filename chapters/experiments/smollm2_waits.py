"""Budget forcing with SmolLM2: does it help to tell a model to wait?

    python chapters/experiments/smollm2_waits.py

SmolLM2 answers the problems of `smollm2_reasoning.py` after four worked
examples, with the likeliest tokens. Where it writes the marker or ends, that
is taken away, and "Wait," is put in its place, none, one or two times. Then
comes the marker in any case, and it writes its answer. This is
`kerasllm.reasoning.force_budget` for a batch, with a number of waits in place
of a number of tokens.

Rows are added to `assets/reasoning/smollm2.csv` with the way `waits`, a batch
at a time. The column `sample` is the number of waits, and `tokens` has all that
were written. What is there already is not done again.
"""

import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from csv_rows import read_rows, write_rows
from smollm2_reasoning import COLUMNS, make_problems, prompts_of, rows_of

from kerasllm import backend
from kerasllm.chat import ChatModel
from kerasllm.files import assets_dir
from kerasllm.generation import TextGenerator
from kerasllm.reasoning import MARKER

PATH = assets_dir() / "reasoning/smollm2.csv"
MOST_WAITS, BATCH_SIZE = 2, 4
PART, ANSWER = 64, 8  # tokens of a part of a thought, and of an answer


def write(generator, prompts, most, stops):
    """Continue texts by some tokens; return what was added to each."""
    sequences = generator.make_sequences(prompts, 2048)
    longest = max(len(sequence.prompt_ids) for sequence in sequences)
    return generator.generate(
        prompts, longest + most, strip_prompt=True, stop_strings=stops
    )


def force_waits(generator, prompts):
    """Return the responses with 0 to 2 waits: a list for each number."""
    thoughts, found = [""] * len(prompts), []
    for waits in range(MOST_WAITS + 1):
        if waits:
            thoughts = [f"{t.rstrip()}\nWait," for t in thoughts]
        texts = [p + t for p, t in zip(prompts, thoughts, strict=True)]
        parts = write(generator, texts, PART, (MARKER, "Question:"))
        thoughts = [t + part for t, part in zip(thoughts, parts, strict=True)]
        ended = [f"{t.rstrip()}\n{MARKER}" for t in thoughts]
        texts = [p + t for p, t in zip(prompts, ended, strict=True)]
        answers = write(generator, texts, ANSWER, "\n")
        found.append([t + a for t, a in zip(ended, answers, strict=True)])
    return found


def main():
    backend.set_up()
    chat = ChatModel.from_preset("smollm2", template="chatml")
    generator = TextGenerator(chat.causal_lm)
    tokenizer = chat.causal_lm.preprocessor.tokenizer
    examples, (_, *problems) = make_problems()
    for first in range(0, len(problems), BATCH_SIZE):
        some = problems[first : first + BATCH_SIZE]
        rows = read_rows(PATH)
        if any(
            (row["way"], row["problem"]) == ("waits", some[0].prompt)
            for row in rows
        ):
            continue
        started = time.perf_counter()
        prompts = prompts_of("worked", chat, examples, some)
        by_waits = force_waits(generator, prompts)
        seconds = (time.perf_counter() - started) / len(some)
        for waits, texts in enumerate(by_waits):
            for problem, text in zip(some, texts, strict=True):
                rows += rows_of(
                    problem, [(waits, text)], "waits", tokenizer, seconds
                )
        write_rows(PATH, COLUMNS, rows)
        print(f"from {first} on: {seconds:.1f} s", flush=True)
        print(by_waits[-1][0], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
