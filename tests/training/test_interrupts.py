"""Ctrl-C is noted once, by one `with` block, in the main thread."""

import os
import signal
import threading

import pytest

from kerasllm.training._interrupts import Interrupts

pytestmark = pytest.mark.any_backend


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def handler():
    """Python's own, even where a shell in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_second_ctrl_c_acts_as_usual():
    before = signal.getsignal(signal.SIGINT)
    interrupts = Interrupts()
    with pytest.raises(KeyboardInterrupt), interrupts:
        assert not interrupts.arrived
        ctrl_c()
        assert interrupts.arrived
        assert signal.getsignal(signal.SIGINT) is before
        ctrl_c()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_in_the_block_gives_the_handler_back():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), Interrupts():
        assert signal.getsignal(signal.SIGINT) is not before
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGINT) is before


def test_a_ctrl_c_that_is_ignored_stays_ignored():
    """A script lets its jobs in the background ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupts() as interrupts:
        ctrl_c()
    assert not interrupts.arrived
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_another_thread_leaves_signals_alone():
    before = signal.getsignal(signal.SIGINT)
    found = []

    def run():
        with Interrupts() as interrupts:
            found.append(signal.getsignal(signal.SIGINT))
            found.append(interrupts.arrived)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [before, False]
