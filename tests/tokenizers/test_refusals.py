"""What is no corpus, vocabulary or argument is refused with a reason."""

import pytest
import tensorflow as tf

from kerasllm.checks import MissingFileError, UserError
from kerasllm.tokenizers import load_sentence_piece, train_sentence_piece
from tests.tokenizers.small_corpus import SIZE, write

pytestmark = pytest.mark.any_backend


def test_a_missing_vocabulary_is_refused(tmp_path):
    with pytest.raises(
        MissingFileError, match="which is not a file. Train one"
    ):
        load_sentence_piece(tmp_path / "missing.spm")


@pytest.mark.parametrize("damage", ["empty", "cut short", "text"])
def test_a_damaged_vocabulary_is_refused(tmp_path, tokenizer, damage):
    content = {
        "empty": b"",
        "cut short": tokenizer.proto[:1000],
        "text": b"This is no vocabulary at all. " * 50,
    }[damage]
    path = tmp_path / "damaged.spm"
    path.write_bytes(content)
    for source in (content, path):
        with pytest.raises(UserError, match="a serialized SentencePiece"):
            load_sentence_piece(source)


def test_a_vocabulary_of_another_type_is_refused():
    with pytest.raises(UserError, match="a path or bytes. Received.*list"):
        load_sentence_piece([1, 2])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"vocabulary_size": 0}, "`vocabulary_size` must be a positive int"),
        ({"vocabulary_size": 4.5}, "`vocabulary_size` must be a positive int"),
        ({"vocabulary_size": 50_000}, r"supports at most \d+ tokens"),
        ({"vocabulary_size": 100}, r"alphabet alone needs \d+ tokens"),
        ({"vocabulary_size": True}, "`vocabulary_size` must be a positive int"),
        ({"model_type": "word"}, "`model_type` must be.* 'unigram', 'bpe'"),
        ({"sample_bytes": True}, "`sample_bytes` must be at least 1"),
        ({"special_tokens": [1]}, "`special_tokens` must be distinct"),
        ({"control_tokens": {"end": "</s>"}}, "`control_tokens` must be one"),
        ({"sample_bytes": 0}, "`sample_bytes` must be at least 1"),
        ({"special_tokens": ["<a>", "<a>"]}, "`special_tokens` must be dis"),
        ({"special_tokens": ["\n"]}, "`special_tokens` must be distinct"),
        ({"special_tokens": [""]}, "`special_tokens` must be distinct"),
        ({"special_tokens": ["a b"]}, "without spaces"),
        ({"files": []}, "`files` must name at least one shard"),
    ],
)
def test_wrong_arguments_are_refused(shards, arguments, message):
    arguments = {"files": shards, "vocabulary_size": SIZE} | arguments
    with pytest.raises(UserError, match=message):
        train_sentence_piece(**arguments)


def test_missing_shards_are_refused(shards, tmp_path):
    for wrong in (tmp_path / "missing.txt", tmp_path):
        with pytest.raises(MissingFileError, match="paths of text files"):
            train_sentence_piece([*shards, wrong], SIZE)


def test_an_empty_corpus_is_refused(tmp_path):
    shard = write(tmp_path / "empty.txt", ["", ""])
    with pytest.raises(UserError, match="a corpus without text"):
        train_sentence_piece([shard], SIZE)


def test_bytes_that_are_not_utf8_are_refused(tmp_path):
    shard = tmp_path / "latin.txt"
    shard.write_bytes(b"fine\ncaf\xe9\n")
    with pytest.raises(
        UserError, match=r"^Documents must be UTF-8.*latin.txt, line 2"
    ):
        train_sentence_piece([shard], SIZE)
    dataset = tf.data.Dataset.from_tensor_slices([b"fine", b"caf\xe9"])
    with pytest.raises(UserError, match="^Documents must be UTF-8.*document 1"):
        train_sentence_piece(dataset, SIZE)


def test_data_sets_of_anything_but_documents_are_refused():
    numbers = tf.data.Dataset.range(3)
    batches = tf.data.Dataset.from_tensor_slices(["a", "b"]).batch(2)
    for dataset in (numbers, batches):
        with pytest.raises(UserError, match="must have scalar strings"):
            train_sentence_piece(dataset, SIZE)
    endless = tf.data.Dataset.from_tensors("a").repeat()
    with pytest.raises(UserError, match="must have an end"):
        train_sentence_piece(endless, SIZE)


def test_a_path_that_cannot_be_written_is_told_before_training(
    shards, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("kerasllm.tokenizers._training._train", None)
    with pytest.raises(UserError, match="folder that can be written to"):
        train_sentence_piece(shards, SIZE, path=tmp_path / "file" / "v.spm")
