"""The mini-GPT: its size, an oracle, and files that cross backends."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import kerasllm
from kerasllm.models import MiniGPTBackbone, MiniGPTCausalLM, mini_gpt

SMALL = {
    "vocabulary_size": 50,
    "sequence_length": 12,
    "hidden_dim": 16,
    "intermediate_dim": 24,
    "num_heads": 4,
    "num_layers": 3,
}


def numpy_of(x):
    return np.asarray(keras.ops.convert_to_numpy(x))


def token_ids(batch_size=2, length=12):
    return np.random.default_rng(0).integers(0, 50, (batch_size, length))


@pytest.mark.any_backend
def test_the_chapters_sizes_have_the_chapters_parameter_count():
    assert mini_gpt(32_000).count_params() == 41_800_768


@pytest.mark.any_backend
def test_logits_have_a_row_for_each_token():
    logits = mini_gpt(**SMALL)(token_ids(2, 7))
    assert logits.shape == (2, 7, 50)


def test_stacked_decoders_equal_openai_gpt():
    """GPT-1 in transformers is the chapter's model with GELU and eps 1e-5."""
    import torch
    from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

    model = mini_gpt(**SMALL)
    oracle = OpenAIGPTLMHeadModel(
        OpenAIGPTConfig(
            vocab_size=50,
            n_positions=12,
            n_embd=16,
            n_layer=3,
            n_head=4,
            afn="relu",
            layer_norm_epsilon=1e-3,
        )
    ).eval()
    # transformers fixes the feed-forward width at four times `n_embd`.
    for block in oracle.transformer.h:
        block.mlp.c_fc.weight = torch.nn.Parameter(torch.zeros(16, 24))
        block.mlp.c_fc.bias = torch.nn.Parameter(torch.zeros(24))
        block.mlp.c_fc.nf = 24
        block.mlp.c_proj.weight = torch.nn.Parameter(torch.zeros(24, 16))

    rng = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))

    def copy(parameter, *values):
        values = np.concatenate([numpy_of(v) for v in values], axis=-1)
        parameter.data = torch.tensor(values.reshape(parameter.shape))

    for i, block in enumerate(oracle.transformer.h):
        ours = model.get_layer(f"decoder_{i}")
        attention = ours.self_attention
        qkv = (
            attention.query_dense,
            attention.key_dense,
            attention.value_dense,
        )
        copy(
            block.attn.c_attn.weight,
            *(numpy_of(d.kernel).reshape(16, 16) for d in qkv),
        )
        copy(
            block.attn.c_attn.bias, *(numpy_of(d.bias).reshape(16) for d in qkv)
        )
        copy(
            block.attn.c_proj.weight,
            numpy_of(attention.output_dense.kernel).reshape(16, 16),
        )
        copy(block.attn.c_proj.bias, attention.output_dense.bias)
        copy(block.mlp.c_fc.weight, ours.feed_forward_1.kernel)
        copy(block.mlp.c_fc.bias, ours.feed_forward_1.bias)
        copy(block.mlp.c_proj.weight, ours.feed_forward_2.kernel)
        copy(block.mlp.c_proj.bias, ours.feed_forward_2.bias)
        for theirs, norm in [
            (block.ln_1, ours.self_attention_layernorm),
            (block.ln_2, ours.feed_forward_layernorm),
        ]:
            copy(theirs.weight, norm.gamma)
            copy(theirs.bias, norm.beta)

    # GPT-1 has no LayerNorm after the embedding: feed it ours, normalized.
    ids = token_ids()
    embedding = model.get_layer("embedding")
    x = model.get_layer("embedding_layernorm")(embedding(ids))
    decoded = x
    for i in range(3):
        decoded = model.get_layer(f"decoder_{i}")(decoded)
    with torch.no_grad():
        hidden = torch.tensor(numpy_of(x))
        for block in oracle.transformer.h:
            hidden = block(hidden)[0]
    np.testing.assert_allclose(numpy_of(decoded), hidden.numpy(), atol=1e-5)
    tokens = numpy_of(embedding.token_embeddings.embeddings)
    np.testing.assert_allclose(
        numpy_of(model(ids)), hidden.numpy() @ tokens.T, atol=1e-4
    )


def test_a_saved_model_loads_without_custom_objects(tmp_path):
    model = mini_gpt(**SMALL)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        numpy_of(loaded(token_ids())), numpy_of(model(token_ids()))
    )


@pytest.mark.once
def test_each_backend_reads_and_writes_the_same_model(tmp_path):
    """From hand to hand: each saves anew what it has read."""
    model = mini_gpt(**SMALL)
    model.save(tmp_path / "model.keras")
    expected = numpy_of(model(token_ids()))
    script = (
        "import sys, keras, numpy as np, kerasllm.layers\n"
        "model = keras.saving.load_model(sys.argv[1] + '/model.keras')\n"
        "ids = np.random.default_rng(0).integers(0, 50, (2, 12))\n"
        "logits = keras.ops.convert_to_numpy(model(ids))\n"
        "np.save(sys.argv[1] + '/logits.npy', logits)\n"
        "model.save(sys.argv[1] + '/model.keras')\n"
    )
    others = {"tensorflow", "torch", "jax"} - {keras.config.backend()}
    for backend in sorted(others):
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            env=os.environ | {"KERAS_BACKEND": backend},
            check=True,
        )
        logits = np.load(tmp_path / "logits.npy")
        np.testing.assert_allclose(logits, expected, atol=1e-4)
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        numpy_of(again(token_ids())), expected, atol=1e-4
    )


@pytest.mark.any_backend
@pytest.mark.parametrize("name", SMALL)
def test_sizes_must_be_positive_ints(name):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive int"):
        mini_gpt(**SMALL | {name: 0})


def test_a_prompt_longer_than_the_position_table_is_refused():
    model = mini_gpt(**SMALL)
    with pytest.raises(ValueError, match="sequence_length=12"):
        model.predict(token_ids(1, 13), verbose=0)


# --- As a task of KerasHub ---------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A vocabulary of 300 pieces, learnt from a few lines."""
    text = tmp_path_factory.mktemp("text") / "shard.txt"
    lines = [f"the cat number {i} sat on the mat" for i in range(200)]
    text.write_text("\n".join(lines) + "\n")
    return kerasllm.train_sentence_piece([text], 300)


@pytest.fixture(scope="module")
def plain(tokenizer):
    return mini_gpt(**(SMALL | {"vocabulary_size": 300}))


@pytest.fixture
def task(plain, tokenizer):
    return MiniGPTCausalLM.from_mini_gpt(plain, tokenizer)


def test_the_task_has_the_logits_of_the_model_and_gives_it_back(task, plain):
    ids = token_ids()
    expected = numpy_of(plain(ids))
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    np.testing.assert_array_equal(numpy_of(task(inputs)), expected)
    again = task.to_mini_gpt()
    np.testing.assert_array_equal(numpy_of(again(ids)), expected)


def test_padding_does_not_change_the_logits_of_tokens(task):
    ids = token_ids()
    mask = np.ones_like(ids)
    mask[:, 9:] = 0
    other = np.where(mask, ids, 7)
    first, second = (
        numpy_of(task({"token_ids": rows, "padding_mask": mask}))[:, :9]
        for rows in (ids, other)
    )
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_fit_on_strings_learns_them(task):
    """128 steps on one sentence: the loss falls far below that of guessing.

    It ended between 0.025 and 0.031 from eight different initial weights.
    """
    task.compile(
        optimizer=keras.optimizers.Adam(5e-3), loss="auto", sampler="greedy"
    )
    history = task.fit(["the cat sat"] * 32, batch_size=4, epochs=16, verbose=0)
    losses = history.history["loss"]
    assert losses[0] > 1 and losses[-1] < 0.3
    assert task.generate("the", max_length=12).startswith("the cat sat")


@pytest.mark.any_backend
@pytest.mark.usefixtures("quick_to_quantize")
def test_a_quantized_task_comes_back_from_its_preset(task, tmp_path):
    inputs = {"token_ids": token_ids(), "padding_mask": np.ones((2, 12))}
    config = task.backbone.get_config()
    quantized = MiniGPTCausalLM(
        MiniGPTBackbone.from_config(config), task.preprocessor
    )
    quantized.backbone.set_weights(task.backbone.get_weights())
    # Of the whole task, Keras would quantize the tokenizer.
    quantized.backbone.quantize("int8")
    logits = numpy_of(quantized(inputs))
    np.testing.assert_allclose(logits, numpy_of(task(inputs)), atol=0.2)
    quantized.save_to_preset(tmp_path / "preset")
    again = MiniGPTCausalLM.from_preset(str(tmp_path / "preset"))
    np.testing.assert_allclose(numpy_of(again(inputs)), logits, atol=1e-6)


def test_a_preset_gives_the_same_task_back(task, tmp_path):
    import keras_hub

    task.save_to_preset(tmp_path / "preset")
    again = keras_hub.models.CausalLM.from_preset(str(tmp_path / "preset"))
    assert isinstance(again, MiniGPTCausalLM)
    ids = token_ids()
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    np.testing.assert_array_equal(
        numpy_of(again(inputs)), numpy_of(task(inputs))
    )
    assert task.preprocessor.get_config().keys() == (
        again.preprocessor.get_config().keys()
    )
    for model in (task, again):
        model.compile(sampler="greedy")
    prompts = ["the cat", "mat"]
    assert again.generate(prompts, 10) == task.generate(prompts, 10)


@pytest.mark.any_backend
def test_lora_adds_query_and_value_adapters_of_a_rank(task):
    task.backbone.enable_lora(2)
    # Keras keeps the heads: (16, 4, rank) and (rank, 4), and trains the bias
    # of 16; for two projections in each of three blocks.
    weights = task.backbone.trainable_weights
    count = sum(int(np.prod(weight.shape)) for weight in weights)
    assert count == 3 * 2 * (16 * 4 * 2 + 2 * 4 + 16)


@pytest.mark.any_backend
def test_the_sizes_can_be_read_from_a_config():
    backbone = MiniGPTBackbone(**SMALL)
    again = MiniGPTBackbone.from_config(backbone.get_config())
    assert again.get_config() == backbone.get_config()
    assert again.num_layers == 3


@pytest.mark.any_backend
def test_only_a_mini_gpt_becomes_a_task(plain, tokenizer):
    with pytest.raises(ValueError, match="must be what `mini_gpt` returns"):
        MiniGPTCausalLM.from_mini_gpt(keras.Sequential(), tokenizer)
    with pytest.raises(ValueError, match="as many tokens as the model"):
        MiniGPTCausalLM.from_mini_gpt(mini_gpt(**SMALL), tokenizer)
