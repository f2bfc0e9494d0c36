"""Text in pieces: joined they are the text, and none is half a character."""

import itertools

import pytest

import kerasllm
from kerasllm.generation import TextStream

pytestmark = pytest.mark.any_backend


def decode_bytes(token_ids):
    """A tokenizer whose tokens are bytes, as byte fallback has them."""
    return bytes(token_ids).decode("utf-8", errors="replace")


def pieces_of(text, stop_strings=(), context=b"say: "):
    stream = TextStream(decode_bytes, list(context), stop_strings)
    pieces = []
    for byte in text.encode():
        pieces.append(stream.push(byte))
        if stream.stopped:
            break
    return [*pieces, stream.finish()]


TEXTS = ["plain", "naïve café", "日本語", "a🦊b🧑‍🚀", "tail 🦊", "\ufffd kept"]


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_joined_are_the_text(text):
    assert "".join(pieces_of(text)) == text


@pytest.mark.parametrize("text", TEXTS[:-1])
def test_no_piece_is_half_a_character(text):
    assert not any("\ufffd" in piece for piece in pieces_of(text))


def test_a_character_comes_with_its_last_byte():
    assert pieces_of("a🦊b") == ["a", "", "", "", "🦊", "b", ""]


def test_the_context_may_end_in_the_middle_of_a_character():
    fox = "🦊".encode()
    stream = TextStream(decode_bytes, list(fox[:2]))
    pieces = [stream.push(byte) for byte in fox[2:] + b"!"]
    assert "".join(pieces).endswith("!")


def test_bytes_that_never_become_a_character_are_let_go():
    stream = TextStream(decode_bytes, [])
    pieces = [stream.push(0xFF) for _ in range(100)]
    assert "".join(pieces).count("\ufffd") > 60
    assert len(stream._window) < 40
    later = "".join(map(stream.push, b"good again")) + stream.finish()
    assert later.endswith("good again")


def test_a_tokenizer_may_write_the_start_of_a_text_differently():
    """As SentencePiece with a dummy prefix does: no space at the start."""
    words = ["▁the", "▁cat", "s"]

    def decode(token_ids):
        return "".join(words[i] for i in token_ids).replace("▁", " ").lstrip()

    stream = TextStream(decode, [0])
    assert [stream.push(i) for i in (1, 2, 0)] == [" cat", "s", " the"]


def test_tokens_that_are_no_text_do_not_count():
    def decode(token_ids):
        return " ".join("abc"[i] for i in token_ids)

    stream = TextStream(decode, [9, 0, 9], special_token_ids={9})
    pieces = [stream.push(i) for i in (1, 9, 9, 2)] + [stream.finish()]
    assert pieces == [" b", "", "", " c", ""]


@pytest.mark.parametrize("stop", ["END", "\n\n", "🦊", "a"])
@pytest.mark.parametrize(
    "text", ["xxENDyy", "x\n\ny", "ENEND!", "a🦊", "aaaa", "none of it", "EN"]
)
def test_the_text_ends_before_the_first_stop_string(text, stop):
    expected = text.split(stop)[0]
    assert "".join(pieces_of(text, [stop])) == expected
    assert "".join(pieces_of(text, ["never", stop])) == expected


def test_a_stop_string_over_several_tokens_is_never_shown():
    text = "one two STOP three"
    shown = itertools.accumulate(pieces_of(text, ["STOP"]))
    assert not any("S" in text for text in shown)


def test_what_only_looks_like_a_stop_string_is_shown_in_the_end():
    assert "".join(pieces_of("STO", ["STOP"])) == "STO"
    assert "".join(pieces_of("STOSTOP", ["STOP"])) == "STO"


def test_of_several_stop_strings_the_first_in_the_text_counts():
    assert "".join(pieces_of("abcd", ["cd", "bc"])) == "a"


@pytest.fixture(scope="module")
def sentence_piece(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "shard.txt"
    path.write_text("the cat sat on the mat\n" * 50)
    return kerasllm.train_sentence_piece([path], 272)


def test_a_sentence_piece_text_with_byte_fallback_streams(sentence_piece):
    text = "the 🦊 sat — naïve\n  日本 🧑‍🚀!"
    token_ids = [int(i) for i in sentence_piece(text)]
    assert len(token_ids) > len(text)  # most characters came in bytes
    stream = TextStream(sentence_piece.detokenize, token_ids[:1])
    pieces = [stream.push(i) for i in token_ids[1:]] + [stream.finish()]
    start = sentence_piece.detokenize(token_ids[:1])
    assert start + "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
