"""Whether probabilities come true: the reliability table."""

import dataclasses

import numpy as np

from kerasllm.checks import UserError, check_int, check_numbers
from kerasllm.evaluation._shares import Share


@dataclasses.dataclass(frozen=True)
class ReliabilityBin:
    """The cases whose predicted probabilities lie between two numbers.

    Attributes:
        low: float. The lower end of the bin.
        high: float. The upper end.
        probability: float. The mean of the predicted probabilities.
        share: `Share`, the observed share of cases that came true. It has
            the number of cases, `share.size`, and `share.interval()`.
    """

    low: float
    high: float
    probability: float
    share: Share


def reliability_table(probabilities, outcomes, num_bins=10):
    """Compare predicted probabilities with what came true.

    If a model is calibrated, then of the cases to which it gives a probability
    around 0.8, 80% come true.

    Args:
        probabilities: float `(num_cases,)`, each in `[0, 1]`.
        outcomes: bool `(num_cases,)`. What came true.
        num_bins: int. Bins of equal width into which `[0, 1]` is divided.

    Returns:
        list of `ReliabilityBin`, from low to high, without the empty ones.

    Raises:
        UserError: there is no case, there is not one outcome for each
            probability, or one of them is out of range.

    Source: Murphy and Winkler, 1977, "Reliability of subjective probability
    forecasts of precipitation and temperature".

    Example:
    ```python
    # A reward model gives a pair the probability `sigmoid(difference)`. Here
    # that of the response which it prefers, so all are at least 0.5.
    difference = reward_model(prompts, chosen) - reward_model(prompts, rejected)
    difference = difference[difference != 0]  # a tie prefers neither
    probabilities = 1 / (1 + np.exp(-abs(difference)))
    for bin in reliability_table(probabilities, difference > 0):
        low, high = bin.share.interval()
        print(f"{bin.probability:.2f} {bin.share:.2f} {bin.share.size}")
    ```
    """
    num_bins = check_int("num_bins", num_bins, 1)
    probabilities = check_numbers("probabilities", probabilities)
    outcomes = check_numbers("outcomes", outcomes)
    probabilities = probabilities.astype("float64")
    _check(probabilities, outcomes)
    edges = np.arange(num_bins + 1) / num_bins  # 0.6 is 0.6, not 3 * 0.2
    # A probability of 1 belongs to the last bin.
    numbers = np.searchsorted(edges[1:-1], probabilities, side="right")
    return [
        ReliabilityBin(
            float(edges[number]),
            float(edges[number + 1]),
            float(probabilities[numbers == number].mean()),
            Share.of(outcomes[numbers == number]),
        )
        for number in np.unique(numbers)
    ]


def _check(probabilities, outcomes):
    if (
        probabilities.shape != outcomes.shape
        or probabilities.ndim != 1
        or not probabilities.size
    ):
        raise UserError(
            "There must be one outcome for each probability, and at least one. "
            f"Received: probabilities of shape {probabilities.shape}, outcomes "
            f"of shape {outcomes.shape}. Pass two lists of equal length."
        )
    wrong = ~((probabilities >= 0) & (probabilities <= 1))  # NaN, too
    if wrong.any():
        raise UserError(
            "`probabilities` must be in [0, 1]. Received: "
            f"{probabilities[wrong][0]} at index {int(wrong.argmax())}. Pass "
            "rewards through a sigmoid first."
        )
    if not np.isin(outcomes, (0, 1)).all():
        raise UserError(
            "`outcomes` must be true or false. Received: "
            f"{outcomes[~np.isin(outcomes, (0, 1))][0]}. Compare the numbers "
            "that they came from."
        )
