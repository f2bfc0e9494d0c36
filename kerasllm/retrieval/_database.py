"""The SQLite file of a store: its tables, and what can be wrong with it."""

import contextlib
import errno
import pathlib

import apsw
import sqlite_vec

from kerasllm.checks import (
    EnvironmentFailure,
    FolderIsFileError,
    MissingFileError,
    RunError,
    UserError,
    check_path,
    check_text,
    path_error,
)
from kerasllm.files import check_writable

VERSION = 1  # of the tables
_APPLICATION = 0x6B6C6C6D  # "kllm": tells a store from other SQLite files
_MILLISECONDS = 20_000  # how long to wait for another process that writes
# Words are runs of letters and digits, without case and accents.
TOKENIZER = "unicode61 remove_diacritics 2"
# `number` ties the tables together and is used once, also after a deletion.
_TABLES = f"""
CREATE TABLE settings (key TEXT PRIMARY KEY, value);
CREATE TABLE passages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    metadata TEXT NOT NULL  -- a dict, as JSON
);
CREATE VIRTUAL TABLE words USING fts5(text, tokenize = "{TOKENIZER}");
CREATE VIRTUAL TABLE vocabulary USING fts5vocab(words, row);
CREATE TABLE facts (number INTEGER NOT NULL, key TEXT NOT NULL, value);
CREATE INDEX facts_by_value ON facts (key, value);
CREATE INDEX facts_by_number ON facts (number);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
"""
_MAPPED = 2**26  # bytes, so that memory does not grow with the store
# sqlite-vec frees the space of deleted vectors by the chunk: small chunks.
VECTORS = """
CREATE VIRTUAL TABLE vectors USING vec0(
    vector float[{dim}] distance_metric=cosine, chunk_size=128
)
"""


def embedder_name(path):
    """Return the name of the embedder that has filled a store.

    Args:
        path: str or path of the file.

    Returns:
        str. See `Store`.

    Raises:
        MissingFileError: there is no such file.
        RunError: the file is not a store, it is damaged, or another version
            has written it.
    """
    if not check_path("path", path).is_file():
        raise MissingFileError(
            f"`path` must be a store. Received: {path}, and there is no such "
            "file. Check its spelling; `kerasllm index` fills a new store."
        )
    with contextlib.closing(open_database(path, None)) as connection:
        with explained(path):
            return setting(connection, "embedder")


def open_database(path, embedder_name):
    """Open the file of a store, or make a new one.

    Args:
        path: str or path, or `":memory:"`.
        embedder_name: str. `None` accepts every embedder, and makes no store.

    Returns:
        An `apsw.Connection`.

    Raises:
        RunError: the file is not a store, it is damaged, or another version
            or another embedder has written it.
        UserError: the path is a folder or may not be written to.
    """
    if str(path) != ":memory:":
        check_path("path", path)
        check_text("path", str(path))  # SQLite knows no other names
        if pathlib.Path(path).is_dir():
            raise FolderIsFileError(
                errno.EISDIR,
                "`path` must be a file. Received: a folder. Add a name, such "
                "as store.sqlite",
                str(path),
            )
        check_writable(pathlib.Path(path).absolute().parent)
    with explained(path), contextlib.ExitStack() as stack:
        connection = apsw.Connection(str(path))
        stack.callback(connection.close)
        connection.set_busy_timeout(_MILLISECONDS)
        connection.enable_load_extension(True)
        connection.load_extension(sqlite_vec.loadable_path())
        connection.enable_load_extension(False)
        _check_kind(connection, path)
        # Readers go on with the old state while one process writes.
        connection.pragma("journal_mode", "wal")
        # A search by vectors reads all of them: as far as this goes, from the
        # system's memory of the file, which takes half the time of a copy.
        connection.pragma("mmap_size", _MAPPED)
        with transaction(connection, "IMMEDIATE"):
            if _is_empty(connection) and embedder_name is not None:
                connection.execute(_TABLES)
                set_setting(connection, "embedder", embedder_name)
        _check_kind(connection, path)
        if embedder_name is not None:
            _check_embedder_name(connection, embedder_name, path)
        stack.pop_all()  # it stays open
        return connection


@contextlib.contextmanager
def transaction(connection, kind="DEFERRED"):
    """Do all that the block does, or nothing of it."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite itself has done so when the disk was full.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def setting(connection, key):
    """Return a setting of a store, or `None`."""
    return connection.execute(
        "SELECT value FROM settings WHERE key = ?", (key,)
    ).get


def set_setting(connection, key, value):
    """Write a setting of a store."""
    connection.execute("INSERT INTO settings VALUES (?, ?)", (key, value))


def _is_empty(connection):
    return connection.execute("SELECT count(*) FROM sqlite_schema").get == 0


def _check_kind(connection, path):
    """Check that a file is empty, or a store of this version."""
    if _is_empty(connection):
        return
    if connection.pragma("application_id") != _APPLICATION:
        raise RunError(
            "`path` must be a store or a new file. Received: "
            f"{path}, an SQLite file of another program. Choose another name."
        )
    found = connection.pragma("user_version")
    if found != VERSION:
        raise RunError(
            f"A store must be of version {VERSION}, which this kerasllm "
            f"reads. Received: {path} of version {found}. Fill a new store, "
            "or use the kerasllm that has written it."
        )


def _check_embedder_name(connection, name, path):
    found = setting(connection, "embedder")
    if found != name:
        raise RunError(
            "A store must be used with the embedder that has filled it. "
            f"Received: {name} for {path}, which is of {found}. Use that "
            "embedder, or fill a new store."
        )


@contextlib.contextmanager
def explained(path):
    """Raise SQLite's errors about a file as our own.

    Args:
        path: path of the store, for the message.
    """
    try:
        yield
    # Our statements are right: one that fails does not find its tables.
    except (apsw.NotADBError, apsw.CorruptError, apsw.SQLError) as error:
        raise RunError(
            "A store must be whole. Received: "
            f"{path}, which is damaged or no store ({error}). Look at the "
            "path. If it was a store, fill a new one, or bring a copy back."
        ) from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise RunError(
            "One process at a time may write to a store. Received: "
            f"{path}, to which another one is writing. Try again later."
        ) from error
    except apsw.ConnectionClosedError as error:
        raise UserError(
            f"A store must be open. Received: {path}, which is closed. Open "
            "it again with `Store(path, embedder)`."
        ) from error
    except (apsw.ReadOnlyError, apsw.PermissionsError) as error:
        raise path_error(
            OSError(errno.EACCES, str(error)),
            "`path` must be a file that can be written to. Received: one that "
            "cannot. Choose another",
            path,
        ) from error
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError) as error:
        raise EnvironmentFailure(
            errno.ENOSPC if isinstance(error, apsw.FullError) else errno.EIO,
            "A store must be on a disk that can be read and written. "
            f"Received: {error}. Make room or choose another folder, and try "
            "again",
            str(path),
        ) from error
