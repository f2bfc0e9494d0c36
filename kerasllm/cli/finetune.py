"""`kerasllm finetune`: supervised fine-tuning with adapters (LoRA)."""

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
from kerasllm.cli._options import (
    DEFAULT_TEMPLATE,
    TEMPLATES,
    BackendOption,
    DtypeOption,
    ForceOption,
    PresetOption,
    SeedOption,
    at_least,
    check_folder,
    checked,
    one_of,
)
from kerasllm.cli._start import UsageError, starting
from kerasllm.progress import quiet, working

ADAPTERS = "adapters.lora.h5"
OPTIONS = "options.json"
FEW_EXAMPLES = 100
# A model that has learned to answer chooses among a few tokens at a time.
HIGH_PERPLEXITY = 50

DataOption = Annotated[
    pathlib.Path,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="JSONL, one example per line, or a JSON array. An example has an "
        "instruction (or prompt, question) and a response (or output, "
        "completion, solution, answer). It may have a context (input) and an "
        "image: a path relative to the file's folder, or a URL. Instead, "
        "there may be messages (OpenAI) or conversations (ShareGPT), and each "
        "answer in them is an example.",
    ),
]
OutOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        file_okay=False,
        callback=checked(check_folder),
        help="Folder for adapters.lora.h5. Default: a folder in the cache.",
    ),
]
RankOption = Annotated[
    int,
    typer.Option(callback=at_least(1), help="Inner dimension of the adapters."),
]
TargetsOption = Annotated[
    str,
    typer.Option(help="Layers to adapt: query,value or attention or ..."),
]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        callback=at_least(1),
        help="Passes over the data. Default: 3, or as many as make 100 steps.",
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
            cure="0.001 is a good start.",
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


def finetune(
    data: DataOption,
    out: OutOption = None,
    preset: PresetOption = "tiny",
    rank: RankOption = 8,
    targets: TargetsOption = "query,value",
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = 8,
    learning_rate: LearningRateOption = 1e-3,
    sequence_length: SequenceLengthOption = None,
    template: TemplateOption = DEFAULT_TEMPLATE,
    validation: ValidationOption = None,
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    backend: BackendOption = None,
    force: ForceOption = False,
):
    """Tune a model on instructions, with adapters (LoRA).

    After an interruption, run the same command again to continue.
    """
    from kerasllm import instructions

    # Report mistakes that can be found before the model is loaded.
    preset = _full_name(preset)
    targets = [target.strip() for target in targets.split(",")]
    options = {
        "data": files.sha256(data), "preset": preset, "rank": rank,
        "targets": ",".join(targets), "batch_size": batch_size,
        "learning_rate": learning_rate, "sequence_length": sequence_length,
        "template": template, "validation": validation, "seed": seed,
        "dtype": dtype,
    }  # fmt: skip
    _check_out(out, force, options)
    examples = instructions.read_jsonl(data)
    train, held_out = _split(examples, validation, seed)
    with working(f"Loading {preset}"):
        with starting(backend):
            import kerasllm.chat  # noqa: F401  It starts the backend.

        model = _load(preset, dtype, template, rank, targets, seed)
    longest = model.causal_lm.preprocessor.sequence_length
    sequence_length = sequence_length or longest  # 0 is refused above
    if out is None:
        out = _default_folder(options, sequence_length, model.template)
    num_trained_on = _report_lengths(model, train, sequence_length)
    _note_options(out, options)
    history = model.finetune(
        train,
        held_out,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        sequence_length=sequence_length,
        seed=seed,
        directory=out / "checkpoint",
    )
    command = _chat_command(preset, _save(model, out), template, dtype)
    said = _what_to_expect(preset, num_trained_on, history)
    print(*said, "Ask the tuned model with", f"  {command}", sep="\n")


def _check_out(out, force, options):
    """Refuse the folder of another run, as far as it shows without a model."""
    if out is None:
        return  # the folder is going to be named after the run
    files.check_unchanged([out / ADAPTERS, out / OPTIONS], force)
    former = _read_options(out)
    different = [
        "another `data`"
        if name == "data"
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
    known = ("learning_rate", "batch_size", "seed")
    known = {name: options[name] for name in known}
    files.check_same_run(out / "checkpoint", known)


def _read_options(out):
    """Return a dict of the options that the run in a folder began with."""
    try:
        return dict(json.loads((out / OPTIONS).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return {}  # the run keeps a record of its own


def _note_options(out, options):
    """Record the options of a new run."""
    if not files.has_results(out / "checkpoint"):
        with files.whole_file(out / OPTIONS) as file:
            json.dump(options, file, indent=2)
        files.remember(out / OPTIONS)


def _report_lengths(model, examples, sequence_length):
    """Print how many examples are short enough, and return that number."""
    from kerasllm import instructions

    tokenized = instructions.TokenizedInstructions.of(
        examples,
        model.causal_lm.preprocessor,
        model.template,
        sequence_length,
        "--data",
    )
    count, left_out = len(tokenized.token_ids), tokenized.num_too_long
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


def _what_to_expect(preset, num_examples, history):
    """Yield lines on what the tuned model can do, and what would help."""
    last = history[-1] if history else {}
    perplexity = last.get("val_perplexity", last.get("perplexity"))
    if perplexity is not None:
        where = "held-out" if "val_perplexity" in last else "training"
        yield f"Perplexity on the {where} examples: {perplexity:,.1f}."
        if perplexity > HIGH_PERPLEXITY:
            yield (
                "That is high: expect no sensible answers yet. Train longer, "
                "with --epochs, or on more examples."
            )
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


def _save(model, out):
    """Write the adapters of a model; return their path."""
    adapters = out / ADAPTERS
    model.save_lora(adapters)
    files.remember(adapters)
    return adapters


def _full_name(preset):
    """Return the name of a preset, with an absolute path if it is a path."""
    from kerasllm import gguf, presets

    if preset in presets.OFFLINE_PRESETS or preset == gguf.SMOLLM2:
        return preset
    is_path = gguf.gguf_path(preset) is not None or os.path.isdir(preset)
    return os.path.abspath(preset) if is_path else preset


def _split(examples, validation, seed):
    """Return the examples to train on, and the held-out ones or `None`."""
    from kerasllm import instructions

    share = 0.1 if validation is None else validation
    if not 0 <= share < 1:
        raise UsageError(
            "--validation must be at least 0, for none, and below 1. Received: "
            f"{validation}. 0.1 is usual."
        )
    if share == 0:
        return examples, None
    try:
        train, held_out = instructions.split_examples(examples, share, seed)
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


def _load(preset, dtype, template, rank, targets, seed):
    """Load a preset and add adapters to it; print a report on both."""
    import keras

    from kerasllm import presets
    from kerasllm.chat import ChatModel

    with contextlib.suppress(presets.UnknownSizeError):
        print(presets.estimate_memory(preset, dtype or "float32", rank))
    # The adapters begin at random. Seed before a tokenizer exists: seeding
    # TensorFlow clears its kernels, and the vocabularies in them.
    keras.utils.set_random_seed(seed)
    with quiet():
        model = ChatModel.from_preset(preset, dtype, template)
    print(model.enable_lora(rank, targets))
    return model


def _default_folder(options, sequence_length, template):
    """Return a folder in the cache that belongs to this run alone.

    It is named after everything that decides the run except the number of
    epochs, since a run with more epochs continues it.
    """
    decisions = options | {
        "sequence_length": sequence_length,
        "template": dataclasses.asdict(template),
    }
    digest = hashlib.sha256(json.dumps(decisions).encode()).hexdigest()
    return files.cache_dir("runs") / f"adapters-{digest[:12]}"


def _chat_command(preset, adapters, template, dtype):
    """Return the command that asks the tuned model."""
    command = ["kerasllm", "chat", "--preset", preset, "--lora", str(adapters)]
    if template != DEFAULT_TEMPLATE:
        command += ["--template", template]
    if dtype is not None:
        command += ["--dtype", dtype]
    return shlex.join(command)
