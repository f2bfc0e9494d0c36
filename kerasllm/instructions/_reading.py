"""Reading examples from a JSON file or from a published data set."""

import dataclasses
import json

from kerasllm.checks import UserError, check_path, shown
from kerasllm.files import cache_dir, download, read_records
from kerasllm.images import is_address
from kerasllm.instructions._conversations import (
    find_conversation,
    find_system,
    split_conversation,
)
from kerasllm.instructions._example import Instruction

DOLLY_URL = (
    "https://huggingface.co/datasets/databricks/databricks-dolly-15k/"
    "resolve/main/databricks-dolly-15k.jsonl"
)
# The names that published data sets have for the parts of an example.
KEYS = {
    "instruction": ("instruction", "prompt", "question"),
    "response": ("response", "output", "completion", "solution", "answer"),
    "context": ("context", "input"),
}
_ARTICLES = {"instruction": "an", "response": "a"}
# What other files have, and which command takes them.
_OTHER_DATA = {
    "chosen": " Preferences are for `kerasllm dpo`.",
    "text": " Text without requests is for `kerasllm pretrain`.",
}
IMAGE_KEYS = ("image", "images")


def dolly(context="drop", directory=None, sha256=None, url=DOLLY_URL):
    """Return databricks-dolly-15k, the chapter's instruction data.

    Employees of Databricks wrote these 15,011 requests and answers. The
    license is CC BY-SA 3.0. The file is downloaded once.

    Args:
        context: `"drop"` to return only the examples without a context, as in
            the chapter, or `"use"` to return all of them.
        directory: str or path. Where to keep the file. Defaults to the cache.
        sha256: str. What the file must hash to, if it must.
        url: str. Where it is published.

    Returns:
        list of `Instruction`.

    Source: chapter 16, "Instruction fine-tuning"; Conover et al., 2023.
    """
    if context not in ("drop", "use"):
        raise UserError(
            '`context` must be "drop" (leave out examples with a context) or '
            f'"use". Received: context={shown(context)}.'
        )
    directory = directory or cache_dir("dolly")
    examples = read_jsonl(download(url, directory, sha256))
    if context == "drop":
        examples = [e for e in examples if e.context is None]
    return examples


def read_jsonl(path):
    """Read requests and answers from a file with one JSON object per line.

    An object has an `instruction` (or `prompt`, `question`), a `response` (or
    `output`, `completion`, `solution`, `answer`), and may have a `context` (or
    `input`) and an `image`, a path from the file's folder or an address, or
    `images`, a list of these. A response may be a number or a boolean, and is
    then the text that JSON has for it. Without an instruction, the `input` is
    the request.

    An object may also hold a conversation: `messages` with `role` and
    `content` (OpenAI), or `conversations` with `from` and `value` (ShareGPT).
    Each answer in it becomes an example, whose request includes everything
    that was said before, but one with a `weight` of 0 (OpenAI). A system
    message may stand beside it, under `system` or `system_prompt`. A `prompt`
    that is a list of messages (TRL) goes with any of the responses.

    Args:
        path: str or path of a UTF-8 file, with a byte order mark or without.
            A file that begins with `[` is one JSON array of such objects.

    Returns:
        list of `Instruction`. An empty context is `None`.

    Raises:
        MissingFileError: there is no such file.
        UserError: a line is no such object or no UTF-8, or there is none;
            says which.
    """
    path = check_path("path", path)
    examples = []
    for record, where in read_records(
        path, "Instruction data", parse_int=_Number, parse_float=_Number
    ):
        examples += _parse(record, where, path.parent)
    if not examples:
        raise UserError(
            "Instruction data must have at least one example. Received: "
            f"{path}, which is empty."
        )
    return examples


@dataclasses.dataclass(frozen=True)
class _Number:
    """A number, as it is written in the file."""

    text: str

    def __repr__(self):
        return self.text


def _parse(record, where, folder):
    """Return the examples of a JSON object in a file of a folder: a list."""
    images = _parse_images(record, where, folder)
    record = _with_request(record, where)
    turns, system = find_conversation(record), find_system(record)
    first = {"role": "system", "content": system}
    if turns is None:
        examples = [{part: _part(record, part, where) for part in KEYS}]
        if system and examples[0]["context"] is None:
            examples[0]["messages"] = (("system", system),)
        elif system:
            raise UserError(
                "An example must have a system message or a context, not "
                f"both. Received: {where} with {shown(system)}. Make the "
                "context part of the request."
            )
    else:
        turns = [first, *turns] if system else turns
        examples = [
            {"messages": before, "instruction": request, "response": answer}
            for before, request, answer in split_conversation(turns, where)
        ]
    for example in examples:
        _check_characters(example, where)
    return [Instruction(**example, images=images) for example in examples]


def _with_request(record, where):
    """Return a record whose request and answer have the usual keys.

    Without a request, the `input` is one, as in many data sets. TRL's prompts
    are lists of messages, before an answer that may be a text.
    """
    if find_conversation(record) is not None:
        return record
    if isinstance(record.get("prompt"), list):
        answer = _part(record, "response", where)
        turn = {"role": "assistant", "content": answer}
        return record | {"completion": [turn]}
    request = record.get("input")
    others = [record.get(key) for key in KEYS["instruction"]]
    if request and not any(others):
        return record | {"instruction": request, "input": None}
    return record


def _part(record, part, where):
    """Return one part of an example, a str, or `None` for no context."""
    keys = KEYS[part]
    values = [record[key] for key in keys if record.get(key) not in (None, "")]
    if len(values) == 1 and part == "response":
        values = [_as_text(values[0])]
    if len(values) > 1 or (values and not isinstance(values[0], str)):
        raise UserError(
            f"An example must have one {part}, a string, under one of the "
            f"keys {', '.join(keys)}. Received: {where} with {len(values)}: "
            f"{shown(values)}."
        )
    if not values and part != "context":
        hints = [hint for key, hint in _OTHER_DATA.items() if key in record]
        raise UserError(
            f"An example must have {_ARTICLES[part]} {part} that is not empty, "
            f"under one of the keys {', '.join(keys)}, or a conversation under "
            f"`messages` or `conversations`. Received: {where} with the keys "
            f"{', '.join(map(str, record)) or '(none)'}.{''.join(hints[:1])}"
        )
    return values[0] if values else None


def _as_text(value):
    """Return a number or a boolean as JSON writes it; all else as it is."""
    if isinstance(value, bool):
        return json.dumps(value)
    return value.text if isinstance(value, _Number) else value


def _check_characters(example, where):
    """Refuse half of a surrogate pair, which no tokenizer can read."""
    example = dict(example)
    said = [text for _, text in example.pop("messages", ())]
    for part, text in [*example.items(), *(("turn", text) for text in said)]:
        try:
            (text or "").encode()
        except UnicodeEncodeError as error:
            raise UserError(
                "An example must be text that UTF-8 can write. Received: "
                f"{where} with half of a surrogate pair in its {part} "
                f"({error}). Write the whole character."
            ) from error


def _parse_images(record, where, folder):
    """Return the paths and addresses of the images of an example: a tuple."""
    values = [record[key] for key in IMAGE_KEYS if record.get(key)]
    images = values[0] if values else []
    images = [images] if isinstance(images, str) else images
    is_list = isinstance(images, list)
    if (
        len(values) > 1
        or not is_list
        or not all(isinstance(image, str) for image in images)
    ):
        raise UserError(
            "The images of an example must be a path or an address, or a list "
            f"of these, under one of the keys {', '.join(IMAGE_KEYS)}. "
            f"Received: {where} with {shown(values)}."
        )
    return tuple(
        image if is_address(image) else folder / image for image in images
    )
