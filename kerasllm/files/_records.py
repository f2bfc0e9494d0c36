"""Files with one JSON object per line, and where in a file an object is."""

import codecs
import json
import pathlib

from kerasllm.checks import MissingFileError, UserError, shown


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
        UserError: a line is no JSON object or no UTF-8; says which.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"{data} must be in a JSONL file. Received: {path}, which is no "
            "file. Look at the path."
        )
    for record, where in _values(path, data, arguments):
        if not isinstance(record, dict):
            raise UserError(
                "Each line must be a JSON object. Received: "
                f"{where}: {shown(record)}."
            )
        yield record, where


def _values(path, data, arguments):
    """Yield the JSON values of a file, and where each of them is."""
    with open(path, "rb") as file:
        start = file.read(4096).removeprefix(codecs.BOM_UTF8)
        if start.lstrip()[:1] == b"[":
            file.seek(0)
            text = _decode(file.read(), path, data)
            yield from _elements(text, path, arguments)
            return
        file.seek(0)
        number = 0
        for lines in file:
            # A carriage return alone ends lines, too.
            for line in lines.rstrip(b"\r\n").split(b"\r"):
                number += 1
                where = f"{path}, line {number}"
                line = _decode(line, where, data)
                if line.strip():
                    rule = f"Each line must be a JSON object. Received: {where}"
                    yield _load(line, rule, arguments), where


def _elements(text, path, arguments):
    """Yield the elements of a JSON array, and where each of them is."""
    rule = "A file that begins with [ must be one JSON array of objects"
    array = _load(text, f"{rule}. Received: {path}", arguments)
    for number, record in enumerate(array, 1):
        yield record, f"{path}, element {number}"


def _decode(line, where, data):
    """Return the text of the bytes of a line, without a byte order mark."""
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{data} must be UTF-8. Received: {where}: {error}. Save the file "
            "as UTF-8."
        ) from error


def _load(text, message, arguments):
    """Return the value of some JSON, or raise an error with a message."""
    try:
        return json.loads(text, **arguments)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{message}: {error}.") from error
