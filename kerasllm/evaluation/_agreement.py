"""How far labellers, scores, and the truth agree about pairs of responses."""

import collections

from kerasllm.checks import (
    UserError,
    check_callable,
    check_list,
    check_numbers,
    shown,
)
from kerasllm.evaluation._asking import check_hashable, check_pairs
from kerasllm.evaluation._shares import Share


def preferred_share(preferences, score):
    """Return the share of preferences that agree with a score.

    With a true score, this measures the labels. With preferences that are
    known to be true, it measures the score, such as that of a reward model.

    Args:
        preferences: list of `preferences.Preference`.
        score: callable from a list of prompts and a list of responses to as
            many numbers.

    Returns:
        `Share` of the pairs whose chosen response has the higher score, among
        those whose responses have different scores.

    Raises:
        UserError: all scores are equal, or there are no preferences.
    """
    preferences = check_list("preferences", preferences)
    for pair in preferences:
        if not hasattr(pair, "chosen"):
            raise UserError(
                "Each of `preferences` must be a `Preference`. Received: "
                f"{shown(pair)}. `read_preferences` reads them."
            )
    check_callable("score", score, "A `RewardModel` is one.")
    prompts = [pair.prompt for pair in preferences]
    chosen, rejected = (
        check_numbers(
            "score",
            score(prompts, responses),
            cure="It must return a number for each response.",
        )
        for responses in (
            [pair.chosen for pair in preferences],
            [pair.rejected for pair in preferences],
        )
    )
    decided = chosen != rejected
    if not decided.any():
        raise UserError(
            "`score` must tell the responses of a pair apart. Received: equal "
            f"scores in all of {len(preferences)} pairs. Use another score, "
            "or other pairs."
        )
    return Share.of((chosen > rejected)[decided])


def cohens_kappa(first, second):
    """Return how far two labellers agree beyond what chance explains.

    It is 1 for equal labels, and 0 if they agree as often as two people who
    know nothing but how frequent each label is.

    Args:
        first: list of labels, of any type that can be compared.
        second: list of the other labeller's labels for the same cases.

    Returns:
        float, at most 1; NaN if both have used only one and the same label,
        for then chance explains everything.

    Raises:
        UserError: the lists differ in length, or are empty.

    Source: Cohen, 1960, "A coefficient of agreement for nominal scales".
    """
    first, second = check_pairs(first=first, second=second)
    for name, labels in (("first", first), ("second", second)):
        check_hashable(name, labels)
    agreed = Share.of(a == b for a, b in zip(first, second, strict=True))
    counts, others = collections.Counter(first), collections.Counter(second)
    by_chance = sum(counts[label] * others[label] for label in counts)
    by_chance /= len(first) ** 2
    if by_chance == 1:
        return float("nan")
    return (agreed - by_chance) / (1 - by_chance)
