"""The reader in `assets/retrieval/reader`: it answers from a passage."""

import pytest

from kerasllm import ChatModel
from kerasllm.files import assets_dir
from kerasllm.toyworld import World


@pytest.mark.any_backend
def test_the_reader_reads_about_names_that_no_model_has_read():
    reader = ChatModel.from_preset(assets_dir() / "retrieval" / "reader")
    passages, expected = {}, []
    for entity in World(71, entities_per_kind=3).entities:
        attribute = entity.attributes()[-1]
        fact = {"name": entity.name, "value": entity.facts[attribute.name]}
        question = attribute.questions[0].format(**fact)
        passages[question] = [attribute.sentences[1].format(**fact)]
        expected.append(entity.answer(attribute))
    answers = reader.ask(list(passages), store=passages.get, max_length=160)
    right = [a.text == e for a, e in zip(answers, expected, strict=True)]
    assert sum(right) >= 10  # of twelve; by chance, one in twelve
    without = reader.ask(list(passages), max_length=160)
    right = [a == e for a, e in zip(without, expected, strict=True)]
    assert sum(right) <= 5
