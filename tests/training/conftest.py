"""What each test of training starts from."""

import gc

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


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
    net = model()
    history = train(tmp_path_factory.mktemp("unbroken"), net)
    return history, net.get_weights()
