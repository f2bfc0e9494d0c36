import dataclasses
import os
import pathlib
import shlex
import signal
import subprocess
import sys

import keras
import pytest

from kerasllm import corpora, pretraining, recipes
from kerasllm.cli import pretrain as pretrain_command
from tests.cli.messages import one_line
from tests.recipes import TINY


@pytest.mark.parametrize(
    "devices",
    ["auto", "2", pytest.param("many", marks=pytest.mark.any_backend)],
)
def test_devices_that_are_not_there_are_refused(
    run, tmp_path, devices, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    if devices == "many":
        message = "--devices must be auto or a positive number"
    elif keras.config.backend() != "jax":
        message = "backend jax only"
    elif devices == "auto":
        pytest.skip("one device is all there are")
    else:
        message = '--devices must be "auto" or an int in [1, 1]'
    status, out, err = run("pretrain", "--devices", devices)
    assert (status, out) == (2, "")
    assert message in one_line(err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.any_backend
def test_output_below_a_file_is_refused(run, text, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY)
    status, _, err = run(
        *("pretrain", "--recipe", "tiny", "--data", text, "--out", text / "x")
    )
    assert status == 2
    assert "Not a directory" in one_line(err)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "options, shards",
    [
        ([], ["local"]),
        (["--data", "mini-c4"], ["c4"]),
        (["--data", "a", "--data", "b"], ["a", "b", "lines"]),
        (["--data", "a", "--documents", "files"], ["a", "files"]),
    ],
)
def test_pretrain_finds_the_text(run, monkeypatch, options, shards, trained):
    calls = []
    monkeypatch.setattr(corpora, "local_docs", lambda: ["local"])
    monkeypatch.setattr(corpora, "mini_c4", lambda: ["c4"])
    monkeypatch.setattr(corpora, "text_shards", lambda paths, d: [*paths, d])
    monkeypatch.setattr(pretrain_command, "_check_text", lambda *_: None)

    def pretrain(*arguments, **options):
        calls.append((arguments, options))
        return trained

    monkeypatch.setattr(pretraining, "pretrain_mini_gpt", pretrain)
    status, *_ = run(
        *("pretrain", "--out", "d", "--seed", 3, "--sample", "Hi", *options)
    )
    assert status == 0
    ((recipe, found, directory), options) = calls[0]
    assert found == shards
    assert recipe == recipes.RECIPES["laptop"]
    assert directory == pathlib.Path("d")
    expected = {"seed": 3, "sample_prompt": "Hi", "distribution": None}
    assert options == expected


@pytest.mark.any_backend
def test_a_run_with_another_vocabulary_is_told_by_its_option(
    run, a_run, monkeypatch
):
    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY)
    command = ("pretrain", "--recipe", "tiny", "--out", a_run)
    status, _, err = run(*command, "--vocabulary-size", 512)
    assert status == 2
    assert "of another --recipe (--vocabulary-size)." in one_line(err)


def test_pretrain_then_generate(run, pretrained):
    directory, out = pretrained
    assert "val perplexity" in out
    command = out.splitlines()[-1].strip()
    assert command == f"kerasllm generate --model '{directory}' The --top-k 5"
    status, out, err = run(*shlex.split(command)[1:])
    assert status == 0, err
    assert out.startswith("The")


@pytest.mark.once  # `test_pretraining.py` has it without a process for each
def test_ctrl_c_in_training_can_be_resumed(text, tmp_path):
    long = dataclasses.replace(TINY, epochs=4, steps_per_epoch=100)
    code = f"""if True:
        import sys
        from kerasllm import recipes
        from kerasllm.cli import main
        from kerasllm.recipes import Recipe
        recipes.RECIPES["long"] = {long!r}
        main(sys.argv[1:])
    """
    command = [sys.executable, "-u", "-c", code, "pretrain", "--recipe", "long"]
    command += ["--data", str(text), "--out", str(tmp_path / "model")]
    environment = os.environ | {"KERAS_BACKEND": keras.config.backend()}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        for line in process.stdout:
            if "Epoch 2/4" in line:
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "The state is saved" in err.splitlines()[-1]
    done = subprocess.run(
        command, env=environment, timeout=120, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Epoch 1/4" not in done.stdout
