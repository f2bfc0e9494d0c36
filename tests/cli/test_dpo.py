import io
import itertools
import json
import pathlib
import shlex

import h5py
import pytest

from kerasllm import tuning
from tests.cli.messages import one_line


@pytest.mark.once
def test_dpo_trains_the_adapters_of_finetune_further(
    run, instructions_file, preferences_file, tmp_path, monkeypatch
):
    first = tmp_path / "first" / "adapters.lora.h5"
    status, _, err = run(
        "finetune", "--data", instructions_file, "--preset", "tiny",
        "--rank", 2, "--epochs", 1, "--out", first.parent,
    )  # fmt: skip
    assert status == 0, err
    before = first.read_bytes()
    command = (
        "dpo", "--data", preferences_file, "--preset", "tiny",
        "--lora", first, "--out", tmp_path / "out",
    )  # fmt: skip
    status, out, err = run(*command)
    assert status == 0, err
    adapters = tmp_path / "out" / "adapters.lora.h5"
    assert f"kerasllm chat --preset tiny --lora {adapters}" in out
    assert "trainable" in out and "the chosen response has gained" in out
    assert "tokens_per_second" in out
    assert first.read_bytes() == before
    with h5py.File(first) as old, h5py.File(adapters) as new:
        assert old.keys() == new.keys()
        assert any((old[k]["b"][()] != new[k]["b"][()]).any() for k in old)
    # Finished, it is not begun again; and other options are refused.
    status, again, _ = run(*command)
    assert status == 0 and "tokens_per_second" not in again
    status, _, err = run(*command, "--sequence-length", 60)
    assert status == 2 and "a run of another --sequence-length" in one_line(err)

    monkeypatch.setattr("sys.stdin", io.StringIO("Say 3.\n\n"))
    status, out, err = run(
        "chat", "--preset", "tiny", "--lora", adapters, "--max-length", 40
    )
    assert status == 0 and "tokens/s" in err


@pytest.fixture
def called(untrained, monkeypatch):
    """What the command asks of the library, call by call."""
    calls = []

    def dpo(model, train, held_out, **options):
        calls.append((train, held_out, options))
        return [{"val_accuracy": 0.75, "val_margin": 0.5}]

    monkeypatch.setattr(tuning, "dpo", dpo)
    return calls


@pytest.mark.any_backend
def test_the_options_reach_the_library(run, called, preferences_file, tmp_path):
    status, out, err = run(
        "dpo", "--data", preferences_file, "--out", tmp_path / "out",
        "--beta", 0.3, "--loss-type", "sigmoid_norm", "--label-smoothing", 0.1,
        "--sft-weight", 0.2, "--epochs", 2, "--batch-size", 4,
        "--learning-rate", 1e-5, "--sequence-length", 60, "--template", "book",
        "--validation", 0.25, "--seed", 3,
    )  # fmt: skip
    assert status == 0, err
    ((train, held_out, options),) = called
    assert len(train) + len(held_out) == 24 and len(held_out) > 1
    assert options.pop("template").name == "book"
    assert options == {
        "beta": 0.3, "loss_type": "sigmoid_norm", "label_smoothing": 0.1,
        "sft_weight": 0.2, "epochs": 2, "batch_size": 4,
        "learning_rate": 1e-5, "sequence_length": 60, "seed": 3,
        "reference": "precomputed", "directory": tmp_path / "out/checkpoint",
    }  # fmt: skip
    size = len(held_out)
    assert f"Of {size} held-out pairs, the chosen response has gained" in out
    assert f"in {round(0.75 * size)} (95% interval" in out
    assert "24 pairs are few" not in out
    assert shlex.split(out.splitlines()[-1])[:3] == ["kerasllm", "chat"] + [
        "--preset"
    ]


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("history", "counts", "said", "may_be_chance"),
    [
        ({"val_accuracy": 1.0}, (9, 1), "Of 1 held-out pair,", True),
        (
            {"val_accuracy": 1.0},
            (9, 1),
            "in 1 (95% interval 21% to 100%)",
            True,
        ),
        (
            {"val_accuracy": 0.6},
            (9, 10),
            "in 6 (95% interval 31% to 83%)",
            True,
        ),
        ({"val_accuracy": 0.9}, (9, 100), "in 90 (95% interval 83% to", False),
        ({"val_accuracy": 0.1}, (9, 100), "in 10 (95% interval 6% to", False),
        ({"accuracy": 1.0}, (9, 0), "9 pairs that it was trained on", False),
    ],
)
def test_a_share_of_pairs_has_its_count_and_its_interval(
    history, counts, said, may_be_chance
):
    from kerasllm.cli.tuning.dpo import _what_it_prefers

    logs = history | {"margin": 1.0, "val_margin": 1.0}
    lines = " ".join(_what_it_prefers([logs], *counts))
    assert said in lines
    assert ("may be chance" in lines) == may_be_chance


@pytest.mark.any_backend
def test_a_folder_of_another_run_is_refused_before_a_backend_starts(
    run, called, preferences_file, tmp_path, monkeypatch
):
    from kerasllm.cli.tuning import dpo

    checkpoint = tmp_path / "out" / "checkpoint"

    def finish(*args, beta, learning_rate, **options):
        """Leave what a finished run leaves, and its record of numbers."""
        checkpoint.mkdir()
        (checkpoint / "checkpoint.npz").write_bytes(b"")
        names = ("loss_type", "label_smoothing", "sft_weight")
        numbers = {name: options[name] for name in names}
        numbers |= {"beta": beta, "learning_rate": learning_rate}
        numbers |= {"batch_size": 8, "seed": 0}
        (checkpoint / "run.json").write_text(json.dumps(numbers))
        return []

    monkeypatch.setattr(tuning, "dpo", finish)
    options = {"--data": preferences_file, "--out": tmp_path / "out"}
    status, _, err = run("dpo", *itertools.chain(*options.items()))
    assert status == 0, err
    monkeypatch.delattr(dpo, "starting")
    other = tmp_path / "other.jsonl"
    other.write_text(preferences_file.read_text() * 2)
    for option, value, said in (
        ("--beta", 0.2, "--beta 0.1, not 0.2"),
        ("--loss-type", "ipo", "--loss-type sigmoid, not ipo"),
        ("--sft-weight", 1, "--sft-weight 0.0, not 1.0"),
        ("--rank", 4, "--rank 8, not 4"),
        ("--targets", "query", "--targets query,value, not query"),
        ("--learning-rate", 0.1, "--learning-rate 0.0001, not 0.1"),
        ("--data", other, "a run of another --data"),
    ):
        changed = options | {option: value}
        status, _, err = run("dpo", *itertools.chain(*changed.items()))
        assert status == 2
        assert said in one_line(err)
    # Without a record of the options, that of the library is looked at.
    (tmp_path / "out" / "options.json").unlink()
    changed = options | {"--beta": 0.2}
    status, _, err = run("dpo", *itertools.chain(*changed.items()))
    assert status == 2 and "a run of another --beta" in one_line(err)


@pytest.mark.any_backend
def test_adapters_to_begin_with_decide_their_sizes_and_stay(
    run, called, preferences_file, tmp_path
):
    adapters = tmp_path / "first" / "adapters.lora.h5"
    adapters.parent.mkdir()
    adapters.write_bytes(b"\x89HDF\r\n\x1a\n")
    command = "dpo", "--data", preferences_file, "--lora", adapters
    for more, said in (
        (("--rank", 4), "--rank is for new adapters. Received: --rank 4"),
        (("--targets", "query"), "--targets is for new adapters"),
        (("--out", adapters.parent), "--out must be another folder"),
    ):
        status, _, err = run(*command, *more)
        assert status == 2 and said in one_line(err)
    assert called == []


@pytest.mark.any_backend
def test_without_a_folder_each_run_has_one_in_the_cache(
    run, called, preferences_file, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))

    def directory(*options):
        status, out, err = run("dpo", "--data", preferences_file, *options)
        assert status == 0, err
        adapters = pathlib.Path(shlex.split(out.splitlines()[-1])[5])
        assert adapters.is_file()
        assert called[-1][2]["directory"].parent == adapters.parent
        return adapters.parent

    first = directory()
    assert tmp_path / "cache" in first.parents
    assert first == directory("--epochs", 9)
    assert len({first, directory("--beta", 0.2), directory("--seed", 1)}) == 3
