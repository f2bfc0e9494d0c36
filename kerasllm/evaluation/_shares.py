"""Shares of right answers that remember the number of answers."""

import math
import statistics

from kerasllm.checks import UserError, check_int, check_list, check_real, shown
from kerasllm.evaluation._asking import check_pairs
from kerasllm.toyworld import REFUSAL


class Share(float):
    """A share of cases, a float that remembers the number of cases.

    In every other respect it is a float: it can be compared, formatted, and
    written to JSON.

    Args:
        hits: int of at least 0. Cases that count.
        size: positive int. All cases.

    Example:
    ```python
    share = Share(30, 40)
    print(f"{share:.1%} of {share.size}")  # 75.0% of 40
    low, high = share.interval()  # 0.598 and 0.858
    ```
    """

    def __new__(cls, hits, size):
        size = check_int("size", size, 1, cure="Give at least one answer.")
        hits = check_int("hits", hits, 0, size)
        share = super().__new__(cls, hits / size)
        share.hits, share.size = hits, size
        return share

    def __getnewargs__(self):
        return self.hits, self.size

    @classmethod
    def of(cls, flags):
        """Return the share of true values among many, at least one."""
        flags = [bool(flag) for flag in check_list("flags", flags)]
        return cls(sum(flags), len(flags))

    def interval(self, confidence=0.95):
        """Return a confidence interval for the share (Wilson score interval).

        Args:
            confidence: float between 0 and 1.

        Returns:
            `(low, high)`, two floats.

        Raises:
            UserError: `confidence` is no such number.

        Source: Wilson, 1927, "Probable inference, the law of succession, and
        statistical inference".
        """
        check_real(
            "confidence", confidence, lambda x: 0 < x < 1, "between 0 and 1"
        )
        z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
        weight = z**2 / self.size
        center = self + weight / 2
        width = z * math.sqrt((self * (1 - self) + weight / 4) / self.size)
        low, high = center - width, center + width
        return max(0.0, low / (1 + weight)), min(1.0, high / (1 + weight))


def exact_share(answers, questions):
    """Return the share of answers that match the expected answer exactly.

    Args:
        answers: list of str.
        questions: list of `toyworld.Question`, or of anything else that has
            an `answer`.

    Returns:
        `Share`, a float.

    Raises:
        UserError: there is no answer, or not one for each question.
    """
    answers, questions = check_pairs(answers=answers, questions=questions)
    for question in questions:
        if not hasattr(question, "answer"):
            raise UserError(
                "Each of `questions` must have an `answer`. Received: "
                f"{shown(question)}. A `toyworld.Question` has."
            )
    return Share.of(
        answer == question.answer
        for answer, question in zip(answers, questions, strict=True)
    )


def refused_share(answers):
    """Return the share of answers that equal `toyworld.REFUSAL`: a `Share`."""
    answers = check_list("answers", answers)
    return Share.of(answer == REFUSAL for answer in answers)
