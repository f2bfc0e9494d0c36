"""Files that are whole or absent."""

import errno
import hashlib
import os

import pytest

from kerasllm import files
from kerasllm.checks import (
    EnvironmentFailure,
    ExplainedError,
    MissingFileError,
    RunError,
    UserError,
)
from kerasllm.files import _digests

pytestmark = pytest.mark.any_backend


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with files.whole_file(path) as file:
        file.write("text\n")
        assert not path.exists()
    assert path.read_bytes() == b"text\n"
    assert names(path.parent) == ["file.txt"]


def test_a_broken_write_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        with files.whole_file(path) as file:
            file.write("half of the n")
            raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_what_a_kill_left_of_a_file_can_be_removed(tmp_path):
    path = tmp_path / "file[1].txt"
    path.write_text("old")
    others = [".file[1].txt", ".file1.txt.a.partial", ".file[1].partial"]
    for name in [*others, ".file[1].txt.a.partial", ".file[1].txt.b.partial"]:
        (tmp_path / name).write_text("half")
    files.remove_partial(path)
    assert names(tmp_path) == sorted([*others, "file[1].txt"])
    files.remove_partial(tmp_path / "no folder" / "file")


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder"
    with files.whole_folder(path) as folder:
        (folder / "a").write_text("1")
    with pytest.raises(ZeroDivisionError):
        with files.whole_folder(path) as folder:
            (folder / "b").write_text("2")
            raise ZeroDivisionError
    assert names(path) == ["a"]
    with files.whole_folder(path) as folder:
        (folder / "c").write_text("3")
    assert names(path) == ["c"]
    assert names(tmp_path) == ["folder"]


def test_files_have_the_mode_that_open_would_give(tmp_path):
    with files.whole_file(tmp_path / "ours") as file:
        file.write("")
    (tmp_path / "plain").write_text("")
    assert os.stat(tmp_path / "ours").st_mode == (
        os.stat(tmp_path / "plain").st_mode
    )


def test_the_cache_is_below_keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert files.cache_dir("a", "b") == tmp_path / "kerasllm" / "a" / "b"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(
        EnvironmentFailure, match="must be writable.*KERAS_HOME"
    ):
        files.cache_dir()


def test_a_folder_must_be_writable(tmp_path):
    files.check_writable(tmp_path / "new")
    assert names(tmp_path / "new") == []


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.EACCES, PermissionError),
        (errno.EPERM, PermissionError),
        (errno.ENOTDIR, NotADirectoryError),
        (errno.EEXIST, FileExistsError),
        (errno.ENOSPC, EnvironmentFailure),
    ],
)
def test_an_unwritable_folder_keeps_the_class_of_the_system(
    tmp_path, monkeypatch, code, kind
):
    """A wrong path is the caller's mistake, a full disk is not."""

    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files._folders.tempfile, "TemporaryFile", fail)
    with pytest.raises(kind, match="can be written to") as caught:
        files.check_writable(tmp_path)
    error = caught.value
    assert isinstance(error, ExplainedError)
    assert isinstance(error, UserError) == (code != errno.ENOSPC)
    assert (error.errno, error.filename) == (code, str(tmp_path))


def test_a_file_is_no_writable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="can be written to") as caught:
        files.check_writable(tmp_path / "file")
    assert caught.value.filename == str(tmp_path / "file")
    with pytest.raises(NotADirectoryError, match="can be written to"):
        files.check_writable(tmp_path / "file" / "folder")


def test_a_locked_folder_refuses_a_second_run(tmp_path):
    pytest.importorskip("fcntl", reason="no locks here")
    with files.locked(tmp_path):
        with pytest.raises(RunError, match="one run at a time"):
            with files.locked(tmp_path):
                pass
    with files.locked(tmp_path):
        pass
    assert names(tmp_path) == []


def test_sha256_is_that_of_hashlib(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    expected = hashlib.sha256(b"abc").hexdigest()
    assert files.sha256(tmp_path / "file") == expected


def test_a_file_is_read_again_only_if_it_was_written_to(tmp_path, monkeypatch):
    path = tmp_path / "file"
    read = []

    def digest(path, sha256=files.sha256):
        read.append(path)
        return sha256(path)

    monkeypatch.setattr(_digests, "sha256", digest)
    for number, content in enumerate((b"one", b"two", b"three"), 1):
        path.write_bytes(content)
        os.utime(path, ns=(number, number))  # clocks may be coarse
        for name in (path, str(path)):
            found = files.sha256_once(name)
            assert found == hashlib.sha256(content).hexdigest()
        assert len(read) == number
    path.unlink()
    with pytest.raises(FileNotFoundError):
        files.sha256_once(path)


@pytest.mark.parametrize("name", ["ENOSPC", "EFBIG", "EDQUOT", "EROFS", "EIO"])
def test_a_disk_that_fails_is_explained(tmp_path, monkeypatch, name):
    number = getattr(errno, name)

    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    path = tmp_path / "file"
    with pytest.raises(EnvironmentFailure, match="must fit.*Make") as caught:
        with files.whole_file(path) as file:
            file.write("text")
    assert caught.value.errno == number
    assert caught.value.filename == str(path)
    assert os.strerror(number) in str(caught.value)
    assert names(tmp_path) == []


def test_other_errors_of_files_stay_as_they_are(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(FileExistsError):
        with files.whole_file(tmp_path / "file" / "new"):
            pass


def test_a_file_without_digest_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"must exist.*nope\.txt"):
        files.sha256_once(tmp_path / "nope.txt")
