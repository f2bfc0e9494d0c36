"""`pretrain`: what is learned, measured, logged and checked."""

import csv
import math
import warnings

import keras
import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.models import mini_gpt
from kerasllm.pretraining import pretrain
from kerasllm.schedules import WarmupSchedule
from kerasllm.training import CHECKPOINT_FILE
from tests.training.small_runs import (
    EPOCHS,
    STEPS,
    KillAt,
    Killed,
    dataset,
    kill,
    model,
    saved_progress,
    train,
    without_speed,
)


@pytest.mark.any_backend
def test_the_loss_falls_and_the_log_says_so(tmp_path):
    net = model()
    history = train(tmp_path, net, steps_per_epoch=20)
    assert history[-1]["val_loss"] < history[0]["loss"] < math.log(20) + 0.5
    with open(tmp_path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == [
        epoch["val_loss"] for epoch in history
    ]
    for epoch in history:
        for name in ("", "val_"):
            perplexity = math.exp(epoch[f"{name}loss"])
            assert epoch[f"{name}perplexity"] == pytest.approx(perplexity)
        assert epoch["tokens_per_second"] > 0


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


@pytest.mark.any_backend
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


@pytest.mark.any_backend  # what follows from it is tested on each
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


@pytest.mark.parametrize(
    "steps", [2, pytest.param(3, marks=pytest.mark.any_backend)]
)
def test_a_warmup_counts_updates_not_small_batches(steps):
    """So it ends after as many sequences as with large batches."""
    size_of_all, losses, logits = 12, [], []
    for size, together in (
        (size_of_all // steps, steps),
        (size_of_all, None),
    ):
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


@pytest.mark.any_backend
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


def test_a_sample_is_printed_after_each_epoch(tmp_path, capsys):
    seen = []

    def sample(net):
        seen.append(net.get_weights()[0])
        return "a sample"

    train(tmp_path, model(), sample=sample)
    assert capsys.readouterr().out.count("a sample") == EPOCHS
    assert np.abs(seen[0] - seen[1]).max() > 1e-4  # of the model as it is now


@pytest.mark.any_backend
def test_an_epoch_is_one_pass(tmp_path):
    history = train(tmp_path, model(), epochs=2, steps_per_epoch=None)
    assert [epoch["step"] for epoch in history] == [12, 24]  # 12 batches


@pytest.mark.any_backend
def test_defaults_warm_up_within_the_run(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "kerasllm.pretraining._pretrain.resumable_fit",
        lambda model, *args, **kwargs: seen.append(model.optimizer),
    )
    pretrain(model(), dataset(), directory=tmp_path, epochs=10)  # 120 steps
    pretrain(model(), dataset(), directory=tmp_path, epochs=10,
             gradient_accumulation_steps=2)  # fmt: skip
    configs = [optimizer.get_config()["learning_rate"] for optimizer in seen]
    plain, accumulated = (config["config"] for config in configs)
    assert plain == {"rate": 2e-3, "warmup_steps": 12}
    assert accumulated["schedule"]["config"]["warmup_steps"] == 6


@pytest.mark.any_backend
@pytest.mark.parametrize(("epochs", "times"), [(1, 1), (2, 0)])
def test_a_warmup_that_outlasts_the_run_is_told_once(tmp_path, epochs, times):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(
            tmp_path,
            model(),
            epochs=epochs,
            steps_per_epoch=3,
            learning_rate=WarmupSchedule(1e-3, 6),
        )
    told = [str(w.message) for w in caught if "warmup" in str(w.message)]
    assert len(told) == times
    for message in told:
        assert "takes 6 steps, but the run has 3: " in message
        assert "never exceeds 0.0005" in message
        assert "`WarmupSchedule(0.001, warmup_steps=0)`" in message


@pytest.mark.any_backend
def test_arguments_are_checked_before_training(tmp_path):
    with pytest.raises(UserError, match="`epochs` must be a positive int"):
        train(tmp_path, model(), epochs=0)
    for rate in ("fast", -1e-3, 0, math.nan, 1e39, True):
        with pytest.raises(UserError, match="`learning_rate` must be positive"):
            train(tmp_path, model(), learning_rate=rate)
    for name in ("sample", "variables"):
        with pytest.raises(UserError, match=f"`{name}` must be a function"):
            train(tmp_path, model(), **{name: "The"})
    endless = dataset().repeat()
    with pytest.raises(UserError, match="`steps_per_epoch` must be given"):
        pretrain(model(), endless, directory=tmp_path)
    with pytest.raises(UserError, match="at least one batch.*empty"):
        pretrain(
            model(), dataset().take(0), directory=tmp_path, steps_per_epoch=1
        )


@pytest.mark.any_backend
def test_numpy_ints_count_like_pythons_and_booleans_do_not(tmp_path):
    steps = {"steps_per_epoch": np.int64(2), "checkpoint_steps": np.int32(1)}
    history = train(tmp_path, model(), epochs=np.int64(1), **steps)
    assert [epoch["step"] for epoch in history] == [2]
    saved = saved_progress(tmp_path / CHECKPOINT_FILE)
    assert (saved["step"], saved["steps_per_epoch"]) == (2, 2)
    for name in ("epochs", "validation_steps", "loss_chunks"):
        for wrong in (True, 0, 1.5):
            with pytest.raises(UserError, match=f"`{name}` must be a posit"):
                train(None, model(), **{name: wrong})
    with pytest.raises(UserError, match="steps` must be an int of at least 2"):
        train(None, model(), gradient_accumulation_steps=True)
