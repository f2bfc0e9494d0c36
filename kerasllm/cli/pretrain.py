"""`kerasllm pretrain`: from text to a vocabulary and a mini-GPT."""

import dataclasses
import itertools
import os
import pathlib
import shlex
from typing import Annotated

import typer

from kerasllm import files
from kerasllm.cli._options import (
    BackendOption,
    RecipeOption,
    SeedOption,
    at_least,
    check_folder,
    check_prompt,
    checked,
    one_of,
)
from kerasllm.cli._start import UsageError, starting
from kerasllm.progress import working

DOCUMENTS = ("lines", "files", "paragraphs")


def _check_devices(name, devices):
    """Refuse a value that cannot be a number of devices."""
    if devices != "auto" and not (devices.isdecimal() and int(devices) > 0):
        raise UsageError(
            f"--{name} must be auto or a positive number. Received: {devices!r}"
        )


DataOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH",
        help="Text file or folder of .txt files; may be repeated. In a .jsonl "
        "file, the text of each object is a document. Or mini-c4, which "
        "downloads the text of the chapter. Default: the documentation of the "
        "installed packages.",
    ),
]
DocumentsOption = Annotated[
    str,
    typer.Option(
        parser=one_of(DOCUMENTS),
        metavar=f"[{'|'.join(DOCUMENTS)}]",
        help="What counts as one document in text files.",
    ),
]
OutOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        file_okay=False,
        callback=checked(check_folder),
        help="Folder for the model. Default: a folder in the cache.",
    ),
]
SampleOption = Annotated[
    str | None,
    typer.Option(
        callback=checked(check_prompt),
        help="A text to continue after each epoch.",
    ),
]
VocabularySizeOption = Annotated[
    int | None,
    typer.Option(
        callback=at_least(1),
        help="Number of tokens in the vocabulary. Default: the recipe's. A "
        "short text needs fewer; many different characters need more.",
    ),
]
DevicesOption = Annotated[
    str,
    typer.Option(
        metavar="N",
        callback=checked(_check_devices),
        help="Number of devices that share a batch. auto takes all devices, "
        "or the cores of a CPU.",
    ),
]


def pretrain(
    data: DataOption = None,
    documents: DocumentsOption = "lines",
    recipe: RecipeOption = "laptop",
    vocabulary_size: VocabularySizeOption = None,
    out: OutOption = None,
    seed: SeedOption = 0,
    sample: SampleOption = None,
    devices: DevicesOption = "1",
    backend: BackendOption = None,
):
    """Train a vocabulary and a mini-GPT on text.

    If it is stopped with Ctrl-C or killed, run the same command again to
    continue from the last checkpoint.
    """
    from kerasllm import recipes

    sizes = recipes.get_recipe(recipe)
    if vocabulary_size is not None:
        sizes = dataclasses.replace(sizes, vocabulary_size=vocabulary_size)
    shards = None
    # Check the user's own files before a backend starts, which takes seconds.
    if data and data != ["mini-c4"] and not _is_one_of_several():
        shards = _find_text(data, documents)
    if out is not None:
        _check_run(out, sizes, seed, shards)
    if shards is not None:
        _check_text(shards, sizes, out)
    with working("Starting"), starting(backend):
        from kerasllm import backend as running
        from kerasllm import distribution, pretraining

    several = distribution.from_options(devices, sizes.batch_size)
    if shards is None:
        with distribution.first_process_first():  # one download is enough
            shards = _find_text(data, documents)
    if distribution.process_index() == 0:
        print(
            f"Recipe {recipe}, {len(shards)} shard"
            f"{'s' if len(shards) > 1 else ''} of text, "
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


def _is_one_of_several():
    """Return whether other processes train with this one."""
    return any(name.startswith("KERAS_DISTRIBUTION_") for name in os.environ)


def _check_run(out, recipe, seed, shards):
    """Refuse a folder with the results of another run, as far as it shows."""
    identity = {"recipe": recipe.identity(), "seed": seed}
    if shards is not None and files.has_results(out):
        identity["data"] = [files.sha256_once(path) for path in shards]
    files.check_same_run(out, identity)


def _check_text(shards, recipe, out):
    """Refuse text that is too short for a recipe, as far as it shows."""
    from kerasllm import tokenizers

    if out is not None and (out / files.VOCABULARY_FILE).is_file():
        return  # the run has begun
    with working("Looking at the text", at_once=False):
        if len(list(itertools.islice(_documents(shards), 2))) < 2:
            raise UsageError(
                "--data must have several documents, for some are held out to "
                "validate with. Received: a single one. Use --documents "
                "paragraphs for a long text, or give more text."
            )
        tokenizers.check_vocabulary_size(shards, recipe.vocabulary_size)


def _documents(shards):
    """Yield the documents of shards, as bytes."""
    for path in shards:
        with open(path, "rb") as file:
            yield from filter(bytes.strip, file)


def _find_text(data, documents):
    """Return the shards that `--data` names."""
    from kerasllm import corpora

    if data and "mini-c4" in data and len(data) > 1:
        raise UsageError(
            "--data mini-c4 must stand alone. Received: it and other paths. "
            "Write ./mini-c4 for a folder of that name."
        )
    with working("Reading the text", at_once=False):
        if not data:
            return corpora.local_docs()
        if data == ["mini-c4"]:
            return corpora.mini_c4()
        return corpora.text_shards(data, documents)


def _report(trained, prompt):
    """Print where the model is, how well it did, and how to use it."""
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
