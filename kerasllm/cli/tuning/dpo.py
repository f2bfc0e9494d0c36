"""`kerasllm dpo`: learning from preferences with adapters (LoRA)."""

import math
import pathlib
from typing import Annotated

import typer

from kerasllm import checks, files
from kerasllm.cli._folders import check_adapters
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
    one_of,
)
from kerasllm.cli._start import UsageError, starting
from kerasllm.cli.tuning._runs import (
    ADAPTERS,
    BatchSizeOption,
    LearningRateOption,
    OutOption,
    SequenceLengthOption,
    TemplateOption,
    ValidationOption,
    chat_command,
    check_out,
    check_targets,
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

LOSS_TYPES = ("sigmoid", "hinge", "ipo", "sigmoid_norm")
# What the library records of a run, under the same names, with the objective.
RECORDED = ("learning_rate", "batch_size", "seed")
DEFAULT_RANK = 8
DEFAULT_TARGETS = "query,value"

DataOption = Annotated[
    pathlib.Path,
    typer.Option(
        exists=True,
        dir_okay=False,
        callback=checked(check_file),
        help="JSONL, one object per line, or a JSON array. An object has a "
        "prompt, a chosen and a rejected response, which may be texts or "
        "lists of messages; or a prompt and a ranking of responses; or two "
        "transcripts (HH-RLHF).",
    ),
]
AdaptersOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        callback=check_adapters,
        help="Adapters to begin with, a file that finetune wrote. They are "
        "trained further, and the file stays as it is.",
    ),
]
RankOption = Annotated[
    int | None,
    typer.Option(
        callback=at_least(1),
        help=f"Inner dimension of new adapters. Default: {DEFAULT_RANK}.",
    ),
]
TargetsOption = Annotated[
    str | None,
    typer.Option(
        callback=checked(check_targets),
        help="Layers that get new adapters: query,value or attention or ... "
        f"Default: {DEFAULT_TARGETS}.",
    ),
]
BetaOption = Annotated[
    float,
    typer.Option(
        callback=checked(
            checks.check_real,
            lambda value: 0 < value < math.inf,
            "positive and finite",
            cure="0.1 is usual.",
        ),
        help="A large one keeps the model close to where it starts.",
    ),
]
LossOption = Annotated[
    str,
    typer.Option(
        parser=one_of(LOSS_TYPES), metavar="NAME", help=", ".join(LOSS_TYPES)
    ),
]
LabelSmoothingOption = Annotated[
    float,
    typer.Option(
        callback=checked(
            checks.check_real,
            lambda value: 0 <= value < 0.5,
            "in [0, 0.5), the share of labels that are wrong",
            cure="0 trusts all labels.",
        ),
        help="Share of the labels that are assumed wrong.",
    ),
]
SftWeightOption = Annotated[
    float,
    typer.Option(
        callback=checked(
            checks.check_real,
            lambda value: 0 <= value < math.inf,
            "at least 0",
            cure="0 is DPO alone.",
        ),
        help="Weight of supervised fine-tuning on the chosen responses, which "
        "keeps them likely.",
    ),
]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        callback=at_least(1),
        help="Passes over the data. Default: 1, or as many as make 100 steps.",
    ),
]


def dpo(
    data: DataOption,
    out: OutOption = None,
    preset: PresetOption = "tiny",
    lora: AdaptersOption = None,
    beta: BetaOption = 0.1,
    loss_type: LossOption = "sigmoid",
    label_smoothing: LabelSmoothingOption = 0.0,
    sft_weight: SftWeightOption = 0.0,
    rank: RankOption = None,
    targets: TargetsOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = 8,
    learning_rate: LearningRateOption = 1e-4,
    sequence_length: SequenceLengthOption = None,
    template: TemplateOption = DEFAULT_TEMPLATE,
    validation: ValidationOption = None,
    seed: SeedOption = 0,
    dtype: DtypeOption = None,
    backend: BackendOption = None,
    force: ForceOption = False,
):
    """Tune a model on preferences (DPO), with adapters (LoRA).

    After an interruption, run the same command again to continue.
    """
    from kerasllm import preferences

    # Report mistakes that can be found before the model is loaded.
    preset = full_name(preset)
    _check_smoothing(label_smoothing, loss_type)
    if lora is not None:
        check_lora(lora, out, rank, targets)
    rank = rank or DEFAULT_RANK  # 0 is refused above
    targets = [name.strip() for name in (targets or DEFAULT_TARGETS).split(",")]
    objective = {
        "beta": beta, "loss_type": loss_type, "sft_weight": sft_weight,
        "label_smoothing": label_smoothing,
    }  # fmt: skip
    options = objective | {
        "data": files.sha256(data), "preset": preset,
        "lora": lora and files.sha256(lora), "rank": rank,
        "targets": ",".join(targets), "batch_size": batch_size,
        "learning_rate": learning_rate, "sequence_length": sequence_length,
        "template": template, "validation": validation, "seed": seed,
        "dtype": dtype,
    }  # fmt: skip
    check_out(out, force, options, (*RECORDED, *objective))
    pairs = preferences.read_preferences(data)
    train, held_out = hold_out(
        pairs, validation, seed, preferences.split_preferences
    )
    with working("Starting"), starting(backend):
        import kerasllm.chat  # noqa: F401  It starts the backend.

    model = load(preset, dtype, template, rank, targets, seed, lora)
    longest = model.causal_lm.preprocessor.sequence_length
    sequence_length = sequence_length or longest
    if out is None:
        out = default_folder("dpo", options, sequence_length, model.template)
    tokenized = preferences.TokenizedPairs, model
    num_trained_on = report_lengths(*tokenized, train, sequence_length)
    num_measured_on = count_short(*tokenized, held_out, sequence_length)
    for line in expectations(preset, num_trained_on):
        print(line, flush=True)  # before the training, which may take hours
    note_options(out, options)
    history = _tune(
        model,
        train,
        held_out,
        **objective,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        sequence_length=sequence_length,
        seed=seed,
        directory=out / "checkpoint",
    )
    command = chat_command(preset, save(model, out), template, dtype)
    print(
        *_what_it_prefers(history, num_trained_on, num_measured_on),
        "Ask the tuned model with",
        f"  {command}",
        sep="\n",
    )


def _tune(model, train, held_out, **options):
    """Call the library, whose reference is the model as it begins."""
    from kerasllm import tuning

    return tuning.dpo(
        model.causal_lm,
        train,
        held_out,
        reference="precomputed",
        template=model.template,
        **options,
    )


def _check_smoothing(label_smoothing, loss_type):
    """Refuse smoothed labels for losses that have no probability in them."""
    if label_smoothing and not loss_type.startswith("sigmoid"):
        raise UsageError(
            "--label-smoothing must be 0 unless --loss-type is sigmoid or "
            f"sigmoid_norm. Received: --label-smoothing {label_smoothing} "
            f"--loss-type {loss_type}. Change one of them"
        )


def check_lora(lora, out, rank, targets):
    """Refuse adapters that would not be what the options say, or not stay."""
    for name, value in (("--rank", rank), ("--targets", targets)):
        if value is not None:
            raise UsageError(
                f"{name} is for new adapters. Received: {name} {value} with "
                "--lora, whose file decides that. Leave one of them out"
            )
    if out is not None and lora.resolve() == (out / ADAPTERS).resolve():
        raise UsageError(
            "--out must be another folder than that of the adapters to begin "
            f"with, which would be replaced. Received: --out {out}"
        )


def _what_it_prefers(history, num_trained_on, num_measured_on):
    """Yield lines on which responses the tuned model prefers."""
    from kerasllm.evaluation import Share

    last = history[-1] if history else {}
    prefix = "val_" if "val_accuracy" in last else ""
    if f"{prefix}accuracy" not in last:
        return
    size = num_measured_on if prefix else num_trained_on
    pairs = counted(size, "held-out pair" if prefix else "pair")
    share = Share(round(last[f"{prefix}accuracy"] * size), size)
    low, high = share.interval()
    yield (
        f"Of {pairs}{'' if prefix else ' that it was trained on'}, the chosen "
        f"response has gained on the rejected one in {share.hits} (95% "
        f"interval {low:.0%} to {high:.0%}). Mean margin of the rewards: "
        f"{last[prefix + 'margin']:.3f}."
    )
    if low <= 0.5 <= high:
        yield (
            "That may be chance, which is half of them. Hold out more, or "
            "train on more."
        )
