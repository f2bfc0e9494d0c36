"""Several devices and several processes compute what one device does.

Eight devices are a CPU that XLA takes for eight; processes are real ones, on
the loopback device.
"""

import errno
import json
import os
import threading

import keras
import numpy as np
import pytest

from kerasllm import backend, distribution, pipeline, pretraining
from kerasllm.checks import RunError, UserError
from kerasllm.models import mini_gpt
from kerasllm.pretraining import PretrainedModel, pretrain
from tests import interruptions, several_devices
from tests.forked import start, start_two
from tests.several_devices import (
    BATCH_SIZE,
    LENGTH,
    MINI_GPT,
    STEPS,
    dataset,
)

on_jax = pytest.mark.skipif(
    keras.config.backend() != "jax", reason="several devices need JAX"
)


def run(name, *arguments, **options):
    status, out, err = start(name, *arguments, **options).finish()
    assert status == 0, err
    return out


def run_two(name, *arguments):
    """Run a program as two processes; return status, stdout and stderr."""
    return [process.finish() for process in start_two(name, arguments)]


def losses(history):
    return [[epoch["loss"], epoch["val_loss"]] for epoch in history]


def assert_same(history, expected):
    np.testing.assert_allclose(losses(history), losses(expected), atol=1e-4)
    assert len(expected) == several_devices.EPOCHS
    assert history[0].keys() == expected[0].keys()


# --- Eight devices -----------------------------------------------------------


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    out = tmp_path_factory.mktemp("eight")
    run("eight_devices", out, devices=8)
    return json.loads((out / "result.json").read_text())


class TestEightDevices:
    pytestmark = pytest.mark.once  # a program chooses its backend

    @pytest.mark.parametrize("how", ["data", "both"])
    def test_losses_are_those_of_one_device(self, eight, how):
        assert eight["devices"] == 8
        assert_same(eight[how], eight["one"])
        # They would also be equal if nothing were learned.
        assert eight["one"][0]["loss"] - eight["one"][1]["val_loss"] > 0.3

    def test_a_checkpoint_moves_between_numbers_of_devices(self, eight):
        assert_same(eight["moved"], eight["one"])
        assert_same(eight["back"], eight["one"])

    def test_weights_are_divided_as_the_layout_says(self, eight):
        def parts(name):
            found = [v for k, v in eight["parts"].items() if k.endswith(name)]
            return found[0]

        assert parts("/embeddings") == [[64, 32], [16, 32]]
        assert parts("query/kernel") == [[32, 4, 8], [32, 1, 8]]
        assert parts("value/bias") == [[4, 8], [1, 8]]
        assert parts("attention_output/kernel") == [[4, 8, 32], [1, 8, 32]]
        assert parts("attention_output/bias") == [[32], [32]]
        assert parts("feed_forward_1/kernel") == [[32, 64], [32, 16]]
        assert parts("feed_forward_1/bias") == [[64], [16]]
        assert parts("feed_forward_2/kernel") == [[64, 32], [16, 32]]
        assert parts("feed_forward_2/bias") == [[32], [32]]

    def test_devices_send_gradients_and_nothing_else(self, eight):
        # One token table serves at both ends of the model, and XLA sums its
        # two gradients one by one. The last two numbers are loss and accuracy.
        table = MINI_GPT[0] * MINI_GPT[2]
        assert eight["sent"] == {"all-reduce": eight["weights"] + table + 2}
        # With the loss in chunks, the table's at that end for each of them.
        assert eight["sent_in_chunks"] == {
            "all-reduce": eight["weights"] + 2,
            "all-reduce in a loop": table,
        }

    def test_groups_send_activations(self, eight):
        # Forwards a sum after the attention and one after the feed-forward
        # layer; backwards one before each of the four products they begin
        # with; and one at each end of the model.
        hidden, layers = MINI_GPT[2], 2
        tokens = BATCH_SIZE * LENGTH
        most = (6 * layers + 2) * tokens * hidden
        sent = eight["sent_by_groups"]
        assert most < sum(sent.values()) < 1.1 * most

    def test_the_distribution_is_set_back(self, eight):
        assert eight["current"] == "None"

    def test_what_does_not_fit_is_refused_early(self, eight):
        expected = [
            "must be built on the devices that train it.*scope",
            "must be built on the devices that train it.*on cpu:0. Build",
            "a multiple of 8. Received: batches of 6 sequences",
            "Received: batches of different sizes",
            "`model_devices` must divide.*Received: model_devices=3, with 8",
            "int in \\[1, 8\\].*Received: devices=9",
        ]
        for message, pattern in zip(eight["messages"], expected, strict=True):
            with pytest.raises(ValueError, match=pattern):
                raise ValueError(message)

    def test_gemma_is_divided_too(self, tmp_path):
        run("gemma", tmp_path / "result.json", devices=4)
        result = json.loads((tmp_path / "result.json").read_text())
        np.testing.assert_allclose(
            result["divided"][0]["loss"], result["one"][0]["loss"], atol=1e-4
        )
        parts = result["parts"]
        block = "decoder_block_0/attention"
        assert parts["token_embedding/embeddings"][1][0] == 2048 // 4
        assert parts[f"{block}/query/kernel"][1][0] == 1  # of 4 heads
        whole, part = parts[f"{block}/key/kernel"]
        assert whole == part  # two heads do not divide among four devices


# --- Several processes -------------------------------------------------------


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The run of one process, for comparison."""
    return several_devices.train(tmp_path_factory.mktemp("one"))


@on_jax
class TestTwoProcesses:
    pytestmark = pytest.mark.once  # a program chooses its backend

    @pytest.mark.parametrize("how", ["data", "model"])
    def test_losses_are_those_of_one_process(self, tmp_path, one, how):
        for status, _, err in run_two("one_of_several", tmp_path, how):
            assert status == 0, err
        for index in (0, 1):
            path = tmp_path / f"history{index}.json"
            assert_same(json.loads(path.read_text()), one[0])
        # One process reads what both have written: nothing is left to do.
        history, model = several_devices.train(tmp_path / "run")
        assert history == json.loads((tmp_path / "history0.json").read_text())
        for index in (0, 1):
            with np.load(tmp_path / f"weights{index}.npz") as weights:
                for ours, theirs in zip(
                    model.get_weights(), weights.values(), strict=True
                ):
                    np.testing.assert_array_equal(ours, theirs)

    def test_killed_at_any_moment_it_ends_as_if_unbroken(self, tmp_path):
        moments = interruptions.check(tmp_path, kills=1, seed=1, steps=20)
        assert max(moments) > 0  # some of them came in the midst of it

    def test_ctrl_c_stops_all_at_the_next_checkpoint(self, tmp_path):
        for status, out, err in run_two("interrupted", tmp_path):
            assert status == 0, err
            assert "Interrupted after step 4. The state is saved" in out

    def test_only_the_first_writes_and_all_must_read(self, tmp_path):
        for status, out, err in run_two("apart", tmp_path):
            assert status == 0, err
            assert "All processes must see the folder" in out
            assert "process 1 does not see a file of process 0" in out
            assert "go on from the same checkpoint" in out
            assert "checkpoints after steps [5, 0]" in out
        assert list((tmp_path / "0").iterdir()) == []
        assert not (tmp_path / "1").exists()
        assert {path.name for path in (tmp_path / "shared").iterdir()} == {
            "checkpoint.npz",
            "history.csv",
        }

    def test_the_command_line(self, tmp_path):
        text = tmp_path / "text"
        text.mkdir()
        for shard in range(2):
            lines = [f"Document {shard} {n} says {n + 1}." for n in range(90)]
            (text / f"{shard}.txt").write_text("\n".join(lines))
        command = ["command", "pretrain", "--recipe", "tiny"]
        command += ["--data", text, "--sample", "Document"]
        first, second = run_two(*command, "--out", tmp_path / "two")
        assert first[0] == second[0] == 0, first[2] + second[2]
        assert "on 2 devices in 2 processes" in first[1]
        assert first[1].count("\nEpoch 2: Document") == 1
        assert "Recipe" not in second[1]
        assert "Epoch" not in second[1]
        # One process that is told of two streams reads the same batches.
        two = PretrainedModel.load(tmp_path / "two")
        assert two.record["streams"] == 2
        (tmp_path / "one").mkdir()
        claim = {
            key: two.record[key]
            for key in ("recipe", "data", "seed", "streams")
        }
        (tmp_path / "one" / "run.json").write_text(json.dumps(claim))
        run(*command, "--out", tmp_path / "one")
        alone = PretrainedModel.load(tmp_path / "one")
        assert_same(two.record["history"], alone.record["history"])
        x = np.arange(LENGTH)[None]
        np.testing.assert_allclose(
            two.model.predict(x, verbose=0),
            alone.model.predict(x, verbose=0),
            atol=1e-3,
        )

    @pytest.mark.parametrize("index", [0, 1])
    def test_an_error_in_one_process_ends_the_other(self, index):
        results = run_two("failing", index)
        status, _, err = results[1 - index]
        assert status == 1
        assert f"Received: an error in process {index}" in err
        assert results[index][0] == 0

    @pytest.mark.parametrize("what", ["folder", "checkpoint", "model"])
    def test_what_the_first_cannot_write_ends_both(self, tmp_path, what):
        lines = [f"Document {n} says {n + 1}." for n in range(180)]
        (tmp_path / "file").write_text("\n".join(lines))
        first, second = run_two("full", tmp_path, what)
        assert first[0] == 1, first[2]
        assert second[0] in (1, 2), second[2]  # it is 2 on the command line
        expected = {
            "folder": "must be a folder that can be written to",
            "checkpoint": "A checkpoint must be written, after step 6",
            "model": os.strerror(errno.ENOSPC),
        }
        assert expected[what] in first[2]
        assert "Received: an error in process 0" in second[2]
        if what == "checkpoint":
            with np.load(tmp_path / "checkpoint.npz") as file:
                assert json.loads(str(file["progress"]))["step"] == STEPS


# --- One device, and backends that have no more ------------------------------


@pytest.mark.skipif(keras.config.backend() == "jax", reason="JAX can")
@pytest.mark.parametrize(
    "function",
    [
        distribution.data_parallel,
        lambda: distribution.data_parallel(2),
        lambda: distribution.model_parallel(2),
        distribution.initialize,
    ],
)
def test_other_backends_say_what_to_do(function):
    with pytest.raises(UserError, match="jax only.*Set KERAS_BACKEND=jax"):
        function()


@pytest.mark.any_backend
def test_a_run_goes_on_with_processes_that_divide_its_streams(tmp_path):
    identity = {"recipe": 1, "data": ["a"], "seed": 0}
    assert pretraining.claim(tmp_path, identity, 4) == 4
    assert pretraining.claim(tmp_path, identity, 2) == 4
    with pytest.raises(RuntimeError, match="it began with, 4. Received: 3"):
        pretraining.claim(tmp_path, identity, 3)


@pytest.mark.any_backend
def test_a_folder_is_kept_for_one_run_in_nested_blocks(tmp_path):
    pytest.importorskip("fcntl", reason="no locks here")
    refused = []

    def enter():
        try:
            with distribution.only_run_in(tmp_path):
                refused.append(False)
        except RunError:
            refused.append(True)

    def enter_from_another_thread():
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()

    with distribution.only_run_in(tmp_path):
        enter()  # its own
        enter_from_another_thread()
    enter_from_another_thread()
    assert refused == [False, True, False]


@pytest.mark.any_backend
def test_streams_are_joined_batch_by_batch():
    parts = [dataset(3, share, 2) for share in (0, 1)]
    joined = list(pipeline.side_by_side(parts).as_numpy_iterator())
    for ours, whole in zip(joined, dataset(3), strict=True):
        np.testing.assert_array_equal(ours[0], whole[0])
        np.testing.assert_array_equal(ours[1], whole[1])


@on_jax
def test_processes_meet_as_soon_as_they_are_initialized(monkeypatch):
    calls = []
    monkeypatch.setattr(
        keras.distribution, "initialize", lambda *where: calls.append(where)
    )
    monkeypatch.setattr(backend, "of_all_processes", calls.append)
    distribution.initialize("127.0.0.1:1", 2, 0)
    assert calls == [("127.0.0.1:1", 2, 0), False]


@on_jax
@pytest.mark.parametrize("devices", [0, 2, "all", 1.0, True])
def test_devices_must_be_there(devices):
    with pytest.raises(UserError, match=r'"auto" or an int in \[1, 1\]'):
        distribution.data_parallel(devices)


@on_jax
def test_numpys_numbers_count_devices():
    how = distribution.data_parallel(np.int64(1))
    assert how.device_mesh.devices.size == 1


@on_jax
def test_one_device_may_be_a_distribution(tmp_path):
    how = distribution.data_parallel()
    with how.scope():
        model = mini_gpt(*MINI_GPT, num_layers=1)
        history = pretrain(
            model,
            dataset(),
            directory=tmp_path,
            epochs=1,
            steps_per_epoch=1,
            verbose=0,
        )
        assert keras.distribution.distribution() is how
    assert history[0]["step"] == 1
    assert keras.distribution.distribution() is None


@on_jax
@pytest.mark.parametrize(
    ("arguments", "flags", "expected"),
    [
        (["auto", 3, 8, False], "", 2),  # three cannot share eight sequences
        (["auto", 64, 8, False], "", 4),  # no more than that unasked
        (["8", 64, 8, False], "", 8),
        (["auto", 64, 8, True], "", 1),
        (
            ["auto", 64, 8, False],
            "--xla_force_host_platform_device_count=2",
            2,
        ),
    ],
)
def test_cores_of_a_cpu_share_a_batch(arguments, flags, expected):
    assert int(run("cores", *arguments, flags=flags)) == expected


@pytest.mark.any_backend
def test_a_container_has_the_cores_of_its_quota(tmp_path, monkeypatch):
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(backend._devices, "CPU_QUOTA", quota)
    counts = []
    for text in ("max 100000", "100000 100000", "50000 100000", "nonsense"):
        quota.write_text(text + "\n")
        counts.append(backend.num_cores())
    quota.unlink()
    cores = backend.num_cores()
    assert counts == [cores, 1, 1, cores]


@pytest.mark.any_backend  # a file goes through all in test_models.py
@pytest.mark.slow
def test_another_backend_reads_what_eight_devices_wrote(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"Line {n} says {n + 1}." for n in range(150)))
    run(
        *("command", "pretrain", "--recipe", "tiny8", "--devices", "auto"),
        *("--data", text, "--out", tmp_path / "model"),
        devices=8,
    )
    trained = PretrainedModel.load(tmp_path / "model")
    x = np.arange(LENGTH)[None]
    logits = trained.model.predict(x, verbose=0)
    assert logits.shape == (1, LENGTH, trained.tokenizer.vocabulary_size())
    assert np.isfinite(logits).all()
    # What it knows is there: a model that knows nothing would say log(300).
    assert trained.record["history"][-1]["val_loss"] < np.log(300) - 0.5
    assert trained.generator().generate("Line 1", max_length=12)
