"""`kerasllm generate`: a pretrained model continues a prompt."""

import pathlib
from typing import Annotated

import typer

from kerasllm.cli._options import (
    BackendOption,
    FrequencyPenaltyOption,
    MaxLengthOption,
    MinPOption,
    OptionalSeedOption,
    PresencePenaltyOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
)
from kerasllm.cli._writing import Sampling, load_generator, print_pieces

PromptArgument = Annotated[str, typer.Argument(help="The text to continue.")]
ModelOption = Annotated[
    pathlib.Path,
    typer.Option(
        exists=True, file_okay=False, help="Folder that pretrain wrote."
    ),
]
StreamOption = Annotated[
    bool, typer.Option(help="Print the text while it is written.")
]


def generate(
    prompt: PromptArgument,
    model: ModelOption,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    min_p: MinPOption = None,
    temperature: TemperatureOption = None,
    frequency_penalty: FrequencyPenaltyOption = 0.0,
    presence_penalty: PresencePenaltyOption = 0.0,
    max_length: MaxLengthOption = None,
    seed: OptionalSeedOption = None,
    stream: StreamOption = False,
    backend: BackendOption = None,
):
    """Continue a prompt.

    Without --top-k, --top-p, --min-p and --temperature each token is the most
    likely one (greedy search).
    """
    sampling = Sampling(
        temperature, top_k, top_p, min_p, frequency_penalty, presence_penalty
    )
    generator, longest = load_generator(model, backend, sampling)
    max_length = min(64, longest) if max_length is None else max_length
    if stream:
        pieces = generator.stream(prompt, max_length, seed=seed)
        print(prompt, end="", flush=True)
        print_pieces(pieces, generator)
    else:
        print(generator.generate(prompt, max_length, seed=seed))
