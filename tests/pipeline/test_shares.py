"""Which documents are whose: of training or validation, of which host."""

import itertools
import random

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.pipeline import pretraining_dataset
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


@pytest.mark.parametrize("blank", ["", "  ", "\\n"])
def test_blank_lines_are_on_neither_side(tmp_path, tokenizer, blank):
    texts_ = [f"the model reads a text {i}" for i in range(200)]
    lines = [line for text in texts_ for line in (text, blank, blank)]
    shard = write(tmp_path / "verses.txt", lines)
    found = [
        text
        for split in ("train", "validation")
        for text in split_texts([shard], tokenizer, split)
    ]
    assert set(found) <= set(texts_)
    assert len(found) >= len(texts_) - 2, "the last of a side may be cut off"


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
    found = np.concatenate(
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
    assert as_set(found) == as_set(expected)


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
    found = [
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
            found[host], reference_windows(documents[host::3], tokenizer, 9)
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
