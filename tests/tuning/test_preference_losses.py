"""The losses of preferences, against hand derivations and properties."""

import math

import numpy as np
import pytest
from keras import ops

from kerasllm.checks import UserError
from kerasllm.tuning import dpo_loss, reward_loss
from tests.gradients import gradient


def test_equal_rewards_cost_the_logarithm_of_two():
    assert float(reward_loss([3.0, -1.0], [3.0, -1.0])) == pytest.approx(
        math.log(2)
    )


def test_a_reward_loss_derived_by_hand():
    # Differences of 2 and -1: ln(1 + e^-2) = .126928, ln(1 + e) = 1.313262.
    loss = float(reward_loss([2.0, 0.0], [0.0, 1.0]))
    assert loss == pytest.approx((0.126928 + 1.313262) / 2, abs=1e-6)
    # A margin of 2 for the first leaves a difference of zero.
    loss = float(reward_loss([2.0, 0.0], [0.0, 1.0], margin=[2.0, 0.0]))
    assert loss == pytest.approx((math.log(2) + 1.313262) / 2, abs=1e-6)
    # The sums are 2 and 1, their squares 4 and 1.
    centered = float(
        reward_loss([2.0, 0.0], [0.0, 1.0], center_coefficient=0.1)
    )
    assert centered == pytest.approx(0.720095 + 0.1 * 2.5, abs=1e-5)


def test_a_constant_added_to_all_rewards_changes_nothing():
    chosen, rejected = np.random.default_rng(0).normal(size=(2, 16))
    assert float(reward_loss(chosen + 5, rejected + 5)) == pytest.approx(
        float(reward_loss(chosen, rejected)), abs=1e-5
    )


def test_a_constant_changes_no_gradient_unless_rewards_are_centered():
    rewards = np.random.default_rng(0).normal(size=(2, 16)).astype("float32")

    def slope(constant, coefficient):
        return gradient(
            lambda x: reward_loss(
                x[0] + constant, x[1] + constant, None, coefficient
            ),
            rewards,
        )

    np.testing.assert_allclose(slope(5.0, 0.0), slope(0.0, 0.0), atol=1e-6)
    # The sum of two rewards is larger by 10, the slope of its square by 20.
    np.testing.assert_allclose(
        slope(5.0, 0.1) - slope(0.0, 0.1), 0.1 * 20 / 16, atol=1e-5
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_extreme_rewards_have_a_finite_loss(sign):
    loss = float(reward_loss([sign * 1e4], [0.0]))
    assert loss == pytest.approx(0 if sign > 0 else 1e4)


# Log-ratios of 1 and -.5, so z = 1.5; and of -1 and 2, so z = -3.
POLICY = [-2.0, -5.0], [-4.5, -3.0]
REFERENCE = [-3.0, -4.0], [-4.0, -5.0]


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        # beta * z is .75 and -1.5: ln(1 + e^-.75) = .386871 and
        # ln(1 + e^1.5) = 1.701413.
        ("sigmoid", (0.386871 + 1.701413) / 2),
        ("sigmoid_norm", (0.386871 + 1.701413) / 2),
        ("hinge", (0.25 + 2.5) / 2),
        # 1 / (2 * beta) is 1, so .5 ** 2 and (-4) ** 2.
        ("ipo", (0.25 + 16) / 2),
    ],
)
def test_a_dpo_loss_derived_by_hand(loss_type, expected):
    loss = dpo_loss(*POLICY, *REFERENCE, beta=0.5, loss_type=loss_type)
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_smoothed_labels_are_wrong_at_times():
    # The loss of swapped labels is that of -beta * z: larger by beta * z.
    swapped = (0.386871 + 0.75 + 1.701413 - 1.5) / 2
    loss = dpo_loss(*POLICY, *REFERENCE, beta=0.5, label_smoothing=0.1)
    expected = 0.9 * (0.386871 + 1.701413) / 2 + 0.1 * swapped
    assert float(loss) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("loss_type", ["sigmoid", "sigmoid_norm"])
def test_an_untrained_policy_costs_the_logarithm_of_two(loss_type):
    loss = dpo_loss(*POLICY, *POLICY, loss_type=loss_type, label_smoothing=0.2)
    assert float(loss) == pytest.approx(math.log(2))


def test_dpo_is_the_loss_of_its_implicit_rewards():
    chosen, rejected = (
        0.3 * (np.array(policy) - np.array(reference))
        for policy, reference in zip(POLICY, REFERENCE, strict=True)
    )
    assert float(dpo_loss(*POLICY, *REFERENCE, beta=0.3)) == pytest.approx(
        float(reward_loss(chosen, rejected)), abs=1e-6
    )


def test_the_gradient_of_dpo_is_that_of_the_paper():
    """Equation 7's: `-beta * sigmoid(-beta * z)` for the chosen response."""
    chosen = np.array(POLICY[0], "float32")
    slope = gradient(
        lambda x: dpo_loss(x, POLICY[1], *REFERENCE, beta=0.5), chosen
    )
    z = np.array([1.5, -3.0])
    expected = -0.5 / (1 + np.exp(0.5 * z)) / 2  # the mean of two
    np.testing.assert_allclose(slope, expected, atol=1e-6)


def test_losses_are_float32_scalars():
    for loss in (reward_loss([1], [2]), dpo_loss(*POLICY, *REFERENCE)):
        assert tuple(loss.shape) == ()
        assert ops.convert_to_numpy(loss).dtype == "float32"


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": 0}, "`beta` must be positive and finite. Received: beta=0"),
        ({"beta": float("inf")}, "`beta` must be positive and finite"),
        ({"beta": float("nan")}, "`beta` must be positive"),
        ({"loss_type": "kto"}, "`loss_type` must be one of 'sigmoid', 'hinge'"),
        ({"label_smoothing": 0.5}, r"`label_smoothing` must be in \[0, 0.5\)"),
        (
            {"label_smoothing": 0.1, "loss_type": "ipo"},
            "`label_smoothing` must be 0 unless",
        ),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        dpo_loss(*POLICY, *REFERENCE, **arguments)


@pytest.mark.any_backend
def test_shapes_must_agree():
    with pytest.raises(UserError, match="must have the same shape.*rejected"):
        reward_loss([1.0, 2.0], [1.0])
    with pytest.raises(UserError, match="`center_coefficient` must be at le"):
        reward_loss([1.0], [1.0], center_coefficient=-1)
    with pytest.raises(UserError, match="`margin` must be a number, or one"):
        reward_loss([1.0, 2.0], [1.0, 2.0], margin=[1.0, 2.0, 3.0])


@pytest.mark.any_backend
@pytest.mark.parametrize("wrong", ["1", ["1", "2"], None, [[1], [2, 3]]])
def test_what_is_no_number_is_named(wrong):
    with pytest.raises(UserError, match="`rejected_rewards` must be numbers"):
        reward_loss([1.0, 2.0], wrong)
    with pytest.raises(UserError, match="`reference_ch.*must be numbers"):
        dpo_loss(*POLICY, wrong, REFERENCE[1])
    if wrong is not None:
        with pytest.raises(UserError, match="`margin` must be numbers"):
            reward_loss([1.0, 2.0], [1.0, 2.0], margin=wrong)
    with pytest.raises(UserError, match="`center_coefficient` must be at le"):
        reward_loss([1.0], [2.0], center_coefficient=float("inf"))
