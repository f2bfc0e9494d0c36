"""The questions about Python's documentation can be answered from it."""

import functools
import json
import pathlib
import re
import sys
import sysconfig
from pydoc_data.topics import topics

import pytest

from kerasllm.files import assets_dir

pytestmark = pytest.mark.any_backend


@functools.cache
def questions():
    path = assets_dir() / "retrieval/docs_questions.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@functools.cache
def documentation(source):
    """Return a help topic, or a file of the library, with single spaces."""
    if source.startswith("topics/"):
        text = topics[source.removeprefix("topics/")]
    else:
        library = pathlib.Path(sysconfig.get_path("stdlib"))
        text = (library / source).read_text("utf-8")
    return " ".join(text.split())


def has_words(text, words):
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE)


def test_there_are_questions_to_measure_and_others_to_choose_on():
    parts = [question["part"] for question in questions()]
    assert (parts.count("final"), parts.count("choice")) == (50, 15)
    assert len({question["question"] for question in questions()}) == 65


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="It is the text of this Python."
)
def test_the_documentation_has_each_answer():
    for question in questions():
        text = documentation(question["source"])
        missing = {e for e in question["evidence"] if e not in text}
        if sys.version_info < (3, 11, 7):  # where they were written
            missing -= {"See PEP 655"}  # not yet in 3.11.2
        assert not missing, question["source"]
        evidence = " ".join(question["evidence"])
        assert has_words(evidence, question["answers"][0]), question


def test_no_question_gives_its_answer_away():
    for question in questions():
        for answer in question["answers"]:
            assert not has_words(question["question"], answer), question
