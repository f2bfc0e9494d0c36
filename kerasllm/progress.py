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
                print(f"{what} ...", end="" if is_terminal else "\n", file=file)
                file.flush()
            thread.start()
            yield
        finally:
            try:
                done.set()
                if thread.is_alive():
                    thread.join()
            finally:
                if is_terminal and said.is_set():
                    print("\r\x1b[K", end="", file=file, flush=True)


def _report(what, file, said, done):
    """Write how long a block has taken so far, until it is done."""
    is_terminal = file.isatty()
    start = time.monotonic()
    pause = 1 if is_terminal and said.is_set() else SECONDS_OF_SILENCE
    while not done.wait(pause):
        said.set()
        seconds = round(time.monotonic() - start)
        begin, end = ("\r", "") if is_terminal else ("", "\n")
        # A terminal that was closed is no reason to stop the work.
        with contextlib.suppress(OSError, ValueError):
            line = f"{begin}{what} ... {seconds} s"
            print(line, end=end, file=file, flush=True)
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
        stderr = os.dup(2)
    except OSError:  # closed by the caller: there is nothing to hide
        yield
        return
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except ExplainedError:
            raise
        except Exception:
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
