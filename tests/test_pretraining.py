"""Training runs that are broken off, and go on as if they had not been."""

import csv
import dataclasses
import gc
import json
import math
import os
import re
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kerasllm import backend, files, pretraining, tokenizers
from kerasllm.checkpoints import (
    CHECKPOINT_FILE,
    HISTORY_FILE,
    Checkpoint,
    TrainingInterrupted,
    describe_batch,
)
from kerasllm.lora import changing_variables, enable_lora
from kerasllm.models import mini_gpt
from kerasllm.pretraining import PretrainedModel, pretrain, pretrain_mini_gpt
from kerasllm.schedules import WarmupSchedule
from tests.recipes import TINY

EPOCHS, STEPS = 2, 5


@pytest.fixture(autouse=True)
def no_iterators_left():
    """A killed run leaves a `tf.data` iterator in a cycle.

    One that has lived long may wait for its autotuner for up to a minute when
    it is destroyed, in whichever test that happens.
    """
    yield
    gc.collect()


def saved_progress(path):
    with np.load(path) as file:
        return json.loads(str(file["progress"]))


class Killed(BaseException):
    """Stands for a kill: nothing in the library catches it."""


class KillAt(keras.callbacks.Callback):
    def __init__(self, step, how):
        super().__init__()
        self.step = step
        self.how = how

    def on_train_batch_end(self, batch, logs=None):
        self.step -= 1
        if self.step == 0:
            self.how()


def kill():
    raise Killed


def dataset(batches=12):
    """Windows in which each token is its predecessor plus one."""
    starts = np.random.default_rng(0).integers(0, 20, (batches * 4, 1))
    tokens = (starts + np.arange(9)) % 20
    windows = tf.data.Dataset.from_tensor_slices(tokens.astype("int32"))
    windows = windows.map(lambda w: (w[:-1], w[1:]))
    return windows.batch(4, drop_remainder=True)


def model(seed=1):
    keras.utils.set_random_seed(seed)
    return mini_gpt(20, 8, 16, 16, 2, num_layers=1, dropout=0.2)


def in_dtype(policy, build):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return build()
    finally:
        keras.config.set_dtype_policy(before)


def train(directory, model_, **changes):
    arguments = {
        "train_dataset": dataset(),
        "validation_dataset": dataset(2),
        "directory": directory,
        "epochs": EPOCHS,
        "steps_per_epoch": STEPS,
        "learning_rate": 1e-2,
        "checkpoint_steps": 2,
        "verbose": 0,
    }
    return pretrain(model_, **arguments | changes)


def without_speed(history):
    return [
        [value for key, value in row.items() if key != "tokens_per_second"]
        for row in history
    ]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    net = model()
    history = train(tmp_path_factory.mktemp("unbroken"), net)
    return history, net.get_weights()


def test_the_loss_falls_and_the_log_says_so(tmp_path):
    net = model()
    history = train(tmp_path, net, steps_per_epoch=20)
    assert history[-1]["val_loss"] < history[0]["loss"] < math.log(20) + 0.5
    with open(tmp_path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == [
        row["val_loss"] for row in history
    ]
    for row in history:
        assert row["perplexity"] == pytest.approx(math.exp(row["loss"]))
        assert row["val_perplexity"] == pytest.approx(math.exp(row["val_loss"]))
        assert row["tokens_per_second"] > 0


def test_the_history_is_what_keras_measures_on_the_validation_data(unbroken):
    history, weights = unbroken
    net = model()
    net.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    net.set_weights(weights)
    loss, accuracy = net.evaluate(dataset(2), verbose=0)
    assert history[-1]["val_loss"] == pytest.approx(loss, abs=1e-5)
    assert history[-1]["val_accuracy"] == pytest.approx(accuracy, abs=1e-6)


def test_a_loss_in_chunks_leaves_the_run_as_it_is(tmp_path, unbroken):
    """Even one that goes on from a checkpoint of the other kind."""
    net = model()
    stop = KillAt(7, kill)
    with pytest.raises(Killed):
        train(tmp_path, net, loss_chunks=3, callbacks=[stop])
    net = model(seed=2)
    history = train(tmp_path, net)
    for ours, theirs in zip(
        without_speed(history), without_speed(unbroken[0]), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    # Adam makes much of rounding where a gradient is zero, as for the biases
    # of the keys.
    for ours, theirs in zip(net.get_weights(), unbroken[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_gradients_of_small_batches_add_up_to_those_of_large_ones():
    learnt = []
    for size, steps in ((4, 2), (8, None)):
        keras.utils.set_random_seed(1)
        net = mini_gpt(20, 8, 16, 16, 2, num_layers=1, dropout=0.0)
        pretrain(
            net,
            dataset().unbatch().batch(size, drop_remainder=True),
            directory=None,
            epochs=1,
            steps_per_epoch=24 // size,
            learning_rate=1e-2,
            gradient_accumulation_steps=steps,
            verbose=0,
        )
        learnt.append(net.get_weights())
    for ours, theirs in zip(*learnt, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("steps", [2, 3])
def test_a_warmup_counts_updates_not_small_batches(steps):
    """So it ends after as many rows, and not before the large batches' one."""
    rows, losses, logits = 12, [], []
    for size, together in ((rows // steps, steps), (rows, None)):
        keras.utils.set_random_seed(1)
        net = mini_gpt(20, 8, 16, 16, 2, num_layers=1, dropout=0.0)
        history = pretrain(
            net,
            dataset(18).unbatch().batch(size, drop_remainder=True),
            dataset(2),
            directory=None,
            epochs=1,
            steps_per_epoch=72 // size,
            learning_rate=WarmupSchedule(1e-2, 6),
            gradient_accumulation_steps=together,
            verbose=0,
        )
        # The training loss is one of other moments: of each small batch.
        losses.append(history[0]["val_loss"])
        logits.append(net.predict(np.arange(8)[None], verbose=0))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    np.testing.assert_allclose(*logits, atol=1e-5)


# Between two checkpoints, in the first epoch and the second; before the first
# checkpoint; at one; at the end of an epoch; at the very last batch.
SLOW = [
    pytest.param(step, marks=[pytest.mark.slow, pytest.mark.any_backend])
    for step in (1, 3, 4, 10)
]


@pytest.mark.parametrize(
    "step", [8, pytest.param(5, marks=pytest.mark.slow), *SLOW]
)
def test_a_killed_run_ends_where_the_unbroken_one_does(
    tmp_path, unbroken, step
):
    with pytest.raises(Killed):
        train(tmp_path, model(), callbacks=[KillAt(step, kill)])
    net = model(seed=99)  # what the new process starts from must not matter
    if step == 1:  # nothing was saved yet, so the seed decides
        net = model()
    history = train(tmp_path, net)
    expected_history, expected_weights = unbroken
    np.testing.assert_allclose(
        without_speed(history), without_speed(expected_history), atol=1e-5
    )
    for ours, theirs in zip(net.get_weights(), expected_weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    with open(tmp_path / "history.csv") as file:
        assert len(list(csv.DictReader(file))) == EPOCHS


@pytest.mark.any_backend
def test_what_a_kill_left_behind_is_removed(tmp_path):
    for name in (CHECKPOINT_FILE, HISTORY_FILE, "sign"):
        (tmp_path / f".{name}.x1_y2z3a.partial").write_bytes(b"half a file")
    other = tmp_path / ".notes.txt.x1_y2z3a.partial"
    other.write_text("not ours")
    train(tmp_path, model(), epochs=1, steps_per_epoch=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        other.name,
        CHECKPOINT_FILE,
        HISTORY_FILE,
    ]


def test_two_kills_in_one_epoch_lose_no_average(tmp_path):
    """Nor do batches count alike that are not: the last one has one row."""
    data = dataset().unbatch().take(STEPS * 4 - 3).batch(4)
    arguments = {"train_dataset": data, "checkpoint_steps": 1}
    unbroken = train(None, model(), **arguments)
    for _ in range(2):
        with pytest.raises(Killed):
            train(tmp_path, model(), callbacks=[KillAt(2, kill)], **arguments)
    history = train(tmp_path, model(seed=99), **arguments)
    np.testing.assert_allclose(
        without_speed(history), without_speed(unbroken), atol=1e-6
    )


@pytest.mark.any_backend
@pytest.mark.slow
def test_a_kill_while_saving_leaves_the_checkpoint_before(
    tmp_path, unbroken, monkeypatch
):
    real, calls = np.savez, []

    def savez(file, **arrays):
        calls.append(file)
        if len(calls) == 3:
            file.write(b"half a file")
            raise Killed
        real(file, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr("numpy.savez", savez)
        with pytest.raises(Killed):
            train(tmp_path, model())
    history = train(tmp_path, model(seed=99))
    np.testing.assert_allclose(
        without_speed(history), without_speed(unbroken[0]), atol=1e-5
    )


def test_ctrl_c_saves_and_the_same_call_goes_on(tmp_path, unbroken):
    def ctrl_c():
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    validated = []
    count = keras.callbacks.LambdaCallback()
    count.on_test_batch_end = lambda batch, logs=None: validated.append(batch)
    with pytest.raises(TrainingInterrupted, match="after step 4.*goes on"):
        train(
            tmp_path,
            model(),
            callbacks=[KillAt(3, ctrl_c), count],
            checkpoint_steps=1000,
        )
    assert len(validated) < 2  # it does not validate at leisure
    assert signal.getsignal(signal.SIGINT) is before
    assert saved_progress(tmp_path / CHECKPOINT_FILE)["step"] == 4
    history = train(tmp_path, model(seed=99))
    np.testing.assert_allclose(
        without_speed(history), without_speed(unbroken[0]), atol=1e-5
    )


@pytest.mark.any_backend
def test_without_a_directory_nothing_is_kept(tmp_path, unbroken, monkeypatch):
    monkeypatch.chdir(tmp_path)
    history = train(None, model())
    np.testing.assert_allclose(
        without_speed(history), without_speed(unbroken[0]), atol=1e-5
    )

    def ctrl_c():
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingInterrupted, match="Nothing was saved"):
        train(None, model(), callbacks=[KillAt(2, ctrl_c)])
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_is_not_trained_again(tmp_path, unbroken):
    train(tmp_path, model())
    net = model(seed=99)
    history = train(tmp_path, net, callbacks=[KillAt(1, kill)])
    assert len(history) == EPOCHS
    np.testing.assert_allclose(net.get_weights()[0], unbroken[1][0], atol=1e-5)


@pytest.mark.any_backend
def test_a_callback_ends_a_run_that_was_resumed(tmp_path):
    """Also at the end of the epoch that had been broken off."""
    with pytest.raises(Killed):
        train(tmp_path, model(), epochs=3, callbacks=[KillAt(7, kill)])

    class Enough(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    history = train(tmp_path, model(), epochs=3, callbacks=[Enough()])
    assert [row["epoch"] for row in history] == [1, 2]


@pytest.mark.any_backend
def test_a_run_may_be_validated_later(tmp_path):
    train(tmp_path, model(), epochs=1, validation_dataset=None)
    train(tmp_path, model())
    with open(tmp_path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["val_loss"] == "" and float(rows[1]["val_loss"]) > 0


def test_weights_of_any_dtype_come_back(tmp_path):
    net = in_dtype("bfloat16", model)
    again = in_dtype("bfloat16", lambda: model(seed=2))
    history = train(tmp_path, net)
    assert train(tmp_path, again) == history
    for ours, theirs in zip(again.weights, net.weights, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(
            *(
                ops.convert_to_numpy(ops.cast(v, "float32"))
                for v in (ours, theirs)
            )
        )


class Jump(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is far too large from one step on."""

    def __init__(self, step, learning_rate):
        self.step = step
        self.learning_rate = learning_rate

    def __call__(self, iterations):
        is_before = ops.cast(iterations, "float32") < self.step - 1
        return ops.where(is_before, 1e-2, self.learning_rate)


def sample_nothing(model):
    raise ValueError("There is nothing to sample from.")


# After a step with 1e30 the weights are finite, what they compute is not.
@pytest.mark.parametrize(
    "jump, checkpoint_steps, validates, found, kept",
    [
        pytest.param((3, 1e30), 2, True, 4, 2, id="the loss"),
        pytest.param((3, math.inf), 1, True, 3, 2, id="the weights"),
        pytest.param((5, math.inf), 2, False, 5, 4, id="at the epoch's end"),
        pytest.param((5, 1e30), 2, True, 5, 4, id="the validation's loss"),
    ],
)
def test_divergence_stops_the_run_and_keeps_the_last_good_state(
    tmp_path, jump, checkpoint_steps, validates, found, kept
):
    changes = {} if validates else {"validation_dataset": None}
    with pytest.raises(
        FloatingPointError, match=f"at step {found}. The last good checkpoint"
    ):
        train(
            tmp_path,
            model(),
            learning_rate=Jump(*jump),
            checkpoint_steps=checkpoint_steps,
            sample=sample_nothing,
            **changes,
        )
    net = model(seed=99)
    net.compile(
        keras.optimizers.Adam(Jump(*jump)),  # a schedule is no variable
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    net.optimizer.build(net.trainable_variables)
    saved = Checkpoint(tmp_path, STEPS, 1)
    saved.restore(net)
    assert saved.step == kept
    with np.load(tmp_path / CHECKPOINT_FILE) as file:  # a sum, and of how many
        before = file["metric00000"] / file["metric00001"]
    assert net.evaluate(dataset(), verbose=0) == pytest.approx(before, abs=0.3)


def test_a_run_that_diverges_at_once_leaves_no_checkpoint(tmp_path):
    with pytest.raises(FloatingPointError, match="There is no checkpoint"):
        train(
            tmp_path,
            model(),
            learning_rate=math.inf,
            steps_per_epoch=1,
            validation_dataset=None,
        )
    assert not (tmp_path / CHECKPOINT_FILE).exists()


def test_the_learning_rate_is_the_callers(tmp_path):
    """A number or a schedule, whatever the run had before."""
    for epochs, (rate, expected) in enumerate(
        [
            (1e-2, 1e-2),
            (1e-4, 1e-4),
            (WarmupSchedule(1e-3, 0), 1e-3),
            (1e-5, 1e-5),
        ],
        start=1,
    ):
        net = model(seed=epochs)
        history = train(tmp_path, net, epochs=epochs, learning_rate=rate)
        assert len(history) == epochs
        assert float(net.optimizer.learning_rate) == pytest.approx(expected)
        assert int(net.optimizer.iterations) == epochs * STEPS


def test_a_lower_rate_cures_divergence_in_the_same_directory(tmp_path):
    train(tmp_path, model(), epochs=1)
    many = {"checkpoint_steps": 1000}  # the next one would be too late
    with pytest.raises(FloatingPointError, match="use float32.$"):
        train(tmp_path, model(), learning_rate=1e30, **many)
    history = train(tmp_path, model(), learning_rate=1e-3, **many)
    assert [row["step"] for row in history] == [STEPS, 2 * STEPS]
    assert history[1]["loss"] < history[0]["loss"]


@pytest.mark.any_backend
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, unbroken):
    resource = pytest.importorskip("resource", reason="a limit of POSIX")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():  # from now on no file may be longer than a kilobyte
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))

    try:
        with pytest.raises(OSError, match="step 4.*Make room.*goes on"):
            train(tmp_path, model(), callbacks=[KillAt(3, fill)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert saved_progress(tmp_path / CHECKPOINT_FILE)["step"] == 2
    history = train(tmp_path, model(seed=99))
    np.testing.assert_allclose(
        without_speed(history), without_speed(unbroken[0]), atol=1e-5
    )


def test_where_nothing_can_be_written_nothing_is_trained(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for place in (tmp_path / "file", "/proc/self"):
        with pytest.raises(OSError, match="folder that can be written to"):
            train(place, model(), callbacks=[KillAt(1, kill)])


@pytest.mark.parametrize("share", [0, 0.1, 0.9])
def test_a_checkpoint_cut_short_is_refused(tmp_path, share):
    train(tmp_path, model())
    path = tmp_path / CHECKPOINT_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(RuntimeError, match="must be whole.*delete it"):
        train(tmp_path, model(), callbacks=[KillAt(1, kill)])
    path.write_bytes(whole)
    assert len(train(tmp_path, model())) == EPOCHS


@pytest.mark.any_backend
def test_a_run_goes_on_with_its_own_data_only(tmp_path):
    """Otherwise it would skip as many batches of the others."""
    first = dataset()
    train(tmp_path, model(), train_dataset=first, steps_per_epoch=None)
    rows = first.unbatch()
    others = {
        "(?s)same shape, but other tokens.*`seed`": (
            rows.map(lambda x, y: ((x + 1) % 20, y)).batch(4)
        ),
        r"the shape \[2, 8\], not \[4, 8\]": rows.batch(2),
    }
    for message, other in others.items():
        for steps in (STEPS, None):  # the data are the reason, not the steps
            with pytest.raises(RuntimeError, match=message):
                train(
                    tmp_path,
                    model(),
                    train_dataset=other,
                    steps_per_epoch=steps,
                    callbacks=[KillAt(1, kill)],
                )
    history = train(
        tmp_path, model(), train_dataset=first, steps_per_epoch=None
    )
    assert len(history) == EPOCHS  # the refused calls have changed nothing
    longer = first.concatenate(dataset(2))
    with pytest.raises(RuntimeError, match="the data or `epochs` are others"):
        train(tmp_path, model(), train_dataset=longer, steps_per_epoch=None)


@pytest.mark.any_backend
def test_data_that_are_shuffled_must_come_in_the_same_order(tmp_path):
    def shuffled(**options):
        data = dataset().unbatch().shuffle(48, **options)
        return data.batch(4)

    steady = shuffled(seed=3, reshuffle_each_iteration=False)
    train(tmp_path, model(), train_dataset=steady, epochs=1)
    assert len(train(tmp_path, model(), train_dataset=steady)) == EPOCHS
    with pytest.raises(RuntimeError, match="in the same order.*a `seed` and"):
        train(tmp_path, model(), train_dataset=shuffled())


def test_a_batch_is_the_same_whoever_reads_it(tmp_path):
    """Begun by two processes, a run goes on with one, and the other way."""
    ((x, y),) = dataset(1)
    whole, half = describe_batch((x, y)), describe_batch((x[:2], y[:2]), 2)
    for begun, now in ((whole, half), (half, whole)):
        run = Checkpoint(tmp_path, STEPS, 1, now)
        run._check_data({"first_batch": begun})
    with pytest.raises(RuntimeError, match="with the data"):
        run._check_data({"first_batch": describe_batch((x[2:], y[2:]), 2)})
    run._check_data({"first_batch": None})  # of a caller who is trusted


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    train(tmp_path, model())
    other = mini_gpt(20, 8, 32, 16, 2, num_layers=1)
    with pytest.raises(RuntimeError, match="only the model") as caught:
        train(tmp_path, other)
    count = len(model().variables)
    count = count + 2 * len(model().trainable_variables) + 1
    assert f"with {count} variables for {count}; " in str(caught.value)
    assert re.search(
        r"differs, of shape \(20, 16\), is for \S+/embeddings of shape "
        r"\(20, 32\)\. Its dtype is float32, the model's float32\.",
        str(caught.value),
    )
    deeper = mini_gpt(20, 8, 16, 16, 2, num_layers=2)
    with pytest.raises(RuntimeError, match=f"with {count} variables for "):
        train(tmp_path, deeper)
    with pytest.raises(RuntimeError, match="is float32, .*s mixed_float16"):
        train(tmp_path, in_dtype("mixed_float16", model))
    with pytest.raises(RuntimeError, match="steps_per_epoch` that it began"):
        train(tmp_path, model(), steps_per_epoch=STEPS + 1)


@pytest.mark.parametrize("first_version", [False, True])
def test_what_adapters_leave_frozen_need_not_be_saved(tmp_path, first_version):
    """The first version left it out unasked; its files are read, too."""

    def adapted():
        net = model()
        enable_lora(net, rank=2)
        return net

    whole = adapted()
    history = train(None, whole)
    with pytest.raises(Killed):
        stop = KillAt(7, kill)
        train(
            tmp_path,
            adapted(),
            variables=changing_variables,
            callbacks=[stop],
        )
    with np.load(tmp_path / CHECKPOINT_FILE) as file:
        arrays = dict(file)
    sizes = {array.size for array in arrays.values()}
    # The embedding; a query's adapter of rank 2, for two heads.
    assert 20 * 16 not in sizes and 16 * 2 * 2 in sizes
    variables = changing_variables
    if first_version:
        progress = json.loads(str(arrays.pop("progress")))
        del progress["format"]
        np.savez(
            tmp_path / CHECKPOINT_FILE, progress=json.dumps(progress), **arrays
        )
        variables = None
    net = adapted()
    again = train(tmp_path, net, variables=variables)
    np.testing.assert_allclose(
        without_speed(again), without_speed(history), atol=1e-5
    )
    for ours, theirs in zip(
        net.get_weights(), whole.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_sample_is_printed_after_each_epoch(tmp_path, capsys):
    seen = []

    def sample(net):
        seen.append(net.get_weights()[0])
        return "a sample"

    train(tmp_path, model(), sample=sample)
    assert capsys.readouterr().out.count("a sample") == EPOCHS
    assert np.abs(seen[0] - seen[1]).max() > 1e-4  # of the model as it is now


def test_one_pass_is_divided_among_the_epochs(tmp_path):
    train(tmp_path, model(), epochs=3, steps_per_epoch=None)  # 12 batches
    assert saved_progress(tmp_path / CHECKPOINT_FILE)["steps_per_epoch"] == 4


def test_arguments_are_checked_before_training(tmp_path):
    with pytest.raises(ValueError, match="`epochs` must be a positive int"):
        train(tmp_path, model(), epochs=0)
    with pytest.raises(ValueError, match="at least a batch for each epoch"):
        train(tmp_path, model(), epochs=13, steps_per_epoch=None)
    endless = dataset().repeat()
    with pytest.raises(ValueError, match="`steps_per_epoch` must be given"):
        pretrain(model(), endless, directory=tmp_path)
    with pytest.raises(ValueError, match="at least one batch.*empty"):
        pretrain(
            model(), dataset().take(0), directory=tmp_path, steps_per_epoch=1
        )


@pytest.fixture
def shards(tmp_path):
    paths = []
    for i in range(2):
        path = tmp_path / f"shard{i}.txt"
        lines = [
            f"Document {i} {j} says: {j} and {j + 1} are {2 * j + 1}.\\nEnd."
            for j in range(60)
        ]
        path.write_text("\n".join(lines) + "\n")
        paths.append(str(path))
    return paths


def test_from_shards_to_a_directory_and_back(tmp_path, shards):
    (tmp_path / "run").mkdir()
    for name in ("run.json", "vocabulary.spm", "checkpoint.npz"):
        (tmp_path / "run" / f".{name}.a.partial").write_text("left by a kill")
    done = pretrain_mini_gpt(TINY, shards, tmp_path / "run", verbose=0)
    ids = np.arange(16)[None]
    loaded = PretrainedModel.load(tmp_path / "run")
    np.testing.assert_allclose(
        loaded.model.predict(ids, verbose=0),
        done.model.predict(ids, verbose=0),
        atol=1e-6,
    )
    assert loaded.tokenizer.detokenize(loaded.tokenizer("and 1")) == "and 1"
    # What another backend chose about compiling must not come along.
    assert not loaded.model.compiled
    assert loaded.record["parameters"] == done.model.count_params()
    assert [row["epoch"] for row in loaded.record["history"]] == [1, 2]
    assert list((tmp_path / "run").glob(".*")) == []
    # The second call finds the finished run, whatever it is asked to print.
    again = pretrain_mini_gpt(
        TINY, shards, tmp_path / "run", callbacks=[KillAt(1, kill)]
    )
    assert again.record == loaded.record


@pytest.mark.any_backend
def test_divergence_of_a_recipe_needs_another_directory(tmp_path, shards):
    """There a lower rate is another run, and would be refused."""
    hot = dataclasses.replace(TINY, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="in another directory"):
        pretrain_mini_gpt(hot, shards, tmp_path / "run", verbose=0)
    cool = dataclasses.replace(TINY, learning_rate=1e-3)
    with pytest.raises(RuntimeError, match="a run of another recipe"):
        pretrain_mini_gpt(cool, shards, tmp_path / "run", verbose=0)


def test_memory_may_be_saved_from_the_middle_of_a_run_on(tmp_path, shards):
    unbroken = pretrain_mini_gpt(TINY, shards, tmp_path / "one", verbose=0)
    with pytest.raises(Killed):
        stop = KillAt(TINY.steps_per_epoch + 1, kill)
        pretrain_mini_gpt(
            TINY, shards, tmp_path / "two", verbose=0, callbacks=[stop]
        )
    thrifty = dataclasses.replace(TINY, loss_chunks=2, remat=True)
    done = pretrain_mini_gpt(thrifty, shards, tmp_path / "two", verbose=0)
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


def test_a_directory_holds_one_run_only(tmp_path, shards):
    pretraining.claim(tmp_path, {"recipe": 1, "data": ["a"], "seed": 0})
    with pytest.raises(RuntimeError, match="one run only.*data and seed"):
        pretraining.claim(tmp_path, {"recipe": 1, "data": ["b"], "seed": 1})


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
    with pytest.raises(RuntimeError, match="with the vocabulary that it began"):
        pretrain_mini_gpt(TINY, shards, run, verbose=0)

    vocabulary.unlink()  # lost, and trained by another version of the package
    with monkeypatch.context() as patch:
        patch.setattr(tokenizers, "train_sentence_piece", train_on_other)
        with pytest.raises(RuntimeError, match="with the vocabulary that it"):
            pretrain_mini_gpt(TINY, shards, run, verbose=0)

    assert (run / CHECKPOINT_FILE).read_bytes() == checkpoint
    vocabulary.unlink()  # lost, and trained as it was
    done = pretrain_mini_gpt(TINY, shards, run, verbose=0)
    assert vocabulary.read_bytes() == own
    assert done.record["vocabulary"] == files.sha256(vocabulary)


def test_a_run_goes_on_in_the_dtype_that_it_began_with(
    tmp_path, shards, monkeypatch
):
    """As when a notebook gets another GPU on the second day."""
    with pytest.raises(ValueError, match="float17"):
        pretrain_mini_gpt(TINY, shards, tmp_path / "float32", dtype="float17")
    for began, other in (("mixed_float16", "float32"), ("float32", "float16")):
        run = tmp_path / began
        with monkeypatch.context() as patch:
            patch.setattr(
                backend, "best_dtype_policy", lambda began=began: began
            )
            with pytest.raises(Killed):
                stop = KillAt(TINY.steps_per_epoch + 1, kill)
                pretrain_mini_gpt(
                    TINY, shards, run, verbose=0, callbacks=[stop]
                )
            patch.setattr(
                backend, "best_dtype_policy", lambda other=other: other
            )
            done = pretrain_mini_gpt(TINY, shards, run, verbose=0)
        assert done.record["dtype"] == done.model.dtype_policy.name == began


def test_an_unfinished_run_is_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="finished pretraining run"):
        PretrainedModel.load(tmp_path)


SCRIPT = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
from tests.test_pretraining import KillAt, model, train
step = int(sys.argv[3])
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
history = train(sys.argv[2], model(), callbacks=[KillAt(step, kill)])
print(json.dumps(history))
"""


@pytest.mark.slow
def test_a_process_that_is_killed_outright_resumes(tmp_path, unbroken):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    codes = []
    for step in (3, 4, 100):  # counted anew in each process
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT, root, str(tmp_path), str(step)],
            capture_output=True,
            text=True,
        )
        codes.append(result.returncode)
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0], result.stderr
    history = json.loads(result.stdout.splitlines()[-1])
    np.testing.assert_allclose(
        without_speed(history), without_speed(unbroken[0]), atol=1e-5
    )


@pytest.mark.any_backend
def test_a_run_has_no_fewer_epochs_than_it_has_had(tmp_path):
    """A model that was trained for longer is not the one asked for."""
    train(tmp_path, model(), epochs=2)
    train(tmp_path, model(), epochs=2)
    with pytest.raises(RuntimeError, match="begun, 2. Received: epochs=1 for"):
        train(tmp_path, model(), epochs=1)
    assert len(train(tmp_path, model(), epochs=3)) == 3


def test_a_directory_is_the_place_of_one_run_at_a_time(tmp_path):
    with (
        files.locked(tmp_path),
        pytest.raises(RuntimeError, match="one run at a time.*another process"),
    ):
        train(tmp_path, model())
    assert not (tmp_path / CHECKPOINT_FILE).exists()
    train(tmp_path, model())
    assert (tmp_path / CHECKPOINT_FILE).is_file()
