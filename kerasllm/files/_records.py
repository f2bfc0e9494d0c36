"""Files with one JSON object per line, and where in a file an object is."""

import codecs
import json
import os

from kerasllm.checks import MissingFileError, UserError, check_path, shown
from kerasllm.files._encodings import (
    encoding_cure,
    other_encoding,
    other_file,
)

_CURE = (
    "Write each object on a line of its own, or all of them as one JSON array."
)


def read_records(path, data, **arguments):
    """Yield the JSON objects of a file, and where each of them is.

    Args:
        path: str or path of a UTF-8 file with one JSON object per line, with
            a byte order mark or without. Empty lines are skipped. A file that
            begins with `[` is one JSON array of objects.
        data: str. What messages call the content, such as `"Preference data"`.
        **arguments: passed on to `json.loads`.

    Yields:
        Pairs of a dict and a str, such as `"pairs.jsonl, line 3"`.

    Raises:
        MissingFileError: there is no such file.
        UserError: a line is no JSON object or no UTF-8, or has a key twice;
            says which.
    """
    path = check_path("path", path)
    if not os.path.isfile(path):
        raise MissingFileError(
            f"{data} must be in a JSONL file. Received: {str(path)[:200]}, "
            "which is no file. Look at the path."
        )
    arguments["object_pairs_hook"] = _unique
    for record, where in _values(path, data, arguments):
        if not isinstance(record, dict):
            raise UserError(
                "Each line must be a JSON object. Received: "
                f"{where}: {shown(record)}. {_CURE}"
            )
        yield record, where


def _values(path, data, arguments):
    """Yield the JSON values of a file, and where each of them is."""
    with open(path, "rb") as file:
        start = file.read(4096)
        if other_encoding(start) or other_file(start):
            raise UserError(
                f"{data} must be UTF-8. Received: {path}, which is not. "
                f"{encoding_cure(start)}"
            )
        if start.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
            file.seek(0)
            text = _decode(file.read(), path, data, start)
            yield from _elements(text, path, arguments)
            return
        file.seek(0)
        number = 0
        for lines in file:
            # A carriage return alone ends lines, too.
            for line in lines.rstrip(b"\r\n").split(b"\r"):
                number += 1
                where = f"{path}, line {number}"
                line = _decode(line, where, data, start)
                if line.strip():
                    rule = f"Each line must be a JSON object. Received: {where}"
                    yield _load(line, rule, arguments), where


def _elements(text, path, arguments):
    """Yield the elements of a JSON array, and where each of them is."""
    rule = "A file that begins with [ must be one JSON array of objects"
    array = _load(text, f"{rule}. Received: {path}", arguments)
    for number, record in enumerate(array, 1):
        yield record, f"{path}, element {number}"


def _decode(line, where, data, start):
    """Return the text of the bytes of a line, without a byte order mark.

    Args:
        line: bytes.
        where: str, for the message.
        data: str, for the message.
        start: bytes, the first ones of the file.
    """
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{data} must be UTF-8. Received: {where}: {error}. "
            f"{encoding_cure(start)}"
        ) from error


def _unique(pairs):
    """Return a JSON object as a dict; refuse a key that it has twice.

    Python would keep the last value only.
    """
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shown(twice)} is there twice")
    return record


def _load(text, message, arguments):
    """Return the value of some JSON, or raise an error with a message."""
    try:
        return json.loads(text, **arguments)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{message}: {error}. {_CURE}") from error
