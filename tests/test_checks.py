"""What messages show of a value, and which numbers are too large."""

import math
import pathlib

import numpy as np
import pytest

from kerasllm.checks import (
    UserError,
    check_callable,
    check_choice,
    check_int,
    check_list,
    check_lists,
    check_numbers,
    check_path,
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


def test_a_number_must_fit_in_64_bits_but_a_seed():
    with pytest.raises(UserError, match="int, and at most 9223372036854775807"):
        check_int("n", 10**400, 1)
    assert check_int("n", 2**63 - 1, 1) == 2**63 - 1
    assert check_int("seed", 10**400, 0, math.inf) == 10**400
    with pytest.raises(UserError, match="`n` must be an int of at least 0. Re"):
        check_int("n", -1, 0, math.inf)
    with pytest.raises(UserError, match=r"an int in \[1, 3\]. Received: n=4."):
        check_int("n", 4, 1, 3)


def test_what_gives_elements_is_a_list():
    given = (n for n in (1, 2))
    for value in ([1, 2], (1, 2), given, np.array([1, 2]), {1: 0, 2: 0}.keys()):
        assert check_list("n", value) == [1, 2]
    assert check_lists(a=None, b=(1,)) == [None, [1]]


@pytest.mark.parametrize(
    "value", [None, "ab", b"ab", {1: 2}, 3, np.array(3), list, object()]
)
def test_what_gives_no_elements_is_no_list(value):
    with pytest.raises(UserError, match="`n` must be a list of few. Received"):
        check_list("n", value, "a list of few")


def test_a_path_is_a_str_or_a_path():
    for value in ("a/b", pathlib.Path("a/b")):
        assert check_path("p", value) == pathlib.Path("a/b")
    for value in (None, 5, b"a", "", "a\0b", "\ud800", ["a"], object()):
        with pytest.raises(UserError, match="`p` must be a str or a path. Rec"):
            check_path("p", value)


def test_what_cannot_be_called():
    check_callable("f", len)
    with pytest.raises(UserError, match="`f` must be callable.*f=3. Use len."):
        check_callable("f", 3, "Use len.")
