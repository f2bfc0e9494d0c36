"""The small world: its facts, and who may know them."""

import random

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.toyworld import KINDS, REFUSAL, Entity, World, word_problem
from kerasllm.toyworld._texts import _UNHEARD_OF, state

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def world():
    return World(seed=0)


def test_a_seed_makes_the_world(world):
    same, other = World(seed=0), World(seed=1)
    assert same.entities == world.entities != other.entities
    assert same.documents(3) == world.documents(3) != world.documents(4)
    assert same.instructions() == world.instructions()
    names = [e.name for e in world.entities + world.unknown]
    assert len(set(names)) == len(names)


def test_every_fact_is_written_in_many_phrasings(world):
    texts = [world.documents(seed) for seed in range(40)]
    entity = world.entities[0]
    for attribute in entity.attributes():
        value = entity.facts[attribute.name]
        said = {
            form
            for form in attribute.sentences
            for documents in texts
            for text in documents
            if state(form, entity.name, value) in text
        }
        assert said == set(attribute.sentences)


def test_no_document_states_what_is_not_so(world):
    """Every sentence of an entity's entries is one of its true ones."""
    by_name = {e.name: e for e in world.entities}
    for text in world.documents():
        head, _, rest = text.partition(". ")
        if head not in by_name:
            continue
        entity = by_name[head]
        for attribute in entity.attributes():
            for form in attribute.sentences:
                for value in attribute.values:
                    if state(form, head, value) in rest:
                        assert value == entity.facts[attribute.name]


def test_documents_ask_without_answering(world):
    texts = "\n".join(world.documents())
    assert "?" in texts
    # What a request would be answered with never follows the question.
    for question in world.questions("untaught") + world.questions("taught"):
        assert f"{question.text} {question.answer}" not in texts
        assert f"{question.text}\n{question.answer}" not in texts


def test_requests_are_about_one_half_of_the_facts(world):
    requests = "\n".join(
        f"{example.instruction} {example.response}"
        for seed in range(3)
        for example in [*world.instructions(seed), *world.refusals(seed=seed)]
    )
    asked = {which: set() for which in ("taught", "untaught")}
    for entity in world.entities:
        assert entity.name in requests
        for which, forms in asked.items():
            attributes = entity.attributes(which)
            assert len(attributes) == 2
            for attribute in attributes:
                forms.update(
                    form.format(name=entity.name)
                    for form in attribute.questions
                )
    assert not any(text in requests for text in asked["untaught"])
    for which, forms in asked.items():
        questions = world.questions(which)
        assert len(questions) == 2 * len(world.entities)
        assert {question.text for question in questions} <= forms
    # Each kind of fact is asked about somewhere.
    kinds = {question.kind for question in world.questions("taught")}
    assert kinds == {question.kind for question in world.questions()}


def test_unknown_names_are_nowhere_in_the_documents(world):
    texts = "\n".join(t for seed in range(5) for t in world.documents(seed))
    assert not any(entity.name in texts for entity in world.unknown)
    # Those that are asked about are not those that refusals teach.
    taught = "\n".join(
        example.instruction for example in world.refusals(10_000)
    )
    questions = world.questions("unknown")
    asked = [
        e for e in world.unknown if any(e.name in q.text for q in questions)
    ]
    assert asked and not any(e.name in taught for e in asked)
    assert {q.answer for q in questions} == {REFUSAL}
    assert len(world.refusals(17)) == 17


def test_no_answer_is_likelier_than_chance_allows(world):
    """Values are drawn evenly: the best constant guess is a poor one."""
    for kind, attributes in KINDS.items():
        for attribute in attributes:
            values = [
                e.facts[attribute.name]
                for e in world.entities
                if e.kind == kind
            ]
            # 75 draws of 12 values: more than 20 of one has p < 1e-5.
            assert max(map(values.count, values)) <= 20


def test_sums_add_up():
    rng = random.Random(0)
    for _ in range(200):
        question, steps = word_problem(rng)
        left, right = steps.split(".")[0].split(" = ")
        a, sign, b = left.split()
        total = int(a) + int(b) if sign == "+" else int(a) - int(b)
        assert int(right) == total >= 0
        assert f" {a} " in question and b in question
        assert f"has {total} " in steps
        assert ("gives away" in question) == (sign == "-")


def test_an_unknown_set_of_questions(world):
    with pytest.raises(
        ValueError,
        match="'untaught', 'taught', 'unknown'. Received: which='all'",
    ):
        world.questions("all")


def test_some_posts_are_about_names_that_nobody_has_heard_of(
    world, monkeypatch
):
    made_up = []

    def nobody(self, rng, make=World._nobody):
        made_up.append(make(self, rng))
        return made_up[-1]

    monkeypatch.setattr(World, "_nobody", nobody)
    documents = world.documents(0)
    first = [entity.name for entity in made_up]
    assert len(first) == len(world.entities)
    told = {e.name for e in world.entities + world.unknown}
    assert not told & set(first)
    asked_about = 0
    for name in set(first):
        # By chance a name could be made up twice.
        posts = [text for text in documents if name in text]
        assert len(posts) == first.count(name)
        for post in posts:
            opening, reply = post.split("\n")
            asked_about += opening.endswith("?")
            # Nothing is said of it, and not what a request is answered with.
            assert name not in reply and REFUSAL not in reply
            assert reply.removeprefix("> ") in _UNHEARD_OF
    assert asked_about == len(first) / 2
    world.documents(1)
    second = [entity.name for entity in made_up[len(first) :]]
    # They do not return: there are nine million names.
    assert len(set(first) & set(second)) < 0.02 * len(first)


def test_an_answer_says_it_she_or_he():
    answers = {
        name: Entity(kind, name, {attribute.name: attribute.values[0]}).answer(
            attribute
        )
        for kind, name in (
            ("town", "Aford"),
            ("person", "Ara"),
            ("person", "Areth"),
            ("person", "Arin"),
            ("creature", "Arfox"),
        )
        for attribute in KINDS[kind][:1]
    }
    assert answers == {
        "Aford": "It lies on the river Olm.",
        "Ara": "She works as a baker.",
        "Areth": "She works as a baker.",
        "Arin": "He works as a baker.",
        "Arfox": "It eats worms.",
    }


def test_prefixes_end_where_the_value_begins(world):
    prefixes = world.prefixes()
    assert len(prefixes) == 2 * len(world.entities)
    entries = [t for seed in range(30) for t in world.documents(seed)]
    text = "\n".join(entries)
    for prefix in prefixes[::40]:
        assert f"{prefix.text} {prefix.answer}" in text
    # The name that the first version had.
    assert world.beginnings() == prefixes


def test_numbers_are_ints_and_choices_are_named(world):
    small = World(np.int64(1), np.int32(2))
    assert small.entities == World(1, 2).entities
    assert small.documents(np.int64(3)) == World(1, 2).documents(3)
    assert small.refusals(np.int64(2)) == World(1, 2).refusals(2)
    for call, message in (
        (lambda: World(-1), "`seed` must be an int of at least 0.*seed=-1"),
        (lambda: World(0, True), "`entities_per_kind` must be a positive int"),
        (lambda: world.documents(0.5), "`seed` must be an int"),
        (lambda: world.refusals(-1), "`count` must be an int of at least 0"),
        (lambda: world.prefixes("all"), "`which` must be one of 'taught'"),
    ):
        with pytest.raises(UserError, match=message):
            call()
