import contextlib
import io
import json
import random

import keras
import keras_hub
import pytest

from kerasllm import cli, pretraining, recipes, tuning
from tests.recipes import TINY


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line here; return its status, stdout and stderr."""
    # Not what C++ writes: the backend has begun before, with its own words.
    monkeypatch.setenv("KERAS_BACKEND", keras.config.backend())

    def run(*arguments):
        capsys.readouterr()
        try:
            cli.main([str(argument) for argument in arguments])
            status = 0
        except SystemExit as finished:
            status = finished.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    words = "the cat dog sat on a mat and saw red green house tree".split()
    draw = random.Random(0)
    documents = [" ".join(draw.choices(words, k=30)) for _ in range(100)]
    path = tmp_path_factory.mktemp("text") / "shard0.txt"
    path.write_text("\n".join(documents) + "\n")
    return path


@pytest.fixture(scope="session")
def pretrained(text, tmp_path_factory):
    """Run `kerasllm pretrain`; return the folder and what it printed."""
    directory = tmp_path_factory.mktemp("runs") / "a model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", keras.config.backend())
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setitem(recipes.RECIPES, "tiny", TINY)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            cli.main(
                ["pretrain", "--recipe", "tiny"]
                + ["--data", str(text), "--out", str(directory)]
            )
    return directory, out.getvalue()


@pytest.fixture(scope="session")
def trained(pretrained):
    return pretraining.PretrainedModel.load(pretrained[0])


@pytest.fixture
def loaded(trained, monkeypatch):
    """A model whose folder need not be read again, nor compiled."""
    monkeypatch.setattr(
        pretraining.PretrainedModel, "load", lambda directory: trained
    )
    return trained


@pytest.fixture
def instructions_file(tmp_path):
    path = tmp_path / "examples.jsonl"
    path.write_text(
        "".join(
            json.dumps({"prompt": f"Say {i}.", "response": f"{i} it is."})
            + "\n"
            for i in range(24)
        )
    )
    return path


@pytest.fixture
def preferences_file(tmp_path):
    path = tmp_path / "preferences.jsonl"
    path.write_text(
        "".join(
            json.dumps(
                {
                    "prompt": f"Say {i}.",
                    "chosen": f"{i} it is.",
                    "rejected": f"{i} it is, it is.",
                }
            )
            + "\n"
            for i in range(24)
        )
    )
    return path


@pytest.fixture
def untrained(tiny_untrained, monkeypatch):
    """Each preset is a Gemma 3 that is not trained, and gains nothing."""
    from kerasllm.chat import ChatModel

    def from_preset(name, dtype=None, template="auto"):
        backbone = tiny_untrained.backbone
        model = keras_hub.models.Gemma3CausalLM(
            backbone=backbone.from_config(backbone.get_config()),
            preprocessor=tiny_untrained.preprocessor,
        )
        return ChatModel(model, template)

    monkeypatch.setattr(ChatModel, "from_preset", from_preset)
    monkeypatch.setattr(ChatModel, "finetune", lambda *args, **kwargs: [])
    for name in ("dpo", "grpo"):
        monkeypatch.setattr(tuning, name, lambda *args, **kwargs: [])


@pytest.fixture
def a_run(tmp_path):
    """A folder that looks like a finished run, until it is loaded."""
    folder = tmp_path / "a run"
    folder.mkdir()
    for name in ("model.keras", "vocabulary.spm"):
        (folder / name).write_bytes(b"")
    record = {"recipe": TINY.identity(), "data": ["another"], "seed": 0}
    (folder / "run.json").write_text(json.dumps(record))
    return folder
