"""Text in pieces: joined they are the text, and none is half a character."""

import functools
import itertools
import os

import keras_hub
import numpy as np
import pytest

import kerasllm
from kerasllm.generation import TextStream
from kerasllm.generation.texts import Sequence, make_result

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


@functools.cache
def decode_each_byte(data):
    """As SentencePiece decodes: each byte of a torn character is U+FFFD."""
    text = ""
    while data:
        characters = [data[:n] for n in (1, 2, 3, 4) if is_character(data[:n])]
        text += characters[0].decode() if characters else "\ufffd"
        data = data[len(characters[0]) if characters else 1 :]
    return text


def is_character(data):
    text = data.decode("utf-8", errors="replace")
    return len(text) == 1 and text.encode() == data


def random_bytes(seed):
    """Characters and what is left of them: torn, overlong, surrogates."""
    draws = np.random.default_rng(seed)
    parts = [
        "a", "é", "日", "🦊", "\ufffd", b"\x80", b"\xff", b"\xe2\x82",
        b"\xf0\x9f\xa6", b"\xf0", b"\xc0\xaf", b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80", b"\xf0\x8f\xbf", b"\xef\xbf",
    ]  # fmt: skip
    parts = [p if isinstance(p, bytes) else p.encode() for p in parts]
    # Runs of one part, and all of them mixed.
    chosen = draws.choice(len(parts), draws.integers(1, 4))
    return b"".join(parts[i] for i in draws.choice(chosen, 60))


@pytest.mark.parametrize("decode", [decode_bytes, decode_each_byte])
@pytest.mark.parametrize("bytes_in_a_token", [1, 3])
def test_the_pieces_joined_are_the_text_of_any_bytes(decode, bytes_in_a_token):
    def detokenize(token_ids):
        return decode(b"".join(vocabulary[i] for i in token_ids))

    for seed in range(100):
        data = random_bytes(seed)
        starts = range(0, len(data), bytes_in_a_token)
        vocabulary = [data[i : i + bytes_in_a_token] for i in starts]
        token_ids = list(range(len(vocabulary)))
        for length in (0, 1, 2, 25):  # the context may be torn, too
            context, new = token_ids[:length], token_ids[length:]
            stream = TextStream(detokenize, context)
            pieces = [stream.push(i) for i in new] + [stream.finish()]
            whole, before = detokenize(token_ids), detokenize(context)
            start = len(os.path.commonprefix([before, whole]))
            assert "".join(pieces) == whole[start:], (seed, length)


def test_a_context_that_ends_in_a_character_does_not_show_it_again():
    fox = "🦊".encode()
    stream = TextStream(decode_bytes, [*b"a", *fox[:2]])
    pieces = [stream.push(byte) for byte in fox[2:] + b"!"]
    assert pieces == ["", "🦊", "!"]
    stream = TextStream(decode_bytes, list("ok\ufffd".encode()))
    assert [stream.push(byte) for byte in b"ay"] == ["a", "y"]


@pytest.mark.parametrize("data", [b"\xff", b"\xe2\x82", b"a", b" "])
def test_the_work_for_a_token_does_not_grow(data):
    longest = 0

    def detokenize(token_ids):
        nonlocal longest
        longest = max(longest, len(token_ids))
        return decode_bytes(token_ids)

    stream = TextStream(detokenize, [])
    pieces = [stream.push(byte) for byte in data * 500]
    assert longest < 40
    assert len("".join(pieces)) >= 500 - 3


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


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_tokens_of_any_size_end_at_the_stop_string_that_is_complete_first(size):
    for text, stops, expected in (
        ("1xaby2", ["xaby", "ab"], "1x"),
        ("1ab2ab", ["ab2", "b2a"], "1"),
        ("1🦊\ufffd2", ["🦊\ufffd2", "\ufffd"], "1🦊"),
        ("1\n\n2", ["\n\n", "\n"], "1"),
    ):
        data = text.encode()
        tokens = [data[i : i + size] for i in range(0, len(data), size)]
        stream = TextStream(
            lambda ids, tokens=tokens: decode_bytes(
                b"".join(tokens[i] for i in ids)
            ),
            [],
            stops,
        )
        pieces = []
        while not stream.stopped and len(pieces) < len(tokens):
            pieces.append(stream.push(len(pieces)))
        assert "".join(pieces) + stream.finish() == expected


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


@pytest.fixture(scope="module")
def byte_pair():
    vocabulary = {name: i for i, name in enumerate([*byte_names(), "ab"])}
    return keras_hub.tokenizers.BytePairTokenizer(vocabulary, ["a b"])


def byte_names():
    """What GPT-2 calls the 256 bytes: a printed character for each."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b if b in printed else next(others)) for b in range(256)]


@pytest.mark.parametrize("name", ["sentence_piece", "byte_pair"])
def test_any_bytes_stream_with_real_tokenizers(name, request):
    tokenizer = request.getfixturevalue(name)
    byte = "<0x00>" if name == "sentence_piece" else byte_names()[0]
    first = tokenizer.token_to_id(byte)
    for seed in range(20):
        token_ids = [first + byte for byte in random_bytes(seed)]
        # With a stop string that does not appear, as `generate` reads them.
        stream = TextStream(tokenizer.detokenize, [], ["STOP"])
        pieces = [stream.push(i) for i in token_ids] + [stream.finish()]
        assert "".join(pieces) == tokenizer.detokenize(token_ids)


@pytest.mark.parametrize("stop_strings", [(), ["!"]])
def test_a_result_has_the_character_that_the_prompt_began(stop_strings):
    fox = "🦊".encode()
    prompt, new = [*b"a", *fox[:2]], [*fox[2:], *b"bc!"]
    stream = TextStream(decode_bytes, prompt, stop_strings)
    sequence = Sequence(prompt, (), 99, set(), None, [0])
    sequence.stream = stream if stop_strings else None
    for token_id in new:
        if sequence.finish_reason is None:
            sequence.add(token_id)
    end = "" if stop_strings else "!"
    texts = [
        make_result(sequence, decode_bytes, strip_prompt, False)
        for strip_prompt in (False, True)
    ]
    assert texts == ["a🦊bc" + end, "🦊bc" + end]
