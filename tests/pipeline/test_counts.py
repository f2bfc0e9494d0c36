"""The number of batches is known, and counted once."""

import itertools
import json
import sys

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.files import cache_dir
from kerasllm.pipeline import _counts, pretraining_dataset
from kerasllm.tokenizers import train_sentence_piece
from tests.pipeline.reference import (
    in_turns,
    read,
    reference_windows,
    windows,
    write,
)

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    "batch_size, drop_remainder", [(1, False), (64, False), (64, True)]
)
def test_the_number_of_batches_is_known_exactly(
    shards, tokenizer, batch_size, drop_remainder
):
    number = len(reference_windows(in_turns(shards), tokenizer, 31))
    dataset = pretraining_dataset(
        shards, tokenizer, 31, batch_size, drop_remainder=drop_remainder
    )
    rounded = np.floor if drop_remainder else np.ceil
    assert dataset.cardinality() == rounded(number / batch_size)
    assert sum(1 for _ in dataset) == rounded(number / batch_size)


def test_the_number_is_known_for_a_split_and_a_seed(shards, tokenizer):
    for split in ("train", "validation"):
        dataset = pretraining_dataset(
            shards,
            tokenizer,
            16,
            4,
            split=split,
            validation_fraction=0.3,
            seed=0,
        )
        assert dataset.cardinality() == sum(1 for _ in dataset)


def test_fit_knows_its_steps_from_the_first_batch_on(shards, tokenizer):
    dataset = pretraining_dataset(shards, tokenizer, 16, 8)
    model = keras.Sequential([keras.layers.Embedding(320, 320)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    told = []
    callback = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: told.append(callback.params["steps"])
    )
    model.fit(dataset, verbose=0, shuffle=False, callbacks=[callback])
    assert told == [int(dataset.cardinality())]


def never(*arguments):
    raise RuntimeError("counted")


@pytest.mark.usefixtures("no_counts")
def test_shards_are_counted_only_once(shards, tokenizer, monkeypatch):
    first = pretraining_dataset(shards, tokenizer, 16, 8)
    monkeypatch.setattr(_counts, "_sum_tokens", never)
    # Other windows, other order and fewer shards need no new count either.
    pretraining_dataset(shards[:2], tokenizer, 32, 4, seed=1)
    again = pretraining_dataset(shards, tokenizer, 16, 8)
    np.testing.assert_array_equal(windows(first), windows(again))


@pytest.mark.usefixtures("no_counts")
def test_a_broken_off_count_goes_on_where_it_stopped(
    shards, tokenizer, monkeypatch
):
    written = []

    def write_two(name, tokens, write=_counts._write_count):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(name)
        write(name, tokens)

    with monkeypatch.context() as patch:
        patch.setattr(_counts, "_write_count", write_two)
        with pytest.raises(KeyboardInterrupt):
            pretraining_dataset(shards, tokenizer, 16, 8)
    monkeypatch.setattr(_counts, "_sum_tokens", never)
    pretraining_dataset(shards[:2], tokenizer, 16, 8)
    with pytest.raises(RuntimeError, match="counted"):
        pretraining_dataset(shards, tokenizer, 16, 8)


@pytest.mark.usefixtures("no_counts")
def test_what_changes_the_tokens_is_counted_again(
    tmp_path, shards, tokenizer, monkeypatch
):
    changed = write(tmp_path / "changed.txt", read(shards[0])[:-1])
    other = train_sentence_piece(shards, 310)
    with_start = keras_hub.tokenizers.SentencePieceTokenizer(
        tokenizer.proto, add_bos=True
    )
    pretraining_dataset(shards[:1], tokenizer, 16, 8)
    monkeypatch.setattr(_counts, "_sum_tokens", never)
    for arguments in (
        {"files": [changed]},
        {"tokenizer": other},
        {"tokenizer": with_start},
        {"split": "train"},
        {"restore_newlines": False},
        {"num_hosts": 2},
    ):
        arguments = {"files": shards[:1], "tokenizer": tokenizer} | arguments
        with pytest.raises(RuntimeError, match="counted"):
            pretraining_dataset(sequence_length=16, **arguments)


@pytest.mark.usefixtures("no_counts")
def test_a_damaged_or_missing_cache_is_no_harm(
    shards, tokenizer, monkeypatch, tmp_path
):
    number = int(pretraining_dataset(shards, tokenizer, 16, 8).cardinality())
    for content in (b"[]", b"\xff"):
        for file in cache_dir("counts").iterdir():
            file.write_bytes(content)
        dataset = pretraining_dataset(shards, tokenizer, 16, 8)
        assert dataset.cardinality() == number
    for file in cache_dir("counts").iterdir():
        assert json.loads(file.read_text())["tokens"] > 0
    in_the_way = tmp_path / "a file"
    in_the_way.touch()
    monkeypatch.setenv("KERAS_HOME", str(in_the_way))
    dataset = pretraining_dataset(shards, tokenizer, 16, 8)
    assert dataset.cardinality() == number


@pytest.mark.usefixtures("no_counts")
def test_counting_shows_its_progress_on_request(
    shards, tokenizer, capsys, monkeypatch
):
    pretraining_dataset(shards[:2], tokenizer, 16, 8)
    assert capsys.readouterr().out == ""
    # A pipe gets no bar, but a line after some seconds.
    pretraining_dataset(shards[:2], tokenizer, 16, 8, split="train", verbose=1)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    pretraining_dataset(
        shards, tokenizer, 16, 8, split="validation", verbose=1,
        validation_fraction=0.5,
    )  # fmt: skip
    assert "3/3" in capsys.readouterr().out


@pytest.mark.usefixtures("no_counts")
def test_a_known_number_of_batches_is_not_counted(
    shards, tokenizer, monkeypatch
):
    monkeypatch.setattr(_counts, "_sum_tokens", never)
    dataset = pretraining_dataset(shards, tokenizer, 16, 8, num_batches=3)
    assert dataset.cardinality() == 3
    expected = reference_windows(in_turns(shards), tokenizer, 16)[:24]
    np.testing.assert_array_equal(windows(dataset), expected)


def test_too_large_a_number_of_batches_is_an_error(shards, tokenizer):
    dataset = pretraining_dataset(shards, tokenizer, 16, 8, num_batches=10**6)
    with pytest.raises(tf.errors.OpError, match="1000000 elements"):
        windows(dataset)


def test_a_shard_that_shrinks_after_the_count_is_an_error(
    tmp_path, shards, tokenizer
):
    shard = write(tmp_path / "shard.txt", read(shards[0]))
    dataset = pretraining_dataset([shard], tokenizer, 16, 8)
    write(tmp_path / "shard.txt", read(shards[0])[:10])
    with pytest.raises(tf.errors.OpError, match="expected"):
        windows(dataset)


def test_documents_are_read_as_they_are_needed(tokenizer):
    pulled = itertools.count()

    def many():
        for _ in range(100_000):
            next(pulled)
            yield "the model reads a text"

    documents = tf.data.Dataset.from_generator(
        many, output_signature=tf.TensorSpec((), tf.string)
    )
    dataset = pretraining_dataset(documents, tokenizer, 16, 8, num_batches=50)
    windows(dataset)
    assert next(pulled) < 20_000
