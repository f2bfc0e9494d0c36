"""`kerasllm pretrain`: from text to a vocabulary and a mini-GPT."""

import enum
import pathlib
import shlex
from typing import Annotated

import typer

from kerasllm.cli._options import BackendOption, RecipeOption, SeedOption
from kerasllm.cli._start import UsageError, starting

Documents = enum.StrEnum("Documents", ("lines", "files", "paragraphs"))

DataOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH",
        help="Text files or folders, may be repeated; or mini-c4, the "
        "chapter's download. Default: the documentation of the installed "
        "packages.",
    ),
]
DocumentsOption = Annotated[
    Documents, typer.Option(help="What one document in the data is.")
]
OutOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        file_okay=False, help="Folder for the model. Default: in the cache."
    ),
]
SampleOption = Annotated[
    str | None,
    typer.Option(help="A text to continue after each epoch."),
]
DevicesOption = Annotated[
    str,
    typer.Option(
        metavar="N",
        help="How many devices share a batch, or auto: all, or the cores "
        "of a CPU.",
    ),
]


def pretrain(
    data: DataOption = None,
    documents: DocumentsOption = Documents.lines,
    recipe: RecipeOption = "laptop",
    out: OutOption = None,
    seed: SeedOption = 0,
    sample: SampleOption = None,
    devices: DevicesOption = "1",
    backend: BackendOption = None,
):
    """Train a vocabulary and a mini-GPT on text.

    Stopped with Ctrl-C or killed, the same command continues from its last
    checkpoint.
    """
    with starting(backend):
        from kerasllm import backend as running
        from kerasllm import distribution, pretraining, recipes

    sizes = recipes.get_recipe(recipe)
    several = distribution.from_options(devices, sizes.batch_size)
    with distribution.first_process_first():  # one download is enough
        shards = _find_text(data, str(documents))
    if distribution.process_index() == 0:
        print(
            f"Recipe {recipe}, {len(shards)} shards of text, "
            f"{running.name()} on {distribution.describe(several)}.",
            flush=True,
        )
    trained = pretraining.pretrain_mini_gpt(
        sizes,
        shards,
        out,
        seed=seed,
        sample_prompt=sample,
        distribution=several,
    )
    if distribution.process_index() == 0:
        _report(trained, sample or "The")


def _find_text(data, documents):
    """Return the shards that `--data` names."""
    from kerasllm import corpora

    if not data:
        return corpora.local_docs()
    if data == ["mini-c4"]:
        return corpora.mini_c4()
    if "mini-c4" in data:
        raise UsageError(
            "--data mini-c4 must stand alone. Received: it and other paths. "
            "Write ./mini-c4 for a folder of that name."
        )
    return corpora.text_shards(data, documents)


def _report(trained, prompt):
    """Print where the model is, what it reached, and how to use it."""
    print(f"\nThe model of {trained.record['parameters']:,} parameters lies in")
    print(f"  {trained.directory}")
    for name, value in trained.record["history"][-1].items():
        number = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
        print(f"  {name.replace('_', ' '):18} {number}")
    folder = shlex.quote(str(trained.directory))
    print("Generate from it with")
    print(
        f"  kerasllm generate --model {folder} {shlex.quote(prompt)} --top-k 5"
    )
