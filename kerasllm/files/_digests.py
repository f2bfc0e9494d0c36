"""SHA-256 of files, and of a file that was read before."""

import functools
import hashlib
import os


def sha256(path):
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_once(path):
    """Return `sha256(path)`; read the file again only if it was written to.

    Whether it was, its size and its time of modification tell.
    """
    status = os.stat(path)
    return _sha256_at(os.fspath(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=2**16)
def _sha256_at(path, size, modified):
    return sha256(path)
