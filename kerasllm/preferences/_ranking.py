"""A ranking of several responses, turned into pairs."""

import itertools
import math

from kerasllm.checks import UserError, check_list, check_text, is_real, shown
from kerasllm.preferences._preference import Preference


def pairs_from_ranking(prompt, responses, ranks=None, scores=None, messages=()):
    """Return the pairs that a ranking of the responses to a prompt decides.

    Of k responses, these are `k * (k - 1) / 2` pairs. Responses with the same
    rank or score are a tie and give no pair, and neither do equal ones.

    Pairs from one ranking are not independent: each response is in several.
    Keep them on the same side of a split, as `split_preferences` does.

    Args:
        prompt: str.
        responses: list of str, the best one first, if there are neither ranks
            nor scores.
        ranks: list of numbers, one for each response; 1 is the best.
        scores: list of numbers instead of ranks; the highest is the best.
        messages: tuple of pairs `(role, text)`, what was said before the
            prompt; see `Preference`.

    Returns:
        list of `Preference`, those of the best response first.

    Raises:
        UserError: there are ranks and scores, or not one for each response,
            or one is no finite number; or a text is no string.

    Example:
    ```python
    pairs_from_ranking("Why?", ["Because.", "No.", "Yes."], ranks=[1, 2, 2])
    # Two pairs. In both of them "Because." is chosen.
    ```

    Source: Ouyang et al., 2022, arXiv:2203.02155, section 3.5.
    """
    responses = check_list("responses", responses, "a list of strings")
    if len(responses) < 2:
        raise UserError(
            "A ranking must have at least two responses, a list of strings. "
            f"Received: responses={shown(responses)}. Leave out the others."
        )
    for response in responses:
        check_text("responses", response)
    ranked = sorted(
        zip(_ranks(responses, ranks, scores), responses, strict=True),
        key=lambda pair: pair[0],  # a stable sort: ties stay as they came
    )
    return [
        Preference(prompt, better, worse, messages=messages)
        for (rank, better), (other, worse) in itertools.combinations(ranked, 2)
        if rank < other and better != worse
    ]


def _ranks(responses, ranks, scores):
    """Return a number for each response, the lowest for the best one."""
    if ranks is None and scores is None:
        return range(len(responses))
    name, numbers = ("scores", scores) if ranks is None else ("ranks", ranks)
    if ranks is not None and scores is not None:
        raise UserError(
            "A ranking must have `ranks` or `scores`, not both. Received: "
            f"ranks={shown(ranks)}, scores={shown(scores)}. Leave out one."
        )
    numbers = check_list(name, numbers, "a list of numbers")
    if len(numbers) != len(responses) or not all(
        is_real(x) and math.isfinite(x) for x in numbers
    ):
        raise UserError(
            f"`{name}` must have a finite number for each response. Received: "
            f"{name}={shown(numbers)} for {len(responses)} responses. Leave "
            "out responses without one."
        )
    return [-x for x in numbers] if name == "scores" else numbers
