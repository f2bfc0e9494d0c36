"""N-grams that a generated text repeats, or shares with a reference."""

from kerasllm.checks import check_list, check_positive_ints, check_text
from kerasllm.evaluation._asking import check_hashable


def repeated_ngrams(tokens, n=4):
    """Return the share of n-grams that occur earlier in the same text.

    Args:
        tokens: sequence of hashable items, such as token ids or words.
        n: int. Length of an n-gram.

    Returns:
        float: 0 for a text in which every n-gram is new or which has fewer
        than `n` tokens, near 1 for one that repeats itself all the time.

    Raises:
        UserError: `n` is not a positive int.

    Source: Welleck et al., 2020, arXiv:1908.04319, "seq-rep-n".
    """
    check_positive_ints(n=n)
    tokens = _check_tokens(tokens)
    ngrams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    if not ngrams:
        return 0.0
    return 1 - len(set(ngrams)) / len(ngrams)


def known_ngrams(tokens, reference, n=2):
    """Return the share of n-grams that also occur in a reference text.

    This is a crude measure of sense: it checks whether people have written
    these words next to each other before.

    Args:
        tokens: sequence of hashable items, such as words.
        reference: set of n-grams, as `ngram_set` returns it.
        n: int. Length of an n-gram.

    Returns:
        float in `[0, 1]`; 1 for a text of fewer than `n` tokens.

    Raises:
        UserError: `n` is not a positive int.
    """
    check_positive_ints(n=n)
    tokens = _check_tokens(tokens)
    ngrams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    if not ngrams:
        return 1.0
    return sum(ngram in reference for ngram in ngrams) / len(ngrams)


def _check_tokens(tokens):
    """Return tokens as a list. A str is one of characters."""
    if not isinstance(tokens, str):
        tokens = check_list("tokens", tokens)
        check_hashable("tokens", tokens)
    return list(tokens)


def ngram_set(texts, n=2):
    """Collect the n-grams of words of many texts.

    Args:
        texts: iterable of str, split at white space.
        n: int. Length of an n-gram.

    Returns:
        A set of tuples of `n` words.

    Raises:
        UserError: `n` is not a positive int.
    """
    check_positive_ints(n=n)
    found = set()
    for text in check_list("texts", texts, "a list of strings"):
        check_text("texts", text)
        words = text.split()
        found.update(zip(*(words[i:] for i in range(n)), strict=False))
    return found
