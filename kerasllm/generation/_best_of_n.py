"""Several samples instead of one: the best of them, or the commonest answer."""

import collections
import math

import numpy as np
from keras import ops

from kerasllm.checks import (
    UserError,
    check_callable,
    check_int,
    check_list,
    check_numbers,
    shown,
)
from kerasllm.generation._arguments import check_generator


def best_of_n(
    generator,
    prompts,
    n,
    scorer,
    max_length=None,
    seed=None,
    *,
    return_scores=False,
    **options,
):
    """Sample `n` responses to each prompt, and return the best one.

    Args:
        generator: `TextGenerator`, or anything whose `generate` takes the same
            arguments. Its sampler should sample: with greedy search, all
            responses are the same.
        prompts: str or list of str.
        n: int. Responses to each prompt. The prompt is read once for all.
        scorer: callable `(prompts, responses) -> (batch_size,)` floats, of two
            lists of str of equal length: a reward model, a checker, a length.
            Of equal scores, the first one wins.
        max_length: int. See `TextGenerator.generate`, as for the next.
        seed: int or `None`.
        return_scores: bool. Whether to return all responses with their scores.
        **options: more arguments of `generate`, such as `stop_strings`.

    Returns:
        str for one prompt, a list of str for a list: the responses without
        their prompts. With `return_scores`, each of them is replaced by a pair
        of the list of its `n` responses and their scores, float64 `(n,)`.

    Raises:
        UserError: `n` is not a positive int, or the scorer does not return a
            number for each response.

    Source: chapter 16, section 16.4.1; Stiennon et al., 2020,
    arXiv:2009.01325. The KL divergence from the sampled policy is at most
    `ln n - (n - 1) / n` (Beirami et al., 2024, arXiv:2401.01879).
    """
    n = check_int("n", n, 1)
    one = isinstance(prompts, str)
    prompts = [prompts] if one else check_list("prompts", prompts)
    check_callable("scorer", scorer, "A `RewardModel` is one.")
    check_generator(generator, "generate")
    samples = generator.generate(
        prompts,
        max_length,
        seed=seed,
        strip_prompt=True,
        num_samples=n,
        **options,
    )
    if n == 1:  # a single sample is no list
        samples = [[sample] for sample in samples]
    responses = [response for some in samples for response in some]
    asked = [prompt for prompt in prompts for _ in range(n)]
    scores = scores_of(scorer, asked, responses, finite=False).reshape(-1, n)
    if return_scores:
        results = list(zip(samples, scores, strict=True))
    else:
        results = [
            some[int(its_scores.argmax())]
            for some, its_scores in zip(samples, scores, strict=True)
        ]
    return results[0] if one else results


def majority_vote(answers):
    """Return the answer that most samples give.

    Args:
        answers: list of hashable answers, such as numbers or strings, already
            in the form in which equal ones compare equal. `None` stands for a
            sample without an answer, and does not vote.

    Returns:
        The commonest answer. Of those with equally many votes, the one that
        came first. `None` if no sample has an answer.

    Raises:
        UserError: there are no samples.

    Source: Wang et al., 2022, arXiv:2203.11171 (self-consistency).
    """
    answers = _at_least_one(answers)
    # It keeps the order in which answers came first.
    votes = collections.Counter(a for a in answers if a is not None)
    return votes.most_common(1)[0][0] if votes else None


def weighted_vote(answers, weights):
    """Return the answer whose samples have the largest weight together.

    With a verifier's scores as weights, one sample that it is sure of can
    outvote several that it doubts. With equal weights, this is
    `majority_vote`.

    Args:
        answers: list of hashable answers; see `majority_vote`. `None` stands
            for a sample without an answer, and does not vote.
        weights: float `(len(answers),)`, finite and not negative, such as
            probabilities that the answers are right.

    Returns:
        The answer with the largest sum of weights. Of those with equal sums,
        the one that came first. `None` if no sample has an answer.

    Raises:
        UserError: there are no samples, or not one weight for each, or one of
            them is negative or not finite.

    Source: Cobbe et al., 2021, arXiv:2110.14168, section 4.3; Li et al., 2022,
    arXiv:2206.02336 (verifier-weighted vote).
    """
    answers = _at_least_one(answers)
    weights = check_numbers("weights", weights)
    if weights.shape != (len(answers),):
        raise UserError(
            "`weights` must be one number for each answer. Received: "
            f"{shown(weights)} of shape {weights.shape} for {len(answers)} "
            "answers."
        )
    weights = weights.astype("float64")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise UserError(
            "`weights` must be finite and not negative. Received: "
            f"{shown(weights)}. Take the sigmoid of a reward, or the "
            "exponential of a log-probability."
        )
    votes = {}  # in the order in which answers came first
    for answer, weight in zip(answers, weights, strict=True):
        if answer is not None:
            votes.setdefault(answer, []).append(weight)
    # Sums of the largest numbers overflow. A power of two rounds nothing.
    scale = 2.0**-64 if weights.max() > 1e280 else 1.0
    # `fsum` rounds once, so that the order of equal weights does not matter.
    return max(
        votes,
        key=lambda a: math.fsum(weight * scale for weight in votes[a]),
        default=None,
    )


def _at_least_one(answers):
    """Return answers as a list, if there are any that can be compared."""
    answers = check_list("answers", answers)
    for answer in answers:
        try:
            if ops.is_tensor(answer):  # PyTorch's equal none but themselves
                raise TypeError("it is a tensor")
            hash(answer)
        except TypeError as error:
            raise UserError(
                "`answers` must be hashable, such as numbers or strings. "
                f"Received: {shown(answer)} ({error}). Make a tuple of a list, "
                "for example."
            ) from error
    if not answers:
        raise UserError(
            "`answers` must have at least one. Received: answers=[]. Sample "
            "before you vote."
        )
    return answers


def scores_of(scorer, prompts, responses, name="scorer", finite=True):
    """Return the scores of responses, after checking them.

    Args:
        scorer: callable `(prompts, responses) -> (batch_size,)` floats, of two
            lists of str of equal length.
        prompts: list of str.
        responses: list of str.
        name: str. What messages call the scorer.
        finite: bool. Whether infinite scores are refused, too.

    Returns:
        float64 `(len(responses),)`.

    Raises:
        UserError: it does not return such a number for each response.
    """
    if not responses:
        return np.zeros(0)
    found = scorer(prompts, responses)
    try:
        scores = np.asarray(ops.convert_to_numpy(found))
    except (TypeError, ValueError):  # such as lists of unequal lengths
        scores = np.zeros((), object)
    if scores.shape != (len(responses),) or scores.dtype.kind not in "biuf":
        raise UserError(
            f"`{name}` must return a number for each response. Received: "
            f"{shown(found)} of shape {scores.shape} for {len(responses)} "
            "responses. It is called with a list of prompts, each repeated "
            "for its responses, and a list of responses."
        )
    scores = scores.astype("float64")
    wrong = ~np.isfinite(scores) if finite else np.isnan(scores)
    if wrong.any():
        first = int(wrong.argmax())
        raise UserError(
            f"`{name}` must return {'finite ' * finite}numbers. Received: "
            f"{scores[first]} for {shown(responses[first])}. Give what cannot "
            f"be scored {'a low one' if finite else '-inf'}."
        )
    return scores
