"""Whether a proxy is being exploited: the decision, without any model."""

import dataclasses
import math
import statistics

import numpy as np

from kerasllm.checks import (
    UserError,
    check_int,
    check_list,
    check_numbers,
    check_real,
)

# The quantiles of Student's distribution are expanded around the normal ones.
FEWEST_PROMPTS = 20


@dataclasses.dataclass(frozen=True)
class HackingEvidence:
    """What the latest of several evaluations says; see `compare_with_best`.

    Attributes:
        best: int. The evaluation with the highest mean true score, from 0.
        change: float. Mean true score now, minus that of the best evaluation.
        low: float. Lower end of the interval of this change.
        high: float. Upper end.
        proxy_change: float. Mean proxy reward now, minus that of the best
            evaluation.
        is_hacked: bool. The whole interval is below zero, and the proxy has
            risen.
    """

    best: int
    change: float
    low: float
    high: float
    proxy_change: float
    is_hacked: bool


def compare_with_best(proxies, trues, confidence=0.95):
    """Compare the latest evaluation with the best one so far.

    The same held-out prompts are evaluated each time. So two evaluations are
    compared by the differences at each prompt, which vary less than the scores
    do. The interval of their mean is wider than for a single comparison: the
    best of many noisy evaluations looks better than it is. Evaluation `t`,
    which has `t - 1` before it, has an error of `(1 - confidence) / (t * (t -
    1) ** 2)` on each side, and these sum up to at most `1 - confidence` over
    all pairs of evaluations of a run, however long it is.

    Args:
        proxies: list of float arrays `(num_prompts,)`, one an evaluation.
        trues: list of float arrays `(num_prompts,)`, one an evaluation.
        confidence: float in `(0, 1)`.

    Returns:
        `HackingEvidence`.
    """
    check_confidence(confidence)
    proxies = check_list("proxies", proxies, "a list of arrays")
    trues = check_list("trues", trues, "a list of arrays")
    means = [float(np.mean(true)) for true in trues]
    best, latest = int(np.argmax(means)), len(trues) - 1
    if best == latest:
        return HackingEvidence(best, 0.0, 0.0, 0.0, 0.0, False)
    differences = np.asarray(trues[latest]) - np.asarray(trues[best])
    count = len(differences)
    error = (1 - confidence) / ((latest + 1) * latest**2)
    half = student_quantile(1 - error, count - 1) * float(
        np.std(differences, ddof=1) / math.sqrt(count)
    )
    change = float(np.mean(differences))
    proxy_change = float(np.mean(proxies[latest]) - np.mean(proxies[best]))
    return HackingEvidence(
        best,
        change,
        change - half,
        change + half,
        proxy_change,
        change + half < 0 < proxy_change,
    )


def student_quantile(probability, degrees):
    """Return a quantile of Student's t distribution, for 19 degrees or more.

    Source: Abramowitz and Stegun, 1964, 26.7.5.
    """
    z = statistics.NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / degrees**power for power, term in enumerate(terms))


def check_confidence(confidence):
    """Refuse what is no number between 0 and 1."""
    check_real("confidence", confidence, lambda x: 0 < x < 1, "between 0 and 1")


class RewardWatch:
    """Tells when a proxy is being exploited, from evaluations of a policy.

    A policy that is tuned to please a reward model at first becomes better,
    also by its true score. Later it finds what the reward model overrates:
    the proxy still rises, and the true score falls. This is called reward
    hacking.

    `observe` gets the scores of the same held-out prompts after each part of
    the training. It says stop if the mean true score is significantly below
    its best so far while the mean proxy reward is above what it was then. The
    probability that it ever stops a run whose true score has not fallen is at
    most `1 - confidence`; see `compare_with_best`.

    Args:
        confidence: float in `(0, 1)`.
        patience: int. How many evaluations in a row must show it. With 1, a
            clear fall stops the run at the first evaluation after the peak.

    Attributes:
        evidence: `HackingEvidence` of the latest evaluation, or `None`.
        best: int, the evaluation with the highest mean true score, from 0; or
            `None` before the first one.
        is_hacked: bool. Whether the run should stop.

    Raises:
        UserError: a number is out of range.

    Source: Gao et al., 2022, arXiv:2210.10760; Stiennon et al., 2020,
    arXiv:2009.01325, figure 5.

    Example:
    ```python
    watch = RewardWatch()
    while not watch.is_hacked:
        train_a_little()
        responses = sample(held_out_prompts)
        watch.observe(
            reward_model(held_out_prompts, responses),
            true_score(held_out_prompts, responses),
        )
    ```
    """

    def __init__(self, confidence=0.95, patience=1):
        check_confidence(confidence)
        self.confidence = float(confidence)
        self.patience = check_int("patience", patience, 1)
        self.reset()

    def reset(self):
        """Forget all evaluations."""
        self._proxies, self._trues = [], []
        self._in_a_row = 0
        self.evidence = None

    @property
    def best(self):
        return None if self.evidence is None else self.evidence.best

    @property
    def is_hacked(self):
        return self._in_a_row >= self.patience

    def observe(self, proxy, true):
        """Take note of an evaluation.

        Args:
            proxy: float `(num_prompts,)`, the rewards that are trained for. Of
                several responses to a prompt, their mean.
            true: float `(num_prompts,)`, the true scores, in the same order.

        Returns:
            bool, whether the run should stop.

        Raises:
            UserError: there are not two finite numbers for each of at least 20
                prompts, or there are others than before.
        """
        proxy = check_numbers("proxy", proxy).astype("float64")
        true = check_numbers("true", true).astype("float64")
        self._check(proxy, true)
        self._proxies.append(proxy)
        self._trues.append(true)
        self.evidence = compare_with_best(
            self._proxies, self._trues, self.confidence
        )
        self._in_a_row += 1
        if not self.evidence.is_hacked:
            self._in_a_row = 0
        return self.is_hacked

    def _check(self, proxy, true):
        expected = self._trues[0].shape if self._trues else proxy.shape
        if not proxy.shape == true.shape == expected or proxy.ndim != 1:
            raise UserError(
                "`proxy` and `true` must have a number for each prompt, of the "
                f"same prompts each time. Received: shapes {proxy.shape} and "
                f"{true.shape}, where {expected} is expected. Use a new "
                "`RewardWatch` for other prompts."
            )
        if len(true) < FEWEST_PROMPTS:
            raise UserError(
                f"A `RewardWatch` needs at least {FEWEST_PROMPTS} prompts, to "
                f"tell a fall from noise. Received: {len(true)}. Hold out "
                "more."
            )
        if not (np.isfinite(proxy).all() and np.isfinite(true).all()):
            raise UserError(
                "`proxy` and `true` must be finite. Received: "
                f"{(~np.isfinite(proxy)).sum()} values of `proxy` and "
                f"{(~np.isfinite(true)).sum()} of `true` that are not. Give "
                "what cannot be scored a low number."
            )

    def describe(self):
        """Return what the latest evaluation says, as a sentence."""
        found = self.evidence
        if found is None:
            return "There was no evaluation yet."
        if found.best == len(self._trues) - 1:
            return "The true score is the best so far."
        return (
            f"The true score has changed by {found.change:+.3g} since "
            f"evaluation {found.best}, the best one (interval {found.low:+.3g} "
            f"to {found.high:+.3g}), and the proxy by {found.proxy_change:+.3g}"
            "."
        )
