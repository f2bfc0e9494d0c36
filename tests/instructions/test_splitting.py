"""Held-out examples: no request is on both sides."""

import numpy as np
import pytest

from kerasllm import instructions
from kerasllm.instructions import (
    Instruction,
    TokenizedInstructions,
    split_examples,
)
from kerasllm.prompts import BOOK
from tests.instructions.test_tokenized import PREPROCESSOR

pytestmark = pytest.mark.any_backend


def test_no_request_is_on_both_sides_of_a_split():
    examples = [Instruction(f"q{i % 300}", f"a{i}") for i in range(900)]
    train, held_out = split_examples(examples, 0.2, seed=1)
    assert len(train) + len(held_out) == 900
    assert not {r.instruction for r in train} & {
        r.instruction for r in held_out
    }
    # 300 requests at 0.2: 60 with a deviation of 7; 5 of these is p < 1e-6.
    assert abs(len({r.instruction for r in held_out}) - 60) < 35
    # Order and company do not matter.
    assert set(split_examples(examples[::-1], 0.2, seed=1)[1]) == set(held_out)
    assert set(split_examples(examples, 0.2, seed=2)[1]) != set(held_out)
    for fraction in (0, 1, -1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            split_examples(examples, fraction)
    with pytest.raises(ValueError, match="Both sides.*1 examples"):
        split_examples(examples[:1], 0.5)


def test_a_conversation_stays_together():
    def of(i):
        first = [("user", f"Question {i}"), ("model", "x")]
        return [
            Instruction(f"Question {i}", "x"),
            Instruction("And then?", "y", messages=first),
        ]

    examples = [example for i in range(100) for example in of(i)]
    for part in split_examples(examples, 0.3):
        assert len(part) > 20
        for i in range(100):
            assert len([e for e in of(i) if e in part]) in (0, 2)


def test_one_request_about_many_things_is_split_by_these():
    of_texts = [Instruction("Sum up.", "x", f"text {i}") for i in range(300)]
    of_images = [
        Instruction("Which?", "x", images=(np.full((2, 2), i, "uint8"),))
        for i in range(250)
    ]
    for examples in (of_texts, of_images):
        train, held_out = split_examples([*examples, *examples], 0.2)
        # 60 or 50 with a deviation of 7, each of them twice.
        assert abs(len(held_out) / 2 - 0.2 * len(examples)) < 35
        assert not {id(e) for e in train} & {id(e) for e in held_out}


def test_examples_must_be_instructions():
    examples = [{"instruction": "a", "response": "b"}] * 9
    for take in (
        split_examples,
        lambda data: TokenizedInstructions.of(data, PREPROCESSOR, BOOK, 64),
    ):
        with pytest.raises(ValueError, match="an `Instruction`.*read_jsonl"):
            take(examples)


def test_examples_may_come_one_after_another():
    """A generator gives them once only."""
    examples = [Instruction(f"Say {i}", "word") for i in range(40)]
    assert split_examples(iter(examples)) == split_examples(examples)
    with pytest.raises(ValueError, match="`examples` must be a list. Rec"):
        split_examples(3)


def test_the_former_name_splits_in_the_same_way():
    examples = [Instruction(f"q{i}", "a") for i in range(30)]
    expected = instructions.split_examples(examples, 0.3, seed=2)
    assert instructions.split_rows(rows=examples, validation_fraction=0.3,
                                   seed=2) == expected  # fmt: skip
