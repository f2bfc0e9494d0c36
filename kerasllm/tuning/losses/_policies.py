"""Losses for learning from rewards: group relative policy optimization."""

import math

import numpy as np
from keras import ops

from kerasllm.checks import (
    LARGEST_FLOAT32,
    UserError,
    check_choice,
    check_int,
    check_numbers,
    check_real,
)
from kerasllm.tuning.losses._floats import fits, float_tensor

SCALES = ("group", "batch", "none")
LOSS_TYPES = ("grpo", "dr_grpo", "dapo")
# Keeps the advantages of a group with nearly equal rewards finite.
SMALLEST_DEVIATION = 1e-6


def group_advantages(rewards, num_generations, scale_rewards="group"):
    """Return how much better each completion is than its group.

    The completions of one prompt are a group. The mean reward of a group is
    the baseline of its members, so no model has to estimate it. A group whose
    rewards are all equal has advantages of zero, and teaches nothing.

    Args:
        rewards: float `(num_prompts * num_generations,)`, the groups side by
            side.
        num_generations: int, at least 2. Number of completions in a group.
        scale_rewards: what the differences are divided by: `"group"`, the
            standard deviation of the group; `"batch"`, that of all rewards;
            or `"none"`.

    Returns:
        float32 NumPy array of the shape of `rewards`.

    Raises:
        UserError: the rewards are not whole groups, one of them is not finite,
            or an argument is out of range.

    Source: Shao et al., 2024, arXiv:2402.03300, section 4.1.2; Liu et al.,
    2025, arXiv:2503.20783 (`"none"`); Hu et al., 2025, arXiv:2501.03262
    (`"batch"`).
    """
    num_generations = check_int(
        "num_generations",
        num_generations,
        2,
        cure="A completion is compared with others of the same prompt.",
    )
    check_choice("scale_rewards", scale_rewards, SCALES)
    # In float64, so that equal rewards differ from their mean by nothing.
    rewards = check_numbers("rewards", rewards).astype("float64")
    if rewards.ndim != 1 or not rewards.size or rewards.size % num_generations:
        raise UserError(
            "`rewards` must be flat, with `num_generations` of them for each "
            f"prompt. Received: rewards of shape {rewards.shape} and "
            f"num_generations={num_generations}. Put the groups side by side."
        )
    wrong = ~(np.abs(rewards) <= LARGEST_FLOAT32)
    if wrong.any():
        raise UserError(
            "`rewards` must be finite, and numbers that float32 can hold. "
            f"Received: {rewards[wrong][0]} at index {int(wrong.argmax())}. "
            "Give a completion that cannot be scored the lowest reward."
        )
    groups = rewards.reshape(-1, num_generations)  # (num_prompts, in a group)
    # Equal rewards may differ from their mean, but not from the first one.
    advantages = groups - groups[:, :1]
    advantages -= advantages.mean(axis=1, keepdims=True)
    if scale_rewards == "group":
        deviation = groups.std(axis=1, ddof=1, keepdims=True)
        advantages /= deviation + SMALLEST_DEVIATION
    elif scale_rewards == "batch":
        advantages /= rewards.std(ddof=1) + SMALLEST_DEVIATION
    return advantages.reshape(-1).astype("float32")


def grpo_loss(
    logprobs,
    old_logprobs,
    advantages,
    mask,
    epsilon=0.2,
    epsilon_high=None,
    beta=0.0,
    reference_logprobs=None,
    loss_type="grpo",
    max_completion_length=None,
):
    """Return the clipped loss of group relative policy optimization.

    Let `r` be the ratio of a token's probability now to that when it was
    sampled, and `A` the advantage of its completion. The token's loss is
    `-min(r * A, clip(r, 1 - epsilon, 1 + epsilon_high) * A)`. It is flat where
    a step has already gone far enough in the right direction. At the first
    step all ratios are 1, so the loss of whole groups is 0; its gradient is
    not.

    Args:
        logprobs: float `(batch_size, length)`, the log-probabilities in nats
            of the tokens of the completions under the policy.
        old_logprobs: the same under the policy that sampled them, with the
            same temperature and filters as `logprobs`. `None` for `logprobs`
            themselves, without a gradient.
        advantages: float `(batch_size,)`, or `(batch_size, length)` for one
            for each token.
        mask: bool or float `(batch_size, length)`, true for tokens of a
            completion and false for padding. What stands elsewhere in the
            other arrays does not matter.
        epsilon: float in `[0, 1]`. The largest relative decrease of a
            probability that pays.
        epsilon_high: float, at least 0: the largest increase. `None` for
            `epsilon`.
        beta: float, at least 0. Weight of the KL divergence from the
            reference, estimated for each token by `exp(d) - d - 1` with `d =
            reference - policy`.
        reference_logprobs: float `(batch_size, length)`, the
            log-probabilities under the reference. Needed if `beta` is not 0.
        loss_type: how tokens are averaged. `"grpo"`: over each completion,
            then over the batch, so that a token of a long one counts less.
            `"dapo"`: over all tokens of the batch. `"dr_grpo"`: as a sum,
            divided by `batch_size * max_completion_length`.
        max_completion_length: int, for `"dr_grpo"`. Defaults to `length`.

    Returns:
        float32 scalar.

    Raises:
        UserError: the shapes differ, or an argument is out of range.

    Source: Shao et al., 2024, arXiv:2402.03300, equations 3 and 4; Schulman,
    2020, "Approximating KL divergence"; Yu et al., 2025, arXiv:2503.14476
    (`"dapo"`, `epsilon_high`); Liu et al., 2025, arXiv:2503.20783
    (`"dr_grpo"`).
    """
    check_grpo(epsilon, epsilon_high, beta, loss_type, max_completion_length)
    if beta and reference_logprobs is None:
        raise UserError(
            "`reference_logprobs` must be given if `beta` is not 0. Received: "
            f"beta={beta} without them. Compute them once, before training."
        )
    logprobs = float_tensor("logprobs", logprobs)
    if old_logprobs is None:
        old_logprobs = ops.stop_gradient(logprobs)
    arrays = {"old_logprobs": old_logprobs, "mask": mask}
    if beta:
        arrays["reference_logprobs"] = reference_logprobs
    arrays = {"logprobs": logprobs} | {
        name: float_tensor(name, array) for name, array in arrays.items()
    }
    _check_shapes(arrays)
    mask = arrays["mask"]
    advantages = _check_advantages(advantages, logprobs)

    ratio = ops.exp(_where(mask, logprobs - arrays["old_logprobs"]))
    high = float(epsilon if epsilon_high is None else epsilon_high)
    clipped = ops.clip(ratio, 1 - epsilon, 1 + high)
    losses = -ops.minimum(ratio * advantages, clipped * advantages)
    if beta:
        d = _where(mask, arrays["reference_logprobs"] - logprobs)
        losses = losses + beta * (ops.exp(d) - d - 1)
    losses = losses * mask  # (batch_size, length)

    if loss_type == "grpo":
        lengths = ops.maximum(ops.sum(mask, axis=1), 1.0)
        return ops.mean(ops.sum(losses, axis=1) / lengths)
    if loss_type == "dapo":
        return ops.sum(losses) / ops.maximum(ops.sum(mask), 1.0)
    batch_size, length = ops.shape(logprobs)
    return ops.sum(losses) / (batch_size * (max_completion_length or length))


def check_grpo(
    epsilon=0.2,
    epsilon_high=None,
    beta=0.0,
    loss_type="grpo",
    max_completion_length=None,
):
    """Raise a `UserError` if `grpo_loss` cannot take these arguments."""
    check_real("epsilon", epsilon, lambda value: 0 <= value <= 1, "in [0, 1]")
    if epsilon_high is not None:
        check_real(
            "epsilon_high", epsilon_high, lambda value: value >= 0, "at least 0"
        )
    check_real(
        "beta",
        beta,
        lambda value: 0 <= value < math.inf,
        "at least 0 and finite",
    )
    check_choice("loss_type", loss_type, LOSS_TYPES)
    if max_completion_length is not None:
        check_int("max_completion_length", max_completion_length, 1)


def _check_shapes(arrays):
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or len(shapes["logprobs"]) != 2:
        received = ", ".join(
            f"{name} {shape}" for name, shape in shapes.items()
        )
        raise UserError(
            "Log-probabilities and the mask must have the same shape "
            f"(batch_size, length). Received: {received}."
        )


def _check_advantages(advantages, logprobs):
    """Return advantages as a tensor, one for each completion or token.

    Returns:
        float32 `(batch_size, 1)` or `(batch_size, length)`.
    """
    advantages = float_tensor("advantages", advantages)
    shape, expected = tuple(advantages.shape), tuple(logprobs.shape)
    if not (fits(shape, expected[:1]) or fits(shape, expected)):
        raise UserError(
            "`advantages` must be (batch_size,) or (batch_size, length). "
            f"Received: advantages {shape} for logprobs {expected}. Give each "
            "completion its own."
        )
    if len(advantages.shape) == 1:
        advantages = advantages[:, None]  # (batch_size, 1)
    return advantages


def _where(mask, array):
    """Return an array with zeros where there is no token.

    A product with the mask would not do, since `nan * 0` is `nan`.
    """
    return ops.where(mask > 0, array, ops.zeros_like(array))
