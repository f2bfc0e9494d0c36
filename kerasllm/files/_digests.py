"""SHA-256 digests of files, with a cache for files that were read before."""

import functools
import hashlib
import os

from kerasllm.checks import MissingFileError, shown


def sha256(path):
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_once(path):
    """Return `sha256(path)`; read the file again only if it has changed.

    Changes are detected by the file's size and modification time.

    Raises:
        MissingFileError: there is no such file.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise MissingFileError(
            f"A file must exist to be read. "
            f"Received: {shown(os.fspath(path), 200)}. "
            "Check the path, which may be relative to another folder."
        ) from error
    return _sha256_at(os.fspath(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=2**16)
def _sha256_at(path, size, modified):
    return sha256(path)
