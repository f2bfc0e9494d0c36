"""Stage 6: an instruction model is asked about pictures."""

from kerasllm import plots
from kerasllm.evaluation import ask_all, exact_share
from kerasllm.gemma import Gemma
from kerasllm.images import IMAGE_TOKEN
from kerasllm.tiny_gemma import TEST_SEED, unseen_pictures

NUM_PICTURES = 60
NUM_SHOWN = 5


def report_pictures(report):
    """Ask the instruction model about pictures that it has never seen."""
    gemma = Gemma.from_preset("tiny_instruct")
    pictures = unseen_pictures(NUM_PICTURES, TEST_SEED + 7)
    table = [
        line for number in range(3) for line in _ask(gemma, pictures, number)
    ]
    for name, figure in table:
        report.say(f"{name}: {figure}")
    report.text(
        "The instruction model that comes with the package, asked about "
        "pictures that it has never seen."
    )
    report.table(["what", "share"], table)
    _draw(report, gemma, pictures[:NUM_SHOWN])
    report.text("All its scores, from more questions and pictures, with")
    report.code("python -m kerasllm.tiny_gemma --measure")


def _ask(gemma, pictures, number):
    """Ask one kind of question with the picture, without, with another."""
    questions = [picture.questions()[number] for picture in pictures]
    others = pictures[1:] + pictures[:1]
    for which, seen in (
        ("with the picture", pictures),
        ("without", None),
        ("with another", others),
    ):
        share = exact_share(ask_all(gemma, questions, seen), questions)
        yield f"{questions[0].kind} of what is shown, {which}", f"{share:.1%}"


def _draw(report, gemma, pictures):
    images = [picture.image for picture in pictures]
    answers = [
        gemma.ask(IMAGE_TOKEN + picture.questions()[0].text, [picture.image])
        for picture in pictures
    ]
    figure = report.empty_figure(width=10)
    plots.plot_pictures(images, answers, figure=figure)
    report.figure(figure, "Pictures, and the color that the model answers.")
