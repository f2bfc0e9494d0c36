"""Shards: how they are written, read and checked."""

import codecs
import contextlib
import errno
import hashlib
import json

from kerasllm import files
from kerasllm.checks import EnvironmentFailure, UserError, shown

NUM_SHARDS = 8
FINGERPRINT = "fingerprint.json"
# Increased when a change to this package changes the documents.
RECIPE = 1


def fingerprint(facts):
    """Return 12 hexadecimal digits that identify a dict of str."""
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_corpus(folder, documents, facts):
    """Write documents into shards, with a `fingerprint.json` beside them.

    Args:
        folder: `pathlib.Path`, the final name of the folder.
        documents: iterable of str.
        facts: dict of everything that the documents depend on, for the record.

    Raises:
        EnvironmentFailure: the disk is full.
        OSError: the folder is not writable; see `files.check_writable`.
        UserError: the documents have no text.
    """
    files.check_writable(folder.parent)
    try:
        with files.whole_folder(folder) as temporary:
            count, names = _deal(documents, temporary)
            if count == 0:
                raise UserError(
                    f"A corpus must hold text. Received: {shown(facts, 200)}, "
                    "all empty. Check which files the paths and the pattern "
                    "match."
                )
            record = {
                "facts": facts,
                "documents": count,
                "sha256": {
                    name: files.sha256(temporary / name) for name in names
                },
            }
            (temporary / FINGERPRINT).write_text(json.dumps(record, indent=2))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise EnvironmentFailure(
                errno.ENOSPC,
                "There must be room on the disk for the corpus. Received: "
                f"{error.strerror}. Nothing was kept. Make room, or set the "
                "environment variable KERAS_HOME to a folder elsewhere",
                str(folder),
            ) from error
        raise


def _deal(documents, folder):
    """Write documents to the shards in turn; return their number and names."""
    names = [f"shard{i}.txt" for i in range(NUM_SHARDS)]
    count = 0
    with contextlib.ExitStack() as stack:
        shards = [
            stack.enter_context(open(folder / name, "wb")) for name in names
        ]
        for text in documents:
            if text.strip():
                shards[count % NUM_SHARDS].write(_line(text))
                count += 1
    # A corpus with few documents has few shards.
    for name in names[count:]:
        (folder / name).unlink()
    return count, names[:count]


def _line(text):
    """Return a document as one line of a shard, in UTF-8."""
    # Python treats "\r" as the end of a line, and tf.data drops it anywhere.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\n", "\\n").encode() + b"\n"


def read_corpus(folder):
    """Return the shards of an existing corpus, if they are unchanged.

    Raises:
        UserError: a shard or the record was changed or is missing.
    """
    try:
        record = json.loads((folder / FINGERPRINT).read_text())
    except (FileNotFoundError, ValueError) as error:
        raise UserError(
            f"A corpus must have its {FINGERPRINT}. Received: {folder} "
            f"({error}). Delete the folder to write it again."
        ) from error
    for name, digest in record["sha256"].items():
        path = folder / name
        found = files.sha256(path) if path.is_file() else "no file"
        if found != digest:
            raise UserError(
                f"A shard must stay as it was written. Received: {path} with "
                f"SHA-256 {found} instead of {digest}. Delete the folder "
                f"{folder} to write it again."
            )
    return sorted(str(folder / name) for name in record["sha256"])


def check_shard(path):
    """Check that a shard is UTF-8 and contains text.

    Returns:
        bool. Whether its documents are others than its lines: it begins with
        a byte order mark, or carriage returns alone end some of its lines.

    Raises:
        UserError: it is not UTF-8, or it is empty.
    """
    empty, offset = True, 0
    with open(path, "rb") as file:
        start = file.read(4096)
        is_other = start.startswith(codecs.BOM_UTF8)
        file.seek(0)
        for line in file:
            text = decode(line, path, offset, start)
            # Unicode has more blanks than ASCII.
            empty = empty and not text.replace("\ufeff", "").strip()
            is_other = is_other or b"\r" in line.rstrip(b"\r\n")
            offset += len(line)
    if empty:
        raise UserError(
            f"A shard must hold text. Received: {path}, which is empty. Leave "
            "it out, or check whether writing it was interrupted."
        )
    return is_other


def decode(data, path, offset, start):
    """Return the text of some bytes of a file.

    Args:
        data: bytes.
        path: str, for the message.
        offset: int. The position of the bytes in the file.
        start: bytes, the first ones of the file.

    Raises:
        UserError: they are not UTF-8, or the file seems to be UTF-16.
    """
    try:
        if not (offset == 0 and files.other_encoding(start)):
            return data.decode("utf-8")
        error, where = None, 0
    except UnicodeDecodeError as wrong:
        error, where = wrong, offset + wrong.start
    raise UserError(
        f"Text must be UTF-8. Received: {path}, which is not at byte {where}. "
        f"{files.encoding_cure(start)}"
    ) from error
