"""Tokenizing prompts so that no user text becomes a special token."""

import functools
import re

import sentencepiece
from keras import ops

from kerasllm.tokenizers import token_id_of

# Gemma has tokens for these HTML tags, and they control nothing. `<s>` has one,
# too, but in other vocabularies it begins a text.
_TAGS = (
    "table caption thead tbody tfoot tr th td h1 h2 h3 h4 h5 h6 blockquote "
    "strong em b i u sub sup code"
).split()
_HARMLESS = {f"<{slash}{tag}>" for tag in _TAGS for slash in ("", "/")}


def encode(tokenizer, segments):
    """Tokenize segments so that only delimiters become special tokens.

    A user's text may contain `"<end_of_turn>"`. As a special token, it would
    end the turn, and a user could put words in the model's mouth. So it is
    tokenized in two halves, which read the same but have no special meaning,
    with any template. Delimiters that are plain text (those of `BOOK` and
    `ALPACA`) cannot be protected.

    Args:
        tokenizer: a KerasHub tokenizer. A SentencePiece one should be without
            a dummy prefix, as Gemma's and ours are.
        segments: list of pairs `(text, is_delimiter)`.

    Returns:
        list of int.
    """
    return encode_all(tokenizer, [segments])[0]


def encode_all(tokenizer, texts):
    """Return `encode` of each of many lists of segments, in one call."""
    every_segment = {segment for segments in texts for segment in segments}
    halve = _halver(special_tokens(tokenizer, every_segment))
    pieces, counts = [], []
    for segments in texts:
        halves = [
            piece
            for text, is_delimiter in segments
            for piece in ([text] if is_delimiter else halve(text))
        ]
        pieces += halves
        counts.append(len(halves))
    if not pieces:
        return [[] for _ in texts]
    encoded = iter(tokenizer(pieces))
    return [
        [
            int(token_id)
            for _ in range(count)
            for token_id in ops.convert_to_numpy(next(encoded))
        ]
        for count in counts
    ]


def start_tokens(tokenizer):
    """Return the tokens at the start of every prompt: `[<bos>]`, or `[]`.

    If the start token is also the end token, such as `<|endoftext|>`, a prompt
    begins without it, because pretraining put it after each text.
    """
    start = getattr(tokenizer, "start_token_id", None)
    end = getattr(tokenizer, "end_token_id", None)
    return [] if start is None or start == end else [start]


def special_tokens(tokenizer, segments=()):
    """Return the special tokens that no user text may become.

    These are the tokenizer's own special tokens, tokens that it never splits
    or that were added to its vocabulary, and those in the delimiters of a
    template.

    Args:
        tokenizer: a KerasHub tokenizer.
        segments: list of pairs `(text, is_delimiter)`.

    Returns:
        set of str.
    """
    special = set(getattr(tokenizer, "special_tokens", ()))
    special.update(getattr(tokenizer, "unsplittable_tokens", None) or ())
    proto = getattr(tokenizer, "proto", None)
    if isinstance(proto, bytes):
        special |= _user_defined_symbols(proto)
    for text, is_delimiter in segments:
        if is_delimiter:
            # <end_of_turn>, <|im_end|>, </s>
            found = re.findall(r"<[^<>\s]+>", text)
            special.update(
                t for t in found if token_id_of(tokenizer, t) is not None
            )
    return {token for token in special if len(token) > 1}


@functools.lru_cache(maxsize=4)
def _user_defined_symbols(proto):
    """Return the tokens that somebody added to a SentencePiece vocabulary.

    A tokenizer names few of them: Gemma's has more than 6,000, and one for
    text only does not know what its tokens for images are. They are pieces
    with the score 0, that of no learned piece but the first, and look like
    `<end_of_turn>` or `[multimodal]`. Runs of spaces do not. (SentencePiece
    tells the type of a piece in its protocol buffer alone, whose module
    cannot be imported beside that of Transformers.)
    """
    vocabulary = sentencepiece.SentencePieceProcessor(model_proto=proto)
    pieces = vocabulary.id_to_piece(list(range(vocabulary.get_piece_size())))
    return frozenset(
        piece
        for number, piece in enumerate(pieces)
        if re.fullmatch(r"<.+>|\[.+\]", piece)
        and vocabulary.get_score(number) >= 0
        and not vocabulary.is_byte(number)  # <0x0A>, which no text becomes
    ).difference(_HARMLESS)


def _halver(special):
    """Return a function from a text to its parts, a list of str.

    Each special token in the text is cut after its first character.
    """
    firsts = {token[0] for token in special}
    lengths = {len(token) for token in special}

    def halve(text):
        # One look for each length, not for each of thousands of tokens. It
        # finds tokens that overlap, too.
        cuts = [
            i + 1
            for i, character in enumerate(text)
            if character in firsts
            and any(text[i : i + length] in special for length in lengths)
        ]
        return [
            text[i:j] for i, j in zip([0, *cuts], [*cuts, None], strict=True)
        ]

    return halve
