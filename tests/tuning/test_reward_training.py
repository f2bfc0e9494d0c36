"""Training a reward model: its loss, what it learns, and how it goes on."""

import math

import keras
import keras_hub
import numpy as np
import pytest
from keras import ops
from scipy.optimize import minimize
from scipy.special import expit

from kerasllm import lora, training
from kerasllm.checks import UserError
from kerasllm.preferences import Preference
from kerasllm.prompts import ALPACA, BOOK
from kerasllm.training import CHECKPOINT_FILE
from kerasllm.tuning import RewardModel, train_reward_model
from tests.gemmas import fail_with
from tests.instructions.test_tokenized import Bytes
from tests.tuning.test_reward_model import PLAIN, PREPROCESSOR, small_model

# All pairs are in one bucket, so they are one batch if it is large enough.
PAIRS = [
    Preference(f"{i}", "good " * (1 + i % 2), "bad " * (1 + i % 2))
    for i in range(6)
]
OPTIONS = {"sequence_length": 63, "batch_size": 8, "verbose": 0}
# On each backend with adapters alone, beside which the head is trained.
every_rank = pytest.mark.parametrize(
    "rank", [pytest.param(None, marks=pytest.mark.any_backend), 2]
)


def rewards_of(model, preferences):
    prompts = [p.prompt for p in preferences]
    return (
        model(prompts, [p.chosen for p in preferences]).astype("float64"),
        model(prompts, [p.rejected for p in preferences]).astype("float64"),
    )


def values_of(variables):
    return [np.array(ops.convert_to_numpy(v)) for v in variables]


@pytest.mark.any_backend
def test_an_untrained_model_is_right_about_nothing():
    """All rewards are 0: the loss is ln 2, and ties are wrong."""
    model = small_model()
    model.head.kernel.assign(np.zeros(model.head.kernel.shape))
    (epoch,) = train_reward_model(model, PAIRS, epochs=1, **OPTIONS)
    assert epoch["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert epoch["accuracy"] == 0
    assert "perplexity" not in epoch


@pytest.mark.parametrize(
    "center_coefficient",
    [pytest.param(0.0, marks=pytest.mark.any_backend), 0.5],
)
def test_the_loss_is_that_of_the_rewards(center_coefficient):
    """With margins; a pair that fills the batch does not count."""
    pairs = [
        Preference("a", "bc", "d", margin=2.0),
        Preference("e", "f", "gh" * 4),
        Preference("i", "j", "jj", margin=-1.0),
    ]
    model = small_model()
    chosen, rejected = rewards_of(model, pairs)
    difference = chosen - rejected
    losses = np.logaddexp(0, -(difference - np.array([2, 0, -1])))
    losses += center_coefficient * (chosen + rejected) ** 2
    (epoch,) = train_reward_model(
        model, pairs, pairs[:2], epochs=1, learning_rate=1e-9,
        center_coefficient=center_coefficient, **OPTIONS,
    )  # fmt: skip
    assert epoch["loss"] == pytest.approx(losses.mean(), abs=1e-5)
    assert epoch["val_loss"] == pytest.approx(losses[:2].mean(), abs=1e-5)
    is_right = difference > 0
    assert epoch["accuracy"] == pytest.approx(is_right.mean())
    assert epoch["val_accuracy"] == pytest.approx(is_right[:2].mean())


class Sums(keras_hub.models.Backbone):
    """The sum of the vectors of all tokens so far: features of a text."""

    def __init__(self, vectors):
        inputs = {
            name: keras.Input((None,), dtype="int32", name=name)
            for name in ("token_ids", "padding_mask")
        }
        embedding = keras.layers.Embedding(*vectors.shape, name="vectors")
        outputs = ops.cumsum(embedding(inputs["token_ids"]), axis=1)
        super().__init__(inputs=inputs, outputs=outputs)
        embedding.embeddings.assign(vectors)


@pytest.mark.any_backend
def test_a_frozen_backbone_makes_it_a_logistic_regression():
    """Without intercept, on the differences of the features of a pair."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 0.4, (260, 4)).astype("float32")
    texts = ["".join(rng.choice([*"abcdefghij"], 5)) for _ in range(80)]
    pairs = [
        Preference("?", *two)
        for two in zip(texts[::2], texts[1::2], strict=True)
    ]
    sums = np.array([vectors[Bytes()(text)].sum(axis=0) for text in texts])
    features = sums[::2] - sums[1::2]  # (number of pairs, 4)
    model = RewardModel(Sums(vectors), PREPROCESSOR, "book")
    model.backbone.trainable = False
    train_reward_model(
        model, pairs, epochs=100, sequence_length=45, batch_size=40, verbose=0,
        learning_rate=keras.optimizers.schedules.CosineDecay(0.3, 100),
    )  # fmt: skip
    # That of scikit-learn minimizes the same convex loss.
    oracle = minimize(
        lambda weights: np.logaddexp(0, -features @ weights).sum(),
        np.zeros(4),
        jac=lambda weights: -features.T @ expit(-features @ weights),
        method="L-BFGS-B",
        tol=1e-12,
    )
    assert abs(oracle.x).max() > 0.1
    head = ops.convert_to_numpy(model.head.kernel)[:, 0]
    np.testing.assert_allclose(head, oracle.x, atol=0.01)
    (weights,) = model.backbone.weights
    np.testing.assert_array_equal(ops.convert_to_numpy(weights), vectors)


@every_rank
def test_it_learns_what_is_preferred(rank):
    model = small_model()
    held_out = [Preference("7", "good ", "bad ")]
    trainable = {id(v) for v in model.trainable_variables}
    if rank is not None:
        lora.enable_lora(model, rank, targets=("attention", "feed_forward"))
        adapters = {id(v) for v in model.trainable_variables}
        trainable = adapters | {id(model.head.kernel)}
    before = values_of(model.weights)
    history = train_reward_model(
        model, PAIRS, held_out, epochs=12, learning_rate=5e-2,
        **OPTIONS | {"batch_size": 2},
    )  # fmt: skip
    assert history[-1]["accuracy"] == history[-1]["val_accuracy"] == 1
    assert history[-1]["loss"] < 0.4
    chosen, rejected = rewards_of(model, held_out)
    assert chosen > rejected
    moved = {
        id(variable)
        for variable, value in zip(model.weights, before, strict=True)
        if (ops.convert_to_numpy(variable) != value).any()
    }
    assert moved <= trainable and id(model.head.kernel) in moved
    assert len(moved) > 3


def test_the_policy_stays_as_it_is(tmp_path):
    """A reward model has its own weights, in memory, too."""
    from tests.several_models import make_mini_gpt

    causal_lm = make_mini_gpt(tmp_path, None)
    before = values_of(causal_lm.weights)
    model = RewardModel(causal_lm)
    train_reward_model(model, PAIRS, epochs=2, learning_rate=1e-2, **OPTIONS)
    for value, weight in zip(before, causal_lm.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)
    ids = np.ones((1, 4), "int32")
    causal_lm({"token_ids": ids, "padding_mask": ids})  # still in memory


@every_rank
def test_an_interrupted_run_goes_on(tmp_path, rank):
    """Killed after one epoch and in the next: the end is the same."""
    start = small_model().get_weights()

    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    def train(directory, callbacks=()):
        model = small_model()
        model.set_weights(start)
        if rank is not None:
            lora.enable_lora(model, rank)
            rng = np.random.default_rng(0)
            for weight in model.trainable_weights:
                weight.assign(rng.normal(0, 0.1, weight.shape))
        history = train_reward_model(
            model, PAIRS, epochs=2, learning_rate=1e-2, sequence_length=63,
            batch_size=2, directory=directory, callbacks=callbacks, verbose=0,
        )  # fmt: skip
        assert [epoch["step"] for epoch in history] == [3, 6]
        return values_of(model.weights)

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", [Kill()])
    for a, b in zip(whole, train(tmp_path / "parts"), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.fixture
def pretended(monkeypatch):
    """Training that takes no time, and leaves a checkpoint."""

    def fit(model, *args, directory, identity, **kwargs):
        directory.mkdir(exist_ok=True)
        training.claim_for_model(directory, identity)
        (directory / CHECKPOINT_FILE).touch()
        return ["trained"]

    monkeypatch.setattr(training, "resumable_fit", fit)


@pytest.mark.any_backend
def test_a_directory_of_another_run_is_refused(tmp_path, pretended):
    """What would give another model, and what differs is named."""
    start = small_model().get_weights()

    def train(rank=None, preferences=PAIRS, moved=0.0, **changed):
        model = small_model()
        model.set_weights(start)
        kernel = model.head.kernel
        kernel.assign_add(np.full(kernel.shape, moved))
        if rank is not None:
            lora.enable_lora(model, rank)
        arguments = {"directory": tmp_path, "sequence_length": 63} | changed
        assert train_reward_model(model, preferences, **arguments) == [
            "trained"
        ]

    train()
    train(epochs=9)  # a longer run is no other
    other = [Preference("0", "good ", "bad ", margin=1.0), *PAIRS[1:]]
    for changed, named in (
        ({"learning_rate": 1e-2}, "learning_rate"),
        ({"seed": 1}, "seed"),
        ({"sequence_length": 62}, "sequence_length"),
        ({"batch_size": 3}, "batch_size"),
        ({"center_coefficient": 0.1}, "center_coefficient"),
        ({"template": PLAIN}, "template"),
        ({"preferences": PAIRS[::-1]}, "preferences"),
        ({"preferences": other}, "preferences"),
        ({"validation_preferences": PAIRS}, "validation_preferences"),
        ({"moved": 1.0}, "model"),
        ({"rank": 2}, "model` and `adapters`.* and `trainable"),
    ):  # fmt: skip
        with pytest.raises(
            RuntimeError, match=f"one run only.*other `{named}`"
        ):
            train(**changed)
    train()


@pytest.mark.any_backend
def test_a_new_template_is_kept(pretended, tmp_path):
    model = small_model()
    options = {"directory": tmp_path, "sequence_length": 96}
    with pytest.raises(UserError, match="must fit in `sequence_length`"):
        train_reward_model(model, PAIRS, template="alpaca", sequence_length=5)
    assert model.template == BOOK
    short = [Preference("", "a", "b")]
    # Alpaca's preamble is longer than the position table of this model.
    with pytest.raises(UserError, match="must fit in `sequence_length`"):
        train_reward_model(model, short, template=ALPACA, **options)
    train_reward_model(model, short, template=PLAIN, **options)
    assert model.template == PLAIN


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward_model": None}, "`reward_model` must be a `RewardModel`"),
        ({"preferences": []}, "`preferences` must have at least one"),
        ({"validation_preferences": []}, "`validation_preferences` must have"),
        ({"preferences": ["a"]}, "Each of `preferences` must be"),
        ({"callbacks": [3]}, "Each of `callbacks` must be"),
        ({"directory": 5}, "`directory` must be a str or a path"),
        ({"epochs": 0}, "`epochs` must be a positive int"),
        ({"batch_size": 0}, "`batch_size` must be a positive int"),
        ({"learning_rate": 0.0}, "`learning_rate` must be positive"),
        ({"sequence_length": 97}, "`sequence_length` must be at most 96"),
        ({"center_coefficient": -1}, "`center_coefficient` must be at least"),
        ({"seed": -1}, "`seed` must be"),
        ({"template": "none"}, "`template` must be one of"),
    ],
)
def test_arguments_are_checked_where_they_enter(
    tmp_path, monkeypatch, arguments, message
):
    monkeypatch.setattr(training, "resumable_fit", fail_with(MemoryError()))
    arguments = {
        "reward_model": small_model(),
        "preferences": PAIRS,
        "sequence_length": 64,
        "directory": tmp_path / "run",
    } | arguments
    with pytest.raises(UserError, match=message):
        train_reward_model(**arguments)
    assert not (tmp_path / "run").exists()
