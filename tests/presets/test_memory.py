"""What a model needs, estimated before it is loaded."""

import json

import keras_hub
import numpy as np
import pytest
import safetensors
from safetensors.numpy import save_file

from kerasllm.gemma import Gemma
from kerasllm.presets import UnknownSizeError, estimate_memory

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize("size", ["4b", "12b", "27b"])
def test_a_vision_encoder_is_in_float32(size):
    """How large it is tells the sibling that has none."""
    whole, text = (
        estimate_memory(f"gemma3_{name}", "bfloat16")
        for name in (size, f"{size}_text")
    )
    assert text.weights_bytes == 2 * text.parameters
    assert whole.weights_bytes == text.weights_bytes + 4 * (
        whole.parameters - text.parameters
    )


def test_the_chapters_numbers_are_estimated_before_loading():
    estimate = estimate_memory("gemma3_1b", rank=8)
    assert estimate.parameters == 999_885_952
    assert estimate.lora_parameters == 1_304_576
    assert round(estimate.weights_bytes / 2**30, 2) == 3.72
    assert "3.72 GiB" in str(estimate)
    half = estimate_memory("gemma3_1b", "bfloat16")
    assert half.weights_bytes == estimate.weights_bytes // 2


def write_hugging_face_folder(folder):
    """Write a Hugging Face checkpoint of 20 numbers in two files."""
    config = {
        "model_type": "gemma3_text",
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 8,
    }
    (folder / "config.json").write_text(json.dumps(config))
    weights = {"a": np.ones((3, 4), "float32"), "b": np.ones(8, "float32")}
    names = {}
    for i, (name, array) in enumerate(weights.items(), 1):
        names[name] = f"model-0000{i}-of-00002.safetensors"
        save_file({name: array}, folder / names[name])
    index = json.dumps({"metadata": {}, "weight_map": names})
    (folder / "model.safetensors.index.json").write_text(index)


def test_all_files_of_the_index_are_counted_and_no_other(tmp_path):
    write_hugging_face_folder(tmp_path)
    save_file({"c": np.ones(5, "float32")}, tmp_path / "other.safetensors")
    assert estimate_memory(tmp_path).parameters == 20
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match="must hold.*model-00002-of-00002"):
        estimate_memory(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ValueError, match="must hold.*model.safetensors"):
        estimate_memory(tmp_path)
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="must hold.*no weights"):
        estimate_memory(tmp_path)


def test_a_file_that_was_cut_is_explained(tmp_path, monkeypatch):
    write_hugging_face_folder(tmp_path)
    path = tmp_path / "model-00001-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    message = f"must be whole. Received: {tmp_path}.*again"
    with pytest.raises(ValueError, match=message):
        estimate_memory(tmp_path)

    def load(*args, **kwargs):  # as KerasHub does
        with safetensors.safe_open(path, framework="np") as file:
            return file

    monkeypatch.setattr(keras_hub.models.Backbone, "from_preset", load)
    with pytest.raises(ValueError, match=message):
        Gemma.from_preset(tmp_path)


@pytest.mark.parametrize("name", ["hf://google/gemma-3-1b", "kaggle://a/b/c/d"])
def test_nothing_is_known_of_what_has_an_address(name):
    with pytest.raises(UnknownSizeError, match=f"Received: '{name}'"):
        estimate_memory(name)
