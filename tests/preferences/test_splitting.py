"""Held-out preferences: no prompt is on both sides."""

import pytest

from kerasllm.checks import UserError
from kerasllm.preferences import (
    Preference,
    pairs_from_ranking,
    split_preferences,
)

pytestmark = pytest.mark.any_backend


def test_no_prompt_is_on_both_sides():
    pairs = [
        pair
        for i in range(200)
        for pair in pairs_from_ranking(f"Question {i}", list("abc"))
    ]
    train, held_out = split_preferences(pairs, 0.2, seed=1)
    assert sorted([*train, *held_out], key=pairs.index) == pairs
    asked = {pair.prompt for pair in held_out}
    assert not {pair.prompt for pair in train} & asked
    # 200 prompts at 0.2: 40 with a deviation of 5.7; 5 of these is p < 1e-6.
    assert abs(len(asked) - 40) < 29
    # Order and company do not matter.
    assert set(split_preferences(pairs[::-2], 0.2, 1)[1]) <= set(held_out)
    assert set(split_preferences(pairs, 0.2, 2)[1]) != set(held_out)


def test_what_was_said_before_is_a_part_of_the_prompt():
    """One request after 100 others, and conversations stay together."""
    of = [
        (
            Preference(f"Hi, I am {i}.", "a", "b"),
            Preference("Go on.", "a", "b", messages=[
                ("user", f"Hi, I am {i}."), ("model", "a")]),
        )
        for i in range(100)
    ]  # fmt: skip
    train, held_out = split_preferences([p for pair in of for p in pair], 0.3)
    for side in (train, held_out):
        assert len(side) > 20
        assert {sum(p in side for p in pair) for pair in of} == {0, 2}


def test_what_cannot_be_split():
    pair = Preference("Why?", "a", "b")
    with pytest.raises(UserError, match="Both sides.*2 examples"):
        split_preferences([pair, pair], 0.5)
    with pytest.raises(UserError, match="between 0 and 1"):
        split_preferences([pair, pair], 1)
    with pytest.raises(UserError, match="must be a `Preference`"):
        split_preferences([("Why?", "a", "b")] * 9)
