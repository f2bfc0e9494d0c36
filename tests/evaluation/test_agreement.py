"""Agreement of labellers and scores."""

import math

import pytest

from kerasllm.checks import UserError
from kerasllm.evaluation import cohens_kappa, preferred_share
from kerasllm.preferences import Preference

pytestmark = pytest.mark.any_backend


def test_kappa_of_a_table():
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no.

    They agree in 35 of 50. The first says yes in 25 of 50 and the second in
    30, so chance gives .5 * .6 + .5 * .4 = .5, and kappa is .2 / .5.
    """
    table = {("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10,
             ("no", "no"): 15}  # fmt: skip
    cases = [labels for labels, n in table.items() for _ in range(n)]
    first, second = zip(*cases, strict=True)
    assert cohens_kappa(first, second) == pytest.approx(0.4)


def test_kappa_of_extremes():
    assert cohens_kappa([1, 2, 0], [1, 2, 0]) == 1
    assert cohens_kappa([1, 2], [2, 1]) == -1
    assert cohens_kappa([1, 1, 2, 2], [1, 2, 1, 2]) == 0
    assert math.isnan(cohens_kappa([1, 1], [1, 1]))
    with pytest.raises(UserError, match="same length"):
        cohens_kappa([1], [1, 2])
    with pytest.raises(UserError, match="at least one"):
        cohens_kappa([], [])


def test_labels_are_measured_by_a_score():
    def score(prompts, responses):
        assert prompts == ["p", "q", "r"]
        return [len(response) for response in responses]

    labels = [
        Preference("p", "long", "no"),
        Preference("q", "no", "long"),
        Preference("r", "same", "size"),
    ]
    share = preferred_share(labels, score)
    assert (share.hits, share.size) == (1, 2)
