"""Shards and a vocabulary that the tests of the tokenizers share."""

import pytest

from kerasllm.tokenizers import train_sentence_piece
from tests.tokenizers.small_corpus import SIZE, corpus, write


@pytest.fixture(scope="package")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return [write(folder / f"shard{i}.txt", corpus(seed=i)) for i in range(2)]


@pytest.fixture(scope="package")
def tokenizer(shards):
    return train_sentence_piece(shards, SIZE)
