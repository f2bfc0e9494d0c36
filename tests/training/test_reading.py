"""What a run reads from is not tuned by TensorFlow while it is read."""

import keras
import pytest

from kerasllm.training import resumable_fit
from tests.training.small_runs import EPOCHS, STEPS, dataset, model

pytestmark = pytest.mark.any_backend


def test_a_run_does_not_wait_for_a_tuner(monkeypatch):
    """Its thread misses the signal to stop now and then, for up to a minute.

    The wait itself is left to chance. So we look at what `fit` is given.
    """
    given = []

    def fit(self, x, validation_data, **options):
        given.extend([x, validation_data])

    monkeypatch.setattr(keras.Model, "fit", fit)
    net = model()
    net.compile("sgd", "sparse_categorical_crossentropy")
    resumable_fit(
        net,
        dataset(),
        dataset(2),
        directory=None,
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        tokens_in_a_batch=32,
        verbose=0,
    )
    assert [data.options().autotune.enabled for data in given] == [False] * 2
