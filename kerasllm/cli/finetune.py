"""`kerasllm finetune`: supervised fine-tuning with adapters (LoRA)."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import shlex
from typing import Annotated

import typer

from kerasllm.checks import UserError
from kerasllm.cli._options import (
    DEFAULT_TEMPLATE,
    BackendOption,
    DtypeOption,
    PresetOption,
    SeedOption,
)
from kerasllm.cli._start import UsageError, quiet, starting

DataOption = Annotated[
    pathlib.Path,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="JSONL: an example a line, with an instruction (or prompt, "
        "question) and a response (or output, solution, answer), maybe a "
        "context (input) and an image: a path from the file's folder, or an "
        "address.",
    ),
]
OutOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        file_okay=False,
        help="Folder for adapters.lora.h5. Default: in the cache.",
    ),
]
RankOption = Annotated[int, typer.Option(help="Inner size of the adapters.")]
TargetsOption = Annotated[
    str,
    typer.Option(help="What to adapt: query,value or attention or ..."),
]
EpochsOption = Annotated[int, typer.Option(help="Passes over the data.")]
BatchSizeOption = Annotated[int, typer.Option(help="Examples in a step.")]
LearningRateOption = Annotated[float, typer.Option(help="The rate of Adam.")]
SequenceLengthOption = Annotated[
    int | None,
    typer.Option(
        help="Length of the longest example in tokens; longer ones are left "
        "out."
    ),
]
TemplateOption = Annotated[
    str, typer.Option(help="gemma, book, alpaca, vicuna or chatml.")
]
ValidationOption = Annotated[
    float | None,
    typer.Option(
        help="Share of the examples that is held out to measure on, 0 for "
        "none. Default: 0.1, or none if too few examples differ."
    ),
]


def finetune(
    data: DataOption,
    out: OutOption = None,
    preset: PresetOption = "tiny",
    rank: RankOption = 8,
    targets: TargetsOption = "query,value",
    epochs: EpochsOption = 3,
    batch_size: BatchSizeOption = 8,
    learning_rate: LearningRateOption = 1e-3,
    sequence_length: SequenceLengthOption = None,
    template: TemplateOption = DEFAULT_TEMPLATE,
    validation: ValidationOption = None,
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    backend: BackendOption = None,
):
    """Tune a model on instructions, with adapters (LoRA).

    Interrupted, it continues when the same command is given again.
    """
    with starting(backend):
        from kerasllm import gemma, instructions, lora, prompts

    # What can be told without the model is told before it is loaded.
    lora.check_rank(rank)
    gemma.check_tuning(
        epochs,
        batch_size,
        learning_rate,
        1 if sequence_length is None else sequence_length,
    )
    preset = _full_name(preset)
    template = prompts.get_template(template)
    targets = [target.strip() for target in targets.split(",")]
    examples = instructions.read_jsonl(data)
    train, held_out = _split(examples, validation, seed)
    model = _load(preset, dtype, template, rank, targets, seed)
    if sequence_length is None:
        sequence_length = model.causal_lm.preprocessor.sequence_length
    if out is None:
        out = _default_folder(
            data, preset, rank, targets, batch_size, learning_rate,
            sequence_length, template, validation, seed, dtype,
        )  # fmt: skip
    model.finetune(
        train,
        held_out,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        sequence_length=sequence_length,
        seed=seed,
        directory=out / "checkpoint",
        verbose=2,
    )
    adapters = out / f"adapters{lora.SUFFIX}"
    model.save_lora(adapters)
    print(_chat_command(preset, adapters, template.name, dtype))


def _full_name(preset):
    """Return a name of a preset that is the same from every folder."""
    from kerasllm import gemma

    if preset in gemma.OFFLINE_PRESETS:
        return preset
    return gemma.preset_source(preset)


def _split(examples, validation, seed):
    """Return examples to train on, and those held out or `None`."""
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
        return instructions.split_examples(examples, share, seed)
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


def _load(preset, dtype, template, rank, targets, seed):
    """Load a preset, add adapters to it, and say what both take."""
    import keras

    from kerasllm import gemma

    with contextlib.suppress(gemma.UnknownSizeError):
        print(gemma.estimate_memory(preset, dtype or "float32", rank))
    # The adapters begin at random. Seed before there is a tokenizer: seeding
    # TensorFlow clears its kernels, and the vocabularies in them.
    keras.utils.set_random_seed(seed)
    with quiet():
        model = gemma.Gemma.from_preset(preset, dtype, template)
    print(model.enable_lora(rank, targets))
    return model


def _default_folder(data, preset, rank, targets, batch_size, learning_rate,
                    sequence_length, template, validation, seed,
                    dtype):  # fmt: skip
    """Return a folder in the cache that is this run's and no other's.

    It is named after all that decides the run except the number of epochs,
    since a run with more of them continues it.
    """
    from kerasllm import files

    decisions = [
        files.sha256(data), preset, rank, targets, batch_size, learning_rate,
        sequence_length, dataclasses.asdict(template), validation, seed, dtype,
    ]  # fmt: skip
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
