"""A corpus, a vocabulary and a cache that the tests of the pipeline share."""

import random

import pytest

from kerasllm.tokenizers import train_sentence_piece
from tests.pipeline.reference import document, write


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def tokenizer(shards):
    return train_sentence_piece(shards, 320)


@pytest.fixture(scope="package")
def counts(tmp_path_factory):
    return tmp_path_factory.mktemp("counts")


@pytest.fixture(autouse=True)
def shared_counts(own_cache, counts, monkeypatch):
    """The tests of this folder count each shard once, to be done sooner."""
    monkeypatch.setenv("KERAS_HOME", str(counts))


@pytest.fixture
def no_counts(shared_counts, tmp_path, monkeypatch):
    """A cache in which nothing has been counted."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "nothing counted"))
