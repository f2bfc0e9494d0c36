"""What is kept of a conversation, and when it may be used."""

import numpy as np
import pytest

from kerasllm.generation import Past, _batches

pytestmark = pytest.mark.any_backend


class Decoder:
    """What `Past` asks of a decoder."""

    extends, state = True, 1

    def weights(self):
        return self.state


@pytest.fixture
def decoder():
    return Decoder()


def past_with(decoder, token_ids, cache_length=24):
    past = Past()
    assert past.take(decoder, np.array([1]), cache_length) == (None, 0)
    past.keep("the cache", np.array(token_ids))
    return past


@pytest.mark.parametrize(
    "read, text, expected",
    [
        ([1, 2, 3], [1, 2, 3, 4, 5], 3),
        ([1, 2, 3], [1, 2, 7, 4, 5], 2),
        ([1, 2, 3], [1, 2, 3], 2),  # the last token must be read
        ([1, 2, 3], [1, 2], 1),
    ],
)
def test_what_two_texts_share_is_read_once(decoder, read, text, expected):
    past = past_with(decoder, read)
    assert past.take(decoder, np.array(text), 24) == ("the cache", expected)


@pytest.mark.parametrize("text", [[7, 2, 3], [1]])
def test_a_text_that_shares_nothing_is_read_from_its_start(decoder, text):
    past = past_with(decoder, [1, 2, 3])
    assert past.take(decoder, np.array(text), 24) == (None, 0)


def test_a_cache_is_given_to_one_call(decoder):
    past, text = past_with(decoder, [1, 2, 3]), np.array([1, 2, 3, 4])
    assert past.take(decoder, text, 24)[1] == 3
    assert past.take(decoder, text, 24) == (None, 0)


def test_a_cache_is_for_one_model_one_length_and_its_weights(decoder):
    text = np.array([1, 2, 3, 4])
    assert past_with(decoder, [1, 2]).take(Decoder(), text, 24) == (None, 0)
    assert past_with(decoder, [1, 2]).take(decoder, text, 32) == (None, 0)
    past = past_with(decoder, [1, 2])
    decoder.state = 2
    assert past.take(decoder, text, 24) == (None, 0)
    past = past_with(decoder, [1, 2])
    decoder.extends = False
    assert past.take(decoder, text, 24) == (None, 0)


class Reader(Decoder):
    """Notes what it is asked to read."""

    def __init__(self):
        self.asked = []

    def prefill(self, token_ids, length, cache_length):
        self.asked.append(("prefill", len(token_ids), length, cache_length))
        return "logits", "cache"

    def take(self, cache, indices, old_batch_size):
        self.asked.append((cache, list(indices), old_batch_size))
        return "caches"


@pytest.mark.parametrize("shared, start", [(70, 80), (80, 80), (90, 80)])
def test_a_prefix_that_all_prompts_share_is_read_once(shared, start):
    token_ids = np.tile(np.arange(96, dtype="int32"), (4, 1))
    token_ids[1, shared:] += 1
    token_ids[3, shared + 5 :] += 1
    reader, length = Reader(), min(shared, start - 1)
    read = _batches._read_once(reader, token_ids, start)
    assert read == ("caches", length)
    prefill, take = reader.asked
    assert prefill == ("prefill", 1, length, 96)
    assert take == ("cache", [0, 0, 0, 0], 1)


@pytest.mark.parametrize("batch_size, shared", [(1, 90), (4, 63)])
def test_a_short_prefix_or_one_prompt_is_read_as_a_whole(batch_size, shared):
    token_ids = np.tile(np.arange(96, dtype="int32"), (batch_size, 1))
    token_ids[-1, shared:] += batch_size > 1
    assert _batches._read_once(Reader(), token_ids, 80) == (None, 0)
