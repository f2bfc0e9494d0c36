"""`kerasllm generate`: a pretrained model continues a prompt."""

import itertools
import pathlib
import sys
from typing import Annotated

import typer

from kerasllm import files
from kerasllm.checks import UserError, check_int
from kerasllm.cli._options import (
    BackendOption,
    FrequencyPenaltyOption,
    MaxLengthOption,
    MinPOption,
    OptionalSeedOption,
    PresencePenaltyOption,
    Sampling,
    TemperatureOption,
    TopKOption,
    TopPOption,
    check_prompt,
    checked,
)
from kerasllm.cli._start import starting
from kerasllm.progress import quiet, working

PromptArgument = Annotated[
    str,
    typer.Argument(
        callback=checked(check_prompt), help="The text to continue."
    ),
]
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
    longest = check_model(model, max_length)
    generator = load_generator(model, backend, sampling)
    max_length = min(64, longest) if max_length is None else max_length
    if stream:
        pieces = generator.stream(prompt, max_length, seed=seed)
        print_pieces(pieces, generator, prompt)
    else:
        with working("Writing", at_once=False):
            text = generator.generate(prompt, max_length, seed=seed)
        print(text)


def check_model(directory, max_length):
    """Check the folder of a model, and a length, before anything is loaded.

    Returns:
        int. The largest number of tokens in a text of the model.

    Raises:
        MissingFileError, RunError: the folder holds no finished run.
        UserError: the model does not write that many tokens.
    """
    files.check_finished_run(directory)
    record = files.read_run(directory)
    try:
        longest = int(record["recipe"]["sequence_length"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            "The record of a run must tell its recipe. Received: "
            f"{directory / files.RUN_FILE}, which does not. Put back a copy "
            "of it."
        ) from error
    if max_length is not None:
        cure = "That is the length of the texts that the model has learned."
        check_int("max_length", max_length, 2, longest, cure=cure)
    return longest


def load_generator(directory, backend, sampling):
    """Return the generator of a pretrained model."""
    with working(f"Loading {directory}"):
        with starting(backend, only_text=True):
            from kerasllm import pretraining

        # Before the model is loaded, so that a wrong number shows at once.
        sampler = sampling.sampler()
        with quiet():
            trained = pretraining.PretrainedModel.load(directory)
        return trained.generator(sampler)


def print_pieces(pieces, generator, prompt=""):
    """Print a text as it is written, after its prompt; its speed on stderr."""
    pieces = iter(pieces)
    with working("Writing", at_once=False):  # the first piece takes longest
        first = next(pieces, "")
    for piece in itertools.chain([prompt + first], pieces):
        print(piece, end="", flush=True)
    print()
    speed = generator.tokens_per_second
    if speed is not None:
        print(f"{speed:,.0f} tokens/s", file=sys.stderr)
