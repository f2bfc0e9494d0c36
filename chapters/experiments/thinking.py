"""Beam search, and budget forcing: other ways to compute more for an answer.

    python chapters/experiments/thinking.py --seed 0 --out FOLDER

The folder must have the models of `self_improvement.py`. They solve the
held-out problems of `more_samples.py` with

- `greedy`: the likeliest token at each position;
- `beams 8`: the most probable text that a beam search with so many beams
  finds (`length_penalty=0`);
- `at least 12`: `force_budget` with so many tokens of thought at least. The
  notes have no word for "Wait". Where the model begins its answer too early,
  the marker is taken away and a period put in its place, which begins another
  step in all solutions that it has learned from. With `at least 0`, nothing is
  forced;
- `held back 12`: the marker and the end are left out of the model's choice
  until it has written so many tokens, so that it goes on in its own way.

`num_steps` is 2-4, or 5 for problems that are longer than any learned ones; of
these, only the budget is forced. `tokens` are those that are computed for a
problem, which are beams times length in a beam search, and `logprob` is the
mean log-probability of a text. `gain` is the difference to `greedy`, whose
error is that of pairs. `changed` is the share of problems whose answer is
another one than that of `greedy`. Rows are added to
`assets/reasoning/thinking.csv`, and what is there already is not done again.
The committed rows come from `--seed 0`, `1` and `2`.
"""

import argparse
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from more_samples import FILES, OF_EACH, measured_problems
from reasoning import LENGTH
from reasoning_lab import Lab, add_arguments
from self_improvement import num_tokens

from kerasllm import backend
from kerasllm.checks import UserError
from kerasllm.generation import TextGenerator
from kerasllm.reasoning import force_budget

NAME = "thinking.csv"
COLUMNS = (
    "seed model num_steps way accuracy error gain gain_error problems tokens "
    "logprob changed"
).split()
MODELS = ("self_train", "weak")
BEAMS = (2, 4, 8)
LEAST = (0, 6, 12, 18)  # tokens of a thought
ANSWER = 4  # tokens that an answer needs: the marker, a number, and the end


def search(generator, problem, beams):
    """Return a solution, its number of tokens, and its log-probability."""
    found = generator.beam_search(
        problem.prompt,
        beams,
        length_penalty=0.0,
        max_length=LENGTH,
        strip_prompt=True,
        return_logprobs=True,
    )
    tokens = len(found.token_ids) + (found.finish_reason == "stop_token")
    return found.text, tokens, float(np.sum(found.logprobs))


def force(generator, problem, least):
    """Return a solution with a longer thought, and its number of tokens."""
    room = LENGTH - num_tokens(problem.prompt) - ANSWER
    try:
        found = force_budget(
            generator,
            problem.prompt,
            min(least, room),
            room,
            marker="answer",
            wait=".",
            separator=" ",
            answer_tokens=2,
        )
    except UserError:  # a long thought has left no room for an answer
        return "", room + ANSWER, ""
    return found.text, num_tokens(found.text) + 1, ""


class HeldBack:
    """Logit processor that allows no answer before so many tokens.

    Args:
        tokenizer: that of the model.
        least: int.
    """

    def __init__(self, tokenizer, least):
        self.least = least
        self.question_mark = tokenizer.token_to_id("\u2581?")
        marker = tokenizer.token_to_id("\u2581answer")
        banned = np.zeros(tokenizer.vocabulary_size(), bool)
        banned[[marker, tokenizer.end_token_id]] = True
        self.banned = banned

    def __call__(self, logits, token_ids):
        token_ids = np.asarray(token_ids)
        # All prompts end with the question mark, and no solution has one.
        prompts = 1 + np.argmax(token_ids == self.question_mark, axis=1)
        written = (token_ids >= 0).sum(axis=1) - prompts
        return ~(self.banned & (written < self.least)[:, None])


def hold_back(causal_lm, problems, least):
    """Return solutions with their numbers of tokens."""
    tokenizer = causal_lm.preprocessor.tokenizer
    generator = TextGenerator(
        causal_lm, logit_processors=[HeldBack(tokenizer, least)]
    )
    texts = generator.generate(
        [problem.prompt for problem in problems], LENGTH, strip_prompt=True
    )
    return [(text, num_tokens(text) + 1, "") for text in texts]


def row_of(lab, problems, found, base):
    """Return a row without its key; `base` is what `greedy` found."""
    texts, tokens, logprobs = zip(*found, strict=True)
    others = [text for text, _, _ in base]
    right = lab.checker(problems, texts)
    gain = right - lab.checker(problems, others)
    changed = [
        lab.checker.find(text) != lab.checker.find(other)
        for text, other in zip(texts, others, strict=True)
    ]
    root = len(problems) ** 0.5
    return {
        "accuracy": float(np.mean(right)),
        "error": float(np.std(right, ddof=1) / root),
        "gain": float(np.mean(gain)),
        "gain_error": float(np.std(gain, ddof=1) / root),
        "problems": len(problems),
        "tokens": float(np.mean(tokens)),
        "logprob": "" if "" in logprobs else float(np.mean(logprobs)),
        "changed": float(np.mean(changed)),
    }


def run_model(lab, model, num_steps, problems):
    """Solve problems in all ways, and add rows, unless that is done."""
    key = {"seed": lab.seed, "model": model, "num_steps": num_steps}
    if lab.rows(NAME, **key):
        print(f"{key}: done before", flush=True)
        return
    causal_lm = lab.load(FILES[model])
    generator = TextGenerator(causal_lm)
    greedy = [search(generator, problem, 1) for problem in problems]
    rows = [row_of(lab, problems, greedy, greedy) | {"way": "greedy"}]
    for beams in BEAMS if num_steps == "2-4" else ():
        found = [search(generator, problem, beams) for problem in problems]
        row = row_of(lab, problems, found, greedy)
        row["tokens"] *= beams
        rows.append(row | {"way": f"beams {beams}"})
    for least in LEAST:
        found = [force(generator, problem, least) for problem in problems]
        row = row_of(lab, problems, found, greedy)
        rows.append(row | {"way": f"at least {least}"})
    for least in LEAST[1:]:
        found = hold_back(causal_lm, problems, least)
        row = row_of(lab, problems, found, greedy)
        rows.append(row | {"way": f"held back {least}"})
        print(least, found[0], sum(not text for text, *_ in found), flush=True)
    lab.put(NAME, COLUMNS, rows, **key)
    for row in rows:
        print(*key.values(), *(f"{row[name]}" for name in row), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    lab = Lab(parser.parse_args())
    backend.set_up()
    for model in MODELS:
        run_model(lab, model, "2-4", measured_problems(lab, is_large=False))
        run_model(lab, model, "5", lab.final[5][:OF_EACH])
    return 0


if __name__ == "__main__":
    sys.exit(main())
