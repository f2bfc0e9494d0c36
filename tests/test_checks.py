"""What messages show of a value, and which numbers are too large."""

import numpy as np
import pytest

from kerasllm.checks import (
    UserError,
    check_choice,
    check_int,
    check_numbers,
    check_real,
    shown,
)

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    "value",
    [
        "data:image/png;base64," + "A" * 10**6,
        b"\x89PNG" * 10**6,
        ["a long list"] * 10**6,
        {"role": "x" * 10**6},
        10**5000,
        np.zeros((1000, 1000)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_message_shows_the_beginning_of_a_long_value(value):
    assert len(shown(value)) <= 65
    for check in (
        lambda: check_int("n", value, 1, 3),
        lambda: check_real("n", value, lambda number: number < 3, "small"),
        lambda: check_choice("n", value, ("a", "b")),
    ):
        with pytest.raises(UserError) as caught:
            check()
        assert len(str(caught.value)) < 200


def test_a_message_shows_a_short_value_as_python_writes_it():
    assert shown("a\nb") == repr("a\nb")
    assert shown(0.5) == "0.5"
    assert shown("a" * 60) == repr("a" * 60)
    assert shown("a" * 61) == repr("a" * 61)[:60] + "..."


@pytest.mark.parametrize("value", [1e39, 10**400, -1e39])
def test_a_number_that_float32_cannot_hold_is_refused(value):
    with pytest.raises(UserError, match=r"a number, at most 3.4e\+38"):
        check_real("n", value, lambda number: True, "a number")
    check_real("n", 3e38, lambda number: True, "a number")
    check_real("n", float("inf"), lambda number: True, "a number")


def test_half_precision_is_compared_without_warnings(recwarn):
    check_real("n", np.float16(2), lambda number: 0 <= number <= 1e30, "small")
    with pytest.raises(UserError, match="small"):
        check_real("n", np.float16(2), lambda number: number > 1e30, "small")
    assert len(recwarn) == 0


@pytest.mark.parametrize("value", [1, [True, False], np.ones(2), [3, 1.5]])
def test_numbers_are_an_array(value):
    assert check_numbers("n", value).tolist() == np.asarray(value).tolist()


@pytest.mark.parametrize("value", ["1", ["1"], [None], 1j, {}, [[1], [2, 3]]])
def test_what_looks_like_numbers_is_none(value):
    with pytest.raises(UserError, match="`n` must be numbers. Received: n="):
        check_numbers("n", value, cure="Convert them.")
