"""Counts that can be checked by hand."""

import numpy as np
import pytest

from kerasllm.checks import UserError
from kerasllm.evaluation import known_ngrams, ngram_set, repeated_ngrams

pytestmark = pytest.mark.any_backend


def test_repeated_ngrams_by_hand():
    # ab bc ca ab bc: five bigrams, three of them different.
    assert repeated_ngrams("abcabc", n=2) == pytest.approx(1 - 3 / 5)
    assert repeated_ngrams("abcdef", n=2) == 0
    assert repeated_ngrams("aaaaaaaaaa", n=1) == pytest.approx(0.9)
    assert repeated_ngrams("abc", n=4) == 0


def test_known_ngrams_by_hand():
    reference = ngram_set(["the cat sat", "a dog sat down"])
    assert reference == {
        ("the", "cat"),
        ("cat", "sat"),
        ("a", "dog"),
        ("dog", "sat"),
        ("sat", "down"),
    }
    # the-cat and cat-sat are known, sat-the is not.
    words = "the cat sat the".split()
    assert known_ngrams(words, reference) == pytest.approx(2 / 3)
    assert known_ngrams(["the"], reference) == 1


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_n_must_be_a_positive_int(n):
    for call in (
        lambda: repeated_ngrams("abc", n),
        lambda: known_ngrams("abc", set(), n),
        lambda: ngram_set(["a b"], n),
    ):
        with pytest.raises(UserError, match="`n` must be a positive int"):
            call()


def test_the_module_of_the_first_version_is_found():
    from kerasllm import metrics

    for function in (known_ngrams, ngram_set, repeated_ngrams):
        assert getattr(metrics, function.__name__) is function
    assert repeated_ngrams("abab", np.int64(2)) == pytest.approx(1 / 3)
