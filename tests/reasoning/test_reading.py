"""Problems from files and from GSM8K, which a local server serves."""

import json
from fractions import Fraction

import pytest

from kerasllm import reasoning
from kerasllm.checks import UserError
from kerasllm.reasoning import (
    AnswerChecker,
    Problem,
    read_problems,
    right_steps,
)
from tests.serving import serve

pytestmark = pytest.mark.any_backend

# In the form of GSM8K, but not from it.
EGGS = {
    "question": "Mia has 3 hens. Each lays 4 eggs a day. How many in a week?",
    "answer": "They lay 3*4 = <<3*4=12>>12 eggs a day.\nIn a week they lay "
    "12*7 = <<12*7=84>>84 eggs.\n#### 84",
}


def write(path, *records):
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_gsm8k_is_downloaded_once(tmp_path):
    content = json.dumps(EGGS) + "\n"
    with serve(content.encode()) as (url, requests):
        for _ in range(2):
            problems = reasoning.gsm8k("test", tmp_path, url=url)
        assert len(requests) == 1
    (problem,) = problems
    assert problem.prompt == EGGS["question"]
    assert problem.answer == 84
    assert problem.solution == (
        "They lay 3*4 = 12 eggs a day.\nIn a week they lay 12*7 = 84 eggs.\n"
        "ANSWER: 84"
    )
    assert (problem.num_steps, problem.structure) == (2, "gsm8k")
    assert right_steps(problem.solution) == 1
    assert problem.instance == (3, 4)
    checker = AnswerChecker(require_steps=True)
    assert checker([problem], [problem.solution]).tolist() == [1]
    with pytest.raises(UserError, match="'train', 'test'.*'validation'"):
        reasoning.gsm8k("validation", tmp_path)


def test_each_split_has_its_address():
    for split in ("train", "test"):
        address = reasoning.GSM8K_URL.format(split=split)
        assert address.endswith(f"/{split}.jsonl")


def test_numbers_come_in_several_forms(tmp_path):
    path = write(
        tmp_path / "problems.jsonl",
        {"prompt": "a", "answer": 42},
        {"problem": "a", "answer": "1,234"},
        {"question": "a", "answer": 0.1},
        {"question": "a", "answer": "3/4", "solution": "1 - 1/4 = 3/4"},
        {"question": "a", "answer": "It is half.\n#### -1,000"},
    )
    problems = read_problems(path, "mine")
    answers = [problem.answer for problem in problems]
    assert answers == [42, 1234, Fraction(1, 10), Fraction(3, 4), -1000]
    assert problems[0] == Problem("a", 42, "ANSWER: 42", 0, "mine")
    assert problems[3].solution == "1 - 1/4 = 3/4\nANSWER: 3/4"
    solutions = [problem.solution for problem in problems]
    assert AnswerChecker()(problems, solutions).all()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"question": "a"}, "one text under answer.*line 2"),
        ({"answer": 4}, "one text under question or prompt or problem.*line 2"),
        ({"question": "a", "prompt": "b", "answer": 1}, "one text.*line 2"),
        ({"question": 3, "answer": True}, "one text under answer.*line 2"),
        ({"question": "a", "answer": "four"}, "must be a number.*2.*'four'"),
        (
            {"question": "a", "answer": "#### 4 or 5"},
            "must be a number.*line 2",
        ),
        ({"question": "a", "answer": "1", "solution": [1]}, "its `solution`"),
    ],
)
def test_a_bad_line_is_named(tmp_path, record, message):
    path = write(tmp_path / "problems.jsonl", EGGS, record)
    with pytest.raises(UserError, match=message):
        read_problems(path)


def test_a_file_without_problems_is_refused(tmp_path):
    with pytest.raises(UserError, match="at least one"):
        read_problems(write(tmp_path / "problems.jsonl"))
    with pytest.raises(FileNotFoundError, match="gone.jsonl"):
        read_problems(tmp_path / "gone.jsonl")
