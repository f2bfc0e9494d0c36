"""Soft tokens: where images stand in a prompt, and what the model is told."""

import keras_hub
import numpy as np
import pytest
from keras import ops

from kerasllm import images
from kerasllm.images import (
    convert_image,
    embed,
    list_images,
    place_images,
    vision_inputs,
)
from kerasllm.prompts import GEMMA, encode
from kerasllm.toyworld import pictures

PICTURE = pictures(1)[0].image


@pytest.fixture(scope="module")
def preprocessor(tiny_untrained):
    return tiny_untrained.preprocessor


def test_one_tensor_stands_for_a_list_of_one():
    tensor = ops.convert_to_tensor(PICTURE)
    assert list_images(tensor)[0] is tensor and len(list_images(tensor)) == 1
    assert list_images([tensor, tensor])[1] is tensor
    assert list_images((tensor,))[0] is tensor


def test_pixels_are_scaled_to_between_minus_one_and_one(preprocessor):
    image = np.zeros((48, 48, 3), "uint8")
    image[:24] = 255
    converted = convert_image(image, preprocessor)
    assert converted.shape == (48, 48, 3)
    np.testing.assert_allclose(converted[:22], 1, atol=1e-6)
    np.testing.assert_allclose(converted[26:], -1, atol=1e-6)


@pytest.mark.any_backend
def test_a_larger_image_is_made_smaller(preprocessor):
    assert convert_image(np.zeros((100, 30, 3)), preprocessor).shape == (
        48,
        48,
        3,
    )


@pytest.mark.any_backend
def test_a_special_token_becomes_a_run_of_placeholders(preprocessor):
    segments = GEMMA.prompt_segments(
        "Is <start_of_image> like <start_of_image>?"
    )
    tokenizer = preprocessor.tokenizer
    ids = encode(tokenizer, place_images(segments, 2, preprocessor))
    expected = (
        "<start_of_turn>user\nIs \n\n<start_of_image>"
        + "<img>" * 9
        + "<end_of_image>\n\n like \n\n<start_of_image>"
        + "<img>" * 9
        + "<end_of_image>\n\n?<end_of_turn>\n<start_of_turn>model\n"
    )
    assert (
        "".join(tokenizer.id_to_token(i) for i in ids).replace("▁", " ")
        == expected
    )
    assert ids.count(tokenizer.image_placeholder_id) == 18


@pytest.mark.any_backend
def test_the_special_token_is_text_to_a_model_without_images(preprocessor):
    text_only = keras_hub.models.Gemma3CausalLMPreprocessor(
        preprocessor.tokenizer
    )
    segments = GEMMA.prompt_segments("What does <start_of_image> mean? <img>")
    placed = place_images(segments, 0, text_only)
    ids = encode(preprocessor.tokenizer, placed)
    assert preprocessor.tokenizer.image_placeholder_id not in ids
    assert preprocessor.tokenizer.start_of_image_token_id not in ids
    with pytest.raises(ValueError, match="images for a text-only preset"):
        place_images(segments, 1, text_only)


@pytest.mark.any_backend
@pytest.mark.parametrize(("num_tokens", "num_images"), [(0, 1), (2, 1), (1, 0)])
def test_tokens_and_images_must_be_as_many(
    preprocessor, num_tokens, num_images
):
    text = "What? " + "<start_of_image>" * num_tokens
    received = f"Received: {num_tokens} in the prompt and {num_images} images"
    with pytest.raises(ValueError, match=received):
        place_images([(text, False)], num_images, preprocessor)


@pytest.mark.any_backend
def test_the_positions_of_an_image_are_told(preprocessor):
    placeholder = preprocessor.tokenizer.image_placeholder_id
    token_ids = np.full((2, 40), 20)
    token_ids[0, 5:14] = placeholder
    inputs = vision_inputs(token_ids, [[PICTURE], []], preprocessor)
    assert inputs["images"].shape == (2, 1, 48, 48, 3)
    assert not inputs["images"][1].any()
    np.testing.assert_array_equal(
        inputs["vision_mask"], token_ids == placeholder
    )
    np.testing.assert_array_equal(
        inputs["vision_indices"], [np.arange(5, 14), np.zeros(9)]
    )


@pytest.mark.any_backend
@pytest.mark.parametrize("images", [[], [PICTURE], [PICTURE] * 3])
def test_an_image_has_its_placeholders(preprocessor, images):
    token_ids = np.full((1, 40), preprocessor.tokenizer.image_placeholder_id)
    token_ids[:, 18:] = 20  # those of two images
    message = rf"9 placeholder.*Received: 18 for {len(images)} images"
    with pytest.raises(ValueError, match=message):
        vision_inputs(token_ids, [images], preprocessor)


def test_positions_equal_those_of_keras_hub(preprocessor):
    """Its preprocessor makes the same tokens, masks and pixels."""
    prompt = "Look: <start_of_image> and <start_of_image>."
    other = np.flip(PICTURE, 0)
    expected = preprocessor.generate_preprocess(
        {"prompts": [prompt], "images": np.array([[PICTURE, other]])},
        sequence_length=80,
    )
    segments = place_images([(prompt, False)], 2, preprocessor)
    tokenizer = preprocessor.tokenizer
    ids = [tokenizer.start_token_id, *encode(tokenizer, segments)]
    token_ids = np.zeros((1, 80), "int32")
    token_ids[0, : len(ids)] = ids
    np.testing.assert_array_equal(np.array(expected["token_ids"]), token_ids)
    inputs = vision_inputs(token_ids, [[PICTURE, other]], preprocessor)
    for name, array in inputs.items():
        np.testing.assert_allclose(
            np.array(expected[name], array.dtype), array, atol=1e-5
        )


def test_soft_tokens_replace_placeholders(tiny_untrained, preprocessor):
    tokenizer = preprocessor.tokenizer
    segments = place_images([("Hi <start_of_image>!", False)], 1, preprocessor)
    ids = [2, *encode(tokenizer, segments)]
    pieces, embeddings, is_soft = embed(tiny_untrained, ids, [PICTURE])
    assert [p == "<img>" for p in pieces] == is_soft.tolist()
    backbone = tiny_untrained.backbone
    pixels = convert_image(PICTURE, preprocessor)[None, None]
    soft = ops.convert_to_numpy(backbone.vision_encoder(pixels))
    np.testing.assert_allclose(
        embeddings[is_soft], soft.reshape(9, -1), atol=1e-5
    )
    text = ops.convert_to_numpy(backbone.token_embedding(np.array(ids)))
    np.testing.assert_allclose(
        embeddings[~is_soft], text[~is_soft] * 32**0.5, atol=1e-5
    )


@pytest.mark.any_backend
def test_the_special_token_has_its_former_name_too():
    assert images.IMAGE_MARK == images.IMAGE_TOKEN == "<start_of_image>"
