"""Files that are whole or absent, and downloads that are checked."""

import contextlib
import errno
import hashlib
import http.server
import io
import os
import socket
import threading
import zipfile

import pytest

from kerasllm import files


@contextlib.contextmanager
def serve(content, length=None, status=200):
    """Serve `content` at any address of a loopback server; yield its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(length or len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    requests = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/data.zip"
        yield url, requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def archive(**contents):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, text in contents.items():
            file.writestr(f"inner/{name}.txt", text)
    return data.getvalue()


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
    with pytest.raises(OSError, match="must be writable.*KERAS_HOME"):
        files.cache_dir()


def test_sha256_is_that_of_hashlib(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    expected = hashlib.sha256(b"abc").hexdigest()
    assert files.sha256(tmp_path / "file") == expected


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
        with pytest.raises(ValueError, match="a.txt, which is changed"):
            files.download(url, tmp_path, extract=True)
        (folder / "inner" / "a.txt").unlink()
        with pytest.raises(ValueError, match="a.txt, which is missing"):
            files.download(url, tmp_path, extract=True)


def test_a_truncated_transfer_is_refused(tmp_path):
    with serve(b"half of it", length=20) as (url, _):
        with pytest.raises(OSError, match="must be reachable and arrive whol"):
            files.download(url, tmp_path)
    assert names(tmp_path) == []


def test_a_file_that_changed_on_disk_is_refused(tmp_path):
    with serve(b"content") as (url, _):
        path = files.download(url, tmp_path)
        path.write_bytes(b"conten")
        with pytest.raises(ValueError, match="changed or cut short.*Delete"):
            files.download(url, tmp_path)


def test_a_file_that_nobody_recorded_is_refused(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"whatever")
    with serve(b"content") as (url, requests):
        with pytest.raises(ValueError, match="must have a recorded SHA-256"):
            files.download(url, tmp_path)
    assert requests == []


def test_the_expected_hash_decides(tmp_path):
    with serve(b"content") as (url, _):
        with pytest.raises(ValueError, match=f"the SHA-256 {'0' * 64}.*not ke"):
            files.download(url, tmp_path, sha256="0" * 64)
        assert names(tmp_path) == []
        digest = hashlib.sha256(b"content").hexdigest()
        files.download(url, tmp_path, sha256=digest)
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            files.download(url, tmp_path, sha256="abc")


def test_errors_of_the_network_say_what_to_do(tmp_path):
    with serve(b"gone", status=404) as (url, _):
        with pytest.raises(OSError, match="404.*Look at the address"):
            files.download(url, tmp_path)
    # The server is closed now: nobody listens at that port.
    with pytest.raises(OSError, match="must be reachable.*try again"):
        files.download(url, tmp_path)
    assert names(tmp_path) == []


def test_a_full_disk_ends_the_transfer_and_keeps_nothing(tmp_path, monkeypatch):
    def write_fails(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("keras.utils.get_file", write_fails)
    with pytest.raises(OSError, match="room on the disk") as caught:
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
    with pytest.raises(OSError, match="timed out.*try again"):
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
        with pytest.raises(ValueError, match="the SHA-256 0000.*not kept"):
            files.download(url, tmp_path, sha256="0" * 64, extract=True)


def test_a_file_that_its_publisher_replaced_is_refused(tmp_path):
    with serve(b"old") as (url, _):
        path = files.download(url, tmp_path)
    path.unlink()
    with serve(b"new") as (url, _):
        with pytest.raises(ValueError, match="has replaced.*data.zip.sha256"):
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
        with pytest.raises(ValueError, match="must be a whole ZIP archive"):
            files.download(url, tmp_path, extract=True)
    assert not (tmp_path / "data").exists()


def test_what_is_no_archive_is_not_kept(tmp_path):
    with serve(b"<html>please log in</html>") as (url, _):
        with pytest.raises(ValueError, match="must be a ZIP archive"):
            files.download(url, tmp_path, extract=True)
    assert names(tmp_path) == []


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def extractall(self, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zipfile.ZipFile.extractall", extractall)
    with serve(archive(a="text")) as (url, _):
        with pytest.raises(OSError, match="room on the disk") as caught:
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
    with pytest.raises(ValueError, match="must end in a file name"):
        files.download("http://127.0.0.1/", tmp_path)
    with pytest.raises(ValueError, match="has an extension"):
        files.download("http://127.0.0.1/data", tmp_path, extract=True)


def test_a_file_is_read_again_only_if_it_was_written_to(tmp_path, monkeypatch):
    path = tmp_path / "file"
    read = []

    def digest(path, sha256=files.sha256):
        read.append(path)
        return sha256(path)

    monkeypatch.setattr(files, "sha256", digest)
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
