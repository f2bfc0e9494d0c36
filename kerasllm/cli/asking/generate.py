"""`kerasllm generate`: a pretrained model continues a prompt."""

import itertools
import json
import pathlib
from typing import Annotated

import typer

from kerasllm import files
from kerasllm.checks import UserError, check_int
from kerasllm.cli._folders import check_run
from kerasllm.cli._options import (
    BackendOption,
    DtypeOption,
    FrequencyPenaltyOption,
    MaxLengthOption,
    MinPOption,
    OptionalSeedOption,
    PresencePenaltyOption,
    PresetOption,
    Sampling,
    TemperatureOption,
    TopKOption,
    TopPOption,
    check_prompt,
    checked,
)
from kerasllm.cli._start import UsageError, starting
from kerasllm.gguf import gguf_path
from kerasllm.presets import OFFLINE_PRESETS, is_run
from kerasllm.progress import quiet, say, working

WITHOUT_TENSORFLOW = ("keras_hub>Gemma3Backbone", "kerasllm>GGUFBackbone")
_DEFAULT_LENGTH = 64  # tokens, prompt included

PromptArgument = Annotated[
    str,
    typer.Argument(
        metavar="PROMPT",
        callback=checked(check_prompt),
        help="The text to continue.",
    ),
]
ModelOption = Annotated[
    pathlib.Path | None,
    typer.Option(callback=check_run, help="Folder that pretrain wrote."),
]
StreamOption = Annotated[
    bool, typer.Option(help="Print the text while it is written.")
]


def generate(
    prompt: PromptArgument,
    model: ModelOption = None,
    preset: PresetOption = None,
    dtype: DtypeOption = None,
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

    Use --model for a model that pretrain wrote, and --preset for any other.
    There is no prompt template: use `chat` to ask an instruction model.
    Without --top-k, --top-p, --min-p, and --temperature, each token is the
    most likely one (greedy search).
    """
    sampling = Sampling(
        temperature, top_k, top_p, min_p, frequency_penalty, presence_penalty
    )
    check_source("generate", model, preset, {"--dtype": dtype})
    longest = _DEFAULT_LENGTH
    if preset is None:
        longest = check_model(model, max_length)
        generator = load_generator(model, backend, sampling)
    else:
        generator = _load_preset(preset, dtype, backend, sampling)
    if max_length is None:
        max_length = min(_DEFAULT_LENGTH, longest)
    if stream:
        pieces = generator.stream(prompt, max_length, seed=seed)
        print_pieces(pieces, generator, prompt)
    else:
        with working("Writing", at_once=False):
            text = generator.generate(prompt, max_length, seed=seed)
        print(text)


def check_source(command, model, preset, only_preset):
    """Refuse two models or none, and options that the given one ignores.

    Args:
        command: str, the name of the command.
        model: path of a folder, or `None`.
        preset: str, or `None`.
        only_preset: dict from the options that need a preset to their values.

    Raises:
        UsageError: one of these is the case.
    """
    if (model is None) == (preset is None):
        raise UsageError(
            f"`{command}` needs either a --preset or a --model. Received: "
            f"{'none' if model is None else 'both'}. --preset tiny_instruct "
            "needs no network."
        )
    given = [option for option, value in only_preset.items() if value]
    if model is not None and given:
        raise UsageError(
            f"{', '.join(only_preset)} must come with a --preset. "
            f"Received: {', '.join(given)} with --model, the folder of a "
            "model that only continues text. Leave them out."
        )


def needs_no_tensorflow(preset):
    """Return whether a preset is known to generate text without TensorFlow."""
    if preset in OFFLINE_PRESETS or is_run(preset):
        return True
    if gguf_path(preset) is not None:
        return True
    try:
        config = json.loads(pathlib.Path(preset, "config.json").read_text())
        return config["registered_name"] in WITHOUT_TENSORFLOW
    except (OSError, ValueError, LookupError, TypeError):
        return False


def check_model(directory, max_length):
    """Check the folder of a model, and a length, before anything is loaded.

    Returns:
        int. The maximum number of tokens in a text, prompt included.

    Raises:
        MissingFileError, RunError: the folder holds no finished run.
        UserError: the model does not write that many tokens, or the record
            of its run has no recipe.
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

        # Do this before loading, so that a wrong number shows at once.
        sampler = sampling.sampler()
        with quiet():
            trained = pretraining.PretrainedModel.load(directory)
        return trained.generator(sampler)


def _load_preset(preset, dtype, backend, sampling):
    """Return the generator of a preset, a folder with one, or a GGUF file."""
    with working(f"Loading {preset}"):
        with starting(backend, only_text=needs_no_tensorflow(preset)):
            from kerasllm.generation import TextGenerator
            from kerasllm.presets import load_causal_lm

        sampler = sampling.sampler()
        with quiet():
            causal_lm = load_causal_lm(preset, dtype)
        return TextGenerator(causal_lm, sampler)


def print_pieces(pieces, generator, prompt=""):
    """Print a prompt and the text as it is written; its speed on stderr."""
    pieces = iter(pieces)
    with working("Writing", at_once=False):  # the first piece takes longest
        first = next(pieces, "")
    try:
        for piece in itertools.chain([prompt + first], pieces):
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        print(flush=True)  # the message that follows has a line of its own
        raise
    print(flush=True)  # before the speed, which goes to another stream
    speed = generator.tokens_per_second
    if speed is not None:
        digits = 0 if speed >= 10 else 1
        say(f"{speed:,.{digits}f} tokens/s")
