"""The main job: the whole life of a small language model, and a report.

`run` collects text, trains a vocabulary and a mini-GPT, writes with every
sampling strategy, tunes a tiny Gemma on instructions, asks it about a world
that it knows and about pictures, and sets down what it saw in one page,
`report.html`, with commands to see it again. Each stage has a file here.
"""

import pathlib

from kerasllm import files
from kerasllm.tour._live_report import LiveReport
from kerasllm.tour._machine import report_machine
from kerasllm.tour._pictures import report_pictures
from kerasllm.tour._pretraining import PROMPT, collect_text, pretrain
from kerasllm.tour._tuning import report_tuning
from kerasllm.tour._writing import (
    SEEDS,
    STRATEGIES,
    report_strategies,
    report_writing,
)

__all__ = ["PROMPT", "SEEDS", "STRATEGIES", "run"]


def run(output_directory="kerasllm-tour", recipe="laptop", verbose="auto"):
    """Train, write, measure and report.

    Args:
        output_directory: str or path. Gets `report.html` and, in `model/`,
            the trained model. A tour that was interrupted continues where it
            was; one that is finished is written up again.
        recipe: name of a recipe or a `models.Recipe`.
        verbose: as for Keras's `fit`.

    Returns:
        `pathlib.Path` of the report.

    Raises:
        OSError: the directory is not writable; see `files.check_writable`.
        TrainingInterrupted: Ctrl-C during training; the state is saved.
    """
    directory = pathlib.Path(output_directory)
    files.check_writable(directory)
    report = LiveReport("A tour of kerasllm")

    report.stage("The machine")
    report_machine(report)

    report.stage("1. Text")
    shards = collect_text(report)

    report.stage("2. Words and pretraining")
    trained = pretrain(report, shards, directory, recipe, verbose)

    report.stage("3. Choosing the next token")
    report_strategies(report, trained)

    report.stage("4. Writing")
    report_writing(report, trained, recipe)

    report.stage("5. Instructions and adapters")
    report_tuning(report)

    report.stage("6. Pictures")
    report_pictures(report)

    path = directory / "report.html"
    with files.whole_file(path) as file:
        file.write(report.page())
    report.stage(f"Done: {path}")
    return path
