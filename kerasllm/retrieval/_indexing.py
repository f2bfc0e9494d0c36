"""Indexing folders of documents, and keeping the index up to date."""

import collections
import contextlib
import dataclasses
import hashlib
import os
import pathlib

from kerasllm.checks import (
    MissingFileError,
    RunError,
    UserError,
    check_int,
    check_path,
    check_text,
    shown,
)
from kerasllm.progress import working
from kerasllm.retrieval._chunking import check_chunking, chunk_document
from kerasllm.retrieval._reading import (
    MARKDOWN,
    PDF,
    TEXT,
    check_can_read_pdf,
    read_document,
)

SUFFIXES = (*TEXT, *MARKDOWN, *PDF)


@dataclasses.dataclass(frozen=True)
class IndexReport:
    """The result of `index_folder`.

    Attributes:
        files: int. The number of files that were read.
        chunks: int. The number of their chunks.
        added: int. Chunks that were new to the store; only these were
            embedded.
        deleted: int. Chunks of the store that are no longer in the folder.
        skipped: dict from the source of a file that could not be read to the
            reason, a str. Its chunks stay in the store.
        unread: tuple of the sources of files of other kinds than text,
            Markdown, and PDF. Hidden ones are not counted.
    """

    files: int
    chunks: int
    added: int
    deleted: int
    skipped: dict
    unread: tuple = ()


def index_folder(
    store,
    folder,
    name=None,
    max_tokens=200,
    overlap=40,
    tokenizer=str.split,
    batch_size=256,
    verbose=1,
):
    """Bring a store up to date with the documents of a folder.

    This reads all text, Markdown, and PDF files of the folder and its
    subfolders, except hidden ones, and splits them into chunks. Chunks that
    are already in the store are not embedded again. So an interrupted run can
    be continued, and a second run embeds only what has changed.

    The metadata of a chunk are its `source`, such as `"docs/guide.md"`, its
    `title`, `start` and `end`, and the `collection` and `folder` that it
    belongs to.

    Args:
        store: `Store`.
        folder: str or path.
        name: str. Name of the collection, with which all sources begin. `None`
            uses the name of the folder. A store may have many collections.
        max_tokens: int, as in `chunk_document`.
        overlap: int, as in `chunk_document`.
        tokenizer: callable, as in `chunk_document`.
        batch_size: int. The number of chunks that are embedded at a time and
            added in one transaction.
        verbose: int. 0 prints nothing; 1 prints the progress on stderr.

    Returns:
        An `IndexReport`.

    Raises:
        MissingFileError: the folder does not exist.
        UserError: it has no document, or an argument breaks a rule.
        RunError: the store has a collection of this name from another folder
            that is still there.
    """
    folder = check_path("folder", folder).expanduser().absolute()
    check_chunking(max_tokens, overlap, tokenizer)
    check_int("batch_size", batch_size, 1)
    if not hasattr(store, "ids"):
        raise UserError(
            f"`store` must be a `Store`. Received: {shown(store)}. Open one "
            "with `Store(path, embedder)`."
        )
    name = _readable(folder.name) if name is None else name
    check_text("name", name)
    paths = document_paths(folder)
    known = _ids_by_source(store, name)
    _check_folder(store, known, folder, name)
    facts = {"collection": name, "folder": _readable(folder)}
    group, read, skipped, counts = {}, set(), {}, collections.Counter()
    for path in paths:
        source = _source(name, folder, path)
        try:
            document = read_document(path, source)
        except UserError as error:
            skipped[source] = str(error)
            continue
        chunks = chunk_document(document, max_tokens, overlap, tokenizer)
        group[source] = list(_rows(source, chunks, facts))
        read.add(source)
        if path is paths[-1] or sum(map(len, group.values())) >= batch_size:
            what = f"Indexing {name}, {len(read)} of {len(paths)} files"
            what = what if verbose else None
            counts += _write(store, group, known, batch_size, what)
            group = {}
    counts += _write(store, group, known, batch_size)
    gone = [known[s] for s in known.keys() - read - skipped.keys()]
    counts["deleted"] += store.delete(sorted(set().union(*gone)))
    return IndexReport(
        len(read),
        counts["chunks"],
        counts["added"],
        counts["deleted"],
        skipped,
        tuple(
            _source(name, folder, path)
            for path in _files_in(folder)
            if path.suffix.lower() not in SUFFIXES
        ),
    )


def document_paths(folder):
    """Return the documents of a folder and of its subfolders, sorted.

    Args:
        folder: str or path. Hidden files and folders in it are left out.

    Returns:
        list of paths of text, Markdown, and PDF files.

    Raises:
        MissingFileError: the folder does not exist.
        UserError: it is a file, or it has no document. Or one is PDF, and
            pypdf is not installed.
    """
    folder = check_path("folder", folder).expanduser()
    if not folder.is_dir():
        kind = UserError if folder.exists() else MissingFileError
        what = "is a file" if folder.exists() else "does not exist"
        raise kind(
            f"`folder` must be a folder. Received: {folder}, which {what}. "
            "Check its spelling."
        )
    paths = [
        path for path in _files_in(folder) if path.suffix.lower() in SUFFIXES
    ]
    if not paths:
        raise UserError(
            "`folder` must have a document. Received: "
            f"{folder}, with no file that ends in {', '.join(SUFFIXES)}. "
            "Choose another folder."
        )
    if any(path.suffix.lower() in PDF for path in paths):
        check_can_read_pdf()
    return paths


def _files_in(folder):
    """Return the files of a folder and of its subfolders, sorted."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    ]


def _source(name, folder, path):
    return f"{name}/{_readable(path.relative_to(folder).as_posix())}"


def _readable(path):
    """Return a path as text that a store can hold.

    Names of files need not be UTF-8. The other bytes are written as codes.
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _ids_by_source(store, name):
    """Return the ids that a collection has of each source, as sets."""
    found = {}
    for passage_id in store.ids({"collection": name}):
        source = passage_id.rpartition("#")[0]
        found.setdefault(source, set()).add(passage_id)
    return found


def _check_folder(store, known, folder, name):
    """Check that a collection is of this folder, or of one that has moved."""
    for ids in list(known.values())[:1]:
        (passage,) = store.get(sorted(ids)[:1])
        there = passage.metadata.get("folder", _readable(folder))
        if there != _readable(folder) and pathlib.Path(there).is_dir():
            raise RunError(
                "A collection must be of one folder. Received: "
                f"name={name!r} for {folder}, and the store has it from "
                f"{there}. Give another `name`."
            )


def _rows(source, chunks, facts):
    """Yield the id, the text and the metadata of each chunk.

    The id depends on the text and not on its place: a line that is added at
    the top of a file changes no id below.
    """
    seen = collections.Counter()
    for chunk in chunks:
        digest = hashlib.sha256(chunk.titled.encode()).hexdigest()[:16]
        seen[digest] += 1
        same = "" if seen[digest] == 1 else f"-{seen[digest]}"
        place = {
            "source": source,
            "title": chunk.title,
            "start": chunk.start,
            "end": chunk.end,
        }
        yield f"{source}#{digest}{same}", chunk.titled, place | facts


def _write(store, group, known, batch_size, what=None):
    """Write the chunks of some files, and delete what these had before.

    Args:
        store: `Store`.
        group: dict from a source to a list of `(id, text, metadata)`.
        known: dict from a source to the ids that the store has of it.
        batch_size: int. The number of chunks in a transaction.
        what: str, to be printed with the progress; `None` prints nothing.

    Returns:
        A `Counter` of chunks, those added and those deleted.
    """
    rows = sum(group.values(), [])
    for begin in range(0, len(rows), batch_size):
        ids, texts, metadata = zip(
            *rows[begin : begin + batch_size], strict=True
        )
        said = what
        if len(rows) > batch_size:  # a long file
            said = f"{what}, chunk {begin + 1:,} of {len(rows):,}"
        with working(said) if what else contextlib.nullcontext():
            store.add(texts, ids, metadata)
    counts = collections.Counter(chunks=len(rows))
    for source, of_source in group.items():
        before = known.get(source, set())
        now = {row[0] for row in of_source}
        counts["added"] += len(now - before)
        counts["deleted"] += store.delete(sorted(before - now))
    return counts
