"""The encoding of a text, when it is not UTF-8."""

import codecs

_ROOM = 4096  # bytes that are looked at
_MARKS = {
    # That of UTF-32 begins with that of UTF-16.
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def other_encoding(start):
    """Return the name of the encoding that a file seems to have, or `None`.

    A text in UTF-16 without a mark at its start is UTF-8, too: every second
    byte is then a NUL, which is a character.

    Args:
        start: bytes, the first ones of the file.

    Returns:
        str, `"UTF-16"` or `"UTF-32"`, or `None` for all others.
    """
    for mark, name in _MARKS.items():
        if start.startswith(mark):
            return name
    start = start[:_ROOM]
    return "UTF-16" if start.count(0) * 3 > len(start) else None


def encoding_cure(start):
    """Return what to do with a file that is not UTF-8, a sentence.

    Args:
        start: bytes, the first ones of the file.
    """
    name = other_encoding(start)
    if name:
        return f"It may be {name}: use `iconv -f {name} -t UTF-8`."
    return (
        "Convert it, for example with `iconv -f ENCODING -t UTF-8`, where "
        "ENCODING may be WINDOWS-1252."
    )
