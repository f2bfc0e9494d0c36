"""A run of preference tuning that goes on, or one that is refused."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from kerasllm import lora, training, tuning
from kerasllm.checks import RunError
from kerasllm.prompts import BOOK
from kerasllm.training import CHECKPOINT_FILE
from kerasllm.tuning import _dpo
from tests.several_models import LENGTH, make_mini_gpt
from tests.tuning.test_dpo import TOY, copy_of, scores

OPTIONS = {
    "batch_size": 4, "learning_rate": 1e-2, "sequence_length": LENGTH,
    "verbose": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A model that nobody tunes: take copies."""
    return make_mini_gpt(tmp_path_factory.mktemp("vocabulary"), None)


def prepared(start, rank):
    """Return a copy; its adapters are the same each time."""
    model = copy_of(start)
    if rank is not None:
        lora.enable_lora(model, rank)
        rng = np.random.default_rng(0)
        for weight in model.trainable_weights:
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return model


def weights(model):
    return [np.array(ops.convert_to_numpy(w)) for w in model.trainable_weights]


class Kill(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "same_session"),
    [
        (2, False),
        *(
            pytest.param(*case, marks=pytest.mark.any_backend)
            for case in ((2, True), (None, False), (None, True))
        ),
    ],
)
def test_an_interrupted_run_ends_as_one_in_one_go(
    start, tmp_path, rank, same_session
):
    """Its reference is the model of the start, although that is tuned now."""
    arguments = TOY[:8], TOY[16:20]

    def tune(model, directory, callbacks=()):
        return tuning.dpo(
            model, *arguments, epochs=2, directory=tmp_path / directory,
            callbacks=callbacks, **OPTIONS,
        )  # fmt: skip

    whole = prepared(start, rank)
    history = tune(whole, "whole")
    model = prepared(start, rank)
    with pytest.raises(KeyboardInterrupt):
        tune(model, "parts", [Kill()])
    if not same_session:
        model = prepared(start, rank)
    again = tune(model, "parts")
    for expected, found in zip(weights(whole), weights(model), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    for expected, found in zip(history, again, strict=True):
        expected.pop("tokens_per_second")
        assert found == pytest.approx(expected | found_speed(found), rel=1e-3)
    assert again[-1]["val_margin"] > again[0]["val_margin"]
    with np.load(tmp_path / "parts" / _dpo.REFERENCE_FILE) as saved:
        np.testing.assert_allclose(
            saved["preferences"][..., 0], scores(start, TOY[:8]).T, rtol=1e-5
        )


def found_speed(logs):
    return {"tokens_per_second": logs["tokens_per_second"]}


@pytest.fixture
def pretended(monkeypatch):
    """Training that takes no time, moves weights and leaves a checkpoint."""

    def fit(model, *args, directory, **kwargs):
        (directory / CHECKPOINT_FILE).touch()
        for weight in model.trainable_weights:
            weight.assign_add(np.ones(weight.shape))
        return ["trained"]

    monkeypatch.setattr(training, "resumable_fit", fit)


@pytest.mark.any_backend
def test_a_directory_of_another_run_is_refused(start, tmp_path, pretended):
    def tune(rank=2, preferences=TOY[:4], weight=0.0, **changed):
        model = prepared(start, rank)
        kernel = model.backbone.decoders[0].feed_forward_1.kernel
        kernel.assign_add(np.full(kernel.shape, weight))
        options = OPTIONS | {"directory": tmp_path} | changed
        assert tuning.dpo(model, preferences, **options) == ["trained"]

    tune()
    tune(epochs=5)
    kept = (tmp_path / _dpo.REFERENCE_FILE).read_bytes()
    for changed, named in (
        ({"beta": 0.2}, "beta"),
        ({"loss_type": "ipo"}, "loss_type"),
        ({"label_smoothing": 0.1}, "label_smoothing"),
        ({"sft_weight": 0.1}, "sft_weight"),
        ({"reference": "precomputed"}, "reference"),
        ({"learning_rate": 1e-3}, "learning_rate"),
        ({"batch_size": 2}, "batch_size"),
        ({"seed": 1}, "seed"),
        ({"buckets": False}, "buckets"),
        ({"sequence_length": 60}, "sequence_length"),
        ({"template": dataclasses.replace(BOOK, name="mine")}, "template"),
        ({"preferences": TOY[:5]}, "preferences"),
        ({"validation_preferences": TOY[:1]}, "validation_preferences"),
        ({"weight": 0.1}, "model"),
        ({"rank": 3}, "adapters"),
    ):
        message = rf"one run only.*another `{named}`( \(.*\))?\."
        with pytest.raises(RunError, match=message):
            tune(**changed)
    assert (tmp_path / _dpo.REFERENCE_FILE).read_bytes() == kept


@pytest.mark.any_backend
def test_a_run_without_its_reference_is_refused(start, tmp_path, pretended):
    def tune():
        model = prepared(start, None)
        return tuning.dpo(model, TOY[:4], directory=tmp_path, **OPTIONS)

    tune()
    path = tmp_path / _dpo.REFERENCE_FILE
    for damage in (lambda: path.write_bytes(b"PK no file"), path.unlink):
        damage()
        with pytest.raises(RunError, match="must hold its reference.npz"):
            tune()
    # Until something is trained, it can be computed again.
    (tmp_path / CHECKPOINT_FILE).unlink()
    tune()
    assert path.is_file()


@pytest.mark.any_backend
def test_a_folder_of_finetune_is_another_run(start, tmp_path):
    model = prepared(start, 2)
    options = OPTIONS | {"directory": tmp_path}
    tuning.finetune(model, TOY[0].instructions(), epochs=1, **options)
    with pytest.raises(RunError, match="one run only"):
        tuning.dpo(model, TOY[:4], **options)
    assert not (tmp_path / _dpo.REFERENCE_FILE).exists()
