"""The package's folders: cache, presets, and folders of runs."""

import contextlib
import os
import pathlib
import tempfile

from kerasllm.checks import EnvironmentFailure, RunError, path_error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def cache_dir(*parts):
    """Return a folder for files that can be recreated, and create it.

    Args:
        *parts: str. Names of nested folders in the cache, outermost first.

    Returns:
        A `pathlib.Path`: `$KERAS_HOME/kerasllm/...`. As in Keras, `KERAS_HOME`
        defaults to `~/.keras`.

    Raises:
        EnvironmentFailure: the folder cannot be created.
    """
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    folder = pathlib.Path(home, "kerasllm", *parts)
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
        pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise path_error(
            error,
            "`directory` must be a folder that can be written to. Received: "
            f"one that cannot ({error.strerror}). Choose another",
            directory,
        ) from error


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
