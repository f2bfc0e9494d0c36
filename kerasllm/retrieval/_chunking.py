"""Chunks: parts of documents that are short enough to embed and to show."""

import dataclasses
import re

from kerasllm.checks import UserError, check_callable, check_int
from kerasllm.retrieval._reading import Document, plain

# The end of a sentence, with what closes it; or an empty line.
_BORDERS = re.compile(
    r"(?P<stop>[.!?…])[\"'”’»)\]]*\s+|[。！？][」』”’）]*\s*|\n[^\S\n]*\n\s*"
)
_EMPTY_LINE = re.compile(r"\n[^\S\n]*\n")
_WITHOUT_SPACE = re.compile(r"[^\s\ufeff](?:.*[^\s\ufeff])?", re.DOTALL)
_NO_SENTENCE_ENDS = re.compile(
    r"\b(?:Dr|Fig|Figs|Mr|Mrs|Ms|No|Prof|St|al|cf|e\.g|i\.e|vs|[A-Z])\.\s$"
)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A part of a document.

    Attributes:
        text: str, `document.text[start:end]`.
        title: str, the title of its section, or `""`.
        source: str, that of the document.
        start: int. Its first character in the document.
        end: int. The character after its last one.
    """

    text: str
    title: str
    source: str
    start: int
    end: int

    @property
    def titled(self):
        """The title followed by the text, as it is embedded and shown."""
        return f"{self.title}\n\n{self.text}" if self.title else self.text


def chunk_document(document, max_tokens=200, overlap=40, tokenizer=str.split):
    """Split a document into chunks of whole sentences.

    A chunk never crosses a section, and the title of the section precedes it.
    A sentence that is too long is split between words, and a word that is too
    long is split between characters.

    Args:
        document: `Document`, or a str, which is one section without a title.
        max_tokens: int. The largest number of tokens of a chunk, with its
            title. A title that needs more than half of them is left out.
        overlap: int, less than `max_tokens`. The largest number of tokens, in
            whole sentences, that a chunk repeats from the end of the one
            before it.
        tokenizer: callable from a str to a sequence of tokens. The default
            counts words.

    Returns:
        A list of `Chunk`. The text of each is `document.text[start:end]`.
        Together they have all of the text but headings and white space.

    Raises:
        UserError: an argument breaks a rule, or one character has more than
            `max_tokens` tokens.
    """
    if isinstance(document, str):
        document = plain(document)
    if not isinstance(document, Document):
        raise UserError(
            "`document` must be a Document or a str. Received: "
            f"{type(document).__name__}. `read_document` reads files."
        )
    check_chunking(max_tokens, overlap, tokenizer)
    chunks = []
    for section in document.sections:
        chunks += _chunks_of_section(
            document, section, max_tokens, overlap, tokenizer
        )
    return chunks


def check_chunking(max_tokens, overlap, tokenizer):
    """Check the arguments of `chunk_document`."""
    check_int("max_tokens", max_tokens, 1)
    check_int(
        "overlap",
        overlap,
        0,
        max_tokens - 1,
        cure="Make it smaller than `max_tokens`.",
    )
    check_callable(
        "tokenizer",
        tokenizer,
        "Give a function from a str to a sequence of tokens.",
    )


def _chunks_of_section(document, section, max_tokens, overlap, tokenizer):
    """Return the chunks of one section."""

    def count(text):
        return len(tokenizer(text))

    title = section.title
    if title and count(f"{title}\n\n") > max_tokens / 2:
        title = ""

    def chunk(start, end):
        text = document.text[start:end]
        return Chunk(text, title, document.source, start, end)

    def fits(start, end):
        return count(chunk(start, end).titled) <= max_tokens

    spans = []
    for start, end in _sentences(document.text, section.start, section.end):
        spans += _pieces(document.text, start, end, fits)
    chunks, first = [], 0
    while first < len(spans):
        start = spans[first][0]
        last = first
        while last + 1 < len(spans) and fits(start, spans[last + 1][1]):
            last += 1
        chunks.append(chunk(start, spans[last][1]))
        if last + 1 == len(spans):
            break
        first = _first_of_next(
            document.text, spans, first, last, overlap, count, fits
        )
    return chunks


def _first_of_next(text, spans, first, last, overlap, count, fits):
    """Return the first sentence of the next chunk, after `first`."""
    end, new = spans[last][1], last + 1
    begin = new
    while (
        begin - 1 > first
        and count(text[spans[begin - 1][0] : end]) <= overlap
        and fits(spans[begin - 1][0], spans[new][1])
    ):
        begin -= 1
    return begin


def _sentences(text, start, end):
    """Yield where each sentence begins and ends, without white space."""
    begin = start
    for border in _BORDERS.finditer(text, start, end):
        if border["stop"] and not _ends_sentence(text, begin, border):
            continue
        yield from _without_space(text, begin, border.end())
        begin = border.end()
    yield from _without_space(text, begin, end)


def _ends_sentence(text, begin, border):
    """Tell whether a stop before white space ends a sentence."""
    if _EMPTY_LINE.search(border[0]):
        return True
    if text[border.end() : border.end() + 1].islower():
        return False
    before = text[max(begin, border.start() - 6) : border.start() + 2]
    return not _NO_SENTENCE_ENDS.search(before)


def _pieces(text, start, end, fits):
    """Split a span in the middle, between words, until all parts fit."""
    if fits(start, end):
        return [(start, end)]
    if end - start <= 1:
        raise UserError(
            "`max_tokens` must be enough for one character and its title. "
            f"Received: too few for {text[start:end]!r}. Increase it."
        )
    middle = _middle(text, start, end)
    return [
        piece
        for part in ((start, middle), (middle, end))
        for span in _without_space(text, *part)
        for piece in _pieces(text, *span, fits)
    ]


def _middle(text, start, end):
    """Return the white space that is nearest to the middle, if there is any."""
    middle = (start + end) // 2
    spaces = [space.end() for space in re.finditer(r"\s+", text[start:end])]
    if not spaces:
        return middle
    return start + min(spaces, key=lambda space: abs(start + space - middle))


def _without_space(text, start, end):
    """Yield a span without the white space around it, if something is left."""
    found = _WITHOUT_SPACE.search(text, start, end)
    if found:
        yield found.span()
