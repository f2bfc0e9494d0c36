"""Reading examples: from a JSONL file, or a published data set."""

import json
import pathlib

from kerasllm.checks import MissingFileError, UserError, shown
from kerasllm.files import cache_dir, download
from kerasllm.images import is_address
from kerasllm.instructions._example import Instruction

DOLLY_URL = (
    "https://huggingface.co/datasets/databricks/databricks-dolly-15k/"
    "resolve/main/databricks-dolly-15k.jsonl"
)
# The names that published data sets have for the parts of an example.
KEYS = {
    "instruction": ("instruction", "prompt", "question"),
    "response": ("response", "output", "solution", "answer"),
    "context": ("context", "input"),
}
IMAGE_KEYS = ("image", "images")


def dolly(context="drop", directory=None, sha256=None, url=DOLLY_URL):
    """Return databricks-dolly-15k, the chapter's instruction data.

    15,011 requests and answers that Databricks' employees wrote, under the
    license CC BY-SA 3.0; downloaded once.

    Args:
        context: `"drop"` for the examples without a context only, as in the
            chapter, or `"use"` for all of them.
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
    """Read requests and answers, one JSON object a line.

    Args:
        path: str or path of a UTF-8 file, with a byte order mark or without.
            An object has an `instruction` (or `prompt`, `question`), a
            `response` (or `output`, `solution`, `answer`), and may have a
            `context` (or `input`) and an `image`, a path from the file's
            folder or an address, or `images`, a list of these.

    Returns:
        list of `Instruction`. An empty context is `None`.

    Raises:
        MissingFileError: there is no such file.
        UserError: a line is no such object or no UTF-8, or there is none;
            says which.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise MissingFileError(
            "Instruction data must be in a JSONL file. Received: "
            f"{path}, which is no file. Look at the path."
        )
    examples = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            line = _decode(line, where)
            if line.strip():
                examples.append(_parse(line, where, path.parent))
    if not examples:
        raise UserError(
            "Instruction data must have at least one example. Received: "
            f"{path}, which is empty."
        )
    return examples


def _decode(line, where):
    """Return the text of the bytes of a line, without a byte order mark."""
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"Instruction data must be UTF-8. Received: {where}: {error}. "
            "Save the file as UTF-8."
        ) from error


def _parse(line, where, folder):
    """Return the `Instruction` of a line of JSON in a file of a folder."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits
        raise UserError(
            f"Each line must be a JSON object. Received: {where}: {error}."
        ) from error
    if not isinstance(record, dict):
        raise UserError(
            "Each line must be a JSON object. Received: "
            f"{where}: {line.strip()[:80]!r}."
        )
    parts = {}
    for part, keys in KEYS.items():
        values = [record[key] for key in keys if record.get(key)]
        if len(values) > 1 or (values and not isinstance(values[0], str)):
            raise UserError(
                f"An example must have one {part}, a string, under one of the "
                f"keys {', '.join(keys)}. Received: {where} with "
                f"{len(values)}: {values!r:.80}."
            )
        if not values and part != "context":
            raise UserError(
                f"An example must have a {part} that is not empty, under one "
                f"of the keys {', '.join(keys)}. Received: {where} with the "
                f"keys {', '.join(map(str, record)) or '(none)'}."
            )
        parts[part] = values[0] if values else None
        try:
            (parts[part] or "").encode()
        except UnicodeEncodeError as error:
            raise UserError(
                "An example must be text that UTF-8 can write. Received: "
                f"{where} with half of a surrogate pair in its {part} "
                f"({error}). Write the whole character."
            ) from error
    return Instruction(**parts, images=_parse_images(record, where, folder))


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
            f"Received: {where} with {values!r:.80}."
        )
    return tuple(
        image if is_address(image) else folder / image for image in images
    )
