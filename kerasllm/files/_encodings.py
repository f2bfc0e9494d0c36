"""The encoding of a text, or what else a file is, when it is not UTF-8."""

import codecs

_ROOM = 4096  # bytes that are looked at
_MARKS = {
    # That of UTF-32 begins with that of UTF-16.
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
# How files of other kinds begin, and what to do with them.
_OTHER_FILES = {
    b"\x1f\x8b": "It is a gzip file: unpack it with `gunzip`.",
    b"BZh": "It is a bzip2 file: unpack it with `bunzip2`.",
    b"\xfd7zXZ": "It is an xz file: unpack it with `unxz`.",
    b"\x28\xb5\x2f\xfd": "It is a Zstandard file: unpack it with `unzstd`.",
    b"7z\xbc\xaf": "It is a 7-Zip archive: unpack it.",
    b"PK\x03\x04": "It is a ZIP archive, as files of Word and EPUB are, too: "
    "unpack it, or save it as text.",
    b"\xd0\xcf\x11\xe0": "It is a file of Microsoft Office: save it as text.",
    b"%PDF": "It is a PDF file: save its text, for example with `pdftotext`.",
    b"PAR1": "It is a Parquet file: write it as JSONL, for example with "
    "`datasets.Dataset.from_parquet(FILE).to_json(OTHER)`.",
    b"ARROW1": "It is an Arrow file: write it as JSONL.",
    b"\xff\xff\xff\xff": "It may be an Arrow file: write it as JSONL, for "
    "example with `datasets.Dataset.from_file(FILE).to_json(OTHER)`.",
    b"SQLite format 3": "It is a database: write its texts to a file.",
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


def other_file(start):
    """Return what to do with a file of another kind, or `None` for a text.

    Args:
        start: bytes, the first ones of the file.

    Returns:
        str, a sentence.
    """
    for mark, cure in _OTHER_FILES.items():
        if start.startswith(mark):
            return cure
    return None


def encoding_cure(start):
    """Return what to do with a file that is not UTF-8, a sentence.

    Args:
        start: bytes, the first ones of the file.
    """
    cure = other_file(start)
    if cure:
        return cure
    name = other_encoding(start)
    if name:
        return f"It may be {name}: use `iconv -f {name} -t UTF-8`."
    return (
        "Convert it, for example with `iconv -f ENCODING -t UTF-8`, where "
        "ENCODING may be WINDOWS-1252."
    )
