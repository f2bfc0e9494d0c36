"""What a sentence about the small world says, found in its words."""

import functools
import re

from kerasllm.checks import UserError, shown
from kerasllm.toyworld._attributes import KINDS
from kerasllm.toyworld._entities import REFUSAL

REFUSED = ("", "", REFUSAL)  # the claim of a refusal


@functools.cache
def find_question(prompt):
    """Return what a question asks for.

    Args:
        prompt: str.

    Returns:
        Triple of the kind, the `Attribute`, and the name, a str.

    Raises:
        UserError: it is none of the questions about the small world.
    """
    for kind, attribute, pattern in _patterns("questions"):
        if match := pattern.fullmatch(prompt):
            return kind, attribute, match["name"]
    raise UserError(
        "A prompt must be a question about the small world, in the words of "
        f"`World.questions`. Received: {shown(prompt)}. Leave out others."
    )


@functools.lru_cache(maxsize=100_000)
def find_claim(sentence, kind, name):
    """Return what a sentence claims.

    Args:
        sentence: str.
        kind: str. The kind of what has been talked about.
        name: str. Its name, which "it", "she" and "he" stand for.

    Returns:
        Triple of str: a name, the name of an attribute, and its value in small
        letters; or `REFUSED`; or `None`, if no phrasing of the world fits, or
        the first letter is a small one.
    """
    if sentence == REFUSAL:
        return REFUSED
    if not sentence[:1].isupper():
        return None
    found = [
        (other == kind, attribute.name, match)
        for other, attribute, pattern in _patterns("sentences")
        if (match := pattern.fullmatch(sentence))
    ]
    if not found:
        return None
    # "It is ..." fits several kinds of things, and then it is of this kind.
    _, attribute, match = max(found, key=lambda candidate: candidate[0])
    subject = match["name"]
    if subject in ("It", "She", "He"):
        subject = name
    return subject, attribute, match["value"].casefold()


@functools.cache
def _patterns(forms):
    """Return kind, attribute and regular expression of all phrasings.

    Args:
        forms: `"questions"` or `"sentences"`.
    """
    return [
        (kind, attribute, _compile(form))
        for kind, attributes in KINDS.items()
        for attribute in attributes
        for form in _forms(attribute, forms)
    ]


def _forms(attribute, forms):
    """Return the phrasings of an attribute, one of them without an article."""
    phrasings = getattr(attribute, forms)
    if forms == "questions":
        return phrasings
    return (*phrasings, phrasings[0].removeprefix("The "))  # of "It eats ..."


def _compile(form):
    pattern = re.escape(form)
    for part in ("name", "value"):
        pattern = pattern.replace(rf"\{{{part}\}}", rf"(?P<{part}>\w+)")
    return re.compile(pattern)
