"""Vocabularies give text back as it was, and say what is wrong with a file."""

import functools
import http.server
import os
import random
import threading
import tracemalloc

import keras_hub
import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from kerasllm import tokenizers
from kerasllm.checks import UserError
from kerasllm.tokenizers import (
    END_OF_TEXT,
    _documents,
    _training,
    _vocabularies,
    end_of_text_id,
    load_sentence_piece,
    train_sentence_piece,
)
from tests.tokenizers.small_corpus import SIZE, corpus, write

pytestmark = pytest.mark.any_backend


def random_text(generator):
    """Characters of all of Unicode, most of them from its crowded start."""
    top = generator.choice([0x80, 0x3000, 0x110000])
    text = ""
    for _ in range(generator.randint(0, 40)):
        code = generator.randrange(top)
        surrogate = 0xD800 <= code < 0xE000
        text += " " if surrogate or code == 0x2581 else chr(code)
    return text


NASTY = [
    "",
    " ",
    "   three leading and two trailing  ",
    "double  and   triple    spaces",
    "tab\tand\ttab\t",
    "Windows\r\nlines\r\n\r\nand\rreturns",
    "def f():\n    return 'indented'\n\n\n",
    "emoji 🙂👩‍👩‍👧‍👦🏳️‍🌈 and flags 🇫🇷",
    "NUL \0 inside\0",
    "e\u0301 is not \u00e9, \ufb01 is not fi, \u00a0 is not a space",
    "\ufeffbyte order mark and \u200b zero width",
    "日本語 العربية हिन्दी",
    f"ends{END_OF_TEXT}begins",
    "<unk> <s> </s> <0x41> <0x0A>",
    "backslash \\n and \\\\n",
]


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_every_text_comes_back_as_it_was(shards, model_type):
    tokenizer = train_sentence_piece(shards, SIZE, model_type=model_type)
    generator = random.Random(0)
    texts = NASTY + [random_text(generator) for _ in range(500)]
    for text in texts:
        assert tokenizer.detokenize(tokenizer(text)) == text


def test_the_graph_and_the_library_find_the_same_tokens(tokenizer):
    oracle = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.proto)
    texts = NASTY[1:] + [" ".join(line.split("\\n")) for line in corpus(20)]
    in_graph = tf.data.Dataset.from_tensor_slices(texts).map(tokenizer)
    for text, tokens in zip(texts, in_graph, strict=True):
        assert tokens.dtype == tf.int32
        assert tokens.numpy().tolist() == oracle.encode(text)


def test_the_sign_of_a_space_comes_back_as_a_space(tokenizer):
    # The one exception, which the documentation names.
    assert tokenizer.detokenize(tokenizer("a\u2581b")) == "a b"


def test_newline_and_end_of_text_are_single_tokens(tokenizer):
    for token in ("\n", END_OF_TEXT):
        (token_id,) = np.array(tokenizer(token))
        assert tokenizer.id_to_token(int(token_id)) == token
        between = np.array(tokenizer(f"the{token}the"))
        assert np.sum(between == token_id) == 1


def test_special_tokens_of_the_caller_are_single_tokens(shards):
    special = ("<start_of_turn>", "a,b", '"quoted"')
    tokenizer = train_sentence_piece(shards, SIZE, special_tokens=special)
    for token in special:
        assert len(np.array(tokenizer(token))) == 1
        assert tokenizer.detokenize(tokenizer(f"x{token}y")) == f"x{token}y"


def test_it_has_as_many_tokens_as_asked(tokenizer):
    assert isinstance(tokenizer, keras_hub.tokenizers.SentencePieceTokenizer)
    assert tokenizer.vocabulary_size() == SIZE


def test_escaped_newlines_are_restored_before_training(tokenizer):
    assert not any("\\" in piece for piece in tokenizer.get_vocabulary())


def test_sizes_may_be_numpys(shards, tokenizer):
    found = train_sentence_piece(
        shards, np.int64(SIZE), sample_bytes=np.int32(4_000_000)
    )
    assert found.proto == tokenizer.proto


def test_training_leaves_the_process_as_it_is(shards, monkeypatch):
    def never(*arguments):
        raise AssertionError("the devices were changed")

    environment = dict(os.environ)
    monkeypatch.setattr(tf.config, "set_visible_devices", never)
    tokenizer = train_sentence_piece(shards, SIZE)
    assert len(tokenizer("the model")) > 0
    assert dict(os.environ) == environment


def test_training_is_deterministic(shards, tokenizer):
    assert train_sentence_piece(shards, SIZE).proto == tokenizer.proto


def test_a_data_set_trains_the_same_vocabulary_as_its_shards(shards, tokenizer):
    lines = tf.data.TextLineDataset(shards)
    assert train_sentence_piece(lines, SIZE).proto == tokenizer.proto


def test_one_path_stands_for_a_list_of_one(shards):
    one = train_sentence_piece(shards[0], SIZE)
    assert one.proto == train_sentence_piece(shards[:1], SIZE).proto


def test_long_lines_are_not_dropped(tmp_path):
    # SentencePiece leaves out sentences above 4,192 bytes, and takes minutes
    # for one that repeats itself a hundred thousand times.
    long_line = "zyzzyva " * 100_000
    shard = write(tmp_path / "long.txt", [*corpus(50), long_line])
    pieces = train_sentence_piece([shard], SIZE).get_vocabulary()
    assert any("z" in piece for piece in pieces)


def test_lines_with_tabs_and_nuls_are_not_dropped(tmp_path):
    # SentencePiece leaves out sentences with a tab, which it uses itself.
    lines = [f"\tzyzzyva {line}\0quux" for line in corpus(100)]
    shard = write(tmp_path / "tabs.txt", lines)
    pieces = train_sentence_piece([shard], SIZE).get_vocabulary()
    assert any("z" in piece for piece in pieces)
    assert any("q" in piece for piece in pieces)


def test_runs_of_spaces_take_few_tokens(tmp_path):
    lines = [f"{' ' * 8}{line}" for line in corpus(100)]
    shard = write(tmp_path / "code.txt", lines)
    tokenizer = train_sentence_piece([shard], 480)
    assert len(np.array(tokenizer(" " * 8))) <= 2


def test_a_sample_takes_lines_at_even_distances():
    documents = [f"{2 * i}\n{2 * i + 1}" for i in range(50)]
    sample = list(_training._sample_lines(documents, 0.2))
    numbers = np.array([int(line) for line in sample])
    np.testing.assert_array_equal(np.diff(numbers), 5)
    assert len(numbers) == 20


def test_a_sample_of_everything_is_everything():
    documents = ["a\nb", "c", "", "d\n\ne"]
    assert list(_training._sample_lines(documents, 3.7)) == list("abcde")


def test_a_sample_reaches_the_last_shard(tmp_path, shards):
    late = [f"zyzzyva {line}" for line in corpus()]
    last = write(tmp_path / "last.txt", late)
    size = sum(map(os.path.getsize, [*shards, last]))
    tokenizer = train_sentence_piece(
        [*shards, last], SIZE, sample_bytes=size // 4
    )
    assert any("z" in piece for piece in tokenizer.get_vocabulary())


def test_the_corpus_is_not_held_in_memory(tmp_path):
    shard = write(tmp_path / "big.txt", ["word " * 2000] * 1000)  # 10 MB
    tracemalloc.start()
    lines = sum(
        1
        for _ in _training._sample_lines(
            _documents.read_documents([shard]), 0.5
        )
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert lines == 5000  # half of the slices of 1,000 characters
    assert peak < 1_000_000


def test_the_vocabulary_is_saved_and_loads_from_path_and_bytes(
    tmp_path, shards, tokenizer
):
    path = tmp_path / "new folder" / "vocabulary.spm"
    train_sentence_piece(shards, SIZE, path=path)
    assert path.read_bytes() == tokenizer.proto
    for source in (path, str(path), path.read_bytes()):
        assert load_sentence_piece(source).proto == tokenizer.proto


def test_a_failed_training_leaves_no_file(tmp_path, shards):
    with pytest.raises(UserError):
        train_sentence_piece(shards, 100_000, path=tmp_path / "v.spm")
    assert list(tmp_path.iterdir()) == []


def test_arrays_of_ids_can_be_detokenized(tokenizer):
    # KerasHub refuses a list of NumPy ints; an array is the way round that.
    token_ids = list(np.array(tokenizer("the model"), "int32"))
    assert tokenizer.detokenize(np.array(token_ids)) == "the model"


def test_end_of_text_has_an_id(tokenizer):
    token_id = end_of_text_id(tokenizer)
    assert type(token_id) is int
    assert tokenizer.id_to_token(token_id) == END_OF_TEXT


def test_a_vocabulary_without_end_of_text_is_refused(shards):
    tokenizer = train_sentence_piece(shards, SIZE, special_tokens=())
    with pytest.raises(UserError, match="must have the token .*endoftext"):
        end_of_text_id(tokenizer)


def test_the_end_of_text_of_other_tokenizers_is_found():
    vocabulary = {"a": 0, "aa": 1, END_OF_TEXT: 2}
    with_end = keras_hub.tokenizers.BytePairTokenizer(
        vocabulary, ["a a"], unsplittable_tokens=[END_OF_TEXT]
    )
    without = keras_hub.tokenizers.BytePairTokenizer({"a": 0, "aa": 1}, ["a a"])
    assert end_of_text_id(with_end) == 2
    with pytest.raises(UserError, match="must have the token"):
        end_of_text_id(without)


# --- The chapter's vocabulary, from a server of our own ----------------------


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, tokenizer, monkeypatch):
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "vocabulary.proto").write_bytes(tokenizer.proto)
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(
            _vocabularies,
            "BOOK_VOCABULARY_URL",
            f"http://127.0.0.1:{server.server_port}/vocabulary.proto",
        )
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
        yield folder
        server.shutdown()
        thread.join()


def test_the_books_vocabulary_is_downloaded_once(server, tmp_path, tokenizer):
    first = tokenizers.book_vocabulary()
    (server / "vocabulary.proto").unlink()
    again = tokenizers.book_vocabulary()
    assert first.proto == again.proto == tokenizer.proto
    folder = tmp_path / "home" / "kerasllm" / "vocabularies"
    assert (folder / "vocabulary.proto").read_bytes() == tokenizer.proto


def test_the_books_vocabulary_can_lie_elsewhere(server, tmp_path):
    tokenizers.book_vocabulary(tmp_path / "here")
    assert (tmp_path / "here" / "vocabulary.proto").is_file()


def test_a_vocabulary_with_another_hash_is_refused(server, tmp_path):
    with pytest.raises(UserError, match="must have the SHA-256"):
        tokenizers.book_vocabulary(tmp_path / "here", sha256="0" * 64)
    assert not (tmp_path / "here" / "vocabulary.proto").exists()


def test_a_page_instead_of_a_vocabulary_is_refused(server, tmp_path):
    (server / "vocabulary.proto").write_text("<html>Not found</html>")
    with pytest.raises(UserError, match="a serialized SentencePiece model"):
        tokenizers.book_vocabulary(tmp_path / "here")
