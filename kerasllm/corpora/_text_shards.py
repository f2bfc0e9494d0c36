"""The user's own text files as a corpus."""

import os
import pathlib
import re

from kerasllm import files
from kerasllm.checks import MissingFileError, UserError, check_choice, shown
from kerasllm.corpora._shards import (
    check_shard,
    decode,
    fingerprint,
    read_corpus,
    write_corpus,
)

# Increased when a change to this file changes the documents.
_RECIPE = 2
# Such as form feeds, no-break and ideographic spaces; and those without width,
# which Python does not count. U+2029 separates paragraphs by itself.
_BLANK = "[^\\S\n]|[\u200b\u2060\ufeff]"
_BLANK_LINES = re.compile(f"(?:\\A|\n)(?:(?:{_BLANK})*\n)+|\u2029")


def text_shards(paths, documents="lines", pattern="*.txt"):
    r"""Turn the user's own text files into a corpus.

    Args:
        paths: str or path, or a list of them: files and folders. Folders are
            searched with all their subfolders.
        documents: str. What counts as one document.
            `"lines"`: a line. The files are already shards, with `\n` for
            a line break inside a document. They are checked and returned
            unchanged. Only if one has carriage returns alone for line ends,
            as of old Macs, all are written anew to the cache.
            `"files"`: a whole file.
            `"paragraphs"`: the text between blank lines. Use it for one long
            text, such as a book: a corpus with a single document cannot be
            split into a training part and a validation part.
            The last two write shards to the cache, once for the same text.
            Every line end becomes a newline, and all else stays as it is.
        pattern: str. Pattern for file names in folders, as in a shell.

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
    if documents == "lines":
        # A list, so that all of them are checked.
        if not any([check_shard(path) for path in found]):
            return found
    digests = [files.sha256(path) for path in found]
    facts = {"recipe": str(_RECIPE), "documents": documents, "files": digests}
    folder = files.cache_dir("corpora") / f"text-{fingerprint(facts)}"
    if not folder.exists():
        texts = map(_read_text, found)
        if documents == "lines":
            texts = (line for text in texts for line in text.split("\n"))
        elif documents == "paragraphs":
            texts = (part for text in texts for part in _paragraphs(text))
        if documents != "lines":
            texts = map(files.escape_line, texts)
        write_corpus(folder, texts, {"documents": documents, "files": found})
    return read_corpus(folder)


def _text_files(paths, pattern):
    """Return the absolute paths of the files, sorted and without duplicates."""
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    found = set()
    for path in map(pathlib.Path, paths):
        path = path.expanduser().absolute()
        if path.is_dir():
            found.update(
                item
                for item in path.rglob(pattern)
                if item.is_file() and not _is_hidden(item.relative_to(path))
            )
        elif path.is_file():
            found.add(path)
        else:
            raise MissingFileError(
                f"`paths` must be files or folders. Received: {path}, which "
                "does not exist. Check its spelling."
            )
    if not found:
        raise UserError(
            "A corpus must have at least one file. Received: "
            f"{shown(paths, 200)}, with no file that matches {pattern}. "
            "Give another `pattern`."
        )
    return sorted(map(str, found))


def _is_hidden(path):
    """Return whether a path is hidden, such as a notebook checkpoint."""
    return any(part.startswith(".") for part in path.parts)


def _read_text(path):
    text = decode(pathlib.Path(path).read_bytes(), path, 0)
    # Some editors start a file with a byte order mark.
    text = text.removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _paragraphs(text):
    """Split a text at blank lines, whatever spaces they hold."""
    return (part.strip("\n") for part in _BLANK_LINES.split(text + "\n"))
