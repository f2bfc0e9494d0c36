"""Direct preference optimization: what it scores, learns and reports."""

import json
import math

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import expit, log_expit

from kerasllm import lora, training, tuning
from kerasllm.checks import UserError
from kerasllm.models import MiniGPTCausalLM, mini_gpt
from kerasllm.preferences import Preference, TokenizedPairs
from kerasllm.prompts import get_template
from kerasllm.tuning import _dpo, _logprobs, _pair_model, response_logprobs
from tests.gemmas import fail_with
from tests.several_models import LENGTH, MAKERS

LOSS_TYPES = ("sigmoid", "hinge", "ipo", "sigmoid_norm")
PAIRS = [
    Preference("Say red.", "red", "blue. the cat"),
    Preference("the cat", "", "the mat sat on a mat"),
    Preference("Say blue.", "blue", "red"),
]
# The cat is always better, whatever the number.
TOY = [
    Preference(f"Say number {i}.", f"the cat sat {i}", f"the mat sat {i}")
    for i in range(24)
]
OPTIONS = {"sequence_length": LENGTH, "verbose": 0}


@pytest.fixture
def make(tmp_path, tiny_untrained):
    return lambda name="mini_gpt": MAKERS[name](tmp_path, tiny_untrained)


def copy_of(model):
    """Return a Mini-GPT with the same weights."""
    copy = MiniGPTCausalLM(
        model.backbone.from_config(model.backbone.get_config()),
        preprocessor=model.preprocessor,
    )
    for new, old in zip(copy.weights, model.weights, strict=True):
        new.assign(ops.convert_to_numpy(old))
    return copy


def tokenized(model, pairs=PAIRS):
    template = get_template("auto", model.preprocessor.tokenizer)
    return TokenizedPairs.of(pairs, model.preprocessor, template, LENGTH)


def scores(model, pairs=PAIRS):
    """Return the log-probabilities of both responses: `(2, len(pairs))`."""
    prompts = [pair.prompt for pair in pairs]
    return np.stack(
        [
            response_logprobs(model, prompts, [pair.chosen for pair in pairs]),
            response_logprobs(model, prompts, [p.rejected for p in pairs]),
        ]
    )


class Steps(keras.callbacks.Callback):
    """Keeps the logs of the first step of each epoch."""

    def __init__(self):
        super().__init__()
        self.logs = []

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0:
            self.logs.append(dict(logs))


def first_step(model, pairs=PAIRS, **options):
    steps = Steps()
    options = OPTIONS | {"batch_size": len(pairs), "epochs": 1} | options
    tuning.dpo(model, pairs, callbacks=[steps], **options)
    return steps.logs[0]


@pytest.mark.parametrize(
    "name",
    [
        "mini_gpt",
        *(
            pytest.param(name, marks=pytest.mark.any_backend)
            for name in ("gpt2", "llama", "gemma")
        ),
    ],
)
def test_it_scores_as_response_logprobs(name, make, monkeypatch):
    """Whatever the padding, and with logits in several parts."""
    model = make(name)
    expected = scores(model)
    pairs = tokenized(model)
    lengths = np.array(
        [
            [len(ids) - start for ids in both]
            for *both, start in zip(
                pairs.chosen, pairs.rejected, pairs.prompt_lengths, strict=True
            )
        ]
    )
    monkeypatch.setattr(_logprobs, "LARGEST_LOGITS", 3000)
    # Without logits of most positions that every prompt has, and with them.
    shortest = min(pairs.prompt_lengths)
    assert shortest > _pair_model.PARTS
    for buckets, known in ((True, 1), (False, shortest)):
        pair_model = _pair_model.PairModel(model, known)
        assert (pair_model.start > 0) == (known > 1)
        for x, _, weights in pairs.dataset(4, buckets=buckets):
            x = {key: array.numpy() for key, array in x.items()}
            count = int(weights.numpy().sum())
            numbers = x.pop("numbers")[:count]
            found = ops.convert_to_numpy(pair_model(x))[:count]
            assert found.dtype == "float32"
            np.testing.assert_allclose(
                found[..., 0], expected.T[numbers], rtol=1e-5, atol=1e-5
            )
            np.testing.assert_allclose(
                found[..., 1], found[..., 0] / lengths[numbers], rtol=1e-5
            )


@pytest.mark.parametrize(
    "rank", [pytest.param(None, marks=pytest.mark.any_backend), 2]
)
def test_the_first_step_costs_the_logarithm_of_two(make, rank):
    """Nothing has moved: all rewards are zero, and a tie is no success."""
    model = make()
    if rank:
        lora.enable_lora(model, rank)
    expected = scores(model).mean(axis=1)
    logs = first_step(model, learning_rate=3e-2, epochs=3)
    assert logs["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert logs["accuracy"] == 0
    for name in ("chosen_reward", "rejected_reward", "margin"):
        assert logs[name] == pytest.approx(0, abs=1e-4)
    assert logs["chosen_logprob"] == pytest.approx(expected[0], rel=1e-4)
    assert logs["rejected_logprob"] == pytest.approx(expected[1], rel=1e-4)
    after = scores(model).mean(axis=1)
    assert after[0] - after[1] > expected[0] - expected[1] + 0.1


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma"])
def test_every_family_can_be_tuned(make, name):
    logs = first_step(make(name))
    assert logs["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert logs["accuracy"] == 0


@pytest.mark.any_backend
def test_dropout_is_off(make):
    """Otherwise the first log-ratios would be noise."""
    trained = mini_gpt(300, LENGTH, 32, 64, 2, num_layers=2, dropout=0.5)
    tokenizer = make().preprocessor.tokenizer
    model = MiniGPTCausalLM.from_mini_gpt(trained, tokenizer)
    logs = first_step(model)
    assert logs["loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_a_step_follows_the_gradient_of_the_paper(make, monkeypatch):
    """Equation 7's, with slopes of log-probabilities by finite differences.

    The logits are computed in several parts, twice.
    """
    monkeypatch.setattr(_logprobs, "LARGEST_LOGITS", 3000)
    model, beta = make(), 0.5
    weight = model.backbone.embedding.token_embeddings.embeddings
    for variable in model.weights:
        variable.trainable = variable is weight
    before = np.array(ops.convert_to_numpy(weight))
    rng = np.random.default_rng(0)
    references = scores(model).T + rng.normal(0, 2, (3, 2))
    ratios = scores(model).T - references
    z = ratios[:, 0] - ratios[:, 1]
    factors = -beta * expit(-beta * z) / len(z)  # the mean over pairs

    pair_model = _pair_model.PairModel(model)
    objective = _pair_model.Objective(beta, "sigmoid", 0.0, 0.0)
    pair_model.compile(
        keras.optimizers.SGD(1.0), _pair_model.DPOLoss(objective)
    )
    labels = np.stack([references, references], axis=-1).astype("float32")
    dataset = tokenized(model).dataset(4, buckets=False)
    pair_model.fit(dataset.map(_dpo._labeling(labels)), verbose=0)
    moved = before - ops.convert_to_numpy(weight)

    largest = np.argsort(-abs(moved), axis=None)[:3]
    for index in zip(*np.unravel_index(largest, moved.shape), strict=True):
        slopes = 0
        for step in (3e-3, -3e-3):
            value = before.copy()
            value[index] += step
            weight.assign(value)
            slopes = slopes + scores(model) / (2 * step)
        expected = factors @ (slopes[0] - slopes[1])
        assert moved[index] == pytest.approx(expected, rel=0.02)


def trl_losses(policy, reference, lengths, beta, loss_type, smoothing, alpha):
    """Return the losses of pairs as TRL's `DPOTrainer` computes them.

    Args:
        policy: float `(batch_size, 2)`, sums of log-probabilities.
        reference: the same.
        lengths: int `(batch_size, 2)`.
        beta: float.
        loss_type: str.
        smoothing: float.
        alpha: float.
    """
    chosen_nll = -policy[:, 0] / lengths[:, 0]
    if loss_type == "sigmoid_norm":
        policy, reference = policy / lengths, reference / lengths
    pi_logratios = policy[:, 0] - policy[:, 1]
    ref_logratios = reference[:, 0] - reference[:, 1]
    logits = pi_logratios - ref_logratios
    if loss_type == "hinge":
        losses = np.maximum(1 - beta * logits, 0)
    elif loss_type == "ipo":
        losses = (logits - 1 / (2 * beta)) ** 2
    else:
        losses = -log_expit(beta * logits) * (1 - smoothing)
        losses = losses - log_expit(-beta * logits) * smoothing
    return losses + alpha * chosen_nll


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_losses_and_rewards_are_those_of_trl(loss_type):
    rng = np.random.default_rng(0)
    policy, reference = rng.normal(-20, 5, (2, 6, 2))
    lengths = rng.integers(1, 9, (6, 2))
    pairs = [
        ops.convert_to_tensor(np.stack([sums, sums / lengths], -1), "float32")
        for sums in (reference, policy)
    ]
    smoothing = 0.2 if loss_type.startswith("sigmoid") else 0.0
    objective = _pair_model.Objective(0.3, loss_type, smoothing, 0.7)
    expected = trl_losses(
        policy, reference, lengths, 0.3, loss_type, smoothing, 0.7
    )
    loss = _pair_model.DPOLoss(objective)
    np.testing.assert_allclose(
        ops.convert_to_numpy(loss.call(*pairs)), expected, rtol=1e-4
    )
    # A pair that fills a batch up weighs nothing.
    weights = np.array([1, 1, 1, 1, 0, 0], "float32")
    assert float(loss(*pairs, weights)) == pytest.approx(
        expected[:4].mean(), rel=1e-4
    )

    ratios = policy - reference
    if loss_type == "sigmoid_norm":
        ratios = ratios / lengths
    rewards = 0.3 * ratios[:4]
    found = {}
    for metric in _pair_model.metrics_of(objective):
        metric.update_state(*pairs, weights)
        found[metric.name] = float(metric.result())
    assert found == pytest.approx(
        {
            "chosen_reward": rewards[:, 0].mean(),
            "rejected_reward": rewards[:, 1].mean(),
            "margin": (rewards[:, 0] - rewards[:, 1]).mean(),
            "accuracy": (rewards[:, 0] > rewards[:, 1]).mean(),
            "chosen_logprob": policy[:4, 0].mean(),
            "rejected_logprob": policy[:4, 1].mean(),
        },
        rel=1e-4,
    )


@pytest.mark.slow
@pytest.mark.any_backend
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_each_loss_teaches_what_holds_for_other_prompts(make, loss_type):
    model = make()
    before = scores(model, TOY[16:]).mean(axis=1)
    beta = 5.0 if loss_type == "sigmoid_norm" else 0.1
    history = tuning.dpo(
        model, TOY[:16], TOY[16:], beta=beta, loss_type=loss_type, epochs=6,
        learning_rate=3e-3, **OPTIONS,
    )  # fmt: skip
    first, last = history[0], history[-1]
    assert last["loss"] < first["loss"]
    assert last["val_margin"] > first["val_margin"] > 0
    assert last["val_accuracy"] == 1
    after = scores(model, TOY[16:]).mean(axis=1)
    assert last["val_chosen_logprob"] == pytest.approx(after[0], rel=1e-3)
    assert last["val_rejected_logprob"] == pytest.approx(after[1], rel=1e-3)
    assert last["val_margin"] == pytest.approx(
        last["val_chosen_reward"] - last["val_rejected_reward"], rel=1e-3
    )
    if loss_type != "sigmoid_norm":
        gained = (after - before)[0] - (after - before)[1]
        assert last["val_margin"] == pytest.approx(beta * gained, rel=1e-2)
    assert not [name for name in last if "perplexity" in name]


@pytest.mark.any_backend
def test_the_second_term_keeps_the_chosen_response_likely(make):
    model = make()
    kept = copy_of(model)
    for each, weight in ((model, 0.0), (kept, 1.0)):
        tuning.dpo(
            each, TOY[:8], epochs=6, learning_rate=1e-2, sft_weight=weight,
            **OPTIONS,
        )  # fmt: skip
    assert scores(kept, TOY)[0].mean() > scores(model, TOY)[0].mean() + 1


@pytest.mark.any_backend
def test_the_reference_is_without_adapters_or_with_them(make):
    """What was learned before is a part of the second, as it is of a copy."""
    model = make()
    plain = scores(model)
    lora.enable_lora(model, 2, targets="feed_forward")
    rng = np.random.default_rng(0)
    for _, layer in lora.adapted_layers(model):
        b = layer.lora_kernel_b
        b.assign(rng.normal(0, 1, b.shape).astype("float32"))
    with lora.adapters_off(model):
        np.testing.assert_allclose(scores(model), plain, rtol=1e-5)
    start = scores(model)
    assert abs((start - plain).mean(axis=1)).min() > 0.1
    logs = first_step(model, beta=0.2, learning_rate=1e-6)
    rewards = 0.2 * (start - plain).mean(axis=1)
    assert logs["chosen_reward"] == pytest.approx(rewards[0], rel=1e-2)
    assert logs["rejected_reward"] == pytest.approx(rewards[1], rel=1e-2)
    logs = first_step(model, reference="precomputed")
    assert logs["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert logs["accuracy"] == 0


@pytest.mark.any_backend
def test_frozen_weights_stay(make):
    model = make()
    lora.enable_lora(model, 2)
    frozen = model.non_trainable_weights
    before = [np.array(ops.convert_to_numpy(weight)) for weight in frozen]
    tuning.dpo(model, PAIRS, epochs=1, learning_rate=0.1, **OPTIONS)
    for old, weight in zip(before, frozen, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(weight))
    for weight in model.weights:
        weight.trainable = False
    with pytest.raises(UserError, match="Something must be trainable"):
        tuning.dpo(model, PAIRS, **OPTIONS)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": 0}, "`beta` must be positive"),
        ({"loss_type": "kto"}, "`loss_type` must be one of 'sigmoid', 'hinge'"),
        ({"label_smoothing": 0.5}, "`label_smoothing` must be in"),
        ({"sft_weight": -1}, "`sft_weight` must be at least 0"),
        ({"sft_weight": float("inf")}, "`sft_weight` must be at least 0"),
        ({"reference": "mine"}, "`reference` must be `None`.*'mine'"),
        ({"epochs": 0}, "`epochs` must be a positive int"),
        ({"batch_size": 2.5}, "Received: batch_size=2.5"),
        ({"learning_rate": 0.0}, "`learning_rate` must be positive"),
        ({"seed": -1}, "`seed` must be"),
        ({"seed": 2**70}, "`seed` must be an int in"),
        ({"callbacks": [3]}, "Each of `callbacks` must be"),
        ({"batch_size": 10**400}, "`batch_size` must be a positive int, and"),
        ({"causal_lm": "gpt2"}, "`causal_lm` must be a KerasHub.*'gpt2'"),
        ({"template": ["book"]}, "`template` must be one of"),
        ({"preferences": 3}, "`preferences` must be a list. Received: pre"),
        ({"sequence_length": 65}, "`sequence_length` must be at most 64"),
        ({"sequence_length": 2}, "At least one of `preferences` must fit"),
        ({"preferences": []}, "`preferences` must have at least one"),
        ({"preferences": ["a"]}, "Each of `preferences` must be a `Pref"),
        (
            {"validation_preferences": []},
            "`validation_preferences` must have at least one",
        ),
        ({"template": "no such"}, "`template` must be one of"),
    ],
)
def test_numbers_are_checked_where_they_enter(
    make, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.setattr(training, "resumable_fit", fail_with(MemoryError()))
    arguments = {
        "preferences": PAIRS,
        "directory": tmp_path / "run",
        **OPTIONS,
    } | arguments
    with pytest.raises(UserError, match=message):
        tuning.dpo(**{"causal_lm": make()} | arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.any_backend
def test_numpy_numbers_are_numbers(make, tmp_path, monkeypatch):
    """Also in the file that tells one run from another."""
    monkeypatch.setattr(training, "resumable_fit", lambda *a, **k: [])
    model, records = make(), []
    numbers = {"beta": 0.5, "learning_rate": 0.25, "batch_size": 2, "seed": 3}
    for kind in (lambda x: x, lambda x: np.array(x)[()]):
        directory = tmp_path / str(len(records))
        given = {name: kind(x) for name, x in numbers.items()}
        given["sequence_length"] = LENGTH
        tuning.dpo(model, PAIRS, directory=directory, **given)
        records.append(json.loads((directory / training.RUN_FILE).read_text()))
    assert records[0] == records[1]


@pytest.mark.any_backend
@pytest.mark.parametrize(("size", "steps"), [(1, 3), (3, 1), (32, 1)])
def test_by_default_a_few_pairs_are_read_often(make, monkeypatch, size, steps):
    seen = {}
    monkeypatch.setattr(
        training, "resumable_fit", lambda *args, **options: seen.update(options)
    )
    tuning.dpo(make(), PAIRS, batch_size=size, **OPTIONS)
    assert seen["steps_per_epoch"] == steps
    assert seen["epochs"] == -(-100 // steps)
    tuning.dpo(make(), PAIRS * 80, batch_size=2, **OPTIONS)
    assert seen["epochs"] == 1  # 120 steps


@pytest.mark.any_backend
def test_long_pairs_are_left_out_and_counted(make, monkeypatch):
    monkeypatch.setattr(training, "resumable_fit", lambda *a, **k: [])
    long = Preference("Say red.", "red", "the cat sat on the mat " * 9)
    with pytest.warns(UserWarning, match="1 of 4 `preferences` are longer"):
        tuning.dpo(make(), [*PAIRS, long], **OPTIONS)
