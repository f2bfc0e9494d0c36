"""A comparison of two responses."""

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.instructions import Instruction
from kerasllm.preferences import Preference

pytestmark = pytest.mark.any_backend


def test_both_responses_follow_the_same_messages():
    messages = [["user", "Hi."], ["model", "Hello."]]
    pair = Preference("Why?", "Because.", "No.", messages=messages)
    chosen, rejected = pair.instructions()
    earlier = (("user", "Hi."), ("model", "Hello."))
    assert chosen == Instruction("Why?", "Because.", messages=earlier)
    assert rejected == Instruction("Why?", "No.", messages=earlier)
    assert pair == Preference("Why?", "Because.", "No.", messages=earlier)


def test_a_margin_is_a_number_or_none():
    assert Preference("a", "b", "c").margin is None
    assert type(Preference("a", "b", "c", np.float32(2)).margin) is float
    for margin in (float("nan"), float("inf"), True, "1"):
        with pytest.raises(UserError, match="`margin` must be a finite"):
            Preference("a", "b", "c", margin)


@pytest.mark.parametrize("part", ["prompt", "chosen", "rejected"])
@pytest.mark.parametrize("value", [None, float("nan"), 3])
def test_each_part_is_text(part, value):
    parts = {"prompt": "a", "chosen": "b", "rejected": "c"} | {part: value}
    with pytest.raises(UserError, match=f"`{part}`"):
        Preference(**parts)
