"""Files and folders that appear under their names only when complete."""

import contextlib
import errno
import glob
import os
import pathlib
import shutil
import tempfile

from kerasllm.checks import EnvironmentFailure, check_path

_ERRORS_OF_DISKS = {
    errno.ENOSPC,
    errno.EFBIG,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
}


@contextlib.contextmanager
def whole_file(path, mode="w", **open_arguments):
    r"""Open a file that appears under `path` only once it is complete.

    Args:
        path: str or path. The final name; its folder is created.
        mode: str. `"w"` for text (UTF-8, `"\n"` line ends) or `"wb"`.
        **open_arguments: passed on to `open`.

    Yields:
        The open file. If the block raises, nothing is left behind. If the
        process is killed, a hidden file remains; see `remove_partial`.

    Raises:
        EnvironmentFailure: the disk is full, read-only or broken.
    """
    if "b" not in mode:
        open_arguments = {"encoding": "utf-8", "newline": "\n"} | open_arguments
    with explaining_disk_errors(path):
        with _whole_file(
            check_path("path", path), mode, open_arguments
        ) as file:
            yield file


@contextlib.contextmanager
def explaining_disk_errors(path):
    """Raise errors of a full, read-only or broken disk as our own.

    Args:
        path: str or path. What the block writes.

    Raises:
        EnvironmentFailure: the disk is full, read-only or broken.
    """
    try:
        yield
    except EnvironmentFailure:
        raise
    except OSError as error:
        if error.errno not in _ERRORS_OF_DISKS:
            raise
        raise EnvironmentFailure(
            error.errno,
            "A file must fit on a disk that can be written to. Received: "
            # HDF5 puts a paragraph in place of the system's words.
            f"{os.strerror(error.errno)}. Make room or choose another folder, "
            "and try again",
            str(path),
        ) from error


@contextlib.contextmanager
def _whole_file(path, mode, open_arguments):
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(
        prefix=f".{path.name}.", suffix=".partial", dir=path.parent
    )
    try:
        # `mkstemp` makes private files, so set the mode that `open` would use.
        os.chmod(temporary, 0o666 & ~_umask())
        with open(handle, mode, **open_arguments) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


def remove_partial(path):
    """Remove the partial file of `whole_file` after its process was killed.

    Call it only for a file that is not being written at the moment.

    Args:
        path: str or path. The final name of the file, which is kept.
    """
    path = pathlib.Path(path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path):
    """Fill a folder that appears under `path` only once it is complete.

    Args:
        path: str or path. The final name. A folder of that name is replaced.

    Yields:
        A `pathlib.Path`, the folder to write into. If the block raises,
        nothing is left behind and an existing folder is kept.
    """
    path = check_path("path", path)
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
            # Rename twice. In between, the old folder is still complete.
            old = temporary.with_suffix(".old")
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _umask():
    """Return the process's umask, which can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
