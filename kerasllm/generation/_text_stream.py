"""Text from tokens that arrive one at a time."""

# Decoders write this for bytes that are not (or not yet) valid UTF-8.
UNDECODED = "\ufffd"
# A longer window contains garbage rather than an unfinished character.
LONGEST_WINDOW = 32


class TextStream:
    """Turns a growing list of tokens into pieces of text.

    A piece never ends within a character whose bytes are spread over several
    tokens, or within text that may become a stop string.

    Args:
        detokenize: callable from a list of ints to a string.
        context: list of ints. The tokens before the first new one. Some
            tokenizers decode a token differently at the start of a text.
        stop_strings: sequence of str. The stream ends before the first one.
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
        self._window = context[-4:]  # tokens that are decoded again
        self._known = len(self._window)  # tokens whose text is all released
        self._out = len(self._decode(self._window))  # released characters
        self._held = ""  # text that may be the start of a stop string
        self.stopped = False

    def push(self, token_id):
        """Add a token and return the text that is now final, often `""`."""
        if token_id in self._special_token_ids:
            return ""
        self._window.append(token_id)
        text = self._decode(self._window)
        certain = text.rstrip(UNDECODED)
        if len(text) - len(certain) > 3 or len(self._window) > LONGEST_WINDOW:
            certain = text  # no character has that many bytes
        piece, self._out = certain[self._out :], max(self._out, len(certain))
        if len(certain) == len(text):
            # Keep only the last tokens, as context for the next ones.
            self._window = self._window[self._known :]
            self._known = len(self._window)
            self._out = len(self._decode(self._window))
        return self._release(piece)

    def finish(self):
        """Return the text that was held back, once no more tokens come."""
        if self.stopped:
            return ""
        rest = self._decode(self._window)[self._out :]
        return self._release(rest) + ("" if self.stopped else self._held)

    def _decode(self, token_ids):
        return self._detokenize(token_ids) if token_ids else ""

    def _release(self, piece):
        """Return the text that can no longer be part of a stop string."""
        text = self._held + piece
        found = [text.find(stop) for stop in self._stop_strings]
        found = [position for position in found if position >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max(
            (_overlap(text, stop) for stop in self._stop_strings), default=0
        )
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text, stop):
    """Return the length of the longest end of `text` that starts `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next(n for n in range(longest, -1, -1) if text.endswith(stop[:n]))
