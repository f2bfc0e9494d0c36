"""Stage 6: an instruction model is asked about pictures."""

import dataclasses

from PIL import Image

from kerasllm import files, toyworld
from kerasllm.evaluation import ask_all, exact_share
from kerasllm.gemma import Gemma
from kerasllm.progress import quiet
from kerasllm.tiny_gemma import TEST_SEED
from kerasllm.tour._commands import ask_command

NUM_PICTURES = 60
NUM_SHOWN = 5
SEED = TEST_SEED + 7
# Which of the first pictures that are drawn from this seed were also drawn for
# training, to the pixel. They have a single shape each. To draw the 85,000
# pictures of training again, as `unseen_pictures` does, takes half a minute.
SEEN = frozenset((1, 4, 9, 21, 24, 25, 30, 32, 47, 53, 55, 59, 60))
# What the questions are about. The shipped models learned the British
# spelling.
SPELLINGS = {"colour": "color"}


@dataclasses.dataclass(frozen=True)
class Seen:
    """What stage 6 measured.

    Attributes:
        shares: dict from what was asked for, such as `"color"`, to a dict of
            `Share`: exact answers with the picture, without it, and with
            another one.
        pictures: list of `toyworld.Picture`, some of those that were shown.
        questions: list of str, one for each of them.
        answers: list of str, one for each of them.
        paths: list of paths, the files of these pictures.
    """

    shares: dict
    pictures: list
    questions: list
    answers: list
    paths: list


def measure_pictures(report, directory):
    """Ask the instruction model about pictures that it has never seen.

    Args:
        report: `LiveReport`.
        directory: path of the tour. Gets some of the pictures.

    Returns:
        `Seen`.
    """
    with quiet():  # TensorFlow Text writes a line that no log level stops
        gemma = Gemma.from_preset("tiny_instruct")
    pictures = unseen_pictures()
    others = pictures[1:] + pictures[:1]
    shares, shown_answers = {}, []
    for asked in zip(*(p.questions() for p in pictures), strict=True):
        what = SPELLINGS.get(asked[0].kind, asked[0].kind)
        shares[what] = {}
        for which, shown in (
            ("with the picture", pictures),
            ("without a picture", None),
            ("with the wrong picture", others),
        ):
            with report.working(f"Asking for the {what}, {which}"):
                answers = ask_all(gemma, asked, shown)
            shares[what][which] = exact_share(answers, asked)
            report.say(f"{what}, {which}: {shares[what][which]:.1%} exact")
            shown_answers = shown_answers or answers
    shown = pictures[:NUM_SHOWN]
    return Seen(
        shares,
        shown,
        [picture.questions()[0].text for picture in shown],
        shown_answers[:NUM_SHOWN],
        _save(shown, directory),
    )


def unseen_pictures():
    """Draw pictures that are none of those that the model was trained on."""
    drawn = toyworld.pictures(NUM_PICTURES + len(SEEN), SEED)
    return [
        picture for number, picture in enumerate(drawn) if number not in SEEN
    ]


def _save(pictures, directory):
    """Write pictures to files, which lose nothing; return their paths."""
    folder = directory.resolve() / "pictures"
    folder.mkdir(exist_ok=True)
    paths = []
    for number, picture in enumerate(pictures, start=1):
        paths.append(folder / f"{number}.png")
        Image.fromarray(picture.image).save(paths[-1])
        files.remember(paths[-1])
    return paths


def write_pictures(report, seen):
    """Tell what the model sees, with the controls that show that it does.

    Args:
        report: `LiveReport`.
        seen: `Seen`.
    """
    report.text(
        "The package has a second model, tiny_instruct, that was also tuned "
        "on pictures. A vision encoder turns a picture into soft tokens, "
        "which the model reads like the tokens of a text. We ask it about "
        f"{NUM_PICTURES} pictures that it has never seen."
    )
    report.pictures(
        [picture.image for picture in seen.pictures],
        [
            f"{question} {answer}"
            for question, answer in zip(
                seen.questions, seen.answers, strict=True
            )
        ],
        [picture.caption for picture in seen.pictures],
    )
    report.text("Ask about the first of them yourself:")
    report.code(
        ask_command(seen.questions[0], "tiny_instruct", image=seen.paths[0])
    )
    report.subheading("Does it look?")
    report.text(
        "A model that guesses well may seem to see. So we ask each question "
        "three times: with the picture, without a picture, and with the wrong "
        "picture. A model that looks at the picture answers well in the first "
        "case only."
    )
    for what, shares in seen.shares.items():
        report.shares(f"Exact answers about the {what}", shares)
    what, shares = next(iter(seen.shares.items()))
    report.highlight(
        f"{shares['with the picture']:.1%}",
        f"exact answers about the {what} in new pictures "
        f"({shares['without a picture']:.1%} without the picture)",
    )
    report.text("This command asks more questions about more pictures:")
    report.code("python -m kerasllm.tiny_gemma --measure")
