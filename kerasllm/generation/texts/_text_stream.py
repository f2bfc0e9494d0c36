"""Text from tokens that arrive one at a time."""

import os

# Decoders write this for bytes that are not (or not yet) valid UTF-8.
UNDECODED = "\ufffd"
# A character has at most four bytes, and all four make it valid.
MOST_UNFINISHED = 3
# The largest number of tokens that are decoded again with each new one. Half of
# them are kept: enough for the unfinished characters at the end, and for a
# character that the cut at the start tears apart.
LONGEST_WINDOW = 32


class TextStream:
    """Turns a growing list of tokens into pieces of text.

    A piece never ends within a character whose bytes are spread over several
    tokens, or within text that may become a stop string. Joined, the pieces
    are what decoding all tokens at once adds to the text of the context,
    whatever bytes the tokens stand for. The work for each token is bounded.

    Args:
        detokenize: callable from a list of ints to a string. It writes at
            most three U+FFFD for the bytes of an unfinished character.
        context: list of ints. The tokens before the first new one. Some
            tokenizers decode a token differently at the start of a text.
        stop_strings: sequence of str. The stream ends before the one that is
            complete first.
        special_token_ids: collection of ints. Tokens that have no text.

    Attributes:
        stopped: bool. Whether a stop string has appeared.
    """

    def __init__(
        self, detokenize, context, stop_strings=(), special_token_ids=()
    ):
        self._detokenize = detokenize
        self._stop_strings = tuple(stop_strings)
        self._special_token_ids = frozenset(special_token_ids)
        context = [i for i in context if i not in self._special_token_ids]
        self._window = context  # tokens that are decoded again
        text = self._decode(context)
        self._out = len(_certain(text))  # characters of it that are final
        # What the context shows of a character that new tokens may complete.
        self._unfinished = text[self._out :]
        self._held = ""  # text that may be the start of a stop string
        self._shorten(text)
        self.stopped = False

    def push(self, token_id):
        """Add a token and return the text that is now final, often `""`."""
        if token_id in self._special_token_ids:
            return ""
        self._window.append(token_id)
        text = self._decode(self._window)
        certain = _certain(text)
        piece, self._out = certain[self._out :], max(self._out, len(certain))
        if len(self._window) > LONGEST_WINDOW:
            self._shorten(text)
        return self._release(self._without_context(piece))

    def finish(self):
        """Return the text that was held back, once no more tokens come."""
        if self.stopped:
            return ""
        rest = self._decode(self._window)[self._out :]
        rest = self._release(self._without_context(rest))
        return rest + ("" if self.stopped else self._held)

    def _decode(self, token_ids):
        return self._detokenize(token_ids) if token_ids else ""

    def _shorten(self, text):
        """Drop the first tokens of the window, whose text is final.

        The cut may tear a character apart, but what follows its bytes is
        decoded as before. So count what is not final from the end.
        """
        shorter = self._window[-LONGEST_WINDOW // 2 :]
        shorter_text = self._decode(shorter)
        out = len(shorter_text) - (len(text) - self._out)
        if out > 0:  # a tokenizer that strips spaces may leave nothing
            self._window, self._out = shorter, out

    def _without_context(self, piece):
        """Drop what the context has shown already from a final piece."""
        same = len(os.path.commonprefix([self._unfinished, piece]))
        if same < len(piece):
            self._unfinished = ""  # the text goes on, or another way
        else:
            self._unfinished = self._unfinished[same:]
        return piece[same:]

    def _release(self, piece):
        """Return the text that can no longer be part of a stop string."""
        text = self._held + piece
        # A piece counts as if it had come one character at a time.
        found = [
            (text.find(stop) + len(stop), text.find(stop))
            for stop in self._stop_strings
            if stop in text
        ]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        keep = max(
            (_overlap(text, stop) for stop in self._stop_strings), default=0
        )
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text, stop):
    """Return the length of the longest end of `text` that starts `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next(n for n in range(longest, -1, -1) if text.endswith(stop[:n]))


def _certain(text):
    """Return text without the end that may be an unfinished character."""
    start = max(0, len(text) - MOST_UNFINISHED)
    return text[:start] + text[start:].rstrip(UNDECODED)
