"""A server on this machine, whose page asks which response is better."""

import html
import http.server
import math
import os
import random
import secrets
import threading
import urllib.parse

from kerasllm import files
from kerasllm.checks import RunError, UserError, check_int, check_path
from kerasllm.preferences._labels import (
    TIE,
    append_label,
    read_comparisons,
    read_labels,
)
from kerasllm.preferences._page import comparison_page, last_page

_LONGEST_FORM = 1000  # bytes: it has a token, a number, and a choice


class LabellingServer(http.server.ThreadingHTTPServer):
    """Shows pairs of responses on a page, and writes which one is better.

    The page has one pair after another, in random order side by side. The
    keys 1 and 2 prefer a response, and 0 is for a tie. Each label is written
    at once. A server for the same files goes on where the last one stopped.

    Only programs on this machine can reach the page.

    Args:
        path: str or path of a file with pairs, see `read_preferences`.
        out: str or path of the file of labels. Labels are added to it.
        port: int. Where to serve the page; 0 for any free port.
        seed: int of at least 0. It determines which response of a pair is on
            the left.

    Attributes:
        url: str. The address of the page.

    Raises:
        MissingFileError: there is no such file of pairs.
        RunError: `out` has something else than labels.
        UserError: `path` has no pairs, a number is out of range, `out` may
            not be written to, or the port is taken.

    Example:
    ```python
    with LabellingServer("pairs.jsonl", "labels.jsonl") as server:
        print(server.url)
        server.serve_forever()  # until Ctrl-C
    ```
    """

    daemon_threads = True  # no browser keeps the process alive

    def __init__(self, path, out, port=0, seed=0):
        check_int("port", port, 0, 65535)
        self.seed = check_int("seed", seed, 0, math.inf)
        self.comparisons = read_comparisons(path)
        self.out = check_path("out", out)
        files.check_may_write(self.out.absolute().parent)
        self.labels = _labels_in(self.out)
        self.token = secrets.token_urlsafe()
        self._lock = threading.Lock()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise UserError(
                "`port` must be free. Received: "
                f"port={port} ({error.strerror}). Use another one, or 0 for "
                "any that is free."
            ) from error
        self.hosts = {f"{h}:{self.server_port}" for h in _NAMES}
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def server_close(self):
        """Stop, after the label that is just being written."""
        with self._lock:
            super().server_close()

    def progress(self):
        """Return how many pairs have a label, and how many there are."""
        done = sum(pair in self.labels for pair in self.comparisons)
        return done, len(self.comparisons)

    def page(self):
        """Return the page with the first pair that has no label: a str."""
        done, total = self.progress()
        for number, comparison in enumerate(self.comparisons):
            if comparison not in self.labels:
                left = self.left(number)
                return comparison_page(
                    comparison, left, number, done, total, self.token
                )
        return last_page(self.out, total, self.token)

    def left(self, number):
        """Return which response of a pair is on the left: 1 or 2."""
        return random.Random(f"{self.seed} {number}").choice((1, 2))

    def choose(self, number, choice):
        """Write the label of a pair, unless it has one.

        Args:
            number: int. Which pair.
            choice: int: 1 for the left response, 2 for the right one, 0 for a
                tie.
        """
        comparison, left = self.comparisons[number], self.left(number)
        # If the first response is on the right, 1 is 2 and 2 is 1.
        label = choice if left == 1 or choice == TIE else 3 - choice
        with self._lock:
            if comparison in self.labels:
                return  # a key was pressed twice
            self.out.parent.mkdir(parents=True, exist_ok=True)
            append_label(self.out, comparison, label, left)
            self.labels[comparison] = label


_NAMES = ("127.0.0.1", "localhost")


def _labels_in(out):
    """Return the labels of a file, which may not exist."""
    if not os.path.lexists(out):
        return {}
    if not out.is_file():
        raise RunError(
            f"`out` must be a file. Received: {out}, which is a folder, a "
            "pipe, a device or a broken link. Choose another name."
        )
    try:
        return read_labels(out)
    except UserError as error:
        raise RunError(
            f"`out` must be a new file, or one with labels. {error}"
        ) from error


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers a request with the page, or takes a choice from it."""

    timeout = 10  # seconds; browsers open connections that they never use

    def do_GET(self):
        if self._is_from_here():
            if self.path == "/":
                self._send(200, self.server.page())
            else:
                self._send(404, "There is only one page.")

    def do_POST(self):
        if not self._is_from_here():
            return
        form = self._read_form()
        # Other pages can send forms here, but they do not know the token.
        token = form.get("token", "").encode()
        if not secrets.compare_digest(token, self.server.token.encode()):
            self._send(403, "This page is of an earlier start. Load it again.")
            return
        number, choice = form.get("pair", ""), form.get("choice", "")
        numbers = map(str, range(len(self.server.comparisons)))
        if choice not in ("0", "1", "2") or number not in numbers:
            self._send(400, "There is no such pair or choice.")
            return
        try:
            self.server.choose(int(number), int(choice))
        except OSError as error:  # the labeller must know that it is lost
            self._send(500, f"Not written: {html.escape(str(error))}")
        else:
            self._send(303, "", Location="/")

    def _is_from_here(self):
        """Refuse other names for this machine, which other pages may have."""
        is_from_here = self.headers.get("Host") in self.server.hosts
        if not is_from_here:
            self._send(403, "The page has another address.")
        return is_from_here

    def _read_form(self):
        """Return the fields of a form: a dict of str."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _LONGEST_FORM:
            return {}
        text = self.rfile.read(int(length)).decode("ascii", "replace")
        return dict(urllib.parse.parse_qsl(text))

    def _send(self, status, text, **headers):
        content = text.encode()
        nonce = f"'nonce-{self.server.token}'"
        headers |= {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            # No text on the page can become a script, whatever it holds.
            "Content-Security-Policy": f"default-src 'none'; style-src {nonce};"
            f" script-src {nonce}; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'",
        }
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass  # the page itself tells how far one is
