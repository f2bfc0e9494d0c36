"""The pipeline gives the windows that ten lines of Python give."""

import collections
import itertools
import json
import os
import random

import keras
import keras_hub
import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from kerasllm import pipeline
from kerasllm.files import cache_dir
from kerasllm.pipeline import pretraining_dataset
from kerasllm.tokenizers import (
    END_OF_TEXT,
    end_of_text_id,
    load_sentence_piece,
    train_sentence_piece,
)

pytestmark = pytest.mark.any_backend

SYLLABLES = "the mod el reads a text and writes an oth er tok en by".split()


def document(generator):
    """A line of a shard: words, and here and there an escaped newline."""
    words = (
        "".join(generator.choices(SYLLABLES, k=generator.randint(1, 3)))
        for _ in range(generator.randint(1, 60))
    )
    return "".join(
        word + generator.choice([" ", " ", " ", "  ", "\\n"]) for word in words
    )


def write(path, lines):
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return str(path)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Three shards of different length, every document different."""
    folder = tmp_path_factory.mktemp("shards")
    generator = random.Random(0)
    return [
        write(
            folder / f"shard{i}.txt",
            [f"{i}.{j} {document(generator)}" for j in range(length)],
        )
        for i, length in enumerate([70, 40, 90])
    ]


@pytest.fixture(scope="module")
def tokenizer(shards):
    return train_sentence_piece(shards, 320)


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    return tmp_path_factory.mktemp("counts")


@pytest.fixture(autouse=True)
def shared_counts(own_cache, counts, monkeypatch):
    """The tests of this file count each shard once, to be done sooner."""
    monkeypatch.setenv("KERAS_HOME", str(counts))


@pytest.fixture
def no_counts(shared_counts, tmp_path, monkeypatch):
    """A cache in which nothing has been counted."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "nothing counted"))


def read(shard):
    with open(shard, encoding="utf-8", newline="\n") as file:
        return [line.rstrip("\n").replace("\\n", "\n") for line in file]


def in_turns(shards):
    """A document of each shard in turn; shards that are used up drop out."""
    rounds = itertools.zip_longest(*map(read, shards))
    return [text for turn in rounds for text in turn if text is not None]


def reference_stream(documents, tokenizer):
    library = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.proto)
    end = library.piece_to_id(END_OF_TEXT)
    return np.concatenate([library.encode(text) + [end] for text in documents])


def reference_windows(documents, tokenizer, sequence_length):
    stream = reference_stream(documents, tokenizer)
    number = len(stream) // (sequence_length + 1)
    return stream[: number * (sequence_length + 1)].reshape(number, -1)


def windows(dataset):
    """Put the rows `(x, y)` of all batches together again."""
    rows = [
        np.concatenate([x, y[:, -1:]], axis=1)
        for x, y in dataset.as_numpy_iterator()
    ]
    return np.concatenate(rows)


def as_set(rows):
    return collections.Counter(map(tuple, rows.tolist()))


def texts(dataset, tokenizer):
    """The documents in the stream; the last may be cut short."""
    text = tokenizer.detokenize(windows(dataset).reshape(-1))
    return text.split(END_OF_TEXT)


# --- Windows ----------------------------------------------------------------


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
    # 32 places; a place whose shard is used up waits a turn for the next one.
    waiting = [iter(read(file)) for file in files]
    places, documents = [None] * 32, []
    while waiting or any(places):
        for i, place in enumerate(places):
            if place is None and waiting:
                place = places[i] = waiting.pop(0)
            if place is not None:
                text = next(place, None)
                if text is None:
                    places[i] = None
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


# --- How many ---------------------------------------------------------------


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
    monkeypatch.setattr(pipeline, "_sum_tokens", never)
    # Other windows, other order and fewer shards need no new count either.
    pretraining_dataset(shards[:2], tokenizer, 32, 4, seed=1)
    again = pretraining_dataset(shards, tokenizer, 16, 8)
    np.testing.assert_array_equal(windows(first), windows(again))


@pytest.mark.usefixtures("no_counts")
def test_a_broken_off_count_goes_on_where_it_stopped(
    shards, tokenizer, monkeypatch
):
    written = []

    def write_two(name, tokens, write=pipeline._write_count):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(name)
        write(name, tokens)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_write_count", write_two)
        with pytest.raises(KeyboardInterrupt):
            pretraining_dataset(shards, tokenizer, 16, 8)
    monkeypatch.setattr(pipeline, "_sum_tokens", never)
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
    monkeypatch.setattr(pipeline, "_sum_tokens", never)
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
def test_counting_shows_its_progress_on_request(shards, tokenizer, capsys):
    pretraining_dataset(shards[:2], tokenizer, 16, 8)
    assert capsys.readouterr().out == ""
    pretraining_dataset(shards, tokenizer, 16, 8, split="train", verbose=1)
    assert "3/3" in capsys.readouterr().out


@pytest.mark.usefixtures("no_counts")
def test_a_known_number_of_batches_is_not_counted(
    shards, tokenizer, monkeypatch
):
    monkeypatch.setattr(pipeline, "_sum_tokens", never)
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
    first_place = {tuple(row): i for i, row in reversed([*enumerate(plain)])}
    for i, row in enumerate(near):
        assert first_place[tuple(row)] < i + 4


# --- Train and validation ---------------------------------------------------


def split_texts(files, tokenizer, split, **arguments):
    """Whole documents of one side; a cut-off last one is left out."""
    arguments = {"validation_fraction": 0.25} | arguments
    dataset = pretraining_dataset(
        files, tokenizer, 1, 8, split=split, **arguments
    )
    return texts(dataset, tokenizer)[:-1]


def test_every_document_is_on_exactly_one_side(shards, tokenizer):
    train = split_texts(shards, tokenizer, "train")
    validation = split_texts(shards, tokenizer, "validation")
    assert not set(train) & set(validation)
    documents = in_turns(shards)
    # In their order, but for a last one that a window may cut on each side.
    for side, rest in ((train, validation), (validation, train)):
        others = [text for text in documents if text not in set(rest)]
        assert side == others[: len(side)]
    assert len(documents) - 2 <= len(train) + len(validation)


def test_copies_of_a_document_are_on_one_side(tmp_path, tokenizer):
    generator = random.Random(2)
    lines = [f"{i} {document(generator)}" for i in range(60)] * 3
    generator.shuffle(lines)
    shard = write(tmp_path / "copies.txt", lines)
    train = set(split_texts([shard], tokenizer, "train"))
    validation = set(split_texts([shard], tokenizer, "validation"))
    assert train and validation
    assert not train & validation


def test_the_side_depends_on_the_text_alone(shards, tokenizer):
    all_files = set(split_texts(shards, tokenizer, "validation"))
    alone = set(split_texts(shards[2:], tokenizer, "validation"))
    backwards = set(split_texts(shards[::-1], tokenizer, "validation"))
    lines = tf.data.TextLineDataset(shards)
    as_data_set = set(split_texts(lines, tokenizer, "validation"))
    # Each may miss the one document that its last window cuts.
    assert len(alone - all_files) <= 1
    assert len(all_files ^ backwards) <= 2
    assert len(all_files ^ as_data_set) <= 2


def test_no_epoch_mixes_the_sides(shards, tokenizer):
    """The published notebook's shuffle before its split did."""
    train, validation = (
        pretraining_dataset(
            shards,
            tokenizer,
            24,
            8,
            split=split,
            validation_fraction=0.25,
            seed=0,
            reshuffle=True,
        )
        for split in ("train", "validation")
    )
    held_out = as_set(windows(validation))
    for _ in range(3):
        assert not as_set(windows(train)) & held_out


def test_the_fraction_is_the_expected_share(tmp_path, tokenizer):
    fraction = 0.1
    shard = write(tmp_path / "numbers.txt", map(str, range(4000)))
    held_out = len(
        split_texts(
            [shard], tokenizer, "validation", validation_fraction=fraction
        )
    )
    # Five standard deviations: wrong once in a million hash functions.
    deviation = np.sqrt(4000 * fraction * (1 - fraction))
    assert abs(held_out - 4000 * fraction) < 5 * deviation


def test_a_larger_fraction_only_adds_documents(shards, tokenizer):
    few, many = (
        set(
            split_texts(
                shards, tokenizer, "validation", validation_fraction=fraction
            )
        )
        for fraction in (0.2, 0.4)
    )
    assert len(few - many) <= 1 < len(many - few)


# --- Hosts ------------------------------------------------------------------


@pytest.fixture
def even_shards(tmp_path):
    """Six shards of 20 documents, all different and all of ten tokens."""
    # Three characters that no vocabulary here has: three bytes each, and end.
    numbers = itertools.product("日本語文字漢", repeat=3)
    return [
        write(
            tmp_path / f"even{i}.txt",
            ["".join(next(numbers)) for _ in range(20)],
        )
        for i in range(6)
    ]


@pytest.mark.parametrize("num_hosts", [2, 3, 4])
def test_each_document_is_read_by_exactly_one_host(
    even_shards, tokenizer, num_hosts
):
    rows = np.concatenate(
        [
            windows(
                pretraining_dataset(
                    even_shards,
                    tokenizer,
                    9,
                    7,
                    host_index=host,
                    num_hosts=num_hosts,
                )
            )
            for host in range(num_hosts)
        ]
    )
    expected = reference_windows(in_turns(even_shards), tokenizer, 9)
    assert len(expected) == 120
    assert as_set(rows) == as_set(expected)


def test_a_host_reads_its_own_shards_only(even_shards, tokenizer):
    dataset = pretraining_dataset(
        even_shards, tokenizer, 9, 8, host_index=1, num_hosts=2
    )
    np.testing.assert_array_equal(
        windows(dataset),
        reference_windows(in_turns(even_shards[1::2]), tokenizer, 9),
    )


def test_a_data_set_is_shared_by_document(even_shards, tokenizer):
    lines = tf.data.TextLineDataset(even_shards)
    rows = [
        windows(
            pretraining_dataset(
                lines, tokenizer, 9, 8, host_index=host, num_hosts=3
            )
        )
        for host in range(3)
    ]
    documents = [text for shard in even_shards for text in read(shard)]
    for host in range(3):
        np.testing.assert_array_equal(
            rows[host], reference_windows(documents[host::3], tokenizer, 9)
        )


@pytest.mark.parametrize("num_hosts", [2, 3])
def test_all_hosts_have_batches_of_the_same_shapes(
    shards, tokenizer, num_hosts
):
    shapes = [
        [
            x.shape
            for x, _ in pretraining_dataset(
                shards,
                tokenizer,
                16,
                8,
                host_index=host,
                num_hosts=num_hosts,
            ).as_numpy_iterator()
        ]
        for host in range(num_hosts)
    ]
    assert all(host == shapes[0] for host in shapes)


def test_the_hosts_share_of_a_split_is_disjoint(even_shards, tokenizer):
    sides = [
        as_set(
            windows(
                pretraining_dataset(
                    even_shards[:3],
                    tokenizer,
                    9,
                    8,
                    split=split,
                    validation_fraction=0.3,
                    host_index=host,
                    num_hosts=2,
                )
            )
        )
        for host in range(2)
        for split in ("train", "validation")
    ]
    for one, other in itertools.combinations(sides, 2):
        assert not one & other


# --- Refusals ---------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"sequence_length": 0}, "`sequence_length` must be an int of at"),
        ({"sequence_length": 2.5}, "`sequence_length` must be an int of at"),
        ({"batch_size": 0}, "`batch_size` must be an int of at least 1"),
        ({"shuffle_buffer": 0}, "`shuffle_buffer` must be an int of at"),
        ({"num_batches": 0}, "`num_batches` must be an int of at least 1"),
        ({"num_hosts": 0}, "`num_hosts` must be an int of at least 1"),
        ({"host_index": 1}, r"`host_index` must be in \[0, num_hosts=1\)"),
        ({"host_index": -1}, r"`host_index` must be in \[0, num_hosts=1\)"),
        ({"seed": "1"}, "`seed` must be None or an int"),
        ({"split": "test"}, '`split` must be None, "train" or "validation"'),
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
    with pytest.raises(ValueError, match=message):
        pretraining_dataset(**arguments)


def test_missing_shards_are_refused(shards, tokenizer, tmp_path):
    for wrong in (tmp_path / "missing.txt", tmp_path):
        with pytest.raises(FileNotFoundError, match="paths of text files"):
            pretraining_dataset([*shards, wrong], tokenizer)


def test_data_sets_of_anything_but_documents_are_refused(tokenizer):
    numbers = tf.data.Dataset.range(3)
    batches = tf.data.Dataset.from_tensor_slices(["a", "b"]).batch(2)
    for dataset in (numbers, batches):
        with pytest.raises(ValueError, match="must have scalar strings"):
            pretraining_dataset(dataset, tokenizer)
    endless = tf.data.Dataset.from_tensors("a").repeat()
    with pytest.raises(ValueError, match="must have an end"):
        pretraining_dataset(endless, tokenizer)


def test_a_tokenizer_without_the_end_token_is_refused(shards):
    without = train_sentence_piece(shards, 310, special_tokens=())
    with pytest.raises(ValueError, match="must have the token .*endoftext"):
        pretraining_dataset(shards, without)


def test_a_tokenizer_that_pads_or_cuts_is_refused(shards, tokenizer):
    padding = keras_hub.tokenizers.SentencePieceTokenizer(
        tokenizer.proto, sequence_length=64
    )
    with pytest.raises(ValueError, match="must neither pad nor cut"):
        pretraining_dataset(shards, padding)


def test_a_tokenizer_that_returns_strings_is_refused(shards, tokenizer):
    pieces = keras_hub.tokenizers.SentencePieceTokenizer(
        tokenizer.proto, dtype="string"
    )
    with pytest.raises(ValueError, match="must return integers"):
        pretraining_dataset(shards, pieces)


def test_a_saved_vocabulary_gives_the_same_windows(shards, tokenizer, tmp_path):
    path = tmp_path / "vocabulary.spm"
    path.write_bytes(tokenizer.proto)
    loaded = load_sentence_piece(os.fspath(path))
    assert end_of_text_id(loaded) == end_of_text_id(tokenizer)
    np.testing.assert_array_equal(
        windows(pretraining_dataset(shards, tokenizer, 16, 8)),
        windows(pretraining_dataset(shards, loaded, 16, 8)),
    )
