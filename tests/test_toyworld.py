"""The small world: its facts, who may know them, and what can be seen."""

import numpy as np
import pytest

from kerasllm import toyworld
from kerasllm.toyworld import (
    COLORS,
    KINDS,
    REFUSAL,
    SHAPES,
    Entity,
    World,
    pictures,
)

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
            if toyworld._sentence(form, entity.name, value) in text
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
                    if toyworld._sentence(form, head, value) in rest:
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
        f"{row.instruction} {row.response}"
        for seed in range(3)
        for row in [*world.instructions(seed), *world.refusals(seed=seed)]
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
    taught = "\n".join(row.instruction for row in world.refusals(10_000))
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
    import random

    rng = random.Random(0)
    for _ in range(200):
        question, steps = toyworld.word_problem(rng)
        left, right = steps.split(".")[0].split(" = ")
        a, sign, b = left.split()
        total = int(a) + int(b) if sign == "+" else int(a) - int(b)
        assert int(right) == total >= 0
        assert f" {a} " in question and b in question
        assert f"has {total} " in steps
        assert ("gives away" in question) == (sign == "-")


def test_an_unknown_set_of_questions(world):
    with pytest.raises(
        ValueError, match="untaught, taught or unknown.*Received: which='all'"
    ):
        world.questions("all")


def areas(picture):
    """Count connected areas that differ from the ground, by flood fill."""
    left = {
        tuple(p)
        for p in np.argwhere((picture.image != toyworld.BACKGROUND).any(-1))
    }
    sizes = []
    while left:
        queue, size = [left.pop()], 0
        while queue:
            y, x = queue.pop()
            size += 1
            for spot in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if spot in left:
                    left.remove(spot)
                    queue.append(spot)
        sizes.append(size)
    return sizes


def test_pictures_show_what_they_say():
    drawn = pictures(60, seed=1)
    for picture in drawn:
        assert picture.image.shape == (48, 48, 3)
        assert len(areas(picture)) == picture.count
        ink = picture.image[(picture.image != toyworld.BACKGROUND).any(-1)]
        assert set(map(tuple, ink)) == {COLORS[picture.color]}
        number, color, shape = picture.caption.split()
        singular = shape.removesuffix("es" if "cross" in shape else "s")
        assert [q.answer for q in picture.questions()] == [
            f"The colour is {color}.",
            f"The shape is a {singular if picture.count > 1 else shape}.",
            f"The number is {number}.",
        ]
    assert {p.shape for p in drawn} == set(SHAPES)
    assert {p.count for p in drawn} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("shape", "share"),
    # Of the square around it: pi / 4, all, one half, 1 - 4 / 9.
    [("circle", np.pi / 4), ("square", 1), ("triangle", 0.5), ("cross", 5 / 9)],
)
def test_shapes_cover_what_geometry_says(shape, share):
    y, x = np.mgrid[-400:401, -400:401]
    inside = toyworld._inside(shape, y, x, 300)
    assert inside.sum() / 600**2 == pytest.approx(share, abs=0.01)


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
            beginning, reply = post.split("\n")
            asked_about += beginning.endswith("?")
            # Nothing is said of it, and not what a request is answered with.
            assert name not in reply and REFUSAL not in reply
            assert reply.removeprefix("> ") in toyworld._UNHEARD_OF
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


def test_beginnings_end_where_the_value_begins(world):
    beginnings = world.beginnings()
    assert len(beginnings) == 2 * len(world.entities)
    entries = [t for seed in range(30) for t in world.documents(seed)]
    text = "\n".join(entries)
    for beginning in beginnings[::40]:
        assert f"{beginning.text} {beginning.answer}" in text


def test_requests_about_pictures_carry_them():
    drawn = pictures(2, seed=3)
    rows = toyworld.picture_instructions(drawn)
    shown = [picture.image for picture in drawn for _ in range(3)]
    assert all(
        row.images[0] is image for row, image in zip(rows, shown, strict=True)
    )
    assert all(row.instruction.count("<start_of_image>") == 1 for row in rows)
    assert rows[0].response == f"The colour is {drawn[0].color}."
