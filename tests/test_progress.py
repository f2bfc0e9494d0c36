"""What is shown during long work."""

import io
import os
import threading

import pytest

from kerasllm import progress
from kerasllm.checks import UserError

pytestmark = pytest.mark.any_backend


class Listener(io.StringIO):
    """A stream that tells when a text is written."""

    def __init__(self, text, is_terminal):
        super().__init__()
        self.text, self.is_terminal = text, is_terminal
        self.heard = threading.Event()

    def isatty(self):
        return self.is_terminal

    def write(self, text):
        count = super().write(text)
        if self.text in text:
            self.heard.set()
        return count


@pytest.mark.parametrize("is_terminal", [True, False])
def test_long_work_shows_that_it_goes_on(monkeypatch, is_terminal):
    stream = Listener("Reading ... 0 s", is_terminal)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(progress, "SECONDS_OF_SILENCE", 0.01)
    with progress.working("Reading", at_once=False):
        assert stream.heard.wait(10)
    said = stream.getvalue()
    # A terminal keeps nothing of it, a file has a line for each time.
    assert said.endswith("\r\x1b[K" if is_terminal else "s\n")


def test_a_line_of_a_terminal_is_erased_only_if_it_was_written(monkeypatch):
    """A prompt may stand there."""
    stream = Listener("", is_terminal=True)
    monkeypatch.setattr("sys.stderr", stream)
    with progress.working("Reading", at_once=False):
        pass
    assert stream.getvalue() == ""


@pytest.mark.parametrize("when", ["start", "join"])
def test_an_interruption_leaves_no_half_line(monkeypatch, when):
    """Ctrl-C may come while the thread that shows the time is handled."""

    def interrupt(thread):
        raise KeyboardInterrupt

    stream = Listener("", is_terminal=True)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(threading.Thread, when, interrupt)
    with pytest.raises(KeyboardInterrupt), progress.working("Reading"):
        pass
    assert stream.getvalue() == "Reading ...\r\x1b[K"


def test_short_work_is_silent_unless_it_should_not_be(capsys):
    with progress.working("Reading", at_once=False):
        pass
    assert capsys.readouterr() == ("", "")
    with progress.working("Reading"):
        pass
    assert capsys.readouterr() == ("", "Reading ...\n")


@pytest.mark.parametrize(
    ("error", "is_shown"), [(ValueError, True), (UserError, False)]
)
def test_what_a_library_says_is_shown_where_it_fails(capfd, error, is_shown):
    with progress.quiet():
        os.write(2, b"greetings\n")
    with pytest.raises(error), progress.quiet():
        os.write(2, b"a reason\n")
        raise error("that")
    assert capfd.readouterr().err == ("a reason\n" if is_shown else "")
