"""What the commands that tune have in common: options, folders, a preset."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import shlex
import warnings
from typing import Annotated

import typer

from kerasllm import checks, files
from kerasllm.checks import RunError, UserError
from kerasllm.cli._folders import OPTIONS
from kerasllm.cli._options import (
    DEFAULT_TEMPLATE,
    TEMPLATES,
    at_least,
    check_folder,
    checked,
    one_of,
)
from kerasllm.cli._start import UsageError
from kerasllm.progress import quiet, working

ADAPTERS = "adapters.lora.h5"
FEW_EXAMPLES = 100

OutOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        file_okay=False,
        callback=checked(check_folder),
        help="Folder for adapters.lora.h5. Default: a folder in the cache.",
    ),
]


def check_targets(name, targets):
    """Refuse what can be no names of layers, before a model is loaded."""
    for target in targets.split(","):
        if not target.strip().isidentifier():
            raise UserError(
                f"`{name}` must be names of layers, divided by commas, such "
                f"as query,value. Received: {targets!r}. attention and "
                "feed_forward stand for several."
            )


RankOption = Annotated[
    int,
    typer.Option(callback=at_least(1), help="Inner dimension of the adapters."),
]
TargetsOption = Annotated[
    str,
    typer.Option(
        callback=checked(check_targets),
        help="Layers to adapt: query,value or attention or ...",
    ),
]
BatchSizeOption = Annotated[
    int, typer.Option(callback=at_least(1), help="Examples per step.")
]
LearningRateOption = Annotated[
    float,
    typer.Option(
        callback=checked(
            checks.check_real,
            lambda value: 0 < value < math.inf,
            "positive",
            cure="Leave it out for a good start.",
        ),
        help="The learning rate of Adam.",
    ),
]
SequenceLengthOption = Annotated[
    int | None,
    typer.Option(
        callback=at_least(1),
        help="Maximum number of tokens in an example. Longer ones are left "
        "out.",
    ),
]
TemplateOption = Annotated[
    str,
    typer.Option(
        parser=one_of(TEMPLATES), metavar="NAME", help=", ".join(TEMPLATES)
    ),
]
ValidationOption = Annotated[
    float | None,
    typer.Option(
        help="Share of the examples to hold out and measure on; 0 for none. "
        "Default: 0.1, or none if there are too few different examples."
    ),
]


def check_out(out, force, options, known):
    """Refuse the folder of another run, as far as it shows without a model.

    Args:
        out: path, or `None` if it is going to be named after the run.
        force: bool.
        options: dict of all options that decide the run. Those of files are
            digests.
        known: names of those that the library records, too.

    Raises:
        UserError: it has a file of somebody else.
        RunError: it holds another run.
    """
    if out is None:
        return
    files.check_unchanged([out / ADAPTERS, out / OPTIONS], force)
    former = read_options(out)
    different = [
        f"another `{name}`"
        if name in ("data", "lora")
        else f"`{name}={former[name]}`, not {value}"
        for name, value in options.items()
        if name in former
        and value != former[name]
        # What the model itself decides is compared once it is loaded.
        and not {value, former[name]} & {None, DEFAULT_TEMPLATE}
    ]
    if different and files.has_results(out / "checkpoint"):
        raise RunError(
            f"`out` must hold one run only. Received: {out}, with a run of "
            f"{' and of '.join(different)}. Use another `out`, or the "
            "original options."
        )
    files.check_same_run(
        out / "checkpoint", {name: options[name] for name in known}
    )


def read_options(out):
    """Return the options that the run in a folder began with: a dict."""
    try:
        return dict(json.loads((out / OPTIONS).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return {}  # the run keeps a record of its own


def note_options(out, options):
    """Record the options of a new run."""
    if not files.has_results(out / "checkpoint"):
        with files.whole_file(out / OPTIONS) as file:
            json.dump(options, file, indent=2)
        files.remember(out / OPTIONS)


def save(model, out):
    """Write the adapters of a model; return their path."""
    adapters = out / ADAPTERS
    model.save_lora(adapters)
    files.remember(adapters)
    return adapters


def full_name(preset):
    """Return the name of a preset, with an absolute path if it is a path."""
    from kerasllm import gguf, presets

    if preset in presets.OFFLINE_PRESETS or preset == gguf.SMOLLM2:
        return preset
    is_path = gguf.gguf_path(preset) is not None or os.path.isdir(preset)
    return os.path.abspath(preset) if is_path else preset


def hold_out(examples, validation, seed, split):
    """Return the examples to train on, and the held-out ones or `None`.

    Args:
        examples: list.
        validation: float, the share to hold out; `None` for a tenth, or for
            none if there are too few.
        seed: int.
        split: `instructions.split_examples`, or what splits others.
    """
    share = 0.1 if validation is None else validation
    if not 0 <= share < 1:
        raise UsageError(
            "--validation must be at least 0, for none, and below 1. Received: "
            f"{validation}. 0.1 is usual."
        )
    if share == 0:
        return examples, None
    try:
        train, held_out = split(examples, share, seed)
    except UserError:  # one side would be empty
        if validation is None:
            print(
                "Too few different examples to hold some out: all are trained "
                "on."
            )
            return examples, None
        raise UsageError(
            "--validation must leave examples to train on and to measure on. "
            f"Received: {validation} of {len(examples)} examples, where equal "
            "ones stay together. Choose another share or --seed, or 0 to "
            "train on all."
        ) from None
    print(
        f"{len(held_out)} of {len(examples)} examples are held out to measure "
        "on."
    )
    return train, held_out


def _tokenize(tokenized, model, examples, sequence_length):
    """Return an object of the class `tokenized`; see `report_lengths`."""
    return tokenized.of(
        examples,
        model.causal_lm.preprocessor,
        model.template,
        sequence_length,
        "--data",
    )


def report_lengths(tokenized, model, examples, sequence_length):
    """Print how many examples are short enough, and return that number.

    Args:
        tokenized: `TokenizedInstructions` or `TokenizedPairs`, the class.
        model: a `ChatModel`.
        examples: list of what it takes.
        sequence_length: int.
    """
    tokenized = _tokenize(tokenized, model, examples, sequence_length)
    left_out = tokenized.num_too_long
    count = len(examples) - left_out
    print(f"Training on {count} of {len(examples)} examples.", end="")
    if left_out:
        print(
            f" {left_out} have more than {sequence_length} tokens and are left "
            f"out: shorten them, or use --sequence-length {tokenized.longest}.",
            end="",
        )
    print(flush=True)
    # The library would say this again, and about the held-out examples, too.
    warnings.filterwarnings("ignore", message=".* and left out")
    return count


def count_short(tokenized, model, examples, sequence_length):
    """Return how many examples are short enough: an int.

    Args:
        tokenized: as for `report_lengths`.
        model: a `ChatModel`.
        examples: list of what it takes, or `None` for 0.
        sequence_length: int.
    """
    if not examples:
        return 0
    tokenized = _tokenize(tokenized, model, examples, sequence_length)
    return len(examples) - tokenized.num_too_long


def counted(number, noun):
    """Return "1 pair" or "1,200 pairs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def expectations(preset, num_examples):
    """Yield lines on what would help a model that was tuned."""
    if num_examples < FEW_EXAMPLES:
        yield (
            f"{num_examples} examples are few: expect the model to repeat "
            "them, and to know nothing else. Some hundreds are usual."
        )
    if preset == "tiny":
        yield (
            "The preset tiny knows an invented world only. For real questions, "
            "tune a real model, such as --preset smollm2 or gemma3_1b."
        )


def load(preset, dtype, template, rank, targets, seed, adapters=None):
    """Load a preset with adapters; print a report on both.

    Args:
        preset: str.
        dtype: str or `None`.
        template: str.
        rank: int, of new adapters.
        targets: list of str, of new adapters.
        seed: int.
        adapters: path of a file of adapters, instead of new ones.

    Returns:
        A `ChatModel`.
    """
    import keras

    from kerasllm import lora, presets
    from kerasllm.chat import ChatModel

    with contextlib.suppress(presets.UnknownSizeError):
        print(presets.estimate_memory(preset, dtype or "float32", rank))
    # The adapters begin at random. Seed before a tokenizer exists: seeding
    # TensorFlow clears its kernels, and the vocabularies in them.
    keras.utils.set_random_seed(seed)
    # What is printed would stand behind the line that shows the time.
    with working(f"Loading {preset}"), quiet():
        model = ChatModel.from_preset(preset, dtype, template)
    if adapters is None:
        print(model.enable_lora(rank, targets))
    else:
        model.load_lora(adapters)
        print(lora.LoraReport.of(model.causal_lm))
    return model


def default_folder(kind, options, sequence_length, template):
    """Return a folder in the cache that belongs to this run alone.

    It is named after everything that decides the run except the number of
    epochs, since a run with more epochs continues it.
    """
    decisions = options | {
        "sequence_length": sequence_length,
        "template": dataclasses.asdict(template),
    }
    digest = hashlib.sha256(json.dumps(decisions).encode()).hexdigest()
    return files.cache_dir("runs") / f"{kind}-{digest[:12]}"


def chat_command(preset, adapters, template, dtype):
    """Return the command that asks the tuned model."""
    command = ["kerasllm", "chat", "--preset", preset, "--lora", str(adapters)]
    if template != DEFAULT_TEMPLATE:
        command += ["--template", template]
    if dtype is not None:
        command += ["--dtype", dtype]
    return shlex.join(command)
