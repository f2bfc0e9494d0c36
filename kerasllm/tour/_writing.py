"""Stages 3 and 4: one distribution and many texts, under each strategy."""

import dataclasses
import statistics

from keras import ops

from kerasllm import plots
from kerasllm.evaluation import repeated_ngrams
from kerasllm.samplers import chain
from kerasllm.tour._commands import generate_command
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


def write_strategies(report, trained):
    """Show the strategies on what the model says after the prompt."""
    tokenizer = trained.tokenizer
    token_ids = ops.convert_to_numpy(tokenizer(PROMPT))
    logits = trained.model.predict(token_ids[None], verbose=0)[0, -1]
    pieces = [tokenizer.id_to_token(i) for i in range(len(logits))]
    report.text(
        f"After “{PROMPT}”, the model gives each of its {len(logits):,} "
        "tokens a probability. A sampling strategy decides which token comes "
        "next. Greedy search always takes the most likely one. Random "
        "sampling can take any of them, including the many that make no "
        "sense. The other strategies lie in between."
    )
    wide, narrow = report.empty_figure(11, 7), report.empty_figure(4, 12)
    plots.plot_sampling_strategies(logits, pieces, figure=wide)
    plots.plot_sampling_strategies(
        logits, pieces, num_tokens=6, figure=narrow, columns=1
    )
    best = max(range(len(logits)), key=lambda i: logits[i])
    report.figure(
        wide,
        "One distribution under six strategies. A filled bar is the "
        "probability that the strategy takes a token. An outline is the "
        "model's own probability.",
        narrow=narrow,
        alt=(
            "Six bar charts with the most likely next tokens and their "
            "probabilities under greedy search, top-k, random sampling, "
            "temperature, top-p and min-p. The most likely token is "
            f"{pieces[best]!r}."
        ),
    )


@dataclasses.dataclass(frozen=True)
class Written:
    """The texts of one strategy.

    Attributes:
        name: str.
        text: str, the text of the first seed.
        repeated: list of float, the share of repeated 4-grams in each text.
        speeds: list of float, tokens per second of each text, without the
            time to read the prompt and to compile.
        command: str, which writes `text` again.
    """

    name: str
    text: str
    repeated: list
    speeds: list
    command: str


def write(report, trained):
    """Continue the prompt with each strategy: a list of `Written`."""
    longest = trained.model.get_layer("embedding").sequence_length
    max_length = min(MAX_LENGTH, longest)
    generator = trained.generator()
    results = []
    with report.working("Strategies", len(STRATEGIES)) as work:
        for name, arguments in STRATEGIES.items():
            texts, speeds = [], []
            for seed in SEEDS:
                texts.append(
                    generator.generate(
                        PROMPT,
                        max_length,
                        seed=seed,
                        sampler=chain(**arguments),
                    )
                )
                speeds.append(generator.tokens_per_second)
            written = Written(
                name,
                texts[0],
                [repeated_ngrams(_tokens(trained, text)) for text in texts],
                [speed for speed in speeds if speed is not None],
                command(trained.directory, arguments, max_length),
            )
            results.append(written)
            work.done += 1
            report.say(f"[bold]{name}[/] ({_repeated(written)})", markup=True)
            report.say(f"  {texts[0]!r}")
    return results


def command(directory, arguments, max_length):
    """Return the command that writes the first text of a strategy again."""
    return generate_command(
        directory.resolve(), PROMPT, arguments, max_length, SEEDS[0]
    )


def _tokens(trained, text):
    return list(map(int, trained.tokenizer(text)))


def _repeated(written):
    return f"{statistics.mean(written.repeated):.0%} repeated"


def write_writing(report, results, machine):
    """Set the texts side by side, and compare what can be counted.

    Args:
        report: `LiveReport`.
        results: list of `Written`.
        machine: `Machine`.
    """
    seeds = ", ".join(map(str, SEEDS))
    report.text(
        f"Now the model writes. Each strategy continues “{PROMPT}” once for "
        f"each of the seeds {seeds}. You see the first text, and below it the "
        "command that writes it again. A model this small has learned what "
        "documentation looks like, but not what it means."
    )
    for written in results:
        report.sample(
            written.name, written.text, written.command, _repeated(written)
        )
    report.table(
        ["strategy", "repeated 4-grams", "least to most", "tokens/s"],
        [
            (
                written.name,
                f"{statistics.mean(written.repeated):.0%}",
                f"{min(written.repeated):.0%} to {max(written.repeated):.0%}",
                f"{statistics.median(written.speeds):,.0f}"
                if written.speeds
                else "too short",
            )
            for written in results
        ],
        f"Means over the seeds {seeds}, and the least and the most that one "
        f"text repeats. The speed is the median on {machine}, one text at a "
        "time, without reading the prompt and without compiling.",
    )
