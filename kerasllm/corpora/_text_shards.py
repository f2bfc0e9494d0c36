"""The user's own text files as a corpus."""

import itertools
import os
import pathlib
import re

from kerasllm import files
from kerasllm.checks import (
    MissingFileError,
    UserError,
    check_choice,
    check_list,
    check_path,
    shown,
)
from kerasllm.corpora._shards import (
    check_shard,
    decode,
    fingerprint,
    read_corpus,
    write_corpus,
)

# Increased when a change to this file changes the documents.
_RECIPE = 3
# A line end is usually "\n". Others are those of mainframes, and of Unicode.
_ENDS = "\n\x85\u2028"
# Such as form feeds, no-break and ideographic spaces; and what Python does not
# count: characters without width, marks of the direction, and letters that are
# drawn as a space. U+2029 separates paragraphs by itself.
_UNSEEN = "\xad\u200b-\u200f\u202a-\u202e\u2060-\u2069\u2800\u3164\ufeff"
_BLANK = f"[^\\S{_ENDS}]|[{_UNSEEN}]"
_BLANK_LINES = re.compile(
    f"(?:\\A|[{_ENDS}])(?:(?:{_BLANK})*[{_ENDS}])+|\u2029"
)


def text_shards(paths, documents="lines", pattern="*.txt"):
    r"""Turn the user's own text files into a corpus.

    Args:
        paths: str or path, or a list of them: files and folders. Folders are
            searched with all their subfolders. A file whose name ends with
            `.jsonl` has one JSON object per line, and the `text` of each is a
            document.
        documents: str. What counts as one document in the other files.
            `"lines"`: a line. The files are already shards, with `\n` for
            a line break inside a document. They are checked and returned
            unchanged. Only if one begins with a byte order mark, or has
            carriage returns alone for line ends, as of old Macs, all are
            written anew to the cache.
            `"files"`: a whole file.
            `"paragraphs"`: the text between blank lines. Use it for one long
            text, such as a book: a corpus with a single document cannot be
            split into a training part and a validation part.
            The last two, and JSONL files, write shards to the cache, once for
            the same text. Every line end becomes a newline, and all else
            stays as it is.
        pattern: str. Pattern for file names in folders, as in a shell. The
            default finds `.TXT`, too.

    Returns:
        A sorted list of str, the absolute paths of the shards.

    Raises:
        MissingFileError: a path does not exist.
        UserError: there is no file, it has no text, or it is not UTF-8.
    """
    check_choice(
        "documents",
        documents,
        ("lines", "files", "paragraphs"),
        cure='Use "lines" for shards with one document per line.',
    )
    found = _text_files(paths, pattern)
    is_jsonl = [path.lower().endswith(".jsonl") for path in found]
    if documents == "lines" and _are_shards(found, is_jsonl):
        return found
    digests = [files.sha256(path) for path in found]
    facts = {"recipe": str(_RECIPE), "documents": documents, "files": digests}
    if any(is_jsonl):
        facts["jsonl"] = is_jsonl
    folder = files.cache_dir("corpora") / f"text-{fingerprint(facts)}"
    if not folder.exists():
        texts = itertools.chain.from_iterable(
            _texts_of_records(path)
            if has_records
            else _documents(path, documents)
            for path, has_records in zip(found, is_jsonl, strict=True)
        )
        write_corpus(folder, texts, {"documents": documents, "files": found})
    return read_corpus(folder)


def _are_shards(paths, is_jsonl):
    """Return whether files are shards as they stand; refuse broken ones."""
    # A list, so that all of them are checked.
    has_returns = [
        check_shard(path)
        for path, has_records in zip(paths, is_jsonl, strict=True)
        if not has_records
    ]
    return not any(is_jsonl + has_returns)


def _documents(path, documents):
    """Yield the documents of a text file, as they stand in a shard."""
    text = _read_text(path)
    if documents == "lines":
        yield from text.split("\n")
        return
    parts = _paragraphs(text) if documents == "paragraphs" else [text]
    yield from map(files.escape_line, parts)


def _texts_of_records(path):
    """Yield the documents of a JSONL file, as they stand in a shard."""
    for record, where in files.read_records(path, "Text"):
        text = record.get("text")
        if not isinstance(text, str):
            raise UserError(
                "Each object of a JSONL corpus must have a `text`, a string "
                f"that is one document. Received: {where}, with "
                f"{shown(', '.join(record) or 'nothing', 200)}. A file of "
                "requests and answers is for `kerasllm finetune`."
            )
        yield files.escape_line(text)


def _text_files(paths, pattern):
    """Return the absolute paths of the files, sorted and without duplicates."""
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    given = pattern
    if pattern == "*.txt":
        pattern = "*.[tT][xX][tT]"
    found = set()
    for name in check_list("paths", paths, "a list of paths"):
        if not isinstance(name, str | os.PathLike):
            check_path("paths", name)
        path = pathlib.Path(name).expanduser().absolute()
        # An empty name would be the current folder.
        if os.fspath(name) and os.path.isdir(path):
            found.update(
                item
                for item in path.rglob(pattern)
                if item.is_file() and not _is_hidden(item.relative_to(path))
            )
        elif os.path.isfile(path):
            found.add(path)
        elif os.path.lexists(path) and os.fspath(name):
            raise UserError(
                f"`paths` must be files or folders. Received: {path}, which "
                "is neither, but a pipe, a device or a broken link. Save the "
                "text to a file."
            )
        else:
            raise MissingFileError(
                "`paths` must be files or folders. Received: "
                f"{str(path)[:200] if os.fspath(name) else repr(name)}, which "
                "does not exist. Check its spelling."
            )
    if not found:
        raise UserError(
            "A corpus must have at least one file. Received: "
            f"{shown(paths, 200)}, with no file that matches {given}. "
            "Give another `pattern`."
        )
    return sorted(map(str, found))


def _is_hidden(path):
    """Return whether a path is hidden, such as a notebook checkpoint."""
    return any(part.startswith(".") for part in path.parts)


def _read_text(path):
    data = pathlib.Path(path).read_bytes()
    # Some editors start a file with a byte order mark, and files that are
    # joined may have several.
    text = decode(data, path, 0, data).lstrip("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _paragraphs(text):
    """Split a text at blank lines, whatever spaces they hold."""
    return (part.strip(_ENDS) for part in _BLANK_LINES.split(text + "\n"))
