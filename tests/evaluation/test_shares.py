"""Shares of right answers, and the intervals around them."""

import copy
import json
import pickle
import types

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.evaluation import Share, exact_share, refused_share
from kerasllm.toyworld import REFUSAL, Question

pytestmark = pytest.mark.any_backend


def test_a_share_is_a_float_that_keeps_its_size():
    share = Share.of([True, False, np.True_, np.False_])
    assert share == 0.5 and (share.hits, share.size) == (2, 4)
    assert f"{share:.1%}" == "50.0%"
    assert json.dumps({"known": share}) == '{"known": 0.5}'
    for same in (pickle.loads(pickle.dumps(share)), copy.deepcopy(share)):
        assert same == share and (same.hits, same.size) == (2, 4)
    assert Share(np.int64(1), np.int32(4)) == 0.25


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(
    ("hits", "size"), [(0, 1), (1, 1), (0, 40), (30, 40), (599, 600)]
)
def test_the_interval_is_wilsons(hits, size, confidence):
    stats = pytest.importorskip("scipy.stats")
    interval = stats.binomtest(hits, size).proportion_ci(confidence, "wilson")
    assert Share(hits, size).interval(confidence) == pytest.approx(
        (interval.low, interval.high), abs=1e-12
    )


def test_the_example_of_the_docstring():
    low, high = Share(30, 40).interval()
    assert (round(low, 3), round(high, 3)) == (0.598, 0.858)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Share(0, 0), "`size` must be a positive int.*at least one"),
        (lambda: Share.of([]), "`size` must be a positive int"),
        (lambda: Share(True, 2), "`hits` must be an int in .0, 2..*hits=True"),
        (lambda: Share(3, 2), "`hits` must be an int in .0, 2..*hits=3"),
        (lambda: Share(1, 2).interval(95), "`confidence` must be between 0"),
        (
            lambda: Share(1, 2).interval(float("nan")),
            "`confidence` must be between 0 and 1",
        ),
    ],
)
def test_what_is_no_share(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_exact_means_to_the_letter():
    questions = [Question("?", answer, "kind") for answer in "ab"]
    assert exact_share(["a", "b."], questions) == 0.5
    assert exact_share(["a", "b"], questions).size == 2
    # Whatever has an answer counts as a question.
    assert exact_share(["a"], [types.SimpleNamespace(answer="a")]) == 1
    with pytest.raises(UserError, match="same length. Received: 1 and 2"):
        exact_share(["a"], questions)


def test_refusals_are_told_by_their_words():
    share = refused_share([REFUSAL, "It is a bird.", REFUSAL + " No.", REFUSAL])
    assert (share.hits, share.size) == (2, 4)
