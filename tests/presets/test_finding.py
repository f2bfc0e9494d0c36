"""Presets: what a name stands for, and what is refused before it is loaded."""

import json

import keras
import keras_hub
import numpy as np
import pytest

from kerasllm.gemma import Gemma
from kerasllm.images import convert_image
from kerasllm.presets import estimate_memory, load_causal_lm, preset_source
from tests.gemmas import fail_with


@pytest.mark.any_backend
def test_wrong_names_and_folders_are_explained(tmp_path):
    with pytest.raises(ValueError, match="tiny.*gemma3_1b.*'gemma4_tiny'"):
        Gemma.from_preset("gemma4_tiny")
    with pytest.raises(ValueError, match="must hold a KerasHub preset"):
        Gemma.from_preset(tmp_path)
    with pytest.raises(ValueError, match="must hold a KerasHub preset"):
        estimate_memory(tmp_path)


@pytest.mark.any_backend
def test_a_folder_comes_before_a_preset_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = preset_source
    assert source("gemma3_1b") == "gemma3_1b"
    for name in ("gemma3_1b", "tiny"):
        (tmp_path / name).mkdir()
    assert source("gemma3_1b") == str(tmp_path / "gemma3_1b")
    assert source("./tiny") == str(tmp_path / "tiny") != source("tiny")


@pytest.mark.any_backend
def test_a_wrong_dtype_is_refused_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr(
        keras_hub.models.CausalLM, "from_preset", fail_with(AssertionError())
    )
    for load in (Gemma.from_preset, estimate_memory):
        for dtype in ("fp16", "int32", "bool", "string"):
            with pytest.raises(
                ValueError, match=f"a Keras dtype.*dtype='{dtype}'"
            ):
                load("gemma3_1b", dtype=dtype)
    assert estimate_memory("gemma3_1b", "mixed_bfloat16") == estimate_memory(
        "gemma3_1b", "float32"
    )


def test_white_is_one_and_black_minus_one(
    tiny_untrained, tmp_path, monkeypatch
):
    from keras_hub.src.utils.transformers import convert_gemma3

    half = [0.5, 0.5, 0.5]
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {"image_mean": half, "image_std": half, "rescale_factor": 1 / 255}
        )
    )
    converter = tiny_untrained.preprocessor.image_converter
    before = converter.scale, converter.offset
    found = convert_gemma3.load_image_converter_config(
        str(tmp_path), {"vision_config": {"image_size": 48}}
    )
    monkeypatch.setattr(
        keras_hub.models.Backbone, "from_preset", lambda *_, **__: None
    )
    monkeypatch.setattr(
        keras_hub.models.CausalLM,
        "from_preset",
        lambda source, **options: tiny_untrained,
    )
    try:
        converter.scale, converter.offset = found["scale"], found["offset"]
        Gemma.from_preset(tmp_path)
        for pixel, expected in ((0, -1), (255, 1)):
            image = np.full((1, 48, 48, 3), pixel, "float32")
            values = keras.ops.convert_to_numpy(converter(image))
            np.testing.assert_allclose(values, expected, atol=1e-6)
    finally:
        converter.scale, converter.offset = before


@pytest.mark.any_backend
def test_a_setting_for_other_models_does_not_reach_the_images():
    """As `keras.json` may say, for the sake of convolutions elsewhere."""
    picture = np.zeros((48, 48, 3), "uint8")
    keras.config.set_image_data_format("channels_first")
    try:
        causal_lm = load_causal_lm("tiny")
        assert keras.config.image_data_format() == "channels_first"
        image = convert_image(picture, causal_lm.preprocessor)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert image.shape == picture.shape
