"""From tokens to text while they come."""

# What decoders write in place of bytes that are no UTF-8 (yet).
UNDECODED = "\ufffd"
# A window that grew so long holds garbage, not an unfinished character.
LONGEST_WINDOW = 32


class TextStream:
    """Text pieces of a growing list of tokens.

    A piece never ends within a character whose bytes are spread over several
    tokens, nor within what may become a stop string.

    Args:
        detokenize: callable from a list of ints to a string.
        context: list of ints. The tokens before the first new one: some
            tokenizers write a token differently at the start of a text.
        stop_strings: sequence of str. The stream ends before the first one.
        special_token_ids: collection of ints. Tokens that are no text.

    Attributes:
        stopped: bool. Whether a stop string has come.
    """

    def __init__(
        self, detokenize, context, stop_strings=(), special_token_ids=()
    ):
        self._detokenize = detokenize
        self._stop_strings = tuple(stop_strings)
        self._special_token_ids = frozenset(special_token_ids)
        context = [i for i in context if i not in self._special_token_ids]
        self._window = context[-4:]  # tokens that are decoded again
        self._known = len(self._window)  # of them, all text is out
        self._out = len(self._decode(self._window))  # characters that are out
        self._held = ""  # text that may be the beginning of a stop string
        self.stopped = False

    def push(self, token_id):
        """Add a token and return the text that is certain now, often `""`."""
        if token_id in self._special_token_ids:
            return ""
        self._window.append(token_id)
        text = self._decode(self._window)
        certain = text.rstrip(UNDECODED)
        if len(text) - len(certain) > 3 or len(self._window) > LONGEST_WINDOW:
            certain = text  # no character has so many bytes
        piece, self._out = certain[self._out :], max(self._out, len(certain))
        if len(certain) == len(text):
            # Only the last tokens stay, as context for those to come.
            self._window = self._window[self._known :]
            self._known = len(self._window)
            self._out = len(self._decode(self._window))
        return self._release(piece)

    def finish(self):
        """Return what was held back when no more tokens come."""
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
    """Return how much of the end of `text` begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next(n for n in range(longest, -1, -1) if text.endswith(stop[:n]))
