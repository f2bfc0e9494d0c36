"""Shards: how they are written, read again and checked."""

import contextlib
import errno
import hashlib
import json

from kerasllm import files
from kerasllm.checks import EnvironmentFailure, UserError

NUM_SHARDS = 8
FINGERPRINT = "fingerprint.json"
# Raised when a change to this package changes the documents.
RECIPE = 1


def fingerprint(facts):
    """Return 12 hexadecimal digits that tell one dict of str from another."""
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_corpus(folder, documents, facts):
    """Write documents into shards, with a `fingerprint.json` beside them.

    Args:
        folder: `pathlib.Path`, the final name of the folder.
        documents: iterable of str.
        facts: dict of what the documents depend on, for the record.

    Raises:
        EnvironmentFailure: there is no room on the disk, or the folder is not
            writable.
        UserError: there is no text in the documents.
    """
    files.check_writable(folder.parent)
    try:
        with files.whole_folder(folder) as temporary:
            count, names = _deal(documents, temporary)
            if count == 0:
                raise UserError(
                    f"A corpus must hold text. Received: {facts}, all empty. "
                    "Look at what the paths and the pattern find."
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
    """Give each shard a document in turn; return their number and the names."""
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
    # A corpus of few documents has few shards.
    for name in names[count:]:
        (folder / name).unlink()
    return count, names[:count]


def _line(text):
    """Return a document as one line of a shard, in UTF-8."""
    # To Python "\r" ends a line, and tf.data drops it wherever it stands.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\n", "\\n").encode() + b"\n"


def read_corpus(folder):
    """Return the shards of a corpus that was written before, if unchanged.

    Raises:
        UserError: a shard or the record of them was changed or is gone.
    """
    try:
        record = json.loads((folder / FINGERPRINT).read_text())
    except (FileNotFoundError, ValueError) as error:
        raise UserError(
            f"A corpus must have its {FINGERPRINT}. Received: {folder} "
            f"({error}). Delete the folder to have it written again."
        ) from error
    for name, digest in record["sha256"].items():
        path = folder / name
        found = files.sha256(path) if path.is_file() else "no file"
        if found != digest:
            raise UserError(
                f"A shard must stay as it was written. Received: {path} with "
                f"SHA-256 {found} in place of {digest}. Delete the folder "
                f"{folder} to have it written again."
            )
    return sorted(str(folder / name) for name in record["sha256"])


def check_shard(path):
    """Check that a shard is UTF-8 and holds text.

    Raises:
        UserError: it is not, or does not.
    """
    empty, offset = True, 0
    with open(path, "rb") as file:
        for line in file:
            decode(line, path, offset)
            empty = empty and not line.strip()
            offset += len(line)
    if empty:
        raise UserError(
            f"A shard must hold text. Received: {path}, which is empty. Leave "
            "it out, or look whether writing it was broken off."
        )


def decode(data, path, offset):
    """Return the text of some bytes of a file.

    Args:
        data: bytes.
        path: str, for the message.
        offset: int. At which byte of the file the data start.

    Raises:
        UserError: they are not UTF-8.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"Text must be UTF-8. Received: {path}, which is not at byte "
            f"{offset + error.start}. Convert it, for example with "
            "`iconv -t UTF-8`."
        ) from error
