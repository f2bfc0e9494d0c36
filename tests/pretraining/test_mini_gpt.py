"""From shards of text to a folder with a model, and back."""

import dataclasses

import keras
import numpy as np
import pytest

from kerasllm import backend, files, tokenizers
from kerasllm.checks import (
    DivergedError,
    EnvironmentFailure,
    MissingFileError,
    RunError,
    UserError,
)
from kerasllm.gemma import Gemma
from kerasllm.presets import UnknownSizeError, estimate_memory, load_causal_lm
from kerasllm.pretraining import PretrainedModel, pretrain_mini_gpt
from kerasllm.pretraining._pretrained_model import write_result
from kerasllm.training import CHECKPOINT_FILE
from tests.recipes import TINY
from tests.training.small_runs import (
    KillAt,
    Killed,
    kill,
    model,
    without_speed,
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    paths, folder = [], tmp_path_factory.mktemp("shards")
    for i in range(2):
        path = folder / f"shard{i}.txt"
        lines = [
            f"Document {i} {j} says: {j} and {j + 1} are {2 * j + 1}.\\nEnd."
            for j in range(60)
        ]
        path.write_text("\n".join(lines) + "\n")
        paths.append(str(path))
    return paths


@pytest.fixture(scope="module")
def finished(shards, tmp_path_factory):
    """Return a folder, where a kill had left files, and the run in it."""
    run = tmp_path_factory.mktemp("run")
    for name in ("run.json", "vocabulary.spm", "checkpoint.npz"):
        (run / f".{name}.a.partial").write_text("left by a kill")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("cache")))
        return run, pretrain_mini_gpt(TINY, shards, run, verbose=0)


def test_from_shards_to_a_directory_and_back(shards, finished):
    run, done = finished
    ids = np.arange(16)[None]
    loaded = PretrainedModel.load(run)
    np.testing.assert_allclose(
        loaded.model.predict(ids, verbose=0),
        done.model.predict(ids, verbose=0),
        atol=1e-6,
    )
    assert loaded.tokenizer.detokenize(loaded.tokenizer("and 1")) == "and 1"
    # What another backend chose about compiling must not come along.
    assert not loaded.model.compiled
    assert loaded.record["parameters"] == done.model.count_params()
    assert [epoch["epoch"] for epoch in loaded.record["history"]] == [1, 2]
    assert list(run.glob(".*")) == []
    # The second call finds the finished run, whatever it is asked to print.
    again = pretrain_mini_gpt(TINY, shards, run, callbacks=[KillAt(1, kill)])
    assert again.record == loaded.record


def test_a_run_is_loaded_like_a_preset(finished):
    run, done = finished
    loaded, causal_lm = load_causal_lm(run), done.causal_lm()
    ids = np.arange(16)[None]
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(loaded(inputs)),
        keras.ops.convert_to_numpy(causal_lm(inputs)),
        atol=1e-6,
    )
    tokens = loaded.preprocessor.generate_preprocess(["and 1"])
    assert tokens["token_ids"].shape == (1, 16)
    with pytest.raises(UserError, match="`dtype` must be left out"):
        load_causal_lm(run, "bfloat16")
    with pytest.raises(UserError, match="Received: .*, the run of a mini-GPT"):
        Gemma.from_preset(run)
    with pytest.raises(UnknownSizeError, match="a pretraining run"):
        estimate_memory(run)


@pytest.mark.any_backend
def test_a_run_that_trained_nothing_does_not_keep_its_folder(tmp_path, shards):
    """It may have failed at its data, or diverged before a checkpoint."""
    one = tmp_path / "one.txt"
    one.write_text("A single document, which cannot be divided.\n")
    with pytest.raises(UserError, match="must fit the corpus"):
        pretrain_mini_gpt(TINY, [str(one)], tmp_path / "run", verbose=0)
    hot = dataclasses.replace(TINY, learning_rate=1e30)
    with pytest.raises(DivergedError, match="or use float32.$"):
        pretrain_mini_gpt(hot, shards, tmp_path / "run", verbose=0)
    done = pretrain_mini_gpt(TINY, shards, tmp_path / "run", verbose=0)
    assert done.record["recipe"] == TINY.identity()
    # Now there is something to lose.
    with pytest.raises(RunError, match="another `recipe` .`learning_rate`"):
        pretrain_mini_gpt(hot, shards, tmp_path / "run", verbose=0)


@pytest.mark.any_backend
def test_the_vocabulary_of_a_failed_run_is_not_kept_for_other_data(
    tmp_path, shards
):
    """A single long document leaves nothing to validate with."""
    with open(shards[0], encoding="utf-8") as file:
        lines = file.read().replace("\n", "\\n") * 3
    whole = tmp_path / "whole.txt"
    whole.write_text(lines + "\n")
    run = tmp_path / "run"
    with pytest.raises(UserError, match='with `documents="paragraphs"`'):
        pretrain_mini_gpt(TINY, [str(whole)], run, verbose=0)
    failed = (run / "vocabulary.spm").read_bytes()
    pretrain_mini_gpt(TINY, shards, run, verbose=0)
    assert (run / "vocabulary.spm").read_bytes() != failed


@pytest.mark.any_backend
def test_memory_may_be_saved_from_the_middle_of_a_run_on(
    tmp_path, shards, finished
):
    _, unbroken = finished
    with pytest.raises(Killed):
        stop = KillAt(TINY.steps_per_epoch + 1, kill)
        pretrain_mini_gpt(TINY, shards, tmp_path, verbose=0, callbacks=[stop])
    thrifty = dataclasses.replace(TINY, loss_chunks=2, remat=True)
    done = pretrain_mini_gpt(thrifty, shards, tmp_path, verbose=0)
    np.testing.assert_allclose(
        without_speed(done.record["history"]),
        without_speed(unbroken.record["history"]),
        atol=1e-4,
        rtol=1e-4,
    )


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"loss_chunks": 0},
        {"warmup_steps": -1},
        {"gradient_accumulation_steps": 1},
    ],
)
def test_a_recipe_is_checked_before_anything_is_made(changes, tmp_path, shards):
    recipe = dataclasses.replace(TINY, **changes)
    with pytest.raises(ValueError, match=next(iter(changes))):
        pretrain_mini_gpt(recipe, shards, tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.any_backend
def test_a_run_goes_on_with_its_own_vocabulary_only(
    tmp_path, shards, monkeypatch
):
    run, vocabulary = tmp_path / "run", tmp_path / "run" / "vocabulary.spm"
    with pytest.raises(Killed):
        stop = KillAt(TINY.steps_per_epoch + 1, kill)
        pretrain_mini_gpt(TINY, shards, run, verbose=0, callbacks=[stop])
    checkpoint = (run / CHECKPOINT_FILE).read_bytes()
    own = vocabulary.read_bytes()

    other = tmp_path / "other.txt"
    other.write_text("so many roads under a dome of trees\n" * 200)
    real = tokenizers.train_sentence_piece

    def train_on_other(data, size, path):
        return real([str(other), *shards], size, path=path)

    train_on_other(shards, TINY.vocabulary_size, path=vocabulary)
    assert vocabulary.read_bytes() != own  # put in its place, of the same size
    with pytest.raises(RunError, match="with the vocabulary that it began"):
        pretrain_mini_gpt(TINY, shards, run, verbose=0)

    vocabulary.unlink()  # lost, and trained by another version of the package
    with monkeypatch.context() as patch:
        patch.setattr(tokenizers, "train_sentence_piece", train_on_other)
        with pytest.raises(RunError, match="with the vocabulary that it"):
            pretrain_mini_gpt(TINY, shards, run, verbose=0)

    assert (run / CHECKPOINT_FILE).read_bytes() == checkpoint
    vocabulary.unlink()  # lost, and trained as it was
    done = pretrain_mini_gpt(TINY, shards, run, verbose=0)
    assert vocabulary.read_bytes() == own
    assert done.record["vocabulary"] == files.sha256(vocabulary)


@pytest.mark.parametrize(
    ("began", "other"),
    [
        ("mixed_float16", "float32"),
        pytest.param("float32", "float16", marks=pytest.mark.any_backend),
    ],
)
def test_a_run_goes_on_in_the_dtype_that_it_began_with(
    tmp_path, shards, monkeypatch, began, other
):
    """As when a notebook gets another GPU on the second day."""
    with pytest.raises(UserError, match="float17"):
        pretrain_mini_gpt(TINY, shards, tmp_path, dtype="float17")
    monkeypatch.setattr(backend, "best_dtype_policy", lambda: began)
    with pytest.raises(Killed):
        stop = KillAt(TINY.steps_per_epoch + 1, kill)
        pretrain_mini_gpt(TINY, shards, tmp_path, verbose=0, callbacks=[stop])
    monkeypatch.setattr(backend, "best_dtype_policy", lambda: other)
    done = pretrain_mini_gpt(TINY, shards, tmp_path, verbose=0)
    assert done.record["dtype"] == done.model.dtype_policy.name == began


@pytest.mark.any_backend
def test_an_unfinished_run_is_no_model(tmp_path):
    with pytest.raises(MissingFileError, match="finished pretraining run"):
        PretrainedModel.load(tmp_path)


@pytest.mark.any_backend
def test_numpy_numbers_make_the_same_run(shards, finished):
    run, done = finished
    same = dataclasses.replace(
        TINY,
        epochs=np.int64(2),
        batch_size=np.int32(4),
        dropout=np.float64(0.1),
    )
    again = pretrain_mini_gpt(
        same,
        shards,
        run,
        seed=np.int64(0),
        verbose=0,
        callbacks=[KillAt(1, kill)],
    )
    assert again.record == done.record
    for seed in (True, -1, 2**32, "0"):
        with pytest.raises(UserError, match=r"`seed` must be an int in \[0, "):
            pretrain_mini_gpt(TINY, shards, run, seed=seed)


@pytest.mark.any_backend
def test_data_that_do_not_exist_are_named(tmp_path):
    # One path is no list of letters.
    for data in (["nope.txt"], "nope.txt", tmp_path / "nope.txt"):
        with pytest.raises(MissingFileError, match=r"nope\.txt"):
            pretrain_mini_gpt(TINY, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.any_backend
def test_a_folder_that_cannot_be_made_is_refused_before_the_claim(
    tmp_path, shards
):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="can be written to"):
        pretrain_mini_gpt(TINY, shards, tmp_path / "file" / "run")


@pytest.mark.any_backend
def test_a_prompt_is_checked_before_anything_is_trained(tmp_path, shards):
    stop = KillAt(1, kill)
    for prompt, message in (("", "prompt"), ("Document " * 20, "tokens")):
        with pytest.raises(UserError, match=message):
            pretrain_mini_gpt(
                TINY,
                shards,
                tmp_path,
                sample_prompt=prompt,
                callbacks=[stop],
                verbose=0,
            )
        is_empty = not prompt  # known before there is a vocabulary
        assert (tmp_path / "vocabulary.spm").exists() != is_empty


@pytest.mark.any_backend
def test_a_second_run_is_refused_before_it_touches_anything(tmp_path, shards):
    pytest.importorskip("fcntl", reason="no locks here")
    partial = tmp_path / ".vocabulary.spm.a.partial"
    partial.write_text("being written by the first run")
    with files.locked(tmp_path):
        with pytest.raises(RunError, match="one run at a time"):
            pretrain_mini_gpt(TINY, shards, tmp_path, verbose=0)
    assert partial.exists()
    assert not (tmp_path / "vocabulary.spm").exists()


@pytest.mark.any_backend
def test_a_full_disk_is_explained_when_the_model_is_saved(tmp_path):
    resource = pytest.importorskip("resource", reason="a limit of POSIX")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(EnvironmentFailure, match="must fit") as caught:
            write_result(tmp_path, model(), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(tmp_path / "model.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
