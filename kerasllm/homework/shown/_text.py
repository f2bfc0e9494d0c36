"""Text that terminals, spreadsheets, and notebooks show as it is."""

import re
import unicodedata

# Invisible, but a part of names in Persian and in Indian scripts.
_JOINERS = "\u200c\u200d"
# A formula in a spreadsheet begins with one of these, or with its wide form.
_SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20"
# In some countries, spreadsheets begin a new cell after a semicolon.
_LATER_SIGN = re.compile(rf"(;\s*)(?=[{re.escape(_SIGNS)}])")


def visible(text, kept="\n"):
    r"""Return a text with control characters written as escapes.

    A character such as `\x1b` could otherwise move the cursor of a terminal,
    hide text, or reverse its direction.

    Args:
        text: str.
        kept: str, control characters that stay.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each in kept or each in _JOINERS else _visible(each)
        for each in text
    )


def _visible(character):
    if character.isprintable():
        return character
    if unicodedata.category(character) == "Zs":
        return " "
    return repr(character)[1:-1]


def as_cell(text):
    """Return a text that a spreadsheet does not mistake for a formula."""
    text = _LATER_SIGN.sub(r"\1'", text)
    head = text.lstrip()
    while head and (not head[0].isprintable() or head[0] in _JOINERS):
        head = head[1:].lstrip()
    if head[:1] and head[0] in _SIGNS or text[:1] in ("\t", "\r", "\n"):
        return f"'{text}"
    return text


def without_surrogates(text):
    """Return a text that UTF-8 can encode: lone surrogates become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
