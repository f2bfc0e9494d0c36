"""`kerasllm export`: a model or its adapters, for other programs."""

import os
import pathlib
import shlex
from typing import Annotated

import typer

from kerasllm import files, presets
from kerasllm.cli._folders import check_adapters, check_preset
from kerasllm.cli._options import (
    BackendOption,
    one_of,
)
from kerasllm.cli._start import UsageError, starting
from kerasllm.progress import quiet, working

FORMATS = ("huggingface", "gguf", "peft", "keras")
WEIGHTS = ("f32", "f16", "q8_0")

ModelOption = Annotated[
    str,
    typer.Option(
        callback=check_preset,
        help="A preset, as for chat: a folder that save_to_preset wrote, "
        "smollm2, tiny, or a GGUF file.",
    ),
]
ToOption = Annotated[
    str,
    typer.Option(
        parser=one_of(FORMATS),
        metavar=f"[{'|'.join(FORMATS)}]",
        help="huggingface: a folder for Transformers. gguf: a file for "
        "llama.cpp. peft: the adapters alone, a folder for PEFT. keras: a "
        "folder for KerasHub, and for --preset of any command.",
    ),
]
OutOption = Annotated[
    pathlib.Path, typer.Option(help="New folder, or new file for gguf.")
]
AdaptersOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        "--lora",
        callback=check_adapters,
        help="File that finetune wrote. The adapters are merged into the "
        "weights, or written alone for peft.",
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        parser=one_of(WEIGHTS),
        metavar=f"[{'|'.join(WEIGHTS)}]",
        help=f"Format of the matrices in a GGUF file. Default: {WEIGHTS[1]}.",
    ),
]


def export(
    model: ModelOption,
    to: ToOption,
    out: OutOption,
    adapters: AdaptersOption = None,
    weights: WeightsOption = None,
    backend: BackendOption = None,
):
    """Write a model, tuned or not, for other programs, or as a new preset."""
    if to != "keras":
        _check_family(model)
    _check(to, out, adapters, weights)
    with working(f"Loading {model}"):
        with starting(backend):
            from kerasllm import export as exporting
            from kerasllm import lora

        with quiet():
            causal_lm = presets.load_causal_lm(model)
        if adapters is not None:
            lora.load_lora(causal_lm, adapters)
    with working("Writing"):
        if to == "peft":
            exporting.to_peft(causal_lm, out, base=model)
        else:
            if adapters is not None:
                lora.merge_lora(causal_lm)
            if to == "gguf":
                exporting.to_gguf(causal_lm, out, weights or WEIGHTS[1])
            elif to == "keras":
                exporting.to_keras_hub(causal_lm, out)
            else:
                exporting.to_hugging_face(causal_lm, out)
    print(f"{out} has been written.")
    if to == "keras":
        command = shlex.join(["kerasllm", "chat", "--preset", str(out)])
        print("It is a preset, which every command takes. Talk with it:")
        print(f"  {command}")


def _check_family(model):
    """Refuse the models of this package, which other programs do not know."""
    if model == presets.DOCS_PRESET or presets.is_run(model):
        raise UsageError(
            "--model must be a Llama that came from a GGUF file, or a Gemma 3. "
            f"Received: {model}, a mini-GPT, which other programs do not know. "
            "Use it with generate and chat."
        )


def _check(to, out, adapters, weights):
    """Refuse mistakes that can be found before the model is loaded."""
    if os.path.lexists(out):
        raise UsageError(
            f"--out must be a new path. Received: {out}, which is there. "
            "Choose another, or remove it."
        )
    if to == "peft" and adapters is None:
        raise UsageError(
            "--to peft must come with adapters. Received: no --lora. Give it "
            "the file that finetune wrote."
        )
    if to != "gguf" and weights is not None:
        raise UsageError(
            "--weights must come with --to gguf. Received: --weights "
            f"{weights} with --to {to}, which has its own. Leave it out."
        )
    files.check_may_write(out.parent)
