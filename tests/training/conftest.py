"""What each test of training starts from."""

import gc
import shutil

import pytest

from tests.training.small_runs import model, train


@pytest.fixture(autouse=True)
def no_iterators_left():
    """A killed run leaves a `tf.data` iterator in a cycle.

    One that has lived long may wait for its autotuner for up to a minute when
    it is destroyed, in whichever test that happens.
    """
    yield
    gc.collect()
    gc.freeze()  # what is left need not be looked at again and again


@pytest.fixture(scope="session")
def unbroken_run(tmp_path_factory):
    """A run that nothing disturbed: its folder, history and weights."""
    net, folder = model(), tmp_path_factory.mktemp("unbroken")
    history = train(folder, net)
    return folder, history, net.get_weights()


@pytest.fixture(scope="session")
def unbroken(unbroken_run):
    _, history, weights = unbroken_run
    return history, weights


@pytest.fixture
def finished(unbroken_run, tmp_path):
    """A folder of the test's own, as `train` leaves it."""
    folder = tmp_path / "finished"
    return shutil.copytree(unbroken_run[0], folder)
