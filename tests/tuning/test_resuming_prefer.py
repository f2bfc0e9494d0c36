"""Rounds that go on after an interruption, and runs that are refused."""

import dataclasses
import json

import numpy as np
import pytest
from keras import ops

from kerasllm import lora, training
from kerasllm.checks import RunError, UserError
from kerasllm.instructions import Instruction
from kerasllm.prompts import BOOK
from kerasllm.tuning import BestOfEach, RewardWatch, TopShare, finetune, prefer
from kerasllm.tuning.rounds import _run
from tests.several_models import LENGTH, make_mini_gpt
from tests.tuning import scripted
from tests.tuning.scripted import (
    HELD_OUT,
    PROMPTS,
    Interruption,
    number,
    without_seconds,
)
from tests.tuning.test_resuming_dpo import prepared, weights

pytestmark = pytest.mark.any_backend

OPTIONS = {
    "rounds": 2, "num_generations": 3, "true_score": number,
    "sequence_length": LENGTH, "verbose": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A model that nobody tunes: take copies."""
    return make_mini_gpt(tmp_path_factory.mktemp("vocabulary"), None)


@pytest.fixture
def stages(monkeypatch):
    return scripted.install(monkeypatch)


def tune(model, directory, stages, **changed):
    """Run two rounds, in which the reward is asked, too."""

    def reward(prompts, responses):
        scores = number(prompts, responses)
        stages.note("score")
        return scores

    arguments = {"prompts": PROMPTS, "validation_prompts": HELD_OUT}
    arguments |= OPTIONS | changed
    return prefer(
        model, arguments.pop("prompts"), reward, directory=directory,
        **arguments,
    )  # fmt: skip


ONE_GO = ["sample", "score"] + 2 * [
    "sample", "score", "tune", "sample", "score"
]  # fmt: skip


@pytest.mark.parametrize(("rank", "tune_from"), [(None, "last"), (2, "start")])
def test_whatever_is_interrupted_the_same_call_goes_on(
    start, tmp_path, stages, rank, tune_from
):
    """At most the stage that was interrupted is done again."""
    whole = prepared(start, rank)
    history = tune(whole, tmp_path / "whole", stages, tune_from=tune_from)
    assert stages.calls == ONE_GO
    for moment in range(len(ONE_GO)):
        folder = tmp_path / str(moment)
        stages.calls.clear()
        stages.interrupt_at = moment
        model = prepared(start, rank)
        with pytest.raises(Interruption):
            tune(model, folder, stages, tune_from=tune_from)
        stages.interrupt_at = None
        if moment % 2:  # in the same session, or in another one
            model = prepared(start, rank)
        again = tune(model, folder, stages, tune_from=tune_from)
        assert without_seconds(again) == without_seconds(history)
        for expected, found in zip(weights(whole), weights(model), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-6)
        # What is measured is sampled and scored in one stage.
        assert len(stages.calls) - len(ONE_GO) in (1, 2)
        # A third call has nothing to do.
        calls = len(stages.calls)
        assert tune(model, folder, stages, tune_from=tune_from) == again
        assert len(stages.calls) == calls


def test_new_adapters_go_on_from_those_of_the_run(start, tmp_path, stages):
    """They begin at random, and the run has kept its own."""
    stages.interrupt_at = ONE_GO.index("tune")
    model = prepared(start, 2)
    before = weights(model)
    with pytest.raises(Interruption):
        tune(model, tmp_path, stages)
    stages.interrupt_at = None
    other = prepared(start, None)
    lora.enable_lora(other, 2)
    (logs, *_) = tune(other, tmp_path, stages, rounds=1)
    assert logs["val_kl"] == 0
    kept = training.read_state(tmp_path / _run.START_FILE).values
    for expected, found in zip(before, kept, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_run_can_have_more_rounds(start, tmp_path, stages):
    model = prepared(start, None)
    tune(model, tmp_path / "a", stages)
    history = tune(model, tmp_path / "a", stages, rounds=3)
    whole = prepared(start, None)
    expected = tune(whole, tmp_path / "b", stages, rounds=3)
    assert without_seconds(history) == without_seconds(expected)
    with pytest.raises(RunError, match="has finished, 3. Received: rounds=2"):
        tune(model, tmp_path / "a", stages)


def test_a_folder_has_what_was_made(start, tmp_path, stages):
    tune(prepared(start, None), tmp_path, stages)
    found = {
        str(path.relative_to(tmp_path))
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    names = ("samples.jsonl", "rewards.jsonl", "weights.npz")
    assert found == {
        "run.json",
        "start.npz",
        "checkpoint.npz",
        "history.csv",
        *(f"round_{i}/validation.jsonl" for i in (0, 1, 2)),
        *(f"round_{i}/{name}" for i in (1, 2) for name in names),
    }
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert len(lines) == 4 and lines[0].startswith("round,")
    (tmp_path / "round_1" / "validation.jsonl").unlink()
    with pytest.raises(RunError, match=r"without round_1.validation.jsonl"):
        tune(prepared(start, None), tmp_path, stages)


def test_a_directory_of_another_run_is_refused(start, tmp_path, stages):
    def again(rank=2, weight=0.0, **changed):
        model = prepared(start, rank)
        kernel = model.backbone.decoders[0].feed_forward_1.kernel
        kernel.assign_add(np.full(kernel.shape, weight))
        tune(model, tmp_path, stages, **changed)

    again()
    again(sampling_batch_size=16, watch=RewardWatch(), restore_best=True)
    calls = len(stages.calls)
    for changed, named in (
        ({"prompts": PROMPTS[1:]}, "prompts"),
        ({"validation_prompts": HELD_OUT[1:]}, "validation_prompts"),
        ({"num_generations": 4}, "num_generations"),
        ({"keep": TopShare(0.5)}, "keep"),
        ({"keep": BestOfEach(2)}, "keep"),
        ({"prompts_per_round": 3}, "prompts_per_round"),
        ({"true_score": None}, "true_score"),
        ({"renew_reward": lambda *_: number}, "renew_reward"),
        ({"temperature": 0.5}, "temperature"),
        ({"template": dataclasses.replace(BOOK, name="mine")}, "template"),
        ({"epochs": 2}, "epochs"),
        ({"batch_size": 2}, "batch_size"),
        ({"learning_rate": 1e-3}, "learning_rate"),
        ({"sequence_length": 60}, "sequence_length"),
        ({"seed": 1}, "seed"),
        ({"tune_from": "start"}, "tune_from"),
        ({"weight": 0.1}, "model"),
        ({"rank": 3}, "adapters"),
    ):
        message = rf"one run only.*another `{named}`( \(.*\))?\."
        with pytest.raises(RunError, match=message):
            again(**changed)
    assert len(stages.calls) == calls


def test_numpy_numbers_are_numbers(start, tmp_path, stages):
    """Also in the file that tells one run from another."""
    records = []
    numbers = {
        "learning_rate": 0.25, "batch_size": 2, "seed": 3, "temperature": 0.5,
        "num_generations": 3, "epochs": 2, "rounds": 1,
    }  # fmt: skip
    for kind in (lambda x: x, lambda x: np.array(x)[()]):
        folder = tmp_path / str(len(records))
        given = {name: kind(x) for name, x in numbers.items()}
        tune(prepared(start, None), folder, stages, **given)
        records.append(json.loads((folder / training.RUN_FILE).read_text()))
    assert records[0] == records[1]


def test_a_folder_of_finetune_is_another_run(start, tmp_path, stages):
    model = prepared(start, 2)
    finetune(
        model, [Instruction("Say red.", "red")], epochs=1, directory=tmp_path,
        sequence_length=LENGTH, verbose=0,
    )  # fmt: skip
    with pytest.raises(RunError, match="one run only"):
        tune(model, tmp_path, stages)
    assert stages.calls == []


def test_samples_of_others_are_refused(start, tmp_path, stages):
    stages.interrupt_at = ONE_GO.index("tune")
    with pytest.raises(Interruption):
        tune(prepared(start, None), tmp_path, stages)
    stages.interrupt_at = None
    path = tmp_path / "round_1" / "samples.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[1:]))
    with pytest.raises(RunError, match="must have the responses to the prom"):
        tune(prepared(start, None), tmp_path, stages)
    path.write_text("{")
    with pytest.raises(UserError, match="must be a JSON object"):
        tune(prepared(start, None), tmp_path, stages)


def test_a_tuning_that_is_interrupted_goes_on(start, tmp_path, monkeypatch):
    """`finetune` has a folder within that of the round, until it is done."""
    scripted.install(monkeypatch)
    monkeypatch.setattr(_run, "finetune", finetune)
    fit = training.resumable_fit
    folder = tmp_path / "round_1" / "tuning"

    def fail(model, *args, **kwargs):
        fit(model, *args, **kwargs)
        raise Interruption

    options = {
        "rounds": 1, "epochs": 2, "learning_rate": 1e-2,
        "sequence_length": LENGTH, "verbose": 0, "directory": tmp_path,
    }  # fmt: skip
    monkeypatch.setattr(training, "resumable_fit", fail)
    model = prepared(start, 2)
    with pytest.raises(Interruption):
        prefer(model, PROMPTS, number, **options)
    assert (folder / training.CHECKPOINT_FILE).is_file()
    tuned = weights(model)
    monkeypatch.setattr(training, "resumable_fit", fit)
    model = prepared(start, 2)
    prefer(model, PROMPTS, number, **options)
    assert not folder.exists()
    for expected, variable in zip(
        tuned, model.trainable_variables, strict=True
    ):
        np.testing.assert_allclose(
            ops.convert_to_numpy(variable), expected, atol=1e-6
        )
