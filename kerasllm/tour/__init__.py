"""The tour: the whole life of a small language model, with a report.

`run` collects text, trains a vocabulary and a mini-GPT, writes with every
sampling strategy, tunes a tiny Gemma on instructions, asks it about a world
that it knows and about pictures, and asks a real model where one is installed.
It sets down what it saw in one page, `report.html`, with commands to see it
again. Each stage has a file here. What it measures is a value, and another
function writes that value into the report.
"""

import datetime
import pathlib

from kerasllm import files
from kerasllm.tour._live_report import LiveReport
from kerasllm.tour._machine import this_machine, write_about
from kerasllm.tour._next import link_chapters, write_next
from kerasllm.tour._pictures import measure_pictures, write_pictures
from kerasllm.tour._pretraining import (
    PROMPT,
    collect_text,
    pretrain,
    write_pretraining,
    write_text,
)
from kerasllm.tour._real_model import ask_real_model, write_real_model
from kerasllm.tour._tuning import measure_tuning, write_tuning
from kerasllm.tour._writing import (
    SEEDS,
    STRATEGIES,
    write,
    write_strategies,
    write_writing,
)

__all__ = ["PROMPT", "SEEDS", "STRATEGIES", "run"]


def run(output_directory="kerasllm-tour", recipe="short", verbose="auto"):
    """Train and tune small models, measure them, and write a report.

    Args:
        output_directory: str or path. Gets `report.html`; in `model/`, the
            trained mini-GPT; in `adapters/`, the tuned adapters; in
            `pictures/`, some pictures. A tour that was interrupted continues
            its pretraining where it was; one that is finished is written up
            again.
            Files of these names are replaced.
        recipe: name of a recipe or a `Recipe`.
        verbose: 0 hides how far each stage has come. Otherwise a terminal
            shows a bar, and a pipe gets a line every few seconds.

    Returns:
        `pathlib.Path` of the report.

    Raises:
        OSError: the directory is not writable; see `files.check_writable`.
        TrainingInterrupted: Ctrl-C during training; the state is saved.
    """
    directory = pathlib.Path(output_directory)
    files.check_writable(directory)
    path = directory / "report.html"
    report = LiveReport("A tour of kerasllm", shows_work=verbose != 0)
    machine = this_machine()
    report.say(f"on {machine}")
    _pass_the_stages(report, directory, recipe, machine)
    _write_front(report, machine)
    with files.whole_file(path) as file:
        file.write(report.page())
    files.remember(path)
    report.announce(f"Done: {path}")
    return path


def _pass_the_stages(report, directory, recipe, machine):
    report.stage("1. Text")
    text = collect_text(report)
    write_text(report, text)

    report.stage("2. Pretraining")
    trained, samples = pretrain(report, text, directory, recipe)
    write_pretraining(report, trained, samples, directory, recipe, machine)
    link_chapters(report, directory, 1)

    report.stage("3. Choosing the next token")
    write_strategies(report, trained)
    link_chapters(report, directory, 3)

    report.stage("4. Writing")
    write_writing(report, write(report, trained), machine)
    link_chapters(report, directory, 2, 3)

    report.stage("5. Instructions and adapters")
    tuning = measure_tuning(report, directory)
    write_tuning(report, tuning, machine)
    link_chapters(report, directory, 4, 5)

    report.stage("6. Pictures")
    write_pictures(report, measure_pictures(report, directory))
    link_chapters(report, directory, 6)

    report.stage("7. A real model")
    write_real_model(report, ask_real_model(report))
    link_chapters(report, directory, 4)
    report.end_stage()

    report.heading("8. What next")
    write_next(report, directory, tuning.adapters["refusals"])
    write_about(report, machine, recipe)


def _write_front(report, machine):
    """Say on top what the page is, when it was made, and how long it took."""
    report.lead(
        "This page follows small language models through their whole life. "
        "They learn to continue text, to answer questions, and to say when "
        "they do not know. Everything was trained and measured on the machine "
        "named below."
    )
    minutes, seconds = divmod(round(report.seconds), 60)
    report.byline(
        f"Made on {datetime.date.today():%B %-d, %Y}, in {minutes} minutes "
        f"and {seconds} seconds, on {machine}."
    )
