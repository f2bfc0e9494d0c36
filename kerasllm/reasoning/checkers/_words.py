"""Numbers in words, such as "forty-two"."""

import re

_SMALL = """zero one two three four five six seven eight nine ten eleven twelve
    thirteen fourteen fifteen sixteen seventeen eighteen nineteen""".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_VALUES = {word: value for value, word in enumerate(_SMALL)}
_VALUES |= {word: 10 * value for value, word in enumerate(_TENS, 2)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6}
_WORD = rf"\b(?:{'|'.join([*_VALUES, *_SCALES])})\b"
# Not the beginning of a word such as "two-liter".
_NUMBER = re.compile(
    rf"{_WORD}(?:(?:\s+and)?[\s-]+{_WORD})*(?!-\w)", re.IGNORECASE
)


def numbers_in_words(text):
    """Yield the numbers that a text has in words, as ints.

    A lone "one" is left out, since it is mostly none: "one of them".
    """
    for match in _NUMBER.finditer(text):
        words = re.findall("[a-z]+", match[0].lower())
        if words != ["one"]:
            yield _value_of(words)


def _value_of(words):
    """Return the number that words such as "two", "hundred" stand for."""
    total = part = 0  # the part below the next scale
    for word in words:
        if word == "hundred":
            part = 100 * max(part, 1)
        elif word in _SCALES:
            total, part = total + _SCALES[word] * max(part, 1), 0
        else:
            part += _VALUES.get(word, 0)  # of "and"
    return total + part
