"""Stage 7: a real model answers, where it is installed."""

import dataclasses
import json

from kerasllm import gguf
from kerasllm.chat import ChatModel
from kerasllm.checks import EnvironmentFailure
from kerasllm.progress import quiet
from kerasllm.tour._commands import ask_command

PRESET = gguf.SMOLLM2
INSTALL = gguf.INSTALL_SMOLLM2
QUESTION = "What is the capital of France?"
RECORD = {"name": "Ann", "age": 31}
REQUEST = "Write JSON with the name and the age of Ann, who is 31 years old."
MAX_LENGTH = 96  # tokens of the system message, a question and its answer


@dataclasses.dataclass(frozen=True)
class RealModel:
    """What stage 7 saw.

    Attributes:
        parameters: int.
        answer: str, to `QUESTION`.
        json: str, the answer to `REQUEST`.
    """

    parameters: int
    answer: str
    json: str

    @property
    def is_right(self):
        """Whether the JSON can be read and has the right values: a bool."""
        try:
            return json.loads(self.json) == RECORD
        except ValueError:
            return False


def ask_real_model(report):
    """Ask SmolLM2 two questions.

    Args:
        report: `LiveReport`.

    Returns:
        `RealModel`, or `None` if the model is not installed, or the cache has
        no room for its weights.
    """
    try:
        gguf.find_smollm2()
        with report.working(f"Loading {PRESET}"), quiet():
            model = ChatModel.from_preset(PRESET)
    except EnvironmentFailure as error:
        report.say(str(error))
        return None
    answers = []
    for question in (QUESTION, REQUEST):
        with report.working(f"Asking {PRESET}: {question}"):
            answers.append(model.ask(question, max_length=MAX_LENGTH))
        report.say(f"{question} {answers[-1]}")
    return RealModel(model.causal_lm.count_params(), *answers)


def write_real_model(report, real):
    """Tell what a real model answers, or how to install it.

    Args:
        report: `LiveReport`.
        real: `RealModel` or `None`.
    """
    report.text(
        "The models above are tiny, and know little. The same code runs "
        "SmolLM2, a model with 135 million parameters that was trained on two "
        "trillion tokens of web pages, code, and textbooks, and tuned to "
        "answer (Allal et al., 2025)."
    )
    if real is None:
        report.text(
            "Install its file, 98 MB, with the command below. The next tour "
            "then asks it two questions here."
        )
        report.code(INSTALL)
        return
    report.text(
        f"It has {real.parameters:,} parameters, about a hundred times as many "
        "as the mini-GPT, and takes 0.5 GB of memory. It answers in good "
        "English, but it makes mistakes, and many facts are wrong. So check "
        "what it says."
    )
    report.sample(
        "A question", real.answer, _command(QUESTION), f"“{QUESTION}”"
    )
    verdict = "This is valid JSON with the right values."
    if not real.is_right:
        verdict = "This is not the JSON that was asked for."
    report.sample(
        "An answer for a program",
        real.json,
        _command(REQUEST),
        f"“{REQUEST}” {verdict}",
    )


def _command(question):
    return ask_command(question, PRESET, max_length=MAX_LENGTH)
