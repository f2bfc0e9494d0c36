"""The distance from which on a store has no answer."""

import collections

import pytest

from kerasllm.checks import UserError
from kerasllm.retrieval import Store, distance_threshold
from tests.retrieval.embedders import hashing

pytestmark = pytest.mark.any_backend

Hit = collections.namedtuple("Hit", "score")


class Scores:
    """A store that finds each question at the distance that it names."""

    def search(self, query, k, mode):
        assert (k, mode) == (1, "vector")
        return [Hit(1 - float(query))] if query else []


@pytest.mark.parametrize(
    ("near", "far", "expected"),
    [
        ("0.1 0.2", "0.4 0.9", (0.3, 1.0)),
        ("0.1 0.2 0.6", "0.4 0.9", (0.3, (2 / 3 + 1) / 2)),
        ("0.1 0.5", "0.4", (0.25, 0.75)),
        # A kind counts for one half, however many questions it has.
        ("0.1 0.2 0.3 0.5", "0.4", (0.35, (3 / 4 + 1) / 2)),
        ("0.5", "0.5", (0.5, 0.5)),
    ],
)
def test_it_separates_the_two_kinds(near, far, expected):
    found = distance_threshold(Scores(), near.split(), far.split())
    assert found == pytest.approx(expected)


def test_it_is_that_of_a_store():
    with Store(":memory:", hashing) as store:
        with pytest.raises(UserError, match="must have a passage for each"):
            distance_threshold(store, ["a kite"], ["a fish"])
        store.add(["a kite flies", "a bell rings"])
        distance, share = distance_threshold(
            store, ["a kite flies", "a bell rings"], ["snow", "ice and fire"]
        )
        assert share == 1 and 0 < distance < 1
        for lists in (([], ["a"]), (["a"], []), ("a kite", ["a"])):
            with pytest.raises(UserError, match="answerable` must be a list"):
                distance_threshold(store, *lists)
