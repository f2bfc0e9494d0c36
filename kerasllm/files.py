"""Files that are either whole or absent.

Everything that this package writes for later use (corpora, vocabularies,
checkpoints, reports) is written under a temporary name beside its final one
and renamed when it is complete. A rename within one file system is atomic, so
a reader never meets half a file, whatever kills the writer.
"""

import concurrent.futures
import contextlib
import errno
import functools
import glob
import hashlib
import os
import pathlib
import posixpath
import re
import shutil
import socket
import tempfile
import urllib.parse
import zipfile

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


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


def assets_dir():
    """Return the folder of the presets that come with the package."""
    here = pathlib.Path(__file__).parent
    installed = here / "assets"
    return installed if installed.is_dir() else here.parent / "assets"


@contextlib.contextmanager
def whole_file(path, mode="w", **open_arguments):
    r"""Open a file that appears under `path` only once it is complete.

    Args:
        path: str or path. The final name; its folder is created.
        mode: str. `"w"` for text (UTF-8, `"\n"` line ends) or `"wb"`.
        **open_arguments: passed on to `open`.

    Yields:
        The open file. If the block raises, nothing is left behind; if the
        process is killed, a hidden file is, see `remove_partial`.
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


def remove_partial(path):
    """Remove what `whole_file` left of a file when its process was killed.

    Only for a file that nobody is writing at this moment.

    Args:
        path: str or path. The final name of the file, which stays.
    """
    path = pathlib.Path(path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        left.unlink(missing_ok=True)


def check_writable(directory):
    """Check that files can be made in a folder, which is made if need be.

    Args:
        directory: str or path.

    Raises:
        OSError: they cannot.
    """
    try:
        pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise OSError(
            error.errno,
            "`directory` must be a folder that can be written to. Received: "
            f"one that cannot ({error.strerror}). Choose another",
            str(directory),
        ) from error


@contextlib.contextmanager
def locked(directory):
    """Lock a folder against other processes; nothing is written into it.

    The lock ends with the block, or with the process. Where there are no such
    locks, on Windows and some network file systems, nothing is locked.

    Raises:
        RuntimeError: another process has it.
    """
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            descriptor = os.open(directory, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RuntimeError(
                    "A directory must be the place of one run at a time. "
                    f"Received: {directory}, where another process is at "
                    "work. Wait for its end, or use another directory."
                ) from error
            except OSError:
                pass  # no locks here
        yield


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


def download(url, directory, sha256=None, extract=False):
    """Download a file once, and check it at every later use.

    The file is fetched by `keras.utils.get_file` under a temporary name. When
    it is complete its SHA-256 is recorded beside it in `<name>.sha256`, in the
    format of the `sha256sum` program, together with those of the files that
    were unpacked from it; each later call compares all of them.

    Args:
        url: str. The file's address; its last part is the file's name.
        directory: str or path. The folder to keep the file in.
        sha256: str of 64 hexadecimal digits, the expected SHA-256. `None`
            trusts the first complete download and what it recorded.
        extract: bool. Unpack a ZIP archive into a folder beside it.

    Returns:
        A `pathlib.Path`: the file or, with `extract=True`, the folder of its
        name without the extension, with the archive's content in it.

    Raises:
        OSError: there is no network, no such file, no disk space, or the
            transfer broke off.
        ValueError: the file is not the expected or recorded one, is not a ZIP
            archive, or an argument is malformed.

    Source: chapter 16, listing 16.1, which calls `get_file` without a hash;
    that takes a file for whole which an earlier download left truncated.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", str(sha256)):
        raise ValueError(
            f"`sha256` must be 64 hexadecimal digits. Received: {sha256!r}. "
            "Leave it out to trust the first complete download."
        )
    name = posixpath.basename(urllib.parse.urlsplit(str(url)).path)
    if not name:
        raise ValueError(
            f"`url` must end in a file name. Received: {url!r}. Give the "
            "address of the file itself, not of the folder or page it is on."
        )
    file = pathlib.Path(directory, name)
    folder = file.with_suffix("")
    if extract and folder == file:
        raise ValueError(
            "`extract=True` needs a `url` whose file name has an extension. "
            f"Received: {url!r}. Give the address of a .zip archive."
        )
    record = file.with_name(f"{name}.sha256")
    recorded = _read_record(record)
    expected = sha256.lower() if sha256 else recorded.get(name)
    unpacked = {key: recorded[key] for key in recorded if key != name}

    # An archive may be deleted to save space once its content is unpacked.
    only_unpacked = extract and unpacked and folder.exists()
    if file.exists():
        _check_download(file, expected)
    elif not only_unpacked or expected != recorded[name]:
        expected = _fetch(str(url), file, record, expected, extract)
    if recorded.get(name) != expected:
        unpacked = {}
        _write_record(record, {name: expected})

    if not extract:
        return file
    if unpacked and folder.exists():
        _check_unpacked(folder, unpacked)
    else:
        unpacked = _unpack(file, folder)
        _write_record(record, {name: expected} | unpacked)
    return folder


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


def _umask():
    """Return the process's umask; reading it means setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _read_record(record):
    """Return `{name: digest}` from a file of `sha256sum`'s format."""
    if not record.exists():
        return {}
    lines = record.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (x.split("  ", 1) for x in lines)}


def _write_record(record, digests):
    with whole_file(record) as file:
        file.writelines(f"{digests[name]}  {name}\n" for name in digests)


def _check_download(file, expected):
    """Raise unless the file on disk is the expected one."""
    digest = sha256(file)
    if expected is None:
        raise ValueError(
            "A file that is already in place must have a recorded SHA-256, or "
            f"it could be half of one. Received: {file} without a record. "
            f'Delete it to download it again, or pass sha256="{digest}" if '
            "you know that it is whole."
        )
    if digest != expected:
        raise ValueError(
            f"The file must have the SHA-256 {expected}. Received: {file} with "
            f"{digest}; it was changed or cut short. Delete it to download it "
            "again."
        )


def _fetch(url, file, record, expected, is_archive):
    """Bring `url` to `file` whole, and return its SHA-256."""
    # Here, not above: importing Keras starts a backend.
    import keras

    file.parent.mkdir(parents=True, exist_ok=True)
    old_timeout = socket.getdefaulttimeout()
    with tempfile.TemporaryDirectory(
        prefix=f".{file.name}.", suffix=".partial", dir=file.parent
    ) as temporary:
        try:
            # Without one a connection that went silent waits for ever.
            socket.setdefaulttimeout(old_timeout or 60)
            part = keras.utils.get_file(
                file.name, url, cache_dir=temporary, cache_subdir=""
            )
        # get_file raises plain `Exception` for what goes wrong on the way.
        except Exception as error:
            raise _transfer_error(url, file, error) from error
        finally:
            socket.setdefaulttimeout(old_timeout)
        digest = sha256(part)
        if expected is not None and digest != expected:
            raise ValueError(
                f"The download must have the SHA-256 {expected}. Received: "
                f"{digest} from {url}; it was not kept. If its publisher has "
                f"replaced the file, delete {record} and pass the new `sha256`."
            )
        if is_archive and not zipfile.is_zipfile(part):
            raise ValueError(
                f"The download must be a ZIP archive. Received: {url}, "
                f"{os.path.getsize(part)} bytes of something else; it was not "
                "kept. Look whether the address shows an error page or asks "
                "for a login."
            )
        # The record goes first: a kill between these two lines then costs
        # another download, not a file that nobody can trust.
        _write_record(record, {file.name: digest})
        os.replace(part, file)
    return digest


def _transfer_error(url, file, error):
    """Return the `OSError` that says what to do about a failed download."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        return _no_space_error(file, error)
    return OSError(
        f"The file must be reachable and arrive whole. Received: {error} from "
        f"{url}. Nothing was kept. Look at the address and the network, then "
        f"try again; or bring the file to {file} yourself and pass its "
        "`sha256`."
    )


def _no_space_error(path, error):
    return OSError(
        errno.ENOSPC,
        f"There must be room on the disk for {path.name}. Received: "
        f"{error.strerror}, with {shutil.disk_usage(path.parent).free} bytes "
        "free. Nothing was kept. Make room, or choose another folder "
        "(`directory`, or the environment variable KERAS_HOME)",
        str(path),
    )


def _unpack(archive, folder):
    """Unpack a ZIP archive and return the digests of its files by name."""
    try:
        with whole_folder(folder) as temporary:
            with zipfile.ZipFile(archive) as file:
                file.extractall(temporary)
            digests = _digests(temporary, f"{folder.name}/")
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(
            f"The file must be a whole ZIP archive. Received: {archive} "
            f"({error}). Delete it to download it again."
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _no_space_error(folder, error) from error
        raise
    return digests


def _check_unpacked(folder, expected):
    """Raise unless the unpacked files are there and unchanged."""
    found = _digests(folder, f"{folder.name}/")
    for name, digest in expected.items():
        if found.get(name) != digest:
            state = "changed" if name in found else "missing"
            raise ValueError(
                "Unpacked files must stay as they were. Received: "
                f"{folder.parent / name}, which is {state}. Delete the folder "
                f"{folder} to unpack it again."
            )


def _digests(folder, prefix):
    """Return the SHA-256 of each file below a folder, sorted by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # Hashing lets go of the interpreter's lock, so threads use every core.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = list(pool.map(sha256, files))
    names = [prefix + file.relative_to(folder).as_posix() for file in files]
    return dict(zip(names, digests, strict=True))
