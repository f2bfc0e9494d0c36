"""Problems from files, and from a published data set."""

import re

from kerasllm.checks import UserError, check_choice, check_path, shown
from kerasllm.files import cache_dir, download, read_records
from kerasllm.reasoning._problems import Problem
from kerasllm.reasoning.checkers import MARKER, read_number

GSM8K_URL = (
    "https://raw.githubusercontent.com/openai/grade-school-math/master/"
    "grade_school_math/data/{split}.jsonl"
)
_QUESTIONS = ("question", "prompt", "problem")
_END = "####"  # before the answer, in GSM8K
# Of a calculator: `48/2 = <<48/2=24>>24`.
_ANNOTATION = re.compile(r"<<[^<>\n]*>>")


def gsm8k(split="train", directory=None, sha256=None, url=None):
    """Return GSM8K: grade school problems, each with a worked solution.

    People wrote these 7,473 problems to train on and 1,319 to test on. They
    take two to eight steps. The license is MIT. The file is downloaded once.

    Args:
        split: `"train"` or `"test"`.
        directory: str or path. Where to keep the file. Defaults to the cache.
        sha256: str. What the file must hash to, if it must.
        url: str. Where it is published.

    Returns:
        list of `Problem`, see `read_problems`, with the structure `"gsm8k"`.

    Raises:
        EnvironmentFailure: the file cannot be downloaded.
        UserError: `split` is something else, or the file is no such data.

    Source: Cobbe et al., 2021, arXiv:2110.14168.
    """
    check_choice("split", split, ("train", "test"))
    directory = directory or cache_dir("gsm8k")
    url = url or GSM8K_URL.format(split=split)
    return read_problems(download(url, directory, sha256), "gsm8k")


def read_problems(path, structure=""):
    """Read problems from a file with one JSON object per line.

    An object has a `question` (or `prompt`, `problem`), and an `answer`: a
    number, or text that is one, or as in GSM8K a solution whose last line is
    `#### 42`. A number may come with a `solution`, the steps. Calculator
    annotations such as `<<48/2=24>>` are removed. The solution of a problem
    ends with the marker, as in `ANSWER: 42`, and has as many steps as lines
    before it.

    Args:
        path: str or path of a UTF-8 file. One that begins with `[` is one JSON
            array of such objects.
        structure: str. What to call their structure.

    Returns:
        list of `Problem`.

    Raises:
        MissingFileError: there is no such file.
        UserError: a line is no such object, or there is none; says which.
    """
    path = check_path("path", path)
    problems = [
        _parse(record, where, structure)
        for record, where in read_records(path, "Problems", parse_float=str)
    ]
    if not problems:
        raise UserError(
            f"A file of problems must have at least one. Received: {path}, "
            "which is empty."
        )
    return problems


def _parse(record, where, structure):
    """Return the `Problem` of a JSON object."""
    question = _text(record, _QUESTIONS, where)
    answer = _text(record, ("answer",), where)
    steps, end, number = answer.rpartition(_END)
    if not end:
        steps, number = record.get("solution") or "", answer
    value = read_number(number)
    if value is None or not isinstance(steps, str):
        raise UserError(
            "The `answer` of a problem must be a number, or end with a line "
            f"such as `{_END} 42`, and its `solution` text. Received: {where} "
            f"with {shown(answer[-60:])}."
        )
    steps = _ANNOTATION.sub("", steps)
    lines = [line.strip() for line in steps.splitlines() if line.strip()]
    return Problem(
        question,
        value,
        "\n".join([*lines, f"{MARKER} {value}"]),
        len(lines),
        structure,
    )


def _text(record, keys, where):
    """Return the one value of some keys, a str; a number as JSON has it."""
    values = [record[key] for key in keys if record.get(key) is not None]
    if len(values) == 1 and type(values[0]) is int:
        values = [str(values[0])]
    if len(values) != 1 or not isinstance(values[0], str) or not values[0]:
        raise UserError(
            f"A problem must have one text under {' or '.join(keys)}. "
            f"Received: {where} with {shown(values)}."
        )
    return values[0]
