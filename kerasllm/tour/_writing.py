"""Stages 3 and 4: one distribution and many texts, under each strategy."""

import shlex
import statistics
import time

from keras import ops

from kerasllm import plots
from kerasllm.evaluation import repeated_ngrams
from kerasllm.samplers import chain
from kerasllm.tour._pretraining import PROMPT

MAX_LENGTH = 100
SEEDS = (0, 1, 2)
# Names and arguments of `chain`, which are also options of the command line.
STRATEGIES = {
    "greedy": {"temperature": 0.0},
    "random": {"temperature": 1.0},
    "temperature 0.2": {"temperature": 0.2},
    "temperature 2": {"temperature": 2.0},
    "top-k 5": {"top_k": 5},
    "top-k 20": {"top_k": 20},
    "top-p 0.9": {"top_p": 0.9},
    "min-p 0.1": {"min_p": 0.1},
    "top-k 20 with penalties": {
        "top_k": 20,
        "frequency_penalty": 0.3,
        "presence_penalty": 0.3,
    },
}


def report_strategies(report, trained):
    """Show the strategies on what the model says after the prompt."""
    tokenizer = trained.tokenizer
    token_ids = ops.convert_to_numpy(tokenizer(PROMPT))
    logits = trained.model.predict(token_ids[None], verbose=0)[0, -1]
    pieces = [tokenizer.id_to_token(i) for i in range(len(logits))]
    figure = report.empty_figure(width=11, height=7)
    plots.plot_sampling_strategies(logits, pieces, figure=figure)
    report.figure(
        figure,
        f"What each strategy leaves of the model's distribution after "
        f"“{PROMPT}”: the likeliest tokens and their probabilities.",
    )


def report_writing(report, trained, recipe):
    """Continue the prompt with each strategy, and measure the texts."""
    longest = trained.model.get_layer("embedding").sequence_length
    max_length = min(MAX_LENGTH, longest)
    report.text(
        f"Each strategy continues “{PROMPT}” to {max_length} tokens with "
        f"the seeds {', '.join(map(str, SEEDS))}. Shown is the first text; "
        "the share of repeated 4-grams and the speed are means of all."
    )
    generator = trained.generator()
    table = []
    for title, arguments in STRATEGIES.items():
        start = time.perf_counter()
        texts = [
            generator.generate(
                PROMPT, max_length, seed=seed, sampler=chain(**arguments)
            )
            for seed in SEEDS
        ]
        seconds = time.perf_counter() - start
        repeated, speed = _measure(texts, seconds, trained.tokenizer)
        table.append((title, f"{repeated:.0%}", f"{speed:.0f}"))
        report.say(f"[bold]{title}[/] ({repeated:.0%} repeated)", markup=True)
        report.say(f"  {texts[0]!r}")
        command = _command(trained.directory, arguments, max_length)
        report.sample(title, texts[0], command)
    report.table(["strategy", "repeated 4-grams", "tokens/s"], table)
    report.text(
        "The speed of the first strategy includes compiling the model, that "
        "of each other one compiling its sampler. All of this page again with"
    )
    report.code(f"kerasllm tour --recipe {recipe} --out again")


def _measure(texts, seconds, tokenizer):
    """Return the mean share of repeated 4-grams, and the new tokens/s."""
    tokens = [list(map(int, tokenizer(text))) for text in texts]
    new = sum(map(len, tokens)) - len(texts) * len(tokenizer(PROMPT))
    return statistics.mean(map(repeated_ngrams, tokens)), new / seconds


def _command(directory, arguments, max_length):
    """Return the command that writes the first text of a strategy again."""
    options = " ".join(
        f"--{name.replace('_', '-')} {value}"
        for name, value in arguments.items()
    )
    return (
        f"kerasllm generate --model {shlex.quote(str(directory))} "
        f"{shlex.quote(PROMPT)} {options} --max-length {max_length} "
        f"--seed {SEEDS[0]}"
    )
