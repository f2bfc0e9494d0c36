"""Group advantages and the clipped loss, against published numbers."""

import fractions

import numpy as np
import pytest
from keras import ops

from kerasllm.checks import UserError
from kerasllm.tuning import group_advantages, grpo_loss
from tests.gradients import gradient

REWARDS = [0.2, 0.5, 0.0, 0.4, 0.9, 0.7, 0.2, 0.0]


def test_advantages_are_those_of_a_worked_example():
    np.testing.assert_allclose(
        group_advantages(REWARDS, 4),
        [-0.3382, 1.0147, -1.2402, 0.5637, 1.0706, 0.5948, -0.5948, -1.0706],
        atol=1e-4,
    )
    np.testing.assert_allclose(
        group_advantages(REWARDS, 4, "none"),
        [-0.075, 0.225, -0.275, 0.125, 0.45, 0.25, -0.25, -0.45],
        atol=1e-6,
    )


@pytest.mark.any_backend
def test_a_batch_has_one_deviation():
    centered = group_advantages(REWARDS, 4, "none")
    np.testing.assert_allclose(
        group_advantages(REWARDS, 4, "batch"),
        centered / np.std(REWARDS, ddof=1),
        rtol=1e-4,
    )


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("reward", [0.0, 0.1, 1 / 3])
def test_equal_rewards_teach_nothing(scale, reward):
    advantages = group_advantages([reward] * 3 + [0.0, 1.0, 2.0], 3, scale)
    assert advantages[:3].tolist() == [0, 0, 0]  # and not nearly so
    assert advantages[5] > 0 > advantages[3]


def test_rewards_may_be_tensors_or_fractions():
    for rewards in (
        ops.convert_to_tensor(np.array(REWARDS, "float32")),
        [fractions.Fraction(str(reward)) for reward in REWARDS],
    ):
        advantages = group_advantages(rewards, 4)
        assert advantages.dtype == "float32" and advantages.shape == (8,)
        np.testing.assert_allclose(
            advantages, group_advantages(REWARDS, 4), atol=1e-4
        )


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((REWARDS, 3), "must be flat, with `num_generations` of them"),
        (([REWARDS], 4), "must be flat"),
        (([], 4), "must be flat"),
        ((["1", "2"], 2), "`rewards` must be numbers.*<U1"),
        (([[1], [2, 3]], 2), "`rewards` must be numbers"),
        (([1j, 2], 2), "`rewards` must be numbers.*complex"),
        (({"a": 1}, 2), "`rewards` must be numbers"),
        (([1e39, 0], 2), "`rewards` must be finite.*1e[+]39 at index 0"),
        (([0, 10**400], 2), "`rewards` must be (numbers|finite)"),
        ((REWARDS, 1), "`num_generations` must be an int of at least 2"),
        (
            (REWARDS, 4, "std"),
            "`scale_rewards` must be one of 'group'",
        ),
        (([0.0, np.nan], 2), "`rewards` must be finite, .* index 1"),
        (([1e308, -1e308], 2), "must be finite.*1e[+]308 at index 0"),
        ((["good", "bad"], 2), "`rewards` must be numbers.*'good'"),
        (([10**400, 1], 2), "`rewards` must be numbers"),
    ],
)
def test_impossible_groups(arguments, message):
    with pytest.raises(UserError, match=message):
        group_advantages(*arguments)


# Two completions, of two tokens and of one. Ratios: 1.5, .5 and .5.
OLD = np.log([[0.2, 0.4], [0.6, 0.5]])
NEW = np.log([[0.3, 0.2], [0.3, 0.5]])
MASK = [[1, 1], [1, 0]]
ADVANTAGES = [1.0, -1.0]
# -min(1.5, 1.2); -min(.5, .8); -min(-.5, -.8).
TOKENS = [-1.2, -0.5, 0.8]


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("grpo", ((TOKENS[0] + TOKENS[1]) / 2 + TOKENS[2]) / 2),
        ("dapo", sum(TOKENS) / 3),
        ("dr_grpo", sum(TOKENS) / (2 * 2)),
    ],
)
def test_a_loss_derived_by_hand(loss_type, expected):
    loss = grpo_loss(NEW, OLD, ADVANTAGES, MASK, loss_type=loss_type)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_the_length_of_dr_grpo_is_an_argument():
    loss = grpo_loss(
        NEW,
        OLD,
        ADVANTAGES,
        MASK,
        loss_type="dr_grpo",
        max_completion_length=10,
    )
    assert float(loss) == pytest.approx(sum(TOKENS) / (2 * 10), abs=1e-6)


def test_increases_may_have_a_bound_of_their_own():
    loss = grpo_loss(
        NEW, OLD, ADVANTAGES, MASK, epsilon_high=0.4, loss_type="dapo"
    )
    assert float(loss) == pytest.approx((-1.4 - 0.5 + 0.8) / 3, abs=1e-6)


def test_a_reference_adds_its_divergence():
    reference = np.log([[0.3, 0.4], [0.3, 0.1]])
    plain = grpo_loss(NEW, OLD, ADVANTAGES, MASK, loss_type="dapo")
    loss = grpo_loss(
        NEW,
        OLD,
        ADVANTAGES,
        MASK,
        beta=0.1,
        reference_logprobs=reference,
        loss_type="dapo",
    )
    # Only the second token differs: 2 - ln 2 - 1.
    divergence = (2 - np.log(2) - 1) / 3
    assert float(loss - plain) == pytest.approx(0.1 * divergence, abs=1e-6)


@pytest.mark.parametrize("old", [NEW, None], ids=["equal", "not given"])
def test_the_first_step_has_a_loss_of_zero_and_a_gradient(old):
    x = np.array(NEW, "float32")
    advantages = group_advantages([0.0, 1.0], 2)
    mask = [[1, 1], [1, 1]]
    assert float(grpo_loss(x, old, advantages, mask)) == pytest.approx(
        0, abs=1e-7
    )
    slope = gradient(lambda x: grpo_loss(x, old, advantages, mask), x)
    # Each token: minus its advantage, over two tokens and two completions.
    expected = -np.repeat(advantages[:, None], 2, axis=1) / 4
    np.testing.assert_allclose(slope, expected, atol=1e-6)


def test_a_clipped_token_has_no_gradient():
    x = np.array(NEW, "float32")
    slope = gradient(lambda x: grpo_loss(x, OLD, ADVANTAGES, MASK), x)
    # The first token has gone far enough up, the third far enough down.
    assert slope[0, 0] == slope[1, 0] == slope[1, 1] == 0
    assert slope[0, 1] == pytest.approx(-0.5 / 4)


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_what_is_masked_does_not_matter(loss_type):
    new, old = NEW.copy(), OLD.copy()
    new[1, 1], old[1, 1] = -np.inf, np.nan
    arguments = {"loss_type": loss_type, "beta": 0.1}
    for other in (new, np.where(np.isnan(new), 0, new)):
        loss = grpo_loss(
            other,
            old,
            ADVANTAGES,
            MASK,
            reference_logprobs=old,
            **arguments,
        )
        expected = grpo_loss(
            NEW,
            OLD,
            ADVANTAGES,
            MASK,
            reference_logprobs=OLD,
            **arguments,
        )
        assert float(loss) == pytest.approx(float(expected), abs=1e-6)


def test_a_completion_without_tokens_costs_nothing():
    for loss_type in ("grpo", "dapo", "dr_grpo"):
        loss = grpo_loss(
            NEW, OLD, ADVANTAGES, [[0, 0], [0, 0]], loss_type=loss_type
        )
        assert float(loss) == 0


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 1.5}, r"`epsilon` must be in \[0, 1\]"),
        ({"epsilon_high": -0.1}, "`epsilon_high` must be at least 0"),
        ({"beta": -1}, "`beta` must be at least 0"),
        ({"beta": np.inf}, "`beta` must be at least 0 and finite"),
        ({"beta": 0.1}, "`reference_logprobs` must be given"),
        ({"loss_type": "ppo"}, "`loss_type` must be one of 'grpo', 'dr_grpo'"),
        ({"max_completion_length": 0}, "`max_completion_length` must be a po"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        grpo_loss(NEW, OLD, ADVANTAGES, MASK, **arguments)


@pytest.mark.any_backend
def test_shapes_must_agree():
    with pytest.raises(UserError, match="same shape .*mask"):
        grpo_loss(NEW, OLD, ADVANTAGES, [[1, 1]])
    for advantages in ([1.0], [1.0, 2.0, 3.0], np.ones((3, 2)), 1.0):
        with pytest.raises(UserError, match="`advantages` must be .batch_size"):
            grpo_loss(NEW, OLD, advantages, MASK)


@pytest.mark.any_backend
@pytest.mark.parametrize("wrong", ["ab", None, [["a", "b"]] * 2, [[1], [2, 3]]])
def test_what_is_no_number_is_named(wrong):
    for position, name in enumerate(["logprobs", "old_", "advantages", "mask"]):
        arguments = [NEW, OLD, ADVANTAGES, MASK]
        if wrong is not None or name != "old_":  # None: those of the model
            arguments[position] = wrong
            with pytest.raises(UserError, match=f"`{name}.*must be numbers"):
                grpo_loss(*arguments)
