"""Adapters: what they compute, what they freeze, and what they save."""

import functools
import math

import keras
import keras_hub
import numpy as np
import pytest
from keras import ops

from kerasllm import lora
from kerasllm.layers import LoraLinear
from kerasllm.lora import LoraReport, enable_lora, load_lora, save_lora
from tests.lora.small import (
    IDS,
    MAKERS,
    disturb,
    every_model,
    logits,
    make_gemma,
    make_mini_gpt,
)


@every_model
@pytest.mark.parametrize(
    ("targets", "per_block"),
    [
        (("query", "value"), 2),
        *(
            pytest.param(*case, marks=pytest.mark.any_backend)
            for case in (
                (("query", "key"), 2),
                ("attention", 4),
                ("feed_forward", {"gemma": 3, "mini_gpt": 2, "task": 2}),
            )
        ),
    ],
    ids=str,
)
def test_adapters_sit_where_they_are_told_and_change_nothing(
    name, targets, per_block
):
    model = MAKERS[name]()
    before = logits(model)
    enable_lora(model, rank=3, targets=targets)
    if isinstance(per_block, dict):
        per_block = per_block[name]
    assert len(lora.adapted_layers(model)) == 2 * per_block
    np.testing.assert_array_equal(logits(model), before)
    # Nothing but the adapters learns, not even a bias.
    assert all("lora" in v.name for v in model.trainable_variables)
    assert len(model.trainable_variables) == 2 * 2 * per_block


@pytest.mark.parametrize("lora_alpha", [None, 6.0])
def test_an_adapter_computes_the_formula_of_the_paper(lora_alpha):
    """`x W + b + (alpha / r) x A B`."""
    model = make_mini_gpt()
    enable_lora(model, 3, ("feed_forward_1",), lora_alpha)
    disturb(model)
    _, layer = lora.adapted_layers(model)[0]
    x = np.random.default_rng(1).normal(size=(4, 16)).astype("float32")
    w, a, b, bias = (
        ops.convert_to_numpy(v)
        for v in (
            layer._kernel,
            layer.lora_kernel_a,
            layer.lora_kernel_b,
            layer.bias,
        )
    )
    scale = 1 if lora_alpha is None else lora_alpha / 3
    expected = np.maximum(x @ w + bias + scale * (x @ a @ b), 0)
    outputs = ops.convert_to_numpy(layer(x[None]))[0]
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    # And so does the layer of the chapter.
    ours = LoraLinear(16, 24, 3, lora_alpha)
    for weight, value in zip(
        (ours.kernel, ours.alpha, ours.beta), (w, a, b), strict=True
    ):
        weight.assign(value)
    outputs = ops.convert_to_numpy(ours(x)) + bias
    np.testing.assert_allclose(np.maximum(outputs, 0), expected, atol=1e-5)


@pytest.mark.parametrize("lora_alpha", [3.0, 6.0])
def test_an_adapter_computes_what_peft_computes(lora_alpha):
    """And what is merged is what PEFT merges, with the same numbers."""
    import peft
    import torch

    config = peft.LoraConfig(r=3, lora_alpha=lora_alpha, target_modules=["0"])
    net = torch.nn.Sequential(torch.nn.Linear(16, 24))
    theirs = peft.get_peft_model(net, config)
    linear = theirs.base_model.model[0]
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=s).astype("float32") for s in ((16, 3), (3, 24)))
    ours = keras.layers.Dense(24)
    model = keras.Sequential([keras.layers.Input([16]), ours])
    enable_lora(model, 3, (ours.name,), lora_alpha)
    chapters = LoraLinear(16, 24, 3, lora_alpha)
    with torch.no_grad():
        linear.lora_A["default"].weight.copy_(torch.tensor(a.T))
        linear.lora_B["default"].weight.copy_(torch.tensor(b.T))
        w = linear.base_layer.weight.numpy().T.copy()
        bias = linear.base_layer.bias.numpy().copy()
        x = rng.normal(size=(4, 16)).astype("float32")
        expected = theirs(torch.tensor(x)).numpy()
        merged = theirs.merge_and_unload()[0].weight.numpy().T
    for layer, names in (
        (ours, ("_kernel", "lora_kernel_a", "lora_kernel_b")),
        (chapters, ("kernel", "alpha", "beta")),
    ):
        for name, value in zip(names, (w, a, b), strict=True):
            getattr(layer, name).assign(value)
    ours.bias.assign(bias)
    found = ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    found = ops.convert_to_numpy(chapters(x)) + bias
    np.testing.assert_allclose(found, expected, atol=1e-5)
    lora.merge_lora(model)
    kernel = ops.convert_to_numpy(ours.kernel)
    np.testing.assert_allclose(kernel, merged, atol=1e-5)


def test_attention_merges_what_the_formula_of_the_paper_gives():
    """Kernels of many heads: a matrix `A` for each of them, one `B` for all."""
    model = make_gemma()
    enable_lora(model, 3, "attention", lora_alpha=6)
    disturb(model)
    layers = [layer for _, layer in lora.adapted_layers(model)]
    expected = []
    for layer in layers:
        w, a, b = (
            ops.convert_to_numpy(v)
            for v in (layer._kernel, layer.lora_kernel_a, layer.lora_kernel_b)
        )
        heads = [w_h + 6 / 3 * a_h @ b for w_h, a_h in zip(w, a, strict=True)]
        expected.append(np.stack(heads))
    # Queries, of (batch, length, 16) by (4 heads, 16, 8).
    query = next(i for i, layer in enumerate(layers) if layer.name == "query")
    x = np.random.default_rng(1).normal(size=(2, 5, 16)).astype("float32")
    outputs = np.stack([x @ head for head in expected[query]], axis=2)
    assert outputs.shape == (2, 5, 4, 8)
    for _ in range(2):  # adapted, then merged
        np.testing.assert_allclose(
            ops.convert_to_numpy(layers[query](x)), outputs, atol=1e-5
        )
        if lora.adapted_layers(model):
            lora.merge_lora(model)
    for layer, kernel in zip(layers, expected, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(layer.kernel), kernel, atol=1e-6
        )


@every_model
def test_merged_weights_give_the_same_logits(name):
    model = MAKERS[name]()
    plain = logits(model)
    enable_lora(model, 2, ("attention", "feed_forward"), lora_alpha=4)
    disturb(model)
    adapted = logits(model)
    assert abs(adapted - plain).max() > 0.01
    lora.merge_lora(model)
    np.testing.assert_allclose(logits(model), adapted, atol=2e-5)
    assert not lora.adapted_layers(model)
    assert model.count_params() == MAKERS[name]().count_params()
    assert len(model.trainable_variables) == len(
        MAKERS[name]().trainable_variables
    )
    # A merged model can be adapted again.
    enable_lora(model, 2)


def test_functions_that_were_compiled_before_are_compiled_anew(tmp_path):
    """Or TensorFlow would go on with the weights that were there then."""
    model, path = make_mini_gpt(), tmp_path / "adapters.lora.h5"
    weights = model.get_weights()

    def predicted():
        return model.predict(IDS, verbose=0)

    plain = predicted()
    enable_lora(model, 2)
    disturb(model)
    adapted = logits(model)
    assert abs(adapted - plain).max() > 0.01
    np.testing.assert_allclose(predicted(), adapted, atol=1e-5)
    save_lora(model, path)
    lora.merge_lora(model)
    np.testing.assert_allclose(predicted(), adapted, atol=2e-5)
    model.set_weights(weights)
    load_lora(model, path)
    np.testing.assert_allclose(predicted(), adapted, atol=1e-5)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank.*positive int.*Received: rank=0"),
        ({"rank": 2.0}, "rank.*Received: rank=2.0"),
        ({"rank": True}, "rank.*Received: rank=True"),
        ({"lora_alpha": 0}, "lora_alpha.*positive"),
        ({"lora_alpha": True}, "lora_alpha.*positive"),
        ({"lora_alpha": math.inf}, "lora_alpha.*positive"),
        ({"lora_alpha": "8"}, "lora_alpha.*positive"),
        ({"targets": ("heart",)}, "targets.*attention.*feed_forward.*heart"),
        ({"targets": ("query", " value")}, r"feed_forward_1.*for \[' value'\]"),
        ({"targets": ()}, "targets.*for any"),
    ],
)
def test_bad_arguments_are_refused_and_change_nothing(arguments, message):
    model = make_mini_gpt()
    with pytest.raises(ValueError, match=message):
        enable_lora(model, **arguments)
    assert len(model.trainable_variables) == len(model.weights)


@pytest.mark.any_backend
def test_adapters_are_enabled_once_and_needed_to_save_and_merge(tmp_path):
    model = make_mini_gpt()
    for function in (
        lora.merge_lora,
        functools.partial(save_lora, path=tmp_path / "a.lora.h5"),
    ):
        with pytest.raises(ValueError, match="must have adapters.*enable_lora"):
            function(model)
    enable_lora(model, 2)
    with pytest.raises(ValueError, match="one set of adapters.*4 adapted"):
        enable_lora(model, 2)


def test_the_chapters_loop_makes_adapters_of_the_same_kind(tmp_path):
    loop, ours = make_gemma(), make_gemma()
    loop.backbone.trainable = False
    for block in loop.backbone.transformer_layers:
        for layer in (block.attention.query_dense, block.attention.value_dense):
            layer.trainable = True
            layer.enable_lora(rank=8)
    enable_lora(ours, 8)
    ours.set_weights(loop.get_weights())
    np.testing.assert_array_equal(logits(ours), logits(loop))
    assert sum(np.prod(v.shape) for v in loop.trainable_variables) == (
        LoraReport.of(ours).trainable_parameters
    )
    save_lora(loop, tmp_path / "a.lora.h5")
    load_lora(ours, tmp_path / "a.lora.h5")
    lora.merge_lora(loop)


@pytest.mark.parametrize(
    ("name", "heads", "of_attention"),
    [
        ("GPTNeoX", "num_heads", 2),  # query, key and value are one kernel
        ("Bloom", "num_heads", 4),
        ("Falcon", "num_attention_heads", 4),
    ],
)
@pytest.mark.any_backend
def test_other_backbones_have_all_that_is_named(name, heads, of_attention):
    backbone = getattr(keras_hub.models, f"{name}Backbone")
    sizes = {"num_layers": 2, "hidden_dim": 16, "intermediate_dim": 32}
    for target, count in (("attention", of_attention), ("feed_forward", 2)):
        model = backbone(vocabulary_size=20, **sizes, **{heads: 2})
        enable_lora(model, 2, target)
        assert len(lora.adapted_layers(model)) == 2 * count


def test_training_moves_the_adapters_only():
    model = make_mini_gpt()
    enable_lora(model, 2)
    frozen = [v for v in model.weights if not v.trainable]
    before = [ops.convert_to_numpy(v) for v in frozen]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(IDS, IDS, epochs=2, verbose=0)
    for variable, value in zip(frozen, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
    b = lora.adapted_layers(model)[0][1].lora_kernel_b
    assert abs(ops.convert_to_numpy(b)).max() > 0


@pytest.mark.any_backend
def test_the_report_counts_what_arithmetic_says():
    """Of 16 x 16 kernels, rank 2 trains 2 * 16 + 2 * 16 each."""
    model = make_mini_gpt()
    plain = model.count_params()
    report = enable_lora(model, rank=2)
    # Keras's query kernel is (16, heads, 8): A is (16, heads, 2), B (2, 8).
    adapters = 4 * (16 * 2 * 2 + 2 * 8)
    assert report.trainable_parameters == adapters
    assert report.total_parameters == plain
    assert report.adapter_bytes == 4 * adapters
    assert report.model_bytes == 4 * plain
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    moments = optimizer.variables[2:]
    assert report.optimizer_bytes == sum(4 * np.prod(v.shape) for v in moments)
    assert report.full_optimizer_bytes == 8 * plain
    assert f"{report.trainable_share:.2%}" in str(report)
    assert LoraReport.of(model) == report


@pytest.mark.once
def test_gemma_3_1b_has_the_chapters_parameter_counts(monkeypatch):
    """From the published configuration, with weights that are all zero."""
    for name in ("VarianceScaling", "RandomNormal"):
        monkeypatch.setattr(
            getattr(keras.initializers, name),
            "__call__",
            lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype),
        )
    backbone = keras_hub.models.Gemma3Backbone(
        vocabulary_size=262_144,
        image_size=896,
        num_layers=26,
        num_query_heads=4,
        num_key_value_heads=1,
        hidden_dim=1152,
        intermediate_dim=6912,
        head_dim=256,
        use_sliding_window_attention=True,
        sliding_window_size=512,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        vision_encoder=None,
        dtype="bfloat16",
    )
    assert backbone.count_params() == 999_885_952
    report = enable_lora(backbone, rank=8)
    assert report.trainable_parameters == 1_304_576


@pytest.mark.any_backend
def test_numpy_numbers_are_numbers(tmp_path):
    model, path = make_mini_gpt(), tmp_path / "a.lora.h5"
    other = make_mini_gpt()
    other.set_weights(model.get_weights())
    enable_lora(model, np.int64(2), lora_alpha=np.float32(4))
    save_lora(model, path)
    load_lora(other, path)


@every_model
def test_adapters_can_be_off_for_a_while(name):
    model = MAKERS[name]()
    plain = logits(model)
    with (
        pytest.raises(ValueError, match="must have adapters"),
        lora.adapters_off(model),
    ):
        pass
    lora.enable_lora(model, 2)
    disturb(model)
    adapted = logits(model)
    assert not np.allclose(adapted, plain, atol=1e-2)
    with pytest.raises(KeyboardInterrupt), lora.adapters_off(model):
        np.testing.assert_allclose(logits(model), plain, atol=1e-6)
        raise KeyboardInterrupt
    np.testing.assert_array_equal(logits(model), adapted)
