"""`kerasllm tour` and `kerasllm info`: the tour, and what it would run on."""

import pathlib
import platform
import sys
from importlib import metadata
from typing import Annotated

import typer

import kerasllm
from kerasllm import files
from kerasllm.cli._options import (
    BackendOption,
    ForceOption,
    RecipeOption,
    check_folder,
    checked,
)
from kerasllm.cli._start import BACKENDS, starting
from kerasllm.progress import working

# What a tour writes beside its model.
FILES = (
    "report.html",
    "adapters/answers.lora.h5",
    "adapters/refusals.lora.h5",
    *(f"pictures/{number}.png" for number in range(1, 6)),
)

OutOption = Annotated[
    pathlib.Path,
    typer.Option(
        file_okay=False,
        callback=checked(check_folder),
        help="Folder for report.html, the models and some pictures.",
    ),
]


def tour(
    out: OutOption = pathlib.Path("kerasllm-tour"),
    recipe: RecipeOption = "short",
    backend: BackendOption = None,
    force: ForceOption = False,
):
    """Train a small model, write with it, and write a report.

    This works offline and takes four to eight minutes on two cores.
    """
    from kerasllm import recipes

    identity = {"recipe": recipes.get_recipe(recipe).identity()}
    files.check_same_run(out / "model", identity)
    files.check_unchanged([out / name for name in FILES], force)
    with working("Starting"), starting(backend):
        from kerasllm import tour

    tour.run(out, recipe=recipe)


def info(backend: BackendOption = None):
    """Print versions, backends, the device, the cache, and the recipes."""
    print(f"kerasllm      {kerasllm.__version__}")
    print(f"python        {platform.python_version()} ({sys.executable})")
    for package in ("keras", "keras-hub", *BACKENDS):
        print(f"{package:13} {_version(package)}")
    # What follows imports Keras, which takes seconds.
    sys.stdout.flush()
    with working("Starting", at_once=False), starting(backend):
        from kerasllm import backend as running
        from kerasllm import files, recipes

    print(f"backend       {running.name()}")
    print(f"device        {running.device_name()}")
    print(f"precision     {running.best_dtype_policy()}")
    print(f"cache         {files.cache_dir()}")
    for recipe, sizes in recipes.RECIPES.items():
        print(
            f"recipe        {recipe}: vocabulary {sizes.vocabulary_size:,}, "
            f"{sizes.sequence_length} positions, {sizes.num_layers} layers of "
            f"{sizes.hidden_dim} with {sizes.num_heads} heads, batches of "
            f"{sizes.batch_size}"
        )


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
