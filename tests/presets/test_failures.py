"""Presets that cannot be loaded: what is wrong, and what helps."""

import types

import keras_hub
import pytest
import safetensors

from kerasllm.chat import ChatModel
from kerasllm.gemma import Gemma
from kerasllm.presets import _failures
from tests.gemmas import fail_with

pytestmark = pytest.mark.any_backend


def as_kerashub_does(error):
    """Return the `ValueError` that KerasHub makes of an error of Kaggle."""
    try:
        try:
            raise error
        except OSError as caught:
            raise ValueError(str(caught))  # noqa: B904
    except ValueError as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionError("Max retries exceeded"), "is there a network"),
        (ConnectionError("Port 4013 of 14033 is closed"), "is there a network"),
        (FileNotFoundError("`config.json` is not accessible in preset"),
         "terms have not been accepted"),
        (ValueError("Preset gemma3_instruct_4b has no config.json."),
         "terms have not been accepted"),
        (OSError("403 Client Error."), "terms have not been accepted"),
        (as_kerashub_does(OSError("401 Client Error: Unauthorized")),
         "Kaggle credentials"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_known", [True, False])
def test_a_failed_download_says_what_is_missing(
    monkeypatch, error, message, is_known
):
    monkeypatch.setattr(_failures, "_has_kaggle_credentials", lambda: is_known)
    if not is_known and message.startswith("terms"):
        message = "Kaggle credentials"  # of nobody Kaggle says the same
    monkeypatch.setattr(
        keras_hub.models.CausalLM, "from_preset", fail_with(error)
    )
    expected = f"{message}.*'tiny_instruct' is a small"
    with pytest.raises(OSError, match=expected) as caught:
        Gemma.from_preset("gemma3_instruct_4b")
    assert caught.value.__cause__ is error


def test_tensors_of_other_names_are_not_called_a_broken_file(
    monkeypatch, tmp_path
):
    error = safetensors.SafetensorError(
        "File does not contain tensor vision_tower.vision_model.x"
    )
    monkeypatch.setattr(
        keras_hub.models.Backbone, "from_preset", fail_with(error)
    )
    with pytest.raises(ValueError, match="names.*model.x.*Transformers 5"):
        Gemma.from_preset(tmp_path)


def test_of_hugging_face_it_is_said_what_may_be_missing(monkeypatch):
    """KerasHub says the same with no network, no such model and no token."""
    error = ValueError("Preset hf://google/gemma-3-1b-it has no config.json.")
    monkeypatch.setattr(
        keras_hub.models.CausalLM, "from_preset", fail_with(error)
    )
    with pytest.raises(OSError, match="network.*terms.*HF_TOKEN.*'tiny' is a"):
        Gemma.from_preset("hf://google/gemma-3-1b-it")


@pytest.mark.parametrize("name", ["gemma3_1b", "tiny"])
@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3 GiB"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory, 401 MiB"),
        ImportError("The `kagglehub` package failed to import"),
    ],
)
def test_what_is_no_fault_of_a_preset_is_not_renamed(monkeypatch, error, name):
    monkeypatch.setattr(
        keras_hub.models.CausalLM, "from_preset", fail_with(error)
    )
    with pytest.raises(type(error)) as caught:
        Gemma.from_preset(name)
    assert caught.value is error


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("gemma3_instruct_4b", 401, "no valid Kaggle credentials"),
        ("gemma3_instruct_4b", 403, "terms have not been accepted"),
        ("gemma3_instruct_4b", 500, "is there a network"),
        (
            "hf://google/gemma-3-1b-it",
            401,
            "no valid Hugging Face cred.*HF_",
        ),
        ("hf://google/gemma-3-1b-it", 403, "terms.*model's page of Hugging"),
        ("hf://google/gemma-3-1b-it", 404, "there is no such model"),
    ],
)
def test_a_status_decides_before_any_text(monkeypatch, name, status, message):
    """Whatever the text says, in whatever language."""

    class Error(OSError):
        response = types.SimpleNamespace(status_code=status)

    monkeypatch.setattr(_failures, "_has_kaggle_credentials", lambda: True)
    for text in ("", "no room: 403 bytes missing, 401 needed"):
        monkeypatch.setattr(
            keras_hub.models.CausalLM, "from_preset", fail_with(Error(text))
        )
        if status == 500 and text:
            continue  # a status that tells nothing leaves it to the text
        with pytest.raises(OSError, match=message):
            ChatModel.from_preset(name)
