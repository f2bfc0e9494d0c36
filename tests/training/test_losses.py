"""The loss in pieces: the same numbers as with all logits at once."""

import keras
import numpy as np
import pytest

from kerasllm.backend import remat_in_turn
from kerasllm.models import MiniGPTBackbone, MiniGPTCausalLM, mini_gpt
from kerasllm.training import (
    accuracy,
    next_token_objective,
    token_loss,
    training_model,
    with_labels,
)

SIZES = {
    "vocabulary_size": 23,
    "sequence_length": 10,
    "hidden_dim": 8,
    "intermediate_dim": 12,
    "num_heads": 2,
    "num_layers": 2,
    "dropout": 0.0,
}


def sequences(count=4, length=10, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 23, (2, count, length), "int32")
    weights = rng.uniform(0, 2, (count, length)).astype("float32")
    weights[:, :2] = 0  # such as the tokens of a prompt
    return x, y, weights


def make_mini_gpt():
    return mini_gpt(**SIZES)


def make_task():
    return MiniGPTCausalLM(MiniGPTBackbone(**SIZES))


def make_gemma():
    keras_hub = pytest.importorskip("keras_hub")
    backbone = keras_hub.models.Gemma3Backbone(
        vocabulary_size=23,
        image_size=16,
        num_layers=2,
        num_query_heads=2,
        num_key_value_heads=1,
        hidden_dim=8,
        intermediate_dim=12,
        head_dim=4,
        use_sliding_window_attention=True,
        sliding_window_size=4,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        vision_encoder=None,
    )
    return keras_hub.models.Gemma3CausalLM(backbone=backbone, preprocessor=None)


def train(model, inputs, y, weights, loss, metric):
    """Take some steps and validate; return all that came of it.

    At a rate of 1 the weights differ by as much as the gradients.
    """
    model.compile(
        keras.optimizers.SGD(1.0),
        loss=loss,
        weighted_metrics=[metric],
    )
    data = {"x": inputs, "y": y, "sample_weight": weights, "batch_size": 2}
    history = model.fit(**data, epochs=1, shuffle=False, verbose=0).history
    return history, model.evaluate(**data, verbose=0)


@pytest.mark.parametrize(
    ("make", "num_chunks"),
    [
        (make_mini_gpt, 3),
        *(
            pytest.param(
                *case, marks=[pytest.mark.slow, pytest.mark.any_backend]
            )
            for case in [
                (make_gemma, 3),
                (make_mini_gpt, 1),
                (make_mini_gpt, 99),
                (make_task, 10),
            ]
        ),
    ],
)
def test_training_in_chunks_is_training(make, num_chunks):
    x, y, weights = sequences()
    plain = make()
    initial = plain.get_weights()
    inputs = x
    if isinstance(plain.input, dict):
        inputs = {"token_ids": x, "padding_mask": np.ones_like(x)}
    expected = train(
        plain,
        inputs,
        y,
        weights,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
    )
    learnt = plain.get_weights()
    plain.set_weights(initial)
    chunked, y, weights = with_labels(inputs, y, weights)
    trained = training_model(plain, num_chunks)
    metric = keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")
    history, validation = train(
        trained, chunked, y, weights, token_loss, metric
    )
    assert history.keys() == expected[0].keys() == {"loss", "accuracy"}
    for name, values in expected[0].items():
        np.testing.assert_allclose(history[name], values, atol=1e-5)
    np.testing.assert_allclose(validation, expected[1], atol=1e-5)
    for ours, theirs in zip(plain.get_weights(), learnt, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    assert not np.allclose(initial[0], learnt[0], atol=1e-3)


@pytest.mark.parametrize("num_chunks", [1, 3])
def test_float16_has_its_loss_scaled(num_chunks):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = make_mini_gpt()
    finally:
        keras.config.set_dtype_policy(before)
    trained, objective, _ = next_token_objective(model, num_chunks)
    trained.compile("adam", **objective)
    optimizers = keras.optimizers
    assert isinstance(trained.optimizer, optimizers.LossScaleOptimizer)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="it alone traces anew where a variable was created",
)
@pytest.mark.parametrize("num_chunks", [1, 3])
def test_a_training_step_is_traced_once(num_chunks, monkeypatch):
    step, traced = keras.Model.train_step, []

    def train_step(self, data):
        traced.append(data)
        return step(self, data)

    monkeypatch.setattr(keras.Model, "train_step", train_step)
    x, y, _ = sequences()
    model, objective, prepare = next_token_objective(
        mini_gpt(**SIZES | {"num_layers": 1}), num_chunks
    )
    model.compile("sgd", **objective)
    model.optimizer.build(model.trainable_variables)
    model.fit(*prepare(x, y), batch_size=2, verbose=0)
    assert len(traced) == 1


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="XLA tells what it plans"
)
def test_a_step_has_neither_all_logits_nor_all_blocks_in_memory():
    def planned(vocabulary_size, num_chunks=1, **sizes):
        """Return the bytes of a training step beside its state and inputs."""
        import jax

        model = mini_gpt(vocabulary_size, 64, 16, 16, 4, **sizes)
        model, objective, prepare = next_token_objective(model, num_chunks)
        model.compile("sgd", **objective)
        x, y = prepare(*np.zeros((2, 8, 64), "int32"))
        model._symbolic_build(data_batch=(x, y))
        state = model._get_jax_state(True, True, True, True)
        step = jax.jit(model.train_step, donate_argnums=0)
        compiled = step.lower(state, (x, y, None)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    words = {"vocabulary_size": 3000, "num_layers": 1}
    assert planned(num_chunks=16, **words) < planned(**words) / 3
    blocks = {"vocabulary_size": 20, "num_layers": 8}
    assert planned(remat=True, **blocks) < planned(**blocks) / 2


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="its graphs know no order but that of data",
)
def test_parts_are_computed_one_after_the_other():
    """Forwards from the first; back, and once more before, from the last."""
    import tensorflow as tf

    seen = []

    def see(what, x):
        def look(array):
            seen.append((what, int(array[0, 1])))
            return array

        noted = tf.numpy_function(look, [x], x.dtype, stateful=False)
        return tf.ensure_shape(noted, x.shape)

    @tf.custom_gradient
    def work(x):
        y = see("end", tf.matmul(see("begin", x), tf.eye(2)))
        return y, lambda dy: see("back", dy * y)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = remat_in_turn(work, x)
        return y, tape.gradient(y, x)

    parts = [[[1.0, i]] * 300 for i in range(20)]
    y, gradient = step(tf.constant(parts))
    once = ("begin", "end")
    there = [(what, i) for i in range(20) for what in once]
    back = [(what, 19 - i) for i in range(20) for what in (*once, "back")]
    assert seen == there + back
    np.testing.assert_array_equal(y, parts)
    np.testing.assert_array_equal(gradient, parts)
