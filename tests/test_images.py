"""Images: how they are read, and where their soft tokens go."""

import http.server
import threading

import numpy as np
import pytest
from keras import ops
from PIL import Image

from kerasllm.images import (
    convert_image,
    embed,
    load_image,
    place_images,
    vision_inputs,
)
from kerasllm.prompts import GEMMA, encode
from kerasllm.toyworld import pictures

PICTURE = pictures(1)[0].image


@pytest.fixture(scope="module")
def preprocessor(tiny_untrained):
    return tiny_untrained.preprocessor


def test_all_sources_give_the_same_array(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(PICTURE).save(path)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        sources = [
            path,
            str(path),
            address + "picture.png",
            Image.fromarray(PICTURE),
            PICTURE,
            PICTURE.astype("float32"),
            np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, "uint8")]),
        ]
        for source in sources:
            np.testing.assert_array_equal(load_image(source), PICTURE)
        with pytest.raises(OSError, match="404"):
            load_image(address + "nothing.png")
        server.shutdown()
    with pytest.raises(OSError, match="must answer"):
        load_image(address + "picture.png")


def test_a_grey_image_gets_three_channels():
    grey = PICTURE[..., 0]
    for source in (grey, Image.fromarray(grey)):
        np.testing.assert_array_equal(
            load_image(source), np.dstack([grey, grey, grey])
        )


def test_what_is_no_image_is_refused(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    with pytest.raises(ValueError, match="Pillow can read.*text.png, 13 bytes"):
        load_image(text)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_image(tmp_path / "missing.png")
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        load_image([1, 2])
    with pytest.raises(ValueError, match=r"in \[0, 255\].*-1"):
        load_image(np.full((4, 4, 3), -1))
    with pytest.raises(ValueError, match="without values"):
        load_image(np.zeros((0, 4, 3)))


def test_pixels_are_scaled_to_between_minus_one_and_one(preprocessor):
    image = np.zeros((48, 48, 3), "uint8")
    image[:24] = 255
    converted = convert_image(image, preprocessor)
    assert converted.shape == (48, 48, 3)
    np.testing.assert_allclose(converted[:22], 1, atol=1e-6)
    np.testing.assert_allclose(converted[26:], -1, atol=1e-6)


def test_a_larger_image_is_made_smaller(preprocessor):
    assert convert_image(np.zeros((100, 30, 3)), preprocessor).shape == (
        48,
        48,
        3,
    )


def test_a_mark_becomes_a_run_of_placeholders(preprocessor):
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


def test_without_images_the_mark_is_text(preprocessor):
    segments = GEMMA.prompt_segments("What does <start_of_image> mean? <img>")
    placed = place_images(segments, 0, preprocessor)
    ids = encode(preprocessor.tokenizer, placed)
    assert preprocessor.tokenizer.image_placeholder_id not in ids
    assert preprocessor.tokenizer.start_of_image_token_id not in ids


@pytest.mark.parametrize("text", ["No mark.", "<start_of_image>" * 2])
def test_marks_and_images_must_be_as_many(preprocessor, text):
    with pytest.raises(ValueError, match="one <start_of_image> for each image"):
        place_images([(text, False)], 1, preprocessor)


def test_the_places_of_an_image_are_told(preprocessor):
    place = preprocessor.tokenizer.image_placeholder_id
    token_ids = np.full((2, 40), 20)
    token_ids[0, 5:14] = place
    inputs = vision_inputs(token_ids, [[PICTURE], []], preprocessor)
    assert inputs["images"].shape == (2, 1, 48, 48, 3)
    assert not inputs["images"][1].any()
    np.testing.assert_array_equal(inputs["vision_mask"], token_ids == place)
    np.testing.assert_array_equal(
        inputs["vision_indices"], [np.arange(5, 14), np.zeros(9)]
    )


def test_places_equal_those_of_keras_hub(preprocessor):
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


def test_soft_tokens_take_the_places_of_placeholders(
    tiny_untrained, preprocessor
):
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
