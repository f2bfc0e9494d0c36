"""Options that several commands have in common."""

import enum
from typing import Annotated

import typer

from kerasllm.cli._start import BACKENDS

DEFAULT_TEMPLATE = "gemma"
Backend = enum.StrEnum("Backend", BACKENDS)

BackendOption = Annotated[
    Backend | None,
    typer.Option(help="Default: $KERAS_BACKEND, or else Keras's own choice."),
]
RecipeOption = Annotated[
    str,
    typer.Option(help="laptop (minutes on two cores) or book (a GPU)."),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        help="tiny or tiny_instruct (offline), gemma3_1b or another preset of "
        "KerasHub, or a folder with one."
    ),
]
DtypeOption = Annotated[
    str | None, typer.Option(help="float32 (default) or bfloat16.")
]
TopKOption = Annotated[
    int | None, typer.Option(help="Draw from the K most likely tokens.")
]
TopPOption = Annotated[
    float | None,
    typer.Option(
        help="Draw from the nucleus: the fewest most likely tokens whose "
        "cumulative probability reaches P."
    ),
]
MinPOption = Annotated[
    float | None,
    typer.Option(
        help="Leave out tokens less likely than P times the most likely one."
    ),
]
TemperatureOption = Annotated[
    float | None,
    typer.Option(help="Below 1 more predictable, above 1 more surprising."),
]
FrequencyPenaltyOption = Annotated[
    float, typer.Option(help="Taken off a logit for each repetition.")
]
PresencePenaltyOption = Annotated[
    float, typer.Option(help="Taken off the logits of tokens seen before.")
]
MaxLengthOption = Annotated[
    int | None,
    typer.Option(
        help="Tokens, prompt included. Default: as many as the model takes, "
        "but 64 for generate."
    ),
]
_SEED = typer.Option(
    min=0, max=2**31 - 1, help="The same seed gives the same result again."
)
SeedOption = Annotated[int, _SEED]
OptionalSeedOption = Annotated[int | None, _SEED]
