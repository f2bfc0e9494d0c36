"""Losses for learning from preferences (section 16.4.1)."""

import math

from keras import ops

from kerasllm.checks import UserError, check_choice, check_real
from kerasllm.tuning.losses._floats import fits, float_tensor

LOSS_TYPES = ("sigmoid", "hinge", "ipo", "sigmoid_norm")


def reward_loss(
    chosen_rewards, rejected_rewards, margin=None, center_coefficient=0.0
):
    """Return the Bradley-Terry loss of a reward model.

    The model says that the chosen response wins with the probability
    `sigmoid(chosen reward - rejected reward)`. The loss is the negative
    logarithm of this probability, `ln 2` where the rewards are equal.

    Args:
        chosen_rewards: float `(batch_size,)`.
        rejected_rewards: float `(batch_size,)`.
        margin: float `(batch_size,)` or a number. By how much the chosen
            response is better. It is subtracted from the difference of the
            rewards. `None` for no margin.
        center_coefficient: float, at least 0. Weight of the mean of
            `(chosen reward + rejected reward) ** 2`. The loss depends on
            differences alone, and this term keeps the rewards around zero.

    Returns:
        float32 scalar, the mean over the batch.

    Raises:
        UserError: the shapes differ, or `center_coefficient` is negative or
            infinite.

    Source: Bradley and Terry, 1952; Ouyang et al., 2022, arXiv:2203.02155,
    equation 1; Touvron et al., 2023, arXiv:2307.09288, equation 2 (margin);
    Eisenstein et al., 2023, arXiv:2312.09244 (centering).
    """
    return ops.mean(
        reward_losses(
            chosen_rewards, rejected_rewards, margin, center_coefficient
        )
    )


def reward_losses(
    chosen_rewards, rejected_rewards, margin=None, center_coefficient=0.0
):
    """Return the loss of each pair, float32 `(batch_size,)`.

    Their mean is `reward_loss`, which explains the arguments.
    """
    chosen, rejected = _floats(
        chosen_rewards=chosen_rewards, rejected_rewards=rejected_rewards
    )
    check_real(
        "center_coefficient",
        center_coefficient,
        lambda value: 0 <= value < math.inf,
        "at least 0 and finite",
    )
    difference = chosen - rejected
    if margin is not None:
        margin = float_tensor("margin", margin)
        shape, expected = tuple(margin.shape), tuple(chosen.shape)
        if shape and not fits(shape, expected):
            raise UserError(
                "`margin` must be a number, or one for each pair. Received: "
                f"margin {shape} for rewards {expected}."
            )
        difference = difference - margin
    losses = ops.softplus(-difference)  # -log sigmoid
    if center_coefficient:
        losses = losses + center_coefficient * (chosen + rejected) ** 2
    return losses


def dpo_loss(
    chosen_logprobs,
    rejected_logprobs,
    reference_chosen_logprobs,
    reference_rejected_logprobs,
    beta=0.1,
    loss_type="sigmoid",
    label_smoothing=0.0,
):
    """Return the loss of direct preference optimization.

    A policy defines rewards: `beta` times the logarithm of how much more
    likely a response has become than under the reference. DPO trains this
    implicit reward as a reward model would be trained. Let `z` be the
    difference of the two log-ratios, that of the chosen response minus that of
    the rejected one. Then the loss of a pair is, by `loss_type`:

    - `"sigmoid"`: `-log sigmoid(beta * z)`, the paper's.
    - `"hinge"`: `max(0, 1 - beta * z)`, which ignores clear pairs.
    - `"ipo"`: `(z - 1 / (2 * beta)) ** 2`, which stops at a finite margin.
    - `"sigmoid_norm"`: as `"sigmoid"`, for log-probabilities that are means
      over the tokens of a response. It has no reason to prefer long ones.

    Args:
        chosen_logprobs: float `(batch_size,)`, the log-probabilities in nats
            of the chosen responses: sums over their tokens, or means for
            `"sigmoid_norm"`.
        rejected_logprobs: the same of the rejected responses.
        reference_chosen_logprobs: the same of the chosen responses under the
            reference, the model before training.
        reference_rejected_logprobs: the same of the rejected responses.
        beta: float, positive. A large one keeps the policy close to the
            reference.
        loss_type: str, see above.
        label_smoothing: float in `[0, 0.5)`, the share of labels that are
            assumed to be wrong. For the two losses with a sigmoid.

    Returns:
        float32 scalar, the mean over the batch.

    Raises:
        UserError: the shapes differ, or an argument is out of range.

    Source: Rafailov et al., 2023, arXiv:2305.18290, equation 7; Zhao et al.,
    2023, arXiv:2305.10425 (hinge); Azar et al., 2023, arXiv:2310.12036,
    equation 17 (IPO); Lambert et al., 2024, arXiv:2411.15124 (normalized by
    length); Mitchell, 2023, "A note on DPO with noisy preferences" (label
    smoothing).
    """
    check_dpo(beta, loss_type, label_smoothing)
    chosen, rejected, reference_chosen, reference_rejected = _floats(
        chosen_logprobs=chosen_logprobs,
        rejected_logprobs=rejected_logprobs,
        reference_chosen_logprobs=reference_chosen_logprobs,
        reference_rejected_logprobs=reference_rejected_logprobs,
    )
    z = (chosen - reference_chosen) - (rejected - reference_rejected)
    return ops.mean(pair_losses(z, beta, loss_type, label_smoothing))


def pair_losses(z, beta, loss_type, label_smoothing):
    """Return the loss of each pair by its difference of log-ratios.

    Args:
        z: float tensor `(batch_size,)`, see `dpo_loss`, as for the rest.
        beta: float.
        loss_type: str.
        label_smoothing: float.

    Returns:
        float tensor `(batch_size,)`.
    """
    if loss_type == "hinge":
        return ops.relu(1 - beta * z)
    if loss_type == "ipo":
        return (z - 1 / (2 * beta)) ** 2
    losses = (1 - label_smoothing) * ops.softplus(-beta * z)
    return losses + label_smoothing * ops.softplus(beta * z)


def check_dpo(beta=0.1, loss_type="sigmoid", label_smoothing=0.0):
    """Raise a `UserError` if `dpo_loss` cannot take these arguments."""
    check_real(
        "beta",
        beta,
        lambda value: 0 < value < math.inf,
        "positive and finite",
    )
    check_choice(
        "loss_type",
        loss_type,
        LOSS_TYPES,
        cure="Use 'sigmoid' for the loss of the paper.",
    )
    check_real(
        "label_smoothing",
        label_smoothing,
        lambda value: 0 <= value < 0.5,
        "in [0, 0.5), the share of labels that are wrong",
        cure="Use 0 to trust all labels.",
    )
    if label_smoothing and not loss_type.startswith("sigmoid"):
        raise UserError(
            "`label_smoothing` must be 0 unless `loss_type` is 'sigmoid' or "
            f"'sigmoid_norm'. Received: label_smoothing={label_smoothing}, "
            f"loss_type={loss_type!r}. Change one of them."
        )


def _floats(**arrays):
    """Return float32 tensors, or raise an error if their shapes differ."""
    tensors = [float_tensor(name, array) for name, array in arrays.items()]
    if len({tuple(tensor.shape) for tensor in tensors}) > 1:
        shapes = ", ".join(
            f"{name} {tuple(tensor.shape)}"
            for name, tensor in zip(arrays, tensors, strict=True)
        )
        names = " and ".join(f"`{name}`" for name in arrays)
        raise UserError(
            f"{names} must have the same shape, one number for each pair. "
            f"Received: {shapes}."
        )
    return tensors
