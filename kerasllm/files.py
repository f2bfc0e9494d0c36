"""Files that are either whole or absent.

Everything that this package writes for later use (corpora, vocabularies,
checkpoints, reports) is written under a temporary name beside its final one
and renamed when it is complete. A rename within one file system is atomic, so
a reader never meets half a file, whatever kills the writer.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import tempfile


def cache_dir(*parts):
    """Return a folder for files that can be made again, and create it.

    Args:
        *parts: str. Names of folders below the cache, outermost first.

    Returns:
        A `pathlib.Path`: `$KERAS_HOME/kerasllm/...`, where `KERAS_HOME` is
        `~/.keras` unless the environment says otherwise, as in Keras.

    Raises:
        OSError: the folder cannot be created.
    """
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    folder = pathlib.Path(home, "kerasllm", *parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"The cache folder must be writable. Received: {folder} "
            f"({error.strerror or error}). Set the environment variable "
            "KERAS_HOME to a folder you can write to."
        ) from error
    return folder


@contextlib.contextmanager
def whole_file(path, mode="w", **open_arguments):
    """Open a file that appears under `path` only once it is complete.

    Args:
        path: str or path. The final name; its folder is created.
        mode: str. `"w"` for text (UTF-8, `"\\n"` line ends) or `"wb"`.
        **open_arguments: passed on to `open`.

    Yields:
        The open file. If the block raises, nothing is left behind.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if "b" not in mode:
        open_arguments = {"encoding": "utf-8", "newline": "\n"} | open_arguments
    handle, temporary = tempfile.mkstemp(
        prefix=f".{path.name}.", suffix=".partial", dir=path.parent
    )
    try:
        # mkstemp makes private files; give the mode that `open` would give.
        os.chmod(temporary, 0o666 & ~_umask())
        with open(handle, mode, **open_arguments) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def whole_folder(path):
    """Fill a folder that appears under `path` only once it is complete.

    Args:
        path: str or path. The final name. A folder of that name is replaced.

    Yields:
        A `pathlib.Path`, the folder to write into. If the block raises,
        nothing is left behind and an older folder stays as it was.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(
        tempfile.mkdtemp(
            prefix=f".{path.name}.", suffix=".partial", dir=path.parent
        )
    )
    try:
        os.chmod(temporary, 0o777 & ~_umask())
        yield temporary
        if path.exists():
            # Two renames: between them the old folder is still whole.
            old = temporary.with_suffix(".old")
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def sha256(path):
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask():
    """Return the process's umask; reading it means setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
