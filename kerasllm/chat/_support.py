"""Whether what an answer claims stands in one of the passages it is based on.

The check compares words. It finds a name, a number or a thing that no passage
mentions, and costs nothing. It does not understand: of a sentence that denies
what a passage says, or connects its words in another way, it finds that all
words are there.
"""

import re

# The least share of the words of a claim that one passage must have.
LEAST_SHARE = 0.5

_SENTENCE_ENDS = re.compile(r"((?<=[.!?])\s+|\s*\n\s*)")
# "It flies. [1]" is cited as "It flies [1]." is.
_CITED_AFTER = re.compile(r"([.!?])[ \t]*((?:\[\d{1,3}\][ \t]*)+)")
_CITATION = re.compile(r"\s*(?<!\w)\[(\d{1,3})\]")
_WORD = re.compile(r"\w+(?:['’]\w+)?")
# They claim nothing by themselves.
_EMPTY_WORDS = frozenset(
    "a about all also an and any are as at be because been but by can could "
    "did do does for from had has have he her him his how i if in into is it "
    "its me more most my no nor not of on one only or our out she should "
    "so some such than that the their them then there these they this those "
    "to was we were what when where which who whom whose why will with would "
    "yes you your according answer based context passage text".split()
)


def split_sentences(text):
    """Return the sentences of a text, and what separates them.

    Args:
        text: str.

    Returns:
        list of pairs `(sentence, separator)`. Joined, they are the text.
    """
    parts = _SENTENCE_ENDS.split(text)
    return list(zip(parts[::2], [*parts[1::2], ""], strict=True))


def cited_in(text):
    """Return a text without the citations in it, for each sentence.

    Args:
        text: str, as a model writes it, such as "It flies [1]. [2]".

    Returns:
        list of triples of a sentence, what separates it from the next one,
        and the tuple of the numbers that it cites.
    """
    text = _CITED_AFTER.sub(
        lambda match: f" {match[2].strip()}{match[1]} ", text
    ).strip()
    return [
        (
            _CITATION.sub("", sentence),
            separator,
            tuple(map(int, _CITATION.findall(sentence))),
        )
        for sentence, separator in split_sentences(text)
    ]


def find_support(sentence, texts, question="", named=()):
    """Return which text has the claim of a sentence.

    The claim are the words of the sentence that are not in the question.
    Names and numbers of it must all stand in the text, and at least half of
    all its words.

    Args:
        sentence: str.
        texts: list of str.
        question: str. What the sentence answers.
        named: sequence of int, numbers of texts from 1 on. They come first.

    Returns:
        int, the number of a text, from 1 on; or 0, if none has the claim. Of
        several, the one with most of the words. `None` if the sentence claims
        nothing, as "Yes." does, or the question said once more.
    """
    asked = _words(question)
    claim = {w: n for w, n in _words(sentence).items() if w not in asked}
    if not claim:
        return None
    scores = {}
    for number, text in enumerate(texts, 1):
        known = _words(text)
        found = [word for word in claim if word in known]
        has_names = all(w in known for w, is_name in claim.items() if is_name)
        share = len(found) / len(claim)
        if has_names and share >= LEAST_SHARE:
            scores[number] = (number in named, share, -number)
    return max(scores, key=scores.get, default=0)


def _words(text):
    """Return the words of a text that say something.

    Returns:
        dict from a word, in small letters and without the ending of a plural,
        to whether it is a number or a name: it begins with a capital, but not
        the sentence.
    """
    words = {}
    for match in _WORD.finditer(text):
        word = match[0].casefold().replace("’", "'").removesuffix("'s")
        if word in _EMPTY_WORDS or "'" in word:
            continue
        if len(word) > 3 and not word.endswith("ss"):
            word = word.removesuffix("s")
        before = text[: match.start()].rstrip()
        is_first = not before or before[-1] in ".!?:\"'“[("
        is_name = match[0][0].isdigit() or (
            match[0][0].isupper() and not is_first
        )
        words[word] = words.get(word, False) or is_name
    return words
