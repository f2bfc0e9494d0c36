"""The pipeline gives the windows that ten lines of Python give."""

import os
import random

import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.pipeline import pretraining_dataset
from kerasllm.tokenizers import (
    END_OF_TEXT,
    end_of_text_id,
    load_sentence_piece,
)
from tests.pipeline.reference import (
    as_set,
    document,
    in_turns,
    read,
    reference_windows,
    texts,
    windows,
    write,
)

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    "sequence_length, batch_size", [(1, 32), (7, 8), (256, 1)]
)
def test_windows_are_those_of_the_reference(
    shards, tokenizer, sequence_length, batch_size
):
    dataset = pretraining_dataset(
        shards, tokenizer, sequence_length, batch_size
    )
    np.testing.assert_array_equal(
        windows(dataset),
        reference_windows(in_turns(shards), tokenizer, sequence_length),
    )


def test_y_is_x_shifted_by_one(shards, tokenizer):
    for x, y in pretraining_dataset(shards, tokenizer, 16, 8):
        np.testing.assert_array_equal(x[:, 1:], y[:, :-1])


def test_elements_are_two_int32_matrices(shards, tokenizer):
    dataset = pretraining_dataset(shards, tokenizer, 16, 8)
    for spec in dataset.element_spec:
        assert spec.dtype == tf.int32
        assert spec.shape.as_list() == [None, 16]
    x, y = next(iter(dataset))
    assert x.shape == y.shape == (8, 16)


def test_the_defaults_are_the_chapters(shards, tokenizer):
    files = shards * 12
    x, _ = next(iter(pretraining_dataset(files, tokenizer)))
    assert x.shape == (128, 256)


def test_more_shards_than_may_be_open_are_read_in_turns(tmp_path, tokenizer):
    generator = random.Random(1)
    files = [
        write(
            tmp_path / f"{i}.txt",
            [document(generator) for _ in range(generator.randint(0, 4))],
        )
        for i in range(40)
    ]
    # 32 shards are open; where one is used up, the next opens a turn later.
    waiting = [iter(read(file)) for file in files]
    opened, documents = [None] * 32, []
    while waiting or any(opened):
        for i, shard in enumerate(opened):
            if shard is None and waiting:
                shard = opened[i] = waiting.pop(0)
            if shard is not None:
                text = next(shard, None)
                if text is None:
                    opened[i] = None
                else:
                    documents.append(text)
    np.testing.assert_array_equal(
        windows(pretraining_dataset(files, tokenizer, 8, 8)),
        reference_windows(documents, tokenizer, 8),
    )


def test_a_data_set_of_documents_gives_the_same_windows(shards, tokenizer):
    lines = tf.data.TextLineDataset(shards)
    documents = [text for shard in shards for text in read(shard)]
    np.testing.assert_array_equal(
        windows(pretraining_dataset(lines, tokenizer, 16, 8)),
        reference_windows(documents, tokenizer, 16),
    )


def test_one_path_stands_for_a_list_of_one(shards, tokenizer):
    np.testing.assert_array_equal(
        windows(pretraining_dataset(shards[0], tokenizer, 16, 8)),
        windows(pretraining_dataset([shards[0]], tokenizer, 16, 8)),
    )


def test_backslashes_are_kept_on_request(tokenizer):
    code = ['print("a\\n")\n'] * 20
    dataset = pretraining_dataset(
        tf.data.Dataset.from_tensor_slices(code),
        tokenizer,
        8,
        8,
        restore_newlines=False,
    )
    assert texts(dataset, tokenizer)[0] == code[0]


def test_an_empty_line_is_an_empty_document(tmp_path, tokenizer):
    shard = write(tmp_path / "gaps.txt", ["one", "", "two", "", ""] * 4)
    assert texts(pretraining_dataset([shard], tokenizer, 1, 1), tokenizer)[
        :6
    ] == ["one", "", "two", "", "", "one"]


def test_text_that_spells_the_end_token_does_not_end_the_document(
    tmp_path, tokenizer
):
    shard = write(tmp_path / "llm.txt", [f"use {END_OF_TEXT} here"] * 50)
    dataset = pretraining_dataset([shard], tokenizer, 1, 8)
    found = texts(dataset, tokenizer)
    assert found[:49] == ["use < |endoftext|> here"] * 49


def test_another_kind_of_tokenizer_works_too(tmp_path):
    tokenizer = keras_hub.tokenizers.BytePairTokenizer(
        {"a": 0, "b": 1, "ab": 2, END_OF_TEXT: 3},
        ["a b"],
        unsplittable_tokens=[END_OF_TEXT],
    )
    shard = write(tmp_path / "ab.txt", ["ab", "ba", "a"] * 4)
    dataset = pretraining_dataset([shard], tokenizer, 6, 4, num_batches=1)
    expected = [2, 3, 1, 0, 3, 0, 3] * 4  # ab, end, b, a, end, a, end
    assert windows(dataset).reshape(-1).tolist() == expected


def test_a_saved_vocabulary_gives_the_same_windows(shards, tokenizer, tmp_path):
    path = tmp_path / "vocabulary.spm"
    path.write_bytes(tokenizer.proto)
    loaded = load_sentence_piece(os.fspath(path))
    assert end_of_text_id(loaded) == end_of_text_id(tokenizer)
    np.testing.assert_array_equal(
        windows(pretraining_dataset(shards, tokenizer, 16, 8)),
        windows(pretraining_dataset(shards, loaded, 16, 8)),
    )


def test_arguments_may_be_numpys_numbers(shards, tokenizer):
    arguments = {
        "split": "train",
        "seed": 1,
        "num_hosts": 2,
        "host_index": 1,
        "shuffle_buffer": 64,
    }
    plain = pretraining_dataset(shards, tokenizer, 16, 8, **arguments)
    arguments = {
        name: value if name == "split" else np.int64(value)
        for name, value in arguments.items()
    }
    found = pretraining_dataset(
        shards,
        tokenizer,
        np.int32(16),
        np.int64(8),
        validation_fraction=np.float64(0.02),
        **arguments,
    )
    np.testing.assert_array_equal(windows(found), windows(plain))


def test_it_leaves_the_process_as_it_is(shards, tokenizer, monkeypatch):
    def never(*arguments):
        raise AssertionError("the devices were changed")

    environment = dict(os.environ)
    monkeypatch.setattr(tf.config, "set_visible_devices", never)
    windows(pretraining_dataset(shards, tokenizer, 16, 8))
    assert dict(os.environ) == environment


# --- Order ------------------------------------------------------------------


def test_each_iteration_gives_the_same_batches(shards, tokenizer):
    for seed in (None, 3):
        dataset = pretraining_dataset(shards, tokenizer, 16, 8, seed=seed)
        np.testing.assert_array_equal(windows(dataset), windows(dataset))


def test_a_seed_decides_the_order(shards, tokenizer):
    plain, one, same, two = (
        windows(pretraining_dataset(shards, tokenizer, 16, 8, seed=seed))
        for seed in (None, 1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, two)
    assert not np.array_equal(one, plain)
    assert as_set(plain) == as_set(one) == as_set(two)


def test_reshuffling_gives_each_epoch_its_own_order(shards, tokenizer):
    dataset, same = (
        pretraining_dataset(shards, tokenizer, 16, 8, seed=1, reshuffle=True)
        for _ in range(2)
    )
    first, second = windows(dataset), windows(dataset)
    assert not np.array_equal(first, second)
    assert as_set(first) == as_set(second)
    np.testing.assert_array_equal(windows(same), first)
    np.testing.assert_array_equal(windows(same), second)


def test_a_small_buffer_shuffles_only_nearby(shards, tokenizer):
    plain = windows(pretraining_dataset(shards, tokenizer, 16, 8))
    near = windows(
        pretraining_dataset(shards, tokenizer, 16, 8, seed=0, shuffle_buffer=4)
    )
    first = {tuple(w): i for i, w in reversed([*enumerate(plain)])}
    for i, window in enumerate(near):
        assert first[tuple(window)] < i + 4
