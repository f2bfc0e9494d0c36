"""The examples that chapter 5 tunes a real model on."""

import collections
import json

import pytest

from kerasllm.files import assets_dir
from kerasllm.instructions import read_jsonl, split_examples

pytestmark = pytest.mark.any_backend
TOPICS = {"animals", "geography", "language", "numbers", "science"}


@pytest.fixture(scope="module")
def examples():
    return read_jsonl(assets_dir() / "json_answers" / "json_answers.jsonl")


def test_each_answer_has_the_form_that_is_taught(examples):
    answers = [json.loads(example.response) for example in examples]
    assert all(list(answer) == ["answer", "topic"] for answer in answers)
    assert all(answer["answer"] for answer in answers)
    topics = collections.Counter(answer["topic"] for answer in answers)
    assert topics == dict.fromkeys(TOPICS, 40)


def test_no_question_is_asked_twice(examples):
    questions = {example.instruction.lower() for example in examples}
    assert len(questions) == len(examples) == 200
    train, held_out = split_examples(examples, 0.2)
    assert len(train) > 100 and len(held_out) > 30


def test_no_question_gives_its_answer_away(examples):
    for example in examples:
        if ", light or sound?" in example.instruction:
            continue  # a choice names both
        answer = json.loads(example.response)["answer"]
        asked = example.instruction.rstrip("?").split()
        assert answer.lower() not in [word.lower() for word in asked]
