"""Rules for which of the sampled responses a model learns from.

A rule is a callable from rewards, float `(num_prompts, num_generations)`, to a
bool array of that shape, true for what is kept. Responses that must not be
kept have the reward `-inf`.
"""

import dataclasses
import math

import numpy as np

from kerasllm.checks import UserError, check_int, check_real, shown


@dataclasses.dataclass(frozen=True)
class Cutoff:
    """Keep the responses whose reward is above a number.

    Attributes:
        value: float. The number.

    Raises:
        UserError: `value` is not a finite number.

    Source: chapter 16, listing 16.15.
    """

    value: float

    def __post_init__(self):
        check_real("value", self.value, math.isfinite, "a finite number")
        object.__setattr__(self, "value", float(self.value))

    def __call__(self, rewards):
        """Return what is kept, bool, in the shape of `rewards`."""
        return rewards > self.value


@dataclasses.dataclass(frozen=True)
class TopShare:
    """Keep the share of all responses that has the highest rewards.

    If several responses at the border have equal rewards, all of them are
    kept, so there may be more.

    Attributes:
        share: float in `(0, 1]`. The share of the distinct responses that have
            ended, rounded up to a whole number of them.

    Raises:
        UserError: `share` is out of range.
    """

    share: float

    def __post_init__(self):
        check_real(
            "share", self.share, lambda value: 0 < value <= 1, "in (0, 1]"
        )
        object.__setattr__(self, "share", float(self.share))

    def __call__(self, rewards):
        """Return what is kept, bool, in the shape of `rewards`."""
        allowed = np.sort(rewards[rewards > -np.inf])
        if not allowed.size:
            return np.zeros(rewards.shape, bool)
        return rewards >= allowed[-math.ceil(self.share * allowed.size)]


@dataclasses.dataclass(frozen=True)
class BestOfEach:
    """Keep the best responses to each prompt.

    Attributes:
        count: int. How many of each prompt's responses are kept. Of equal
            rewards, the first ones win.

    Raises:
        UserError: `count` is not a positive int.

    Source: Dong et al., 2023, arXiv:2304.06767 (RAFT).
    """

    count: int = 1

    def __post_init__(self):
        object.__setattr__(self, "count", check_int("count", self.count, 1))

    def __call__(self, rewards):
        """Return what is kept, bool, in the shape of `rewards`."""
        order = np.argsort(-rewards, axis=1, kind="stable")
        ranks = np.argsort(order, axis=1)  # 0 for the best of a prompt
        return (ranks < self.count) & (rewards > -np.inf)


def choose(samples, rewards, keep, most_per_prompt=None):
    """Return which responses are learned from.

    A response that was cut off is never kept: it would teach the model to stop
    in the middle. Of equal responses to the same prompt, the first one counts.

    Args:
        samples: `Samples`.
        rewards: float `(len(samples),)`.
        keep: a rule, see the top of this file.
        most_per_prompt: int, the largest number of responses that are kept for
            one prompt, or `None`. They are the first ones.

    Returns:
        bool `(len(samples),)`.

    Raises:
        UserError: the rule does not return a bool for each response.
    """
    seen, allowed = set(), []
    for pair in zip(
        samples.prompts, samples.responses, samples.ended, strict=True
    ):
        allowed.append(pair[-1] and pair not in seen)
        seen.add(pair)
    rewards = np.where(allowed, rewards, -np.inf)
    rewards = rewards.reshape(-1, samples.num_generations)
    kept = np.asarray(keep(rewards.copy()))
    if kept.shape != rewards.shape or kept.dtype != bool:
        raise UserError(
            "`keep` must return a bool for each response. Received: "
            f"{shown(kept)} of shape {kept.shape} and dtype {kept.dtype} for "
            f"rewards of shape {rewards.shape}."
        )
    kept = kept & (rewards > -np.inf)
    if most_per_prompt is not None:
        kept &= np.cumsum(kept, axis=1) <= most_per_prompt
    return kept.reshape(-1)  # (num_prompts * num_generations,)


def check_kept(kept, samples, rewards, keep, number):
    """Refuse a round of which nothing is left to learn from.

    Args:
        kept: bool array, what `choose` returned.
        samples: `Samples`.
        rewards: float array.
        keep: the rule.
        number: int. The number of the round.

    Raises:
        UserError: nothing was kept; says what the rewards were.
    """
    if kept.any():
        return
    ended = np.asarray(samples.ended)
    if not ended.any():
        raise UserError(
            "At least one response must end, to be learned from. Received: "
            f"{len(ended)} in round {number} that were all cut off at the "
            "largest length. Raise `sequence_length`, or begin with a model "
            "that was tuned on answers with `finetune`."
        )
    low, middle, high = np.quantile(rewards[ended], [0, 0.5, 1])
    raise UserError(
        f"At least one response must pass `keep`. Received: {keep} and rewards "
        f"from {low:.4g} to {high:.4g} in round {number}, with the median "
        f"{middle:.4g}. Use a lower cutoff, or `TopShare(0.25)`, which always "
        "keeps some; sample more with `num_generations`; or begin with a "
        "better model."
    )
