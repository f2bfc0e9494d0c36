"""Calls from the tests' process to the submission's, and their answers."""

import base64
import collections
import functools
import json
import re
import sys

import numpy as np
import pytest

from kerasllm import homework
from tests.homework.tiny_course import cell

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -(2**70), 0.1, float("inf"), "é\n'\"", b"\0\xff",
        [1, (2, [3])], {"a": {1: (b"b", b"c")}}, {1, 2}, frozenset("ab"),
        ["list", [1]], {(b"a", b"b"): 2},
    ],
)  # fmt: skip
def test_data_comes_back_as_it_was(value):
    text = json.dumps(homework.encode(value, None))
    again = homework.decode(json.loads(text))
    assert again == value and type(again) is type(value)


@pytest.mark.parametrize("dtype", ["int32", "float32", "bool", "uint8"])
def test_arrays_come_back_as_they_were(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    text = json.dumps(homework.encode(array, None))
    again = homework.decode(json.loads(text))
    assert again.dtype == array.dtype and np.array_equal(again, array)
    scalar = homework.decode(homework.encode(array[1, 1], None))
    assert type(scalar) is type(array[1, 1])


def test_what_claims_to_be_data_is_not_taken_for_it():
    class Yes(int):
        def __eq__(self, other):
            return True

        __hash__ = int.__hash__

    encoded = homework.encode([Yes(1)], [])
    (received,) = homework.decode(encoded)
    assert type(received) is int and received != 2

    class Evil:
        def __eq__(self, other):
            return True

    encoded = homework.encode(Evil(), [])
    assert homework.decode(encoded, object()) != 1
    with pytest.raises(TypeError, match="must be data. Received: .* Evil"):
        homework.encode(Evil(), None)


def test_what_serves_for_a_list_or_a_dict_is_one():
    for value, expected in [
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        ((x for x in "ab"), ["a", "b"]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.items(), [("a", 1)]),
        (np.float32(0.5), np.float32(0.5)),
    ]:
        again = homework.decode(homework.encode(value, None))
        assert again == expected and type(again) is type(expected)


@pytest.mark.parametrize(
    "value",
    [["eval", "1"], ["array", ["O", [1], "AAAAAAAAAAA="]], ["list"], [], {}],
)
def test_nothing_else_can_be_sent(value):
    with pytest.raises((ValueError, TypeError, KeyError)):
        homework.decode(value)


def test_a_function_of_a_notebook_answers(monkeypatch):
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "halve", lambda x: x // 2, raising=False)
    main.halve.__module__ = "__main__"
    monkeypatch.setattr(main, "counter", collections.Counter, raising=False)

    class Direct(homework.Student):
        """Sends no message: the other process is this one."""

        def __init__(self):
            self.timeout = 1
            self.client = self

        def execute(self, code, user_expressions, **options):
            request = re.search(r"serve\('(.*)'\)", user_expressions["answer"])[
                1
            ]
            text = repr(homework.serve(request))
            answer = {"data": {"text/plain": text}}
            return {"content": {"user_expressions": {"answer": answer}}}

    class Layer:
        __module__ = "__main__"

        def __init__(self, factor):
            self.weights = [np.full(2, factor)]

        def scale(self, x, plus=0):
            return self.weights[0] * x + plus

    monkeypatch.setattr(main, "Layer", Layer, raising=False)
    monkeypatch.setattr(
        main, "apply", lambda layer, x: layer.scale(x), raising=False
    )
    main.apply.__module__ = "__main__"

    student = Direct()
    # An object stays where it is; what it returns is data.
    layer = student.function("Layer")(3)
    assert layer.scale(2, plus=1).tolist() == [7, 7]
    assert layer.weights[0].tolist() == [3, 3]
    assert student.function("apply")(layer, 2).tolist() == [6, 6]
    with pytest.raises(RuntimeError, match="raised AttributeError"):
        _ = layer.bias
    assert student.function("halve")(7) == 3
    made = functools.partial(int.__mul__, 2), np.vectorize(lambda x: x * 2)
    for double in made:
        monkeypatch.setattr(main, "double", double, raising=False)
        assert student.function("double")(3) == 6
    with pytest.raises(TypeError, match="`halve` raised TypeError"):
        student.function("halve")("a")
    with pytest.raises(NameError, match="must define `other`"):
        student.function("other")(1)
    with pytest.raises(NameError, match="written in the notebook. Received"):
        student.function("counter")("a")


def test_what_a_notebook_says_is_cut_on_this_side():
    """There, `serve` can be replaced."""

    class Mute(homework.Student):
        def __init__(self):
            pass

    answer = json.dumps(["error", "ValueError", "x" * 10**6])
    answer = base64.b64encode(answer.encode()).decode()
    answer = {"answer": {"data": {"text/plain": repr(answer)}}}
    message = {"content": {"user_expressions": answer}}
    with pytest.raises(ValueError, match="`double` raised ValueError") as error:
        Mute()._read(message, ["name", "double"])
    assert len(str(error.value)) < 2 * homework.LONGEST_MESSAGE


@pytest.fixture
def judge(nbgrader):
    judge = homework.Judge(60, kernel_name="python3")
    judge.create_kernel_manager()
    judge.start_new_kernel()
    judge.start_new_kernel_client()
    yield judge
    judge.close()


@pytest.mark.once
def test_a_test_passes_only_if_its_kernel_says_so(judge, monkeypatch):
    """Outputs come another way, and may come too late to be seen."""
    monkeypatch.setattr(judge, "output", lambda *arguments: None)
    wrong = cell("print(1)\nassert 1 == 2, 'One is not two.'")
    judge.run(wrong)
    assert homework.failure_of(wrong) == "One is not two."
    right = cell("print(1)\n2.0")
    judge.run(right)
    assert right.outputs == []
    wordy = cell("raise ValueError('x' * 10**6)")
    judge.run(wordy)
    assert len(wordy.outputs[0].evalue) <= homework.LONGEST_MESSAGE


@pytest.mark.once
def test_a_test_has_no_more_time_than_its_submission(judge):
    """However long its calls may take: `judge` allows 60 s."""
    slow = cell("import time\nwhile True: time.sleep(0.1)")
    judge.run(slow, 1)
    assert homework.failure_of(slow) == (
        "TimeoutError: The calls of a test must return within 1 s."
    )
