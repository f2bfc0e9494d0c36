"""`kerasllm finetune`: supervised fine-tuning with adapters (LoRA)."""

import pathlib
from typing import Annotated

import typer

from kerasllm import files
from kerasllm.cli._options import (
    DEFAULT_TEMPLATE,
    BackendOption,
    DtypeOption,
    ForceOption,
    PresetOption,
    SeedOption,
    at_least,
    check_file,
    checked,
)
from kerasllm.cli._start import starting
from kerasllm.cli.tuning._runs import (
    BatchSizeOption,
    LearningRateOption,
    OutOption,
    RankOption,
    SequenceLengthOption,
    TargetsOption,
    TemplateOption,
    ValidationOption,
    chat_command,
    check_out,
    count_short,
    counted,
    default_folder,
    expectations,
    full_name,
    hold_out,
    load,
    note_options,
    report_lengths,
    save,
)
from kerasllm.progress import working

# A model that has learned to answer chooses among a few tokens at a time.
HIGH_PERPLEXITY = 50
# What the library records of a run, under the same names.
RECORDED = ("learning_rate", "batch_size", "seed")

DataOption = Annotated[
    pathlib.Path,
    typer.Option(
        exists=True,
        dir_okay=False,
        callback=checked(check_file),
        help="JSONL, one example per line, or a JSON array. An example has an "
        "instruction (or prompt, question) and a response (or output, "
        "completion, solution, answer). It may have a context (input) and an "
        "image: a path relative to the file's folder, or a URL. Instead, "
        "there may be messages (OpenAI) or conversations (ShareGPT), and each "
        "answer in them is an example.",
    ),
]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        callback=at_least(1),
        help="Passes over the data. Default: 3, or as many as make 100 steps.",
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
    preset = full_name(preset)
    targets = [target.strip() for target in targets.split(",")]
    options = {
        "data": files.sha256(data), "preset": preset, "rank": rank,
        "targets": ",".join(targets), "batch_size": batch_size,
        "learning_rate": learning_rate, "sequence_length": sequence_length,
        "template": template, "validation": validation, "seed": seed,
        "dtype": dtype,
    }  # fmt: skip
    check_out(out, force, options, RECORDED)
    examples = instructions.read_jsonl(data)
    train, held_out = hold_out(
        examples, validation, seed, instructions.split_examples
    )
    with working("Starting"), starting(backend):
        import kerasllm.chat  # noqa: F401  It starts the backend.

    model = load(preset, dtype, template, rank, targets, seed)
    longest = model.causal_lm.preprocessor.sequence_length
    sequence_length = sequence_length or longest  # 0 is refused above
    if out is None:
        out = default_folder(
            "adapters", options, sequence_length, model.template
        )
    tokenized = instructions.TokenizedInstructions, model
    num_trained_on = report_lengths(*tokenized, train, sequence_length)
    num_measured_on = count_short(*tokenized, held_out, sequence_length)
    for line in expectations(preset, num_trained_on):
        print(line, flush=True)  # before the training, which may take hours
    note_options(out, options)
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
    command = chat_command(preset, save(model, out), template, dtype)
    print(
        *_what_to_expect(history, num_trained_on, num_measured_on),
        "Ask the tuned model with",
        f"  {command}",
        sep="\n",
    )


def _what_to_expect(history, num_trained_on, num_measured_on):
    """Yield lines on what the tuned model can do."""
    last = history[-1] if history else {}
    perplexity = last.get("val_perplexity", last.get("perplexity"))
    if perplexity is not None:
        where = counted(num_trained_on, "training example")
        if "val_perplexity" in last:
            where = counted(num_measured_on, "held-out example")
        yield f"Perplexity on {where}: {perplexity:,.1f}."
        if perplexity > HIGH_PERPLEXITY:
            yield (
                "That is high: expect no sensible answers yet. Train longer, "
                "with --epochs, or on more examples."
            )
