"""Gemma 3: images in its logits, other people's checkpoints, its presets."""

import keras
import keras_hub
import numpy as np
import pytest

from kerasllm.gemma import Gemma, estimate_memory
from kerasllm.images import vision_inputs
from tests.gemmas import (
    EVERY_TOKEN,
    HOT,
    IMAGES,
    logits_of,
)
from tests.recipes import gemma_tokenizer


@pytest.mark.slow
@pytest.mark.parametrize(
    "num_images",
    [*(pytest.param(n, marks=pytest.mark.any_backend) for n in (0, 1)), 2],
)
def test_cached_answers_equal_full_passes(gemma, num_images):
    """What was drawn has the probability that a full pass gives it."""
    text = "What is this? " + "<start_of_image> or " * num_images
    prompt = gemma.prompt(text, IMAGES[:num_images])
    start = len(prompt.token_ids)
    (result,) = gemma.generator.generate(
        [prompt], start + 8, return_logprobs=True, seed=1,
        sampler=HOT, **EVERY_TOKEN,
    )  # fmt: skip
    assert len(set(result.token_ids)) > 4
    logits = logits_of(
        gemma, [*prompt.token_ids, *result.token_ids], prompt.images
    )
    logprobs = keras.ops.convert_to_numpy(keras.ops.log_softmax(logits))
    expected = logprobs[start - 1 : -1][range(8), result.token_ids]
    np.testing.assert_allclose(result.logprobs, expected, atol=1e-3)


@pytest.mark.any_backend
@pytest.mark.slow
def test_answers_about_images_do_not_depend_on_the_batch(gemma):
    """Also when an image lies beyond the end of the shortest prompt."""
    texts = [
        ("Hello!", ()),
        ("<start_of_image>What?", IMAGES[:1]),
        ("Look at this one, and then at that one: <start_of_image>",
         IMAGES[1:2]),
        ("<start_of_image> or <start_of_image>", IMAGES[2:4]),
    ]  # fmt: skip
    for chosen in (texts[1:], texts):
        prompts = [gemma.prompt(*pair) for pair in chosen]
        length = 4 + max(len(prompt.token_ids) for prompt in prompts)
        arguments = {
            "max_length": length, "seed": 3, "sampler": HOT, **EVERY_TOKEN,
        }  # fmt: skip
        together = gemma.generator.generate(prompts, **arguments)
        alone = [gemma.generator.generate(p, **arguments) for p in prompts]
        assert together == alone


def test_another_image_gives_other_logits(gemma):
    prompt = gemma.prompt("<start_of_image>What?", IMAGES[:1])
    first = logits_of(gemma, prompt.token_ids, IMAGES[:1])
    second = logits_of(gemma, prompt.token_ids, IMAGES[1:2])
    end = prompt.token_ids.index(
        gemma.causal_lm.preprocessor.tokenizer.image_placeholder_id
    )
    np.testing.assert_allclose(first[:end], second[:end], atol=1e-4)
    assert (abs(first[end:] - second[end:]).max(axis=-1) > 1e-2).all()


def test_a_model_that_takes_images_reads_text_like_one_that_does_not(gemma):
    backbone = gemma.causal_lm.backbone
    config = backbone.get_config() | {"vision_encoder": None}
    text_only = keras_hub.models.Gemma3Backbone.from_config(config)
    for name in ("token_embedding", "layer_norm", "transformer_layers"):
        old, new = getattr(backbone, name), getattr(text_only, name)
        for a, b in zip(
            keras.tree.flatten(old), keras.tree.flatten(new), strict=True
        ):
            b.set_weights(a.get_weights())
    token_ids = np.array([[2, 50, 60, 70, 80, 90]], "int32")
    x = {"token_ids": token_ids, "padding_mask": np.ones_like(token_ids)}
    expected = text_only(x)
    x |= vision_inputs(token_ids, [()], gemma.causal_lm.preprocessor)
    np.testing.assert_allclose(
        # Compiled: TensorFlow's own convolution of no image at all fails.
        backbone.predict_on_batch(x),
        keras.ops.convert_to_numpy(expected),
        atol=1e-5,
    )


@pytest.mark.any_backend
@pytest.mark.slow
def test_a_saved_preset_answers_the_same(gemma, tmp_path):
    gemma.causal_lm.save_to_preset(tmp_path / "preset")
    again = Gemma.from_preset(tmp_path / "preset")
    prompt = gemma.prompt("<start_of_image>What is it?", IMAGES[:1])
    np.testing.assert_array_equal(
        logits_of(again, prompt.token_ids, prompt.images),
        logits_of(gemma, prompt.token_ids, prompt.images),
    )
    estimate = estimate_memory(tmp_path / "preset", rank=4)
    count = again.causal_lm.count_params()
    assert estimate.parameters == count
    assert estimate.weights_bytes == 4 * count
    report = again.enable_lora(rank=4)
    assert estimate.lora_parameters == report.trainable_parameters
    half = Gemma.from_preset(tmp_path / "preset", dtype="bfloat16")
    assert half.causal_lm.backbone.token_embedding.compute_dtype == "bfloat16"
    estimate = estimate_memory(tmp_path / "preset", "bfloat16", rank=4)
    assert estimate.weights_bytes == num_bytes(half.causal_lm.weights)
    half.enable_lora(rank=4)
    adapters = num_bytes(half.causal_lm.trainable_weights)
    assert estimate.lora_bytes == estimate.weights_bytes + 4 * adapters


def num_bytes(variables):
    return sum(
        int(np.prod(v.shape)) * (2 if v.dtype == "bfloat16" else 4)
        for v in variables
    )


@pytest.mark.slow
def test_a_hugging_face_checkpoint_agrees(tmp_path):
    """Logits to 1e-5 and the greedy text, from the same folder."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    tokenizer = gemma_tokenizer()
    torch.manual_seed(0)
    oracle = Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=tokenizer.vocabulary_size(),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            sliding_window=8,
            query_pre_attn_scalar=8,
            max_position_embeddings=64,
            initializer_range=0.3,
        )
    ).eval()
    oracle.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(tokenizer.proto)
    gemma = Gemma.from_preset(tmp_path, dtype="float32")
    ids = np.random.default_rng(0).integers(4, 2000, (2, 20)).astype("int32")
    with torch.no_grad():
        expected = oracle(torch.tensor(ids).long()).logits.numpy()
    ours = gemma.causal_lm(
        {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    )
    ours = keras.ops.convert_to_numpy(ours)
    np.testing.assert_allclose(ours, expected, atol=1e-5 * abs(expected).max())
    prompt = "The river of Calgorburg"
    start = [2, *map(int, tokenizer(prompt))]
    with torch.no_grad():
        theirs = oracle.generate(
            torch.tensor([start]), max_length=30, do_sample=False,
            eos_token_id=None, pad_token_id=0,
        )[0]  # fmt: skip
    text = tokenizer.detokenize([int(i) for i in theirs if i != 2])
    assert gemma.generate(prompt, 30, stop_token_ids=None) == text
    estimate = estimate_memory(tmp_path)
    assert estimate.parameters == gemma.causal_lm.count_params()
