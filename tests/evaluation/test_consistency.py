"""The agreement of samples, and what it tells."""

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.evaluation import area_under_curve, sample_agreement

pytestmark = pytest.mark.any_backend


def test_agreement_is_that_with_the_most_common_answer():
    share = sample_agreement(["Olm", "Sarn", "Olm", "Olm"])
    assert (share.hits, share.size) == (3, 4)
    assert sample_agreement(["Olm", "Sarn", "Olm"], "Sarn").hits == 1
    assert sample_agreement(["Olm"], "Tesk") == 0
    with pytest.raises(UserError, match="at least one answer"):
        sample_agreement([])


def test_the_area_by_hand():
    # True: .9 and .4; false: .5 and .1. Of four pairs three are in order.
    scores, flags = [0.9, 0.5, 0.4, 0.1], [True, False, True, False]
    assert area_under_curve(scores, flags) == 0.75
    assert area_under_curve(scores, [not flag for flag in flags]) == 0.25
    assert area_under_curve([1, 1, 1], [True, False, False]) == 0.5
    assert area_under_curve([2, 1], [1, 0]) == 1
    assert area_under_curve([1, 1, 0], [True, False, False]) == 0.75


def test_the_area_is_that_under_the_curve():
    """By the trapezoidal rule, over all thresholds."""
    rng = np.random.default_rng(0)
    flags = rng.random(200) < 0.3
    scores = np.round(rng.normal(size=200) + flags, 1)  # with ties
    points = [(0.0, 0.0)]
    for threshold in sorted(set(scores), reverse=True):
        found = scores >= threshold
        points.append((found[~flags].mean(), found[flags].mean()))
    x, y = np.array(points).T
    expected = np.sum((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2)
    assert area_under_curve(scores, flags) == pytest.approx(expected)


def test_one_kind_of_case_has_no_area():
    with pytest.raises(UserError, match="must have true and false cases"):
        area_under_curve([1, 2], [True, True])
    with pytest.raises(UserError, match="must have true and false cases"):
        area_under_curve([], [])
    with pytest.raises(UserError, match="the same length"):
        area_under_curve([1], [True, False])
    with pytest.raises(UserError, match="must not be NaN.* Received: 1 that"):
        area_under_curve([1, float("nan")], [True, False])
