"""The package's folders: cache, presets, and folders of runs."""

import contextlib
import errno
import os
import pathlib
import tempfile

from kerasllm.checks import EnvironmentFailure, RunError, check_path, path_error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def keras_home():
    """Return Keras's folder for settings and caches, chosen as Keras does.

    Returns:
        A `pathlib.Path`: `$KERAS_HOME`, or `.keras` in the home folder of the
        user, or in `/tmp` if the user has none or may not write to it.
    """
    if os.environ.get("KERAS_HOME"):
        return pathlib.Path(os.environ["KERAS_HOME"])
    home = os.path.expanduser("~")  # stays "~" for a user without one
    if not os.access(home, os.W_OK):
        home = "/tmp"
    return pathlib.Path(home, ".keras")


def cache_dir(*parts):
    """Return a folder for files that can be recreated, and create it.

    Args:
        *parts: str. Names of nested folders in the cache, outermost first.

    Returns:
        A `pathlib.Path`, `kerasllm/...` in `keras_home()`.

    Raises:
        EnvironmentFailure: the folder cannot be created.
    """
    folder = keras_home().joinpath("kerasllm", *parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFailure(
            f"The cache folder must be writable. Received: {folder} "
            f"({error.strerror or error}). Set the environment variable "
            "KERAS_HOME to a folder you can write to."
        ) from error
    return folder


def assets_dir():
    """Return the folder of the presets that come with the package."""
    package = pathlib.Path(__file__).parent.parent
    installed = package / "assets"
    return installed if installed.is_dir() else package.parent / "assets"


def check_may_write(directory):
    """Check that a folder can be made or written to, and make nothing.

    Args:
        directory: str or path.

    Raises:
        UserError: as for `check_writable`.
    """
    path = check_path("directory", directory).absolute()
    named = path
    while not _is_there(path, directory):
        path = path.parent
    if not path.is_dir():
        number = errno.EEXIST if path == named else errno.ENOTDIR
        raise _not_writable(number, directory)
    if not os.access(path, os.W_OK | os.X_OK):
        raise _not_writable(errno.EACCES, directory)


def _is_there(path, directory):
    """Return whether a path exists; refuse what can be no path."""
    try:
        path.lstat()  # a link to nowhere is there: it stands in the way
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # a name of more than 255 bytes
        raise _unwritable(error, directory) from error
    return True


def _not_writable(number, directory):
    error = OSError(number, os.strerror(number))
    return _unwritable(error, directory)


def check_writable(directory):
    """Check that a folder is writable, and create it if necessary.

    Args:
        directory: str or path.

    Raises:
        UserError: the path is a file or goes through one, or may not be
            written to. It is also the `OSError` of that case, such as
            `PermissionError`.
        EnvironmentFailure: the folder is not writable for another reason.
    """
    try:
        check_path("directory", directory).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise _unwritable(error, directory) from error


def _unwritable(error, directory):
    """Return the error of a folder that cannot be written to."""
    return path_error(
        error,
        "`directory` must be a folder that can be written to. Received: one "
        f"that cannot ({error.strerror}). Choose another",
        directory,
    )


@contextlib.contextmanager
def locked(directory):
    """Lock a folder against other processes; nothing is written into it.

    The lock ends with the block or with the process. Windows and some network
    file systems do not support such locks, and nothing is locked there.

    Raises:
        RunError: another process holds the lock.
    """
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            descriptor = os.open(directory, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(
                    "A directory must belong to one run at a time. Received: "
                    f"{directory}, where another process is at work. Wait "
                    "until it ends, or use another directory."
                ) from error
            except OSError:
                pass  # locks are not supported here
        yield
