"""The pipeline says what is wrong with its arguments."""

import keras_hub
import pytest
import tensorflow as tf

from kerasllm.checks import MissingFileError, UserError
from kerasllm.pipeline import pretraining_dataset
from kerasllm.tokenizers import train_sentence_piece

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"sequence_length": 0}, "`sequence_length` must be a positive int"),
        ({"sequence_length": 2.5}, "`sequence_length` must be a positive int"),
        ({"batch_size": 0}, "`batch_size` must be a positive int"),
        ({"shuffle_buffer": 0}, "`shuffle_buffer` must be a positive int"),
        ({"num_batches": 0}, "`num_batches` must be a positive int"),
        ({"num_hosts": 0}, "`num_hosts` must be a positive int"),
        ({"host_index": 1}, r"`host_index` must be in \[0, num_hosts=1\)"),
        ({"batch_size": True}, "`batch_size` must be a positive int"),
        ({"seed": True}, "`seed` must be None or an int"),
        ({"host_index": False}, r"`host_index` must be in \[0, num_hosts=1\)"),
        ({"host_index": -1}, r"`host_index` must be in \[0, num_hosts=1\)"),
        ({"seed": "1"}, "`seed` must be None or an int"),
        ({"split": "test"}, "`split` must be one of 'train', 'validation'"),
        ({"validation_fraction": 0}, "`validation_fraction` must be between"),
        ({"validation_fraction": 1}, "`validation_fraction` must be between"),
        ({"files": []}, "`files` must name at least one shard"),
        ({"sequence_length": 10**6}, "must have at least 1000001 tokens"),
        (
            {"sequence_length": 99, "batch_size": 1000, "drop_remainder": True},
            "must have at least 100000 tokens on each host",
        ),
        (
            {"split": "validation", "validation_fraction": 1e-6},
            "raise `validation_fraction`",
        ),
    ],
)
def test_wrong_arguments_are_refused(shards, tokenizer, arguments, message):
    arguments = {"files": shards, "tokenizer": tokenizer} | arguments
    with pytest.raises(UserError, match=message):
        pretraining_dataset(**arguments)


def test_missing_shards_are_refused(shards, tokenizer, tmp_path):
    for wrong in (tmp_path / "missing.txt", tmp_path):
        with pytest.raises(MissingFileError, match="paths of text files"):
            pretraining_dataset([*shards, wrong], tokenizer)


def test_data_sets_of_anything_but_documents_are_refused(tokenizer):
    numbers = tf.data.Dataset.range(3)
    batches = tf.data.Dataset.from_tensor_slices(["a", "b"]).batch(2)
    for dataset in (numbers, batches):
        with pytest.raises(UserError, match="must have scalar strings"):
            pretraining_dataset(dataset, tokenizer)
    endless = tf.data.Dataset.from_tensors("a").repeat()
    with pytest.raises(UserError, match="must have an end"):
        pretraining_dataset(endless, tokenizer)


def test_a_tokenizer_without_the_end_token_is_refused(shards):
    without = train_sentence_piece(shards, 310, special_tokens=())
    with pytest.raises(UserError, match="must have the token .*endoftext"):
        pretraining_dataset(shards, without)


def test_a_tokenizer_that_pads_or_cuts_is_refused(shards, tokenizer):
    padding = keras_hub.tokenizers.SentencePieceTokenizer(
        tokenizer.proto, sequence_length=64
    )
    with pytest.raises(UserError, match="must neither pad nor cut"):
        pretraining_dataset(shards, padding)


def test_a_tokenizer_that_returns_strings_is_refused(shards, tokenizer):
    pieces = keras_hub.tokenizers.SentencePieceTokenizer(
        tokenizer.proto, dtype="string"
    )
    with pytest.raises(UserError, match="must return integers"):
        pretraining_dataset(shards, pieces)
