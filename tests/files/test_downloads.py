"""Downloads are made once and checked at every use."""

import errno
import hashlib
import os
import socket

import pytest

from kerasllm import files
from kerasllm.checks import EnvironmentFailure, UserError
from tests.serving import archive, serve

pytestmark = pytest.mark.any_backend


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_download_is_made_once_and_recorded(tmp_path):
    with serve(b"content") as (url, requests):
        for _ in range(2):
            path = files.download(url, tmp_path)
            assert path.read_bytes() == b"content"
    assert len(requests) == 1
    digest = hashlib.sha256(b"content").hexdigest()
    record = (tmp_path / "data.zip.sha256").read_text()
    assert record == f"{digest}  data.zip\n"


def test_an_archive_is_unpacked_and_its_files_are_checked(tmp_path):
    with serve(archive(a="text a", b="text b")) as (url, _):
        folder = files.download(url, tmp_path, extract=True)
        assert (folder / "inner" / "a.txt").read_text() == "text a"
        (folder / "inner" / "a.txt").write_text("changed")
        with pytest.raises(UserError, match="a.txt, which is changed"):
            files.download(url, tmp_path, extract=True)
        (folder / "inner" / "a.txt").unlink()
        with pytest.raises(UserError, match="a.txt, which is missing"):
            files.download(url, tmp_path, extract=True)


def test_a_truncated_transfer_is_refused(tmp_path):
    with serve(b"half of it", length=20) as (url, _):
        with pytest.raises(
            EnvironmentFailure, match="must be reachable and arrive whol"
        ):
            files.download(url, tmp_path)
    assert names(tmp_path) == []


def test_a_file_that_changed_on_disk_is_refused(tmp_path):
    with serve(b"content") as (url, _):
        path = files.download(url, tmp_path)
        path.write_bytes(b"conten")
        with pytest.raises(UserError, match="changed or cut short.*Delete"):
            files.download(url, tmp_path)


def test_a_file_that_nobody_recorded_is_refused(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"whatever")
    with serve(b"content") as (url, requests):
        with pytest.raises(UserError, match="must have a recorded SHA-256"):
            files.download(url, tmp_path)
    assert requests == []


def test_the_expected_hash_decides(tmp_path):
    with serve(b"content") as (url, _):
        with pytest.raises(UserError, match=f"the SHA-256 {'0' * 64}.*not ke"):
            files.download(url, tmp_path, sha256="0" * 64)
        assert names(tmp_path) == []
        digest = hashlib.sha256(b"content").hexdigest()
        files.download(url, tmp_path, sha256=digest)
        with pytest.raises(UserError, match="64 hexadecimal digits"):
            files.download(url, tmp_path, sha256="abc")


def test_errors_of_the_network_say_what_to_do(tmp_path):
    with serve(b"gone", status=404) as (url, _):
        with pytest.raises(EnvironmentFailure, match="404.*Check the address"):
            files.download(url, tmp_path)
    # The server is closed now: nobody listens at that port.
    with pytest.raises(
        EnvironmentFailure, match="must be reachable.*try again"
    ):
        files.download(url, tmp_path)
    assert names(tmp_path) == []


def test_a_full_disk_ends_the_transfer_and_keeps_nothing(tmp_path, monkeypatch):
    def write_fails(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("keras.utils.get_file", write_fails)
    with pytest.raises(EnvironmentFailure, match="room on the disk") as caught:
        files.download("http://127.0.0.1/data.zip", tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


def test_an_interrupted_transfer_keeps_nothing(tmp_path, monkeypatch):
    def half(name, url, cache_dir, cache_subdir):
        with open(os.path.join(cache_dir, name), "wb") as file:
            file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("keras.utils.get_file", half)
    with pytest.raises(KeyboardInterrupt):
        files.download("http://127.0.0.1/data.zip", tmp_path)
    assert names(tmp_path) == []


def test_a_kill_before_the_last_rename_costs_one_more_download(
    tmp_path, monkeypatch
):
    rename = os.replace

    def killed(source, target):
        if target.name == "data.zip":
            raise KeyboardInterrupt
        rename(source, target)

    with serve(b"content") as (url, requests):
        with monkeypatch.context() as patch:
            patch.setattr("os.replace", killed)
            with pytest.raises(KeyboardInterrupt):
                files.download(url, tmp_path)
        assert names(tmp_path) == ["data.zip.sha256"]
        assert files.download(url, tmp_path).read_bytes() == b"content"
    assert len(requests) == 2


def test_a_connection_that_falls_silent_ends(tmp_path, monkeypatch):
    seen = []

    def get_file(*args, **kwargs):
        seen.append(socket.getdefaulttimeout())
        raise TimeoutError("timed out")

    monkeypatch.setattr("keras.utils.get_file", get_file)
    before = socket.getdefaulttimeout()
    with pytest.raises(EnvironmentFailure, match="timed out.*try again"):
        files.download("http://127.0.0.1:9/data.zip", tmp_path)
    assert seen[0] is not None
    assert socket.getdefaulttimeout() == before


def test_an_archive_may_be_deleted_once_it_is_unpacked(tmp_path):
    with serve(archive(a="text")) as (url, requests):
        folder = files.download(url, tmp_path, extract=True)
        (tmp_path / "data.zip").unlink()
        assert files.download(url, tmp_path, extract=True) == folder
        assert len(requests) == 1
        # But not when another archive is asked for.
        with pytest.raises(UserError, match="the SHA-256 0000.*not kept"):
            files.download(url, tmp_path, sha256="0" * 64, extract=True)


def test_a_file_that_its_publisher_replaced_is_refused(tmp_path):
    with serve(b"old") as (url, _):
        path = files.download(url, tmp_path)
    path.unlink()
    with serve(b"new") as (url, _):
        with pytest.raises(UserError, match="has replaced.*data.zip.sha256"):
            files.download(url, tmp_path)
        digest = hashlib.sha256(b"new").hexdigest()
        path = files.download(url, tmp_path, sha256=digest)
    assert path.read_bytes() == b"new"


def test_a_file_brought_by_hand_needs_its_hash(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"brought")
    digest = hashlib.sha256(b"brought").hexdigest()
    url = "http://127.0.0.1:9/data.zip"
    files.download(url, tmp_path, sha256=digest)
    assert files.download(url, tmp_path).read_bytes() == b"brought"


def test_a_damaged_archive_is_named(tmp_path):
    data = bytearray(archive(a="text " * 100))
    data[60] ^= 1  # in the content, where only the checksum can tell
    with serve(bytes(data)) as (url, _):
        with pytest.raises(UserError, match="must be a whole ZIP archive"):
            files.download(url, tmp_path, extract=True)
    assert not (tmp_path / "data").exists()


def test_what_is_no_archive_is_not_kept(tmp_path):
    with serve(b"<html>please log in</html>") as (url, _):
        with pytest.raises(UserError, match="must be a ZIP archive"):
            files.download(url, tmp_path, extract=True)
    assert names(tmp_path) == []


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def extractall(self, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zipfile.ZipFile.extractall", extractall)
    with serve(archive(a="text")) as (url, _):
        with pytest.raises(
            EnvironmentFailure, match="room on the disk"
        ) as caught:
            files.download(url, tmp_path, extract=True)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "data").exists()


def test_an_interrupted_unpacking_is_done_again(tmp_path, monkeypatch):
    def extractall(self, path):
        (path / "half").write_text("")
        raise KeyboardInterrupt

    with serve(archive(a="text")) as (url, requests):
        with monkeypatch.context() as patch:
            patch.setattr("zipfile.ZipFile.extractall", extractall)
            with pytest.raises(KeyboardInterrupt):
                files.download(url, tmp_path, extract=True)
        assert not (tmp_path / "data").exists()
        folder = files.download(url, tmp_path, extract=True)
    assert (folder / "inner" / "a.txt").read_text() == "text"
    assert len(requests) == 1  # the archive itself was whole


def test_an_address_must_name_a_file(tmp_path):
    with pytest.raises(UserError, match="must end in a file name"):
        files.download("http://127.0.0.1/", tmp_path)
    with pytest.raises(UserError, match="has an extension"):
        files.download("http://127.0.0.1/data", tmp_path, extract=True)
