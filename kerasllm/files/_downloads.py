"""Downloads that are made once and verified at every later use."""

import concurrent.futures
import errno
import os
import pathlib
import posixpath
import re
import shutil
import socket
import tempfile
import urllib.parse
import zipfile

from kerasllm.checks import EnvironmentFailure, UserError, check_path, shown
from kerasllm.files._digests import sha256 as sha256_of
from kerasllm.files._folders import check_may_write
from kerasllm.files._whole import whole_file, whole_folder


def download(url, directory, sha256=None, extract=False):
    """Download a file once, and verify it at every later use.

    `keras.utils.get_file` downloads the file under a temporary name. When it is
    complete, its SHA-256 is recorded beside it in `<name>.sha256`, in the
    format of the `sha256sum` program, together with the digests of the files
    that were unpacked from it. Each later call compares all of them.

    Args:
        url: str. The file's address; its last part is the file's name.
        directory: str or path. The folder to keep the file in.
        sha256: str of 64 hexadecimal digits, the expected SHA-256. `None`
            trusts the first complete download and its recorded digest.
        extract: bool. Whether to unpack a ZIP archive into a folder beside it.

    Returns:
        A `pathlib.Path`: the file, or with `extract=True` the folder with the
        archive's content. It has the name of the file without its extension.

    Raises:
        EnvironmentFailure: the network is not available, the file does not
            exist, the disk is full, or the transfer was interrupted.
        UserError: the file is not the expected or recorded one, is not a ZIP
            archive, or an argument is malformed.

    Source: chapter 16, listing 16.1. It calls `get_file` without a hash, which
    accepts a file that an earlier download left truncated.
    """
    _check_sha256(sha256)
    file = check_path("directory", directory) / _file_name(url, extract)
    folder = file.with_suffix("")
    record = file.with_name(f"{file.name}.sha256")
    recorded = _read_record(record)
    expected = sha256.lower() if sha256 else recorded.get(file.name)
    unpacked = {k: v for k, v in recorded.items() if k != file.name}

    # An archive may be deleted to save space once its content is unpacked.
    only_unpacked = extract and unpacked and folder.exists()
    if file.exists():
        _check_download(file, expected)
    elif not only_unpacked or expected != recorded[file.name]:
        check_may_write(file.parent)
        expected = _fetch(str(url), file, record, expected, extract)
    if recorded.get(file.name) != expected:
        unpacked = {}
        _write_record(record, {file.name: expected})

    if not extract:
        return file
    if unpacked and folder.exists():
        _check_unpacked(folder, unpacked)
    else:
        unpacked = _unpack(file, folder)
        _write_record(record, {file.name: expected} | unpacked)
    return folder


def _check_sha256(sha256):
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", str(sha256)):
        raise UserError(
            f"`sha256` must be 64 hexadecimal digits. "
            f"Received: {shown(sha256)}. "
            "Leave it out to trust the first complete download."
        )


def _file_name(url, extract):
    """Return the last part of an address, if it can serve as a file name."""
    name = posixpath.basename(urllib.parse.urlsplit(str(url)).path)
    if not name:
        raise UserError(
            f"`url` must end in a file name. "
            f"Received: {shown(url, 200)}. Give the "
            "address of the file itself, not of its folder or web page."
        )
    if extract and not pathlib.PurePath(name).suffix:
        raise UserError(
            "`extract=True` needs a `url` whose file name has an extension. "
            f"Received: {shown(url, 200)}. Give the address of a .zip archive."
        )
    return name


def _read_record(record):
    """Return `{name: digest}` from a file in `sha256sum`'s format."""
    if not record.exists():
        return {}
    lines = record.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (x.split("  ", 1) for x in lines)}


def _write_record(record, digests):
    with whole_file(record) as file:
        file.writelines(f"{digests[name]}  {name}\n" for name in digests)


def _check_download(file, expected):
    """Check that the file on disk is the expected one."""
    digest = sha256_of(file)
    if expected is None:
        raise UserError(
            "A file that is already in place must have a recorded SHA-256, or "
            f"it could be incomplete. Received: {file} without a record. "
            f'Delete it to download it again, or pass sha256="{digest}" if '
            "you know that it is complete."
        )
    if digest != expected:
        raise UserError(
            f"The file must have the SHA-256 {expected}. Received: {file} with "
            f"{digest}; it was changed or cut short. Delete it to download it "
            "again."
        )


def _fetch(url, file, record, expected, is_archive):
    """Download all of `url` to `file`, and return its SHA-256."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{file.name}.", suffix=".partial", dir=file.parent
    ) as temporary:
        part = _transfer(url, file, temporary)
        digest = sha256_of(part)
        if expected is not None and digest != expected:
            raise UserError(
                f"The download must have the SHA-256 {expected}. Received: "
                f"{digest} from {url}; it was not kept. If its publisher has "
                f"replaced the file, delete {record} and pass the new `sha256`."
            )
        if is_archive and not zipfile.is_zipfile(part):
            raise UserError(
                f"The download must be a ZIP archive. Received: {url}, "
                f"{os.path.getsize(part)} bytes of something else; it was not "
                "kept. Check whether the address shows an error page or asks "
                "for a login."
            )
        # The record comes first. If the process is killed between these two
        # lines, the file is downloaded again instead of being without a record.
        _write_record(record, {file.name: digest})
        os.replace(part, file)
    return digest


def _transfer(url, file, temporary):
    """Download `url` into a temporary folder and return the path there."""
    # Import Keras here, because importing it starts a backend.
    import keras

    old_timeout = socket.getdefaulttimeout()
    try:
        # Without a timeout, a stalled connection would wait forever.
        socket.setdefaulttimeout(old_timeout or 60)
        return keras.utils.get_file(
            file.name, url, cache_dir=temporary, cache_subdir=""
        )
    # `get_file` raises a plain `Exception` if the transfer fails.
    except Exception as error:
        raise _transfer_error(url, file, error) from error
    finally:
        socket.setdefaulttimeout(old_timeout)


def _transfer_error(url, file, error):
    """Return an error that says what to do about a failed download."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        return _no_space_error(file, error)
    return EnvironmentFailure(
        f"The file must be reachable and arrive whole. Received: {error} from "
        f"{url}. Nothing was kept. Check the address and the network, then "
        f"try again; or copy the file to {file} yourself and pass its "
        "`sha256`."
    )


def _no_space_error(path, error):
    return EnvironmentFailure(
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
        raise UserError(
            f"The file must be a whole ZIP archive. Received: {archive} "
            f"({error}). Delete it to download it again."
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _no_space_error(folder, error) from error
        raise
    return digests


def _check_unpacked(folder, expected):
    """Check that the unpacked files exist and are unchanged."""
    found = _digests(folder, f"{folder.name}/")
    for name, digest in expected.items():
        if found.get(name) != digest:
            state = "changed" if name in found else "missing"
            raise UserError(
                "Unpacked files must stay as they were. Received: "
                f"{folder.parent / name}, which is {state}. Delete the folder "
                f"{folder} to unpack it again."
            )


def _digests(folder, prefix):
    """Return the SHA-256 of each file in a folder, sorted by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # Hashing releases the interpreter lock, so threads can use every core.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = list(pool.map(sha256_of, files))
    names = [prefix + file.relative_to(folder).as_posix() for file in files]
    return dict(zip(names, digests, strict=True))
