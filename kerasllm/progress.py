"""Signs of life during long work, without noise."""

import contextlib
import io
import os
import sys
import tempfile
import threading
import time

from kerasllm.checks import ExplainedError

SECONDS_OF_SILENCE = 10


def say(text, end="\n", file=None):
    """Print a text on stderr, if that is possible.

    A terminal that was closed, or a disk that is full, is no reason to stop
    the work, nor to end with another exit status.

    Args:
        text: str.
        end: str to print behind it.
        file: where to print instead.
    """
    file = sys.stderr if file is None else file
    try:
        print(text, end=end, file=file, flush=True)
    except (OSError, ValueError):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            discard(file)


def discard(file):
    """Discard what was not written to a file, and all that will be.

    What is left in its buffer would fail again when the process ends.

    Args:
        file: an open file, such as `sys.stdout`.
    """
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, file.fileno())
    os.close(descriptor)


@contextlib.contextmanager
def working(what, at_once=True):
    """Show on stderr what a block does, and that it is still running.

    In a terminal, one line shows the seconds so far and disappears at the end
    of the block. Elsewhere, such as in a pipe, there is a line every
    `SECONDS_OF_SILENCE` seconds.

    Args:
        what: str, such as `"Loading the model"`.
        at_once: bool. `False` says nothing in a block that ends before
            `SECONDS_OF_SILENCE` seconds have passed.
    """
    with _stderr() as file:
        is_terminal = file.isatty()
        said, done = threading.Event(), threading.Event()
        thread = threading.Thread(
            target=_report, args=(what, file, said, done), daemon=True
        )
        try:  # from here on, Ctrl-C must leave no half line behind
            if at_once:
                said.set()
                say(f"{what} ...", "" if is_terminal else "\n", file)
            thread.start()
            yield
        finally:
            try:
                done.set()
                if thread.is_alive():
                    thread.join()
            finally:
                if is_terminal and said.is_set():
                    say("\r\x1b[K", "", file)


def _report(what, file, said, done):
    """Write how long a block has taken so far, until it is done."""
    is_terminal = file.isatty()
    start = time.monotonic()
    pause = 1 if is_terminal and said.is_set() else SECONDS_OF_SILENCE
    while not done.wait(pause):
        said.set()
        seconds = round(time.monotonic() - start)
        begin, end = ("\r", "") if is_terminal else ("", "\n")
        say(f"{begin}{what} ... {seconds} s", end, file)
        pause = 1 if is_terminal else SECONDS_OF_SILENCE


@contextlib.contextmanager
def _stderr():
    """Yield a file for stderr that stays open if file 2 is redirected."""
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # in a notebook, in a test
        yield sys.stderr or io.StringIO()
        return
    with open(descriptor, "w", encoding="utf-8", errors="replace") as file:
        yield file


@contextlib.contextmanager
def quiet():
    """Hide what is written to stderr in this block unless the block fails.

    Libraries in C++ write to file descriptor 2 while they are loaded, whatever
    Python's streams and log levels are. An error that explains itself does not
    need this output.
    """
    try:
        said = tempfile.TemporaryFile()
        stderr = os.dup(2)
    except OSError:  # stderr is closed, or no folder takes a temporary file
        yield
        return
    with said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except ExplainedError:
            raise
        except Exception:
            said.seek(0)
            with contextlib.suppress(OSError):
                os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
