"""What a cell shows, in the form that notebooks require.

A kernel that a student has tampered with can send anything in its place.
"""

from kerasllm.homework.shown._text import without_surrogates

_STREAMS = ("stdout", "stderr")
_SIZES = ("width", "height")


def clean_output(kind, content):
    """Return the content of a message in the form that notebooks require.

    Args:
        kind: str, the type of the message.
        content: dict, from JSON.

    Returns:
        A new dict, or `None` if it is malformed.
    """
    clean = {
        "stream": _clean_stream,
        "error": _clean_error,
        "display_data": _clean_data,
        "update_display_data": _clean_data,
        "execute_result": _clean_result,
    }[kind]
    try:
        return clean(content)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _clean_stream(content):
    if content["name"] not in _STREAMS:
        return None
    return {"name": content["name"], "text": _text(content["text"])}


def _clean_error(content):
    return {
        "ename": _text(content["ename"]),
        "evalue": _text(content["evalue"]),
        "traceback": [_text(line) for line in content["traceback"]],
    }


def _clean_data(content):
    data = {
        _text(kind): _text(value)
        for kind, value in content["data"].items()
        if not kind.endswith("json")  # is not shown
    }
    metadata = {
        kind: {size: int(sizes[size]) for size in _SIZES if size in sizes}
        for kind, sizes in content.get("metadata", {}).items()
        if kind in data
    }
    shown = {"data": data, "metadata": metadata}
    transient = content.get("transient") or {}
    if transient.get("display_id"):
        shown["transient"] = {"display_id": _text(transient["display_id"])}
    return shown


def _clean_result(content):
    return _clean_data(content) | clean_count(content)


def clean_count(content):
    """Return the execution count in a message, as a dict with one item."""
    count = content.get("execution_count")
    return {"execution_count": count if type(count) is int else None}


def _text(value):
    if not isinstance(value, str):
        raise TypeError("no text")
    return without_surrogates(value)
