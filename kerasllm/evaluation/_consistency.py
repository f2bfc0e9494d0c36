"""Whether a model says the same again, and whether that tells what is true."""

import collections

import numpy as np

from kerasllm.checks import UserError, check_list, check_numbers
from kerasllm.evaluation._asking import check_hashable, check_pairs
from kerasllm.evaluation._shares import Share


def sample_agreement(answers, answer=None):
    """Return how far samples of one question agree.

    Args:
        answers: list of str, or of anything that can be compared: the same
            question asked several times, with sampling, with other words, or
            on other machines.
        answer: the answer that the others are compared with, such as that of
            greedy search. `None` takes the most common one.

    Returns:
        `Share` of the samples that are equal to it, a float.

    Raises:
        UserError: there is no sample.
    """
    answers = check_list("answers", answers)
    check_hashable("answers", answers)
    if answer is None and answers:
        ((answer, _),) = collections.Counter(answers).most_common(1)
    return Share.of(sample == answer for sample in answers)


def area_under_curve(scores, flags):
    """Return how well scores tell true cases from false ones.

    It is the probability that a true case has a higher score than a false
    one, where a tie counts for one half: 1 if all have, and 0.5 if the scores
    say nothing. It equals the area under the curve of the true positive rate
    against the false positive rate (ROC).

    Args:
        scores: list of float, such as the agreement of samples.
        flags: list of bool, such as whether an answer was right.

    Returns:
        float in [0, 1].

    Raises:
        UserError: the lists differ in length, a score is NaN, or all cases
            are of one kind.

    Source: Hanley and McNeil, 1982, "The meaning and use of the area under a
    receiver operating characteristic (ROC) curve".
    """
    scores, flags = check_pairs(scores=scores, flags=flags)
    scores = check_numbers("scores", scores).astype("float64")
    flags = check_numbers("flags", flags).astype(bool)
    if np.isnan(scores).any():
        raise UserError(
            "`scores` must not be NaN, which is neither above nor below "
            f"another score. Received: {int(np.isnan(scores).sum())} that are. "
            "Give a case without a score a low one."
        )
    if flags.all() or not flags.any():
        raise UserError(
            "`flags` must have true and false cases. Received: "
            f"{int(flags.sum())} true ones among {len(flags)}. Add cases of "
            "the other kind."
        )
    differences = scores[flags][:, None] - scores[~flags][None, :]
    return float(np.mean((differences > 0) + 0.5 * (differences == 0)))
