"""`kerasllm tour`: the whole life of a small language model, and a report."""

import pathlib
from typing import Annotated

import typer

from kerasllm.cli._options import BackendOption, RecipeOption
from kerasllm.cli._start import starting

OutOption = Annotated[
    pathlib.Path,
    typer.Option(file_okay=False, help="Folder for report.html and model."),
]


def tour(
    out: OutOption = pathlib.Path("kerasllm-tour"),
    recipe: RecipeOption = "laptop",
    backend: BackendOption = None,
):
    """Train a small model, write with it, and report: the main job.

    Works offline and takes some minutes on two cores.
    """
    with starting(backend):
        from kerasllm import recipes, tour

    recipes.get_recipe(recipe)  # a wrong name should leave no folder behind
    tour.run(out, recipe=recipe)
