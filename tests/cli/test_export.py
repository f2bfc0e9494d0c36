"""`kerasllm export`: what the command checks and calls."""

import json

import pytest

from kerasllm.cli import export
from kerasllm.cli.export import FORMATS, WEIGHTS
from kerasllm.export import WEIGHT_TYPES
from kerasllm.gguf import GGUFFile
from tests.cli.messages import one_line
from tests.gguf.small_files import write

pytestmark = pytest.mark.any_backend


@pytest.fixture
def adapters(tmp_path):
    """A file in GGUF, and adapters for it."""
    from kerasllm.chat import ChatModel

    path = tmp_path / "llama.gguf"
    write(path)
    model = ChatModel.from_preset(path)
    model.enable_lora(rank=2)
    model.save_lora(tmp_path / "adapters.lora.h5")
    return path, tmp_path / "adapters.lora.h5"


def test_a_model_and_its_adapters_are_exported(run, adapters, tmp_path):
    model, lora = adapters
    for to, made in (
        ("huggingface", "model.safetensors"),
        ("peft", "adapter_model.safetensors"),
        ("gguf", None),
        ("keras", "model.weights.h5"),
    ):
        out = tmp_path / f"for {to}"
        status, said, err = run(
            "export", "--model", model, "--lora", lora, "--to", to,
            "--out", out,
        )  # fmt: skip
        assert status == 0, err
        assert f"{out} has been written." in said
        if to == "keras":  # the only one that is surely a preset of ours
            assert f"kerasllm chat --preset '{out}'" in said
        assert (out / made).is_file() if made else GGUFFile(out).tensors
        # What is there is never replaced.
        status, _, err = run("export", "--model", model, "--to", to,
                             "--out", out)  # fmt: skip
        assert status == 2 and "--out must be a new path" in one_line(err)
    config = tmp_path / "for peft" / "adapter_config.json"
    assert json.loads(config.read_text())["peft_type"] == "LORA"


def test_mistakes_are_told_before_a_model_is_loaded(run, tmp_path, monkeypatch):
    monkeypatch.delattr(export, "starting")
    out = tmp_path / "new"
    text = tmp_path / "text"
    text.write_text("no adapters")
    for options, message in (
        (("--model", "tiny", "--to", "peft"), "--to peft must come with"),
        (("--model", "tiny", "--to", "hugging"), "Did you mean huggingface?"),
        (("--model", "none.gguf", "--to", "gguf"), "which is no file"),
        (("--model", "tniy", "--to", "gguf"), "--model must be one of tiny"),
        (
            ("--model", "tiny", "--to", "peft", "--lora", text),
            "--lora must be a file that finetune wrote",
        ),
        (
            ("--model", "tiny", "--to", "huggingface", "--weights", "f16"),
            "--weights must come with --to gguf",
        ),
        (
            ("--model", "tiny", "--to", "gguf", "--out", text / "new.gguf"),
            "a folder that can be written to",
        ),
    ):
        status, _, err = run("export", "--out", out, *options)
        assert status == 2 and message in one_line(err), err
    assert not out.exists()


def test_what_is_offered_is_what_there_is():
    assert WEIGHTS == WEIGHT_TYPES and len(FORMATS) == 4
