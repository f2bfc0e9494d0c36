"""A labeller whose true preferences are known, and who errs by chance."""

import dataclasses
import hashlib
import math
from collections.abc import Callable

import numpy as np

from kerasllm.checks import (
    UserError,
    check_callable,
    check_int,
    check_list,
    check_numbers,
    check_real,
    check_text,
    shown,
)
from kerasllm.preferences._preference import Preference


@dataclasses.dataclass(frozen=True)
class BradleyTerry:
    """A labeller who prefers the better of two responses, most of the time.

    The labeller prefers the first response with the probability
    `sigmoid(scale * (score of the first - score of the second))`. So close
    pairs are labelled at random, and clear ones nearly always as they are.

    A coin that depends on the seed and on the pair decides. The label of a
    pair is therefore always the same, whatever else is labelled, and in
    whichever order its responses come. Another seed is another labeller.

    Attributes:
        score: callable from a list of prompts and a list of responses to as
            many numbers: the true score, such as `toyworld.TrueScore`.
        scale: float, at least 0. With 0 all labels are random. With
            `math.inf` only those of equal responses are.
        seed: int of at least 0.

    Raises:
        UserError: `scale` or `seed` is no such number.

    Source: Bradley and Terry, 1952, "Rank analysis of incomplete block
    designs: I. The method of paired comparisons".
    """

    score: Callable
    scale: float = 1.0
    seed: int = 0

    def __post_init__(self):
        check_real("scale", self.scale, lambda scale: scale >= 0, "at least 0")
        check_callable("score", self.score, "`toyworld.TrueScore` is one.")
        check_int("seed", self.seed, 0, math.inf)

    @classmethod
    def with_agreement(cls, score, pairs, agreement=0.73, seed=0):
        """Return a labeller who agrees with the truth on a share of the pairs.

        Args:
            score: callable, see the class.
            pairs: list of triples `(prompt, response, other response)`. Those
                whose responses have equal scores have no true label and are
                not counted.
            agreement: float in `[0.5, 1)`. The expected share of labels that
                name the response with the higher score. The default is how
                often the labellers of InstructGPT agreed with each other.
            seed: int of at least 0.

        Returns:
            `BradleyTerry`.

        Raises:
            UserError: `agreement` is out of range, or all scores are equal.

        Source: Ouyang et al., 2022, arXiv:2203.02155, section 3.4.
        """
        check_real(
            "agreement",
            agreement,
            lambda value: 0.5 <= value < 1,
            "in [0.5, 1)",
            cure="With `scale=math.inf` a `BradleyTerry` never errs.",
        )
        check_callable("score", score, "`toyworld.TrueScore` is one.")
        differences = np.abs(_differences(score, _check_pairs(pairs)))
        scale = _find_scale(differences[differences > 0], agreement)
        return cls(score, scale, seed)

    def probabilities(self, pairs):
        """Return how likely the first response of each pair is preferred.

        Args:
            pairs: list of triples `(prompt, response, other response)`.

        Returns:
            float64 `(num_pairs,)`.
        """
        pairs = _check_pairs(pairs)
        return _sigmoid(_differences(self.score, pairs), self.scale)

    def label(self, pairs):
        """Return a preference for each pair.

        Args:
            pairs: list of triples `(prompt, response, other response)`.

        Returns:
            list of `Preference`, in the order of the pairs.
        """
        # In alphabetical order, so that the order of the pair does not matter.
        pairs = _check_pairs(pairs)
        pairs = [(prompt, *sorted(both)) for prompt, *both in pairs]
        return [
            Preference(prompt, first, second)
            if self._toss(prompt, first, second) < probability
            else Preference(prompt, second, first)
            for (prompt, first, second), probability in zip(
                pairs, self.probabilities(pairs), strict=True
            )
        ]

    def _toss(self, *texts):
        """Return a number in `[0, 1)` that the texts and the seed decide."""
        # As `repr` writes them, no two triples of texts are the same.
        digest = hashlib.sha256(repr((int(self.seed), *texts)).encode())
        return int.from_bytes(digest.digest()[:8], "big") / 2**64


def _check_pairs(pairs):
    """Return pairs as a list of triples of str, after checking them."""
    pairs = check_list("pairs", pairs, "a list of triples")
    for triple in pairs:
        if not isinstance(triple, tuple | list) or len(triple) != 3:
            raise UserError(
                "Each of `pairs` must be a triple (prompt, response, other "
                f"response). Received: {shown(triple)}. Write three strings."
            )
        for text in triple:
            check_text("pairs", text, "Leave out pairs without it.")
    return pairs


def _differences(score, pairs):
    """Return the differences of the scores of pairs: float64 `(num_pairs,)`."""
    prompts = [prompt for prompt, _, _ in pairs]
    first, second = (
        check_numbers("score", score(prompts, [pair[i] for pair in pairs]))
        for i in (1, 2)
    )
    for scores in (first, second):
        if scores.shape != (len(pairs),) or not np.isfinite(scores).all():
            raise UserError(
                "`score` must return a finite number for each response. "
                f"Received: {shown(scores)} for {len(pairs)} responses. "
                "Return a list or a vector of them."
            )
    return first.astype("float64") - second


def _sigmoid(differences, scale):
    """Return `sigmoid(scale * difference)`, 0.5 for equal scores."""
    # An infinite scale times zero is no number, but here it is replaced.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.where(differences == 0, 0.0, scale * differences)
        return 1 / (1 + np.exp(-scaled))


def _find_scale(differences, agreement):
    """Return the scale at which the mean probability is `agreement`.

    Args:
        differences: float64 `(num_pairs,)`, all positive.
        agreement: float in `[0.5, 1)`.
    """
    if not len(differences):
        raise UserError(
            "`pairs` must have one whose responses differ in their score. "
            "Received: none. Give others."
        )
    low, high = 0.0, 1.0
    while _sigmoid(differences, high).mean() < agreement:
        high *= 2
    for _ in range(60):  # halves the interval down to the last bit
        middle = (low + high) / 2
        if _sigmoid(differences, middle).mean() < agreement:
            low = middle
        else:
            high = middle
    return high
