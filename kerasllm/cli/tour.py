"""`kerasllm tour`: the whole life of a small language model, and a report."""

import pathlib
from typing import Annotated

import typer

from kerasllm import files
from kerasllm.cli._options import (
    BackendOption,
    ForceOption,
    RecipeOption,
    check_folder,
    checked,
)
from kerasllm.cli._start import starting
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
    recipe: RecipeOption = "laptop",
    backend: BackendOption = None,
    force: ForceOption = False,
):
    """Train a small model, write with it, and report: the main job.

    Works offline and takes some minutes on two cores.
    """
    from kerasllm import recipes

    identity = {"recipe": recipes.get_recipe(recipe).identity()}
    files.check_same_run(out / "model", identity)
    files.check_unchanged([out / name for name in FILES], force)
    with working("Starting"), starting(backend):
        from kerasllm import tour

    tour.run(out, recipe=recipe)
