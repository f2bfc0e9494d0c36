"""Pairs of responses as batches: side by side, masked, in which order."""

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.preferences import Preference, TokenizedPairs
from kerasllm.prompts import BOOK
from tests.instructions.test_tokenized import PREPROCESSOR, Bytes

pytestmark = pytest.mark.any_backend

PAIRS = [
    Preference("Say a.", "a", "b" * 50, margin=2.0),
    Preference("Say bc.", "bc" * 30, "c"),
    Preference("Say d.", "dd", "e", margin=-0.5),
]


def tokenize(preferences=PAIRS, sequence_length=128):
    return TokenizedPairs.of(preferences, PREPROCESSOR, BOOK, sequence_length)


def texts(token_ids, mask):
    return [
        Bytes().detokenize(ids[its_mask])
        for ids, its_mask in zip(token_ids.numpy(), mask.numpy(), strict=True)
    ]


def test_both_responses_of_a_pair_stand_side_by_side():
    ((x, y, weights),) = tokenize().dataset(4, buckets=False)
    assert x["token_ids"].shape == (8, 128)
    np.testing.assert_array_equal(y.numpy()[:3], [2, 0, -0.5])
    np.testing.assert_array_equal(weights, [1, 1, 1, 0])
    np.testing.assert_array_equal(x["numbers"][:3], [0, 1, 2])
    both = [text for p in PAIRS for text in (p.chosen, p.rejected)]
    responses = texts(x["token_ids"], x["response_mask"])
    assert responses[:6] == [BOOK.response(text) for text in both]
    whole = texts(x["token_ids"], x["padding_mask"])
    assert whole[:6] == [
        BOOK.prompt(PAIRS[i // 2].prompt) + BOOK.response(text)
        for i, text in enumerate(both)
    ]
    # The end token is the last one of both masks; all after it is padding.
    for ids, mask, response_mask in zip(
        *(x[n].numpy() for n in ("token_ids", "padding_mask", "response_mask")),
        strict=True,
    ):
        last = mask.sum() - 1
        assert mask[: last + 1].all() and response_mask[last]
        assert ids[last] == Bytes.end_token_id
        assert not ids[last + 1 :].any() and not response_mask[last + 1 :].any()


def test_a_batch_is_filled_with_a_pair_that_weighs_nothing():
    ((x, _, weights),) = tokenize().dataset(5, buckets=False)
    np.testing.assert_array_equal(weights, [1, 1, 1, 0, 0])
    for name in ("token_ids", "padding_mask", "response_mask"):
        first = x[name].numpy()[:2]
        for copy in (x[name].numpy()[6:8], x[name].numpy()[8:]):
            np.testing.assert_array_equal(copy, first)


def test_long_pairs_are_counted_not_cut():
    """A pair is as long as its longer response, with the end token."""
    longest = max(
        2 + len(BOOK.prompt(p.prompt)) + len(BOOK.response(text))
        for p in PAIRS
        for text in (p.chosen, p.rejected)
    )
    assert tokenize(sequence_length=longest).num_too_long == 0
    cut = tokenize(sequence_length=longest - 1)
    assert cut.num_too_long == 1 and cut.longest == longest
    assert cut.numbers == [0, 2]
    np.testing.assert_array_equal(cut.margins, [2, -0.5])
    with pytest.warns(UserWarning, match="1 of 3 `preferences` are longer"):
        cut.warn_of_long_pairs()
    with pytest.raises(UserError, match=f"3 pairs of up to {longest} tokens"):
        tokenize(sequence_length=4)


@pytest.mark.parametrize("buckets", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_every_pair_comes_once_an_epoch(buckets, batch_size):
    pairs = [Preference(str(i), "q" * i, "r" * (40 - i)) for i in range(40)]
    tokenized = tokenize(pairs, 100)
    for seed in (None, 3):
        seen = []
        count = 0
        for x, _, weights in tokenized.dataset(batch_size, seed, buckets):
            length = x["token_ids"].shape[1]
            assert x["token_ids"].shape == (2 * batch_size, length)
            assert length in ((50, 100) if buckets else (100,))
            if buckets and length > 50:  # as short as it can be
                assert x["padding_mask"].numpy().sum(1).max() > 50
            seen += x["numbers"].numpy()[weights.numpy() == 1].tolist()
            count += 1
        assert sorted(seen) == list(range(40))
        assert tokenized.num_batches(batch_size, buckets) == count


def test_an_endless_run_can_begin_anywhere():
    pairs = [Preference(str(i), "q" * i, "r" * (40 - i)) for i in range(30)]
    tokenized = tokenize(pairs)
    count = tokenized.num_batches(4)

    def read(dataset):
        return [x["numbers"].numpy().tolist() for x, _, _ in dataset]

    whole = read(tokenized.endless(4, seed=1).take(3 * count))
    dataset = tokenized.endless(4, seed=1)
    next(iter(dataset))  # somebody peeks
    middle = dataset.skip(count + 1).take(count)
    assert read(middle) == whole[count + 1 : 2 * count + 1]
    first, second = whole[:count], whole[count : 2 * count]
    assert first != second
    assert read(tokenized.endless(4, seed=2).take(count)) != first


def test_a_model_that_sees_gets_no_images(tiny_untrained):
    tokenized = TokenizedPairs.of(
        PAIRS, tiny_untrained.preprocessor, "gemma", 128
    )
    for x, _, _ in tokenized.dataset(2):
        del x["numbers"], x["response_mask"]
        assert x["images"].shape == (4, 0, 48, 48, 3)
        assert x["vision_indices"].shape == (4, 0)
        assert x["vision_mask"].shape == x["token_ids"].shape
        assert not x["vision_mask"].numpy().any()
        assert x.keys() == tiny_untrained.backbone.input.keys()


@pytest.mark.parametrize(
    ("preferences", "message"),
    [
        ([], r"`preferences` must have at least one .*preferences=\[\]"),
        (None, "`preferences` must have at least one"),
        ([("a", "b", "c")], "Each of `preferences` must be a `Preference`"),
    ],
)
def test_what_is_no_preference(preferences, message):
    with pytest.raises(UserError, match=message):
        tokenize(preferences)
