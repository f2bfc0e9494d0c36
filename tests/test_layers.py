"""Layers against NumPy, against Keras, and against OpenAI's GPT."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasllm import backend
from kerasllm.layers import (
    Dropout,
    Linear,
    LoraLinear,
    PositionalEmbedding,
    SelfAttention,
    TransformerDecoder,
    apply_dense,
    arrange_kernels,
)
from kerasllm.models import mini_gpt


def numpy_of(x):
    return np.asarray(ops.convert_to_numpy(x))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def layer_norm(x):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-3)


def test_decoder_equals_a_numpy_decoder():
    decoder = TransformerDecoder(8, 12, 2)
    x = normal(3, 5, 8)
    decoder.build(x.shape)
    for i, weight in enumerate(decoder.weights):
        if weight.path.endswith(("kernel", "bias")):
            weight.assign(normal(*weight.shape, seed=i))

    dense = decoder.self_attention
    q, k, v = (
        np.einsum("btd,dnh->btnh", x, numpy_of(d.kernel)) + numpy_of(d.bias)
        for d in (dense.query_dense, dense.key_dense, dense.value_dense)
    )
    scores = np.einsum("btnh,bsnh->bnts", q, k) / np.sqrt(4)
    scores = np.where(np.tril(np.ones((5, 5))), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("bnts,bsnh->btnh", weights, v)
    output = dense.output_dense
    attended = np.einsum("btnh,nhd->btd", mixed, numpy_of(output.kernel))
    h = layer_norm(x + attended + numpy_of(output.bias))
    one, two = decoder.feed_forward_1, decoder.feed_forward_2
    wide = np.maximum(h @ numpy_of(one.kernel) + numpy_of(one.bias), 0)
    expected = layer_norm(h + wide @ numpy_of(two.kernel) + numpy_of(two.bias))

    np.testing.assert_allclose(numpy_of(decoder(x)), expected, atol=1e-5)


def test_self_attention_equals_the_keras_layer():
    ours, keras_layer = (
        cls(num_heads=2, key_dim=4)
        for cls in (SelfAttention, keras.layers.MultiHeadAttention)
    )
    x = normal(2, 6, 8)
    mask = np.random.default_rng(1).random((2, 6, 6)) < 0.7
    arguments = {
        "query": x,
        "value": x,
        "attention_mask": mask,
        "use_causal_mask": True,
        "return_attention_scores": True,
    }
    keras_layer(**arguments)
    ours(**arguments)
    ours.set_weights(keras_layer.get_weights())
    for a, b in zip(ours(**arguments), keras_layer(**arguments), strict=True):
        np.testing.assert_allclose(numpy_of(a), numpy_of(b), atol=1e-5)


def test_no_position_sees_a_later_one():
    decoder = TransformerDecoder(8, 16, 2)
    x = normal(1, 6, 8)
    before = numpy_of(decoder(x))
    x[:, 4:] = 100.0
    after = numpy_of(decoder(x))
    np.testing.assert_allclose(before[:, :4], after[:, :4], atol=1e-5)
    assert np.abs(before[:, 4:] - after[:, 4:]).max() > 0.1


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing_for_the_tokens(side):
    decoder = TransformerDecoder(8, 16, 2)
    x = normal(1, 4, 8)
    padding = np.full((1, 3, 8), 7.0, "float32")
    parts = [padding, x] if side == "left" else [x, padding]
    mask = np.ones((1, 7), bool)
    tokens = slice(3, 7) if side == "left" else slice(0, 4)
    mask[:, : 3 if side == "left" else None] = side == "right"
    mask[:, tokens] = True
    if side == "right":
        mask[:, 4:] = False
    padded = numpy_of(decoder(np.concatenate(parts, 1), padding_mask=mask))
    np.testing.assert_allclose(
        padded[:, tokens], numpy_of(decoder(x)), atol=1e-5
    )
    assert np.isfinite(padded).all()


def test_int_padding_masks_work_too():
    decoder = TransformerDecoder(8, 16, 2)
    x = normal(2, 5, 8)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(
        numpy_of(decoder(x, padding_mask=mask)),
        numpy_of(decoder(x, padding_mask=mask.astype(bool))),
    )


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_gives_float32_logits(dtype):
    embedding = PositionalEmbedding(4, 10, 8, dtype=dtype)
    decoder = TransformerDecoder(8, 16, 2, dtype=dtype)
    hidden = decoder(embedding(np.zeros((1, 4), "int32")))
    assert keras.backend.standardize_dtype(hidden.dtype) == dtype[6:]
    logits = embedding(hidden, reverse=True)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"


@pytest.mark.parametrize(
    "dropout", [pytest.param(0.0, marks=pytest.mark.any_backend), 0.3]
)
def test_what_is_computed_again_is_what_was_forgotten(dropout):
    """The same losses and weights, masks of dropout included."""
    x, y = np.random.default_rng(0).integers(0, 23, (2, 8, 10), "int32")
    learnt = []
    for remat in (False, True):
        keras.utils.set_random_seed(0)
        model = mini_gpt(23, 10, 8, 12, 2, 2, dropout, remat=remat)
        model.compile(
            keras.optimizers.SGD(0.3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        history = model.fit(x, y, 4, epochs=3, shuffle=False, verbose=0).history
        learnt.append([np.array(history["loss"]), *model.get_weights()])
    for kept, again in zip(*learnt, strict=True):
        np.testing.assert_allclose(kept, again, atol=1e-5)


@pytest.mark.parametrize(
    "pieces",
    [
        *(
            pytest.param(pieces, marks=pytest.mark.any_backend)
            for pieces in ([10], [1] * 10)
        ),
        [4, 1, 3, 2],
    ],
)
def test_a_text_in_pieces_with_a_cache_equals_the_text_at_once(pieces):
    layer = TransformerDecoder(16, 24, 4)
    inputs = normal(3, 10, 16)
    expected = numpy_of(layer(inputs))
    # What stands behind the new positions must not matter.
    cache = tuple(
        ops.convert_to_tensor(np.full(shape, 9.0, "float32"))
        for shape in layer.cache_shapes(3, 12)
    )
    outputs, start = [], 0
    for length in pieces:
        piece = inputs[:, start : start + length]
        output, cache = layer(piece, cache=cache, cache_update_index=start)
        outputs.append(numpy_of(output))
        start += length
    np.testing.assert_allclose(
        np.concatenate(outputs, axis=1), expected, atol=1e-5
    )


def test_embeddings_of_later_positions_can_be_had_alone():
    layer = PositionalEmbedding(12, 50, 8)
    ids = np.arange(10)[None]
    whole = numpy_of(layer(ids))
    part = layer(ids[:, 6:], start_index=6)
    np.testing.assert_array_equal(numpy_of(part), whole[:, 6:])


@pytest.mark.parametrize("rows", [1, 8, 64, 65])
def test_products_of_few_rows_are_products(rows):
    x, matrix, odd = normal(rows, 16), normal(16, 24), normal(15, 24)
    for left, right in ((x, matrix), (x[:, :15], odd)):
        product = backend.multiply_few_rows(
            ops.convert_to_tensor(left), ops.convert_to_tensor(right)
        )
        np.testing.assert_allclose(numpy_of(product), left @ right, atol=1e-5)
    for embeddings in (normal(20, 16), normal(21, 16)):
        scores = backend.score_few_rows(
            ops.convert_to_tensor(x), ops.convert_to_tensor(embeddings)
        )
        np.testing.assert_allclose(
            numpy_of(scores), x @ embeddings.T, atol=1e-5
        )


@pytest.mark.any_backend
def test_hidden_dim_must_be_a_multiple_of_num_heads():
    with pytest.raises(ValueError, match="multiple of `num_heads`.*=12"):
        TransformerDecoder(10, 16, 4)


@pytest.mark.any_backend
@pytest.mark.parametrize("size", [0, -1, 2.0, True, None])
def test_sizes_must_be_positive_ints(size):
    with pytest.raises(ValueError, match="`intermediate_dim` must be a pos"):
        TransformerDecoder(8, size, 2)


@pytest.mark.any_backend
@pytest.mark.parametrize("dropout", [-0.1, 1.0, 2])
def test_dropout_must_be_a_share(dropout):
    with pytest.raises(ValueError, match=r"`dropout` must be in \[0, 1\)"):
        TransformerDecoder(8, 16, 2, dropout=dropout)


def test_decoder_refuses_inputs_of_another_size():
    with pytest.raises(ValueError, match="hidden_dim=8.*(1, 2, 9)"):
        TransformerDecoder(8, 16, 2)(normal(1, 2, 9))


def test_embedding_adds_token_and_position():
    embedding = PositionalEmbedding(6, 10, 4)
    ids = np.array([[3, 3, 9], [0, 1, 2]])
    out = numpy_of(embedding(ids))
    tokens = numpy_of(embedding.token_embeddings.embeddings)
    positions = numpy_of(embedding.position_embeddings.embeddings)
    np.testing.assert_allclose(out, tokens[ids] + positions[:3], atol=1e-6)


def test_reverse_embedding_is_the_product_with_the_transpose():
    embedding = PositionalEmbedding(6, 10, 4)
    embedding(np.zeros((1, 2), "int32"))
    tokens = numpy_of(embedding.token_embeddings.embeddings)
    for shape in [(2, 3, 4), (2, 4)]:
        hidden = normal(*shape)
        logits = embedding(hidden, reverse=True)
        np.testing.assert_allclose(
            numpy_of(logits), hidden @ tokens.T, atol=1e-5
        )


@pytest.mark.usefixtures("quick_to_quantize")
@pytest.mark.parametrize("length", [3, 100])  # few rows, and many
def test_a_quantized_embedding_scores_as_what_it_embeds(length):
    embedding = PositionalEmbedding(6, 10, 4)
    embedding(np.zeros((1, 2), "int32"))
    tokens = numpy_of(embedding.token_embeddings.embeddings)
    embedding.token_embeddings.quantize("int8")
    rounded = numpy_of(embedding.token_embeddings(np.arange(10)))
    assert 0 < abs(rounded - tokens).max() <= abs(tokens).max() / 254
    hidden = normal(2, length, 4)
    logits = numpy_of(embedding(hidden, reverse=True))
    np.testing.assert_allclose(logits, hidden @ rounded.T, atol=1e-5)


@pytest.mark.usefixtures("quick_to_quantize")
def test_an_embedding_in_four_bits_is_refused():
    embedding = PositionalEmbedding(6, 10, 4)
    embedding(np.zeros((1, 2), "int32"))
    embedding.token_embeddings.quantize("int4")
    with pytest.raises(ValueError, match="quantize\\(.int8"):
        embedding(normal(1, 2, 4), reverse=True)


def test_positions_past_the_table_are_refused():
    embedding = PositionalEmbedding(4, 10, 8)
    embedding(np.zeros((1, 4), "int32"))
    with pytest.raises(ValueError, match="sequence_length=4.*(1, 5)"):
        embedding(np.zeros((1, 5), "int32"))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(rate):
    layer = Dropout(rate, seed=3)
    x = np.ones((100, 101, 10), "float32")  # an odd number of pairs
    y = numpy_of(layer(x, training=True))
    dropped = (y == 0).mean()
    # 101,000 draws: six standard deviations, wrong once in 5e8 seeds.
    assert abs(dropped - rate) < 6 * np.sqrt(rate * (1 - rate) / x.size)
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-4)
    other = numpy_of(layer(x, training=True))
    both = ((y == 0) & (other == 0)).mean()  # independent from call to call
    assert abs(both - rate**2) < 6 * rate / np.sqrt(x.size)
    np.testing.assert_array_equal(numpy_of(layer(x, training=False)), x)


def test_dropout_decisions_of_one_word_are_independent():
    y = numpy_of(Dropout(0.5, seed=5)(np.ones(100_000), training=True)) > 0
    agree = (y[0::2] == y[1::2]).mean()  # neighbours share a word on JAX
    assert abs(agree - 0.5) < 6 * 0.5 / np.sqrt(50_000)


def test_linear_is_a_matrix_product():
    linear = Linear(3, 2)
    x = normal(4, 3)
    np.testing.assert_allclose(
        numpy_of(linear(x)), x @ numpy_of(linear.kernel), atol=1e-6
    )


def test_lora_starts_at_the_frozen_layer_and_adds_a_scaled_update():
    lora = LoraLinear(6, 5, rank=2, lora_alpha=8)
    x = normal(3, 6)
    frozen = x @ numpy_of(lora.kernel)
    np.testing.assert_allclose(numpy_of(lora(x)), frozen, atol=1e-6)
    a, b = normal(6, 2, seed=1), normal(2, 5, seed=2)
    lora.alpha.assign(a)
    lora.beta.assign(b)
    np.testing.assert_allclose(
        numpy_of(lora(x)), frozen + x @ a @ b * 4, atol=1e-4
    )
    assert [w.name for w in lora.trainable_weights] == ["alpha", "beta"]


def test_lora_has_the_chapters_number_of_parameters():
    lora = LoraLinear(2048, 2048, rank=8)
    trainable = sum(np.prod(w.shape) for w in lora.trainable_weights)
    assert trainable == 32_768
    assert np.prod(lora.kernel.shape) == 4_194_304


@pytest.mark.parametrize(
    "layer",
    [
        TransformerDecoder(8, 12, 2, dropout=0.3, name="block"),
        PositionalEmbedding(6, 10, 8),
        Linear(3, 2),
        LoraLinear(6, 5, rank=2, lora_alpha=8),
        Dropout(0.3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_survive_their_config(layer):
    config = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()


def test_tensorflow_takes_no_gpu_from_another_backend(monkeypatch):
    import tensorflow as tf

    calls = []
    monkeypatch.setattr(
        tf.config, "set_visible_devices", lambda *a: calls.append(a)
    )
    backend.keep_tensorflow_off_gpus()
    assert calls == ([] if backend.name() == "tensorflow" else [([], "GPU")])

    def too_late(*arguments):
        raise RuntimeError("Visible devices cannot be modified")

    monkeypatch.setattr(tf.config, "set_visible_devices", too_late)
    backend.keep_tensorflow_off_gpus()


@pytest.mark.parametrize(
    "equation, shape, outputs, together",
    [
        (None, (2, 3, 8), (6,), 0),
        ("abc,cde->abde", (2, 3, 8), (None, 4, 2), 0),  # a query
        ("abcd,cde->abe", (2, 3, 4, 2), (None, 8), 1),  # an output
        ("btd,ndh->btnh", (2, 3, 8), (None, 4, 2), 1),  # Gemma's query
    ],
)
def test_an_arranged_kernel_has_the_same_values(
    equation, shape, outputs, together
):
    """On PyTorch, the inputs of an output then lie side by side."""
    if equation is None:
        layer = keras.layers.Dense(*outputs, dtype="bfloat16")
    else:
        layer = keras.layers.EinsumDense(equation, outputs, dtype="bfloat16")
    x = ops.cast(normal(*shape), "bfloat16")
    expected = numpy_of(ops.cast(layer(x), "float32"))
    kernel = numpy_of(ops.cast(layer.kernel, "float32"))
    arrange_kernels([layer])
    np.testing.assert_array_equal(
        numpy_of(ops.cast(layer.kernel, "float32")), kernel
    )
    result = numpy_of(ops.cast(layer(x), "float32"))
    np.testing.assert_allclose(result, expected, atol=0.02)
    if equation != "btd,ndh->btnh":  # a family has its own product for it
        result = numpy_of(ops.cast(apply_dense(layer, x), "float32"))
        np.testing.assert_allclose(result, expected, atol=0.02)
    if keras.backend.backend() == "torch":
        assert layer.kernel.value.stride(together) == 1
    layer.kernel.assign(np.ones(kernel.shape))
    assert (numpy_of(ops.cast(layer.kernel, "float32")) == 1).all()
