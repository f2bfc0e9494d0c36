"""What is kept of a conversation, and when it may be used."""

import numpy as np
import pytest

from kerasllm.generation import Past, _batches

pytestmark = pytest.mark.any_backend


def past_with(token_ids, model="a model"):
    past = Past()
    assert past.take(model, np.array([1])) == (None, 0)
    past.keep(model, "the cache", np.array(token_ids))
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
def test_what_two_texts_share_is_read_once(read, text, expected):
    past = past_with(read)
    assert past.take("a model", np.array(text)) == ("the cache", expected)


@pytest.mark.parametrize("text", [[7, 2, 3], [1]])
def test_a_text_that_shares_nothing_is_read_from_its_start(text):
    assert past_with([1, 2, 3]).take("a model", np.array(text)) == (None, 0)


def test_a_cache_is_given_to_one_call():
    past, text = past_with([1, 2, 3]), np.array([1, 2, 3, 4])
    assert past.take("a model", text)[1] == 3
    assert past.take("a model", text) == (None, 0)


def test_a_cache_is_for_one_model():
    past = past_with([1, 2])
    assert past.take("another model", np.array([1, 2, 3])) == (None, 0)


@pytest.mark.parametrize(
    "num_read, start, cache_length, expected",
    [
        (12, 20, 96, True),  # 8 instead of 24
        (1, 20, 96, False),  # 24 both
        (64, 1100, 4096, False),  # 1,536 both
        (700, 1100, 2048, True),  # 512 x 2,048 are the most that is taken
        (700, 1100, 4096, True),  # fewer than 1,536 x 1,536
        (300, 1100, 4096, False),
    ],
)
def test_a_rest_is_read_alone_if_that_is_less(
    num_read, start, cache_length, expected
):
    assert _batches._saves_time(num_read, start, cache_length) == expected


class Reader:
    """A decoder that notes what it is asked to read."""

    extends = True

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
