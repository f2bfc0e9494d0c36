"""Files that may be replaced: those that nobody has changed."""

import os

import pytest

from kerasllm import files
from kerasllm.checks import RunError

pytestmark = pytest.mark.any_backend


def written(path, text="ours"):
    with files.whole_file(path) as file:
        file.write(text)
    files.remember(path)


def test_what_we_wrote_may_be_replaced_and_what_is_not_there(tmp_path):
    written(tmp_path / "a")
    files.check_unchanged([tmp_path / "a", tmp_path / "b"])
    written(tmp_path / "a", "again")
    files.check_unchanged([str(tmp_path / "a")])


@pytest.mark.parametrize("text", ["", "ours!", "theirs"])
def test_what_was_changed_may_not(tmp_path, text):
    written(tmp_path / "a")
    (tmp_path / "a").write_text(text)
    (tmp_path / "b").write_text("never ours")
    with pytest.raises(RunError, match="Received: .*a and 1 more, .*`force`"):
        files.check_unchanged([tmp_path / "a", tmp_path / "b"])
    files.check_unchanged([tmp_path / "a", tmp_path / "b"], force=True)
    (tmp_path / "a").write_text("ours")  # taken back
    files.check_unchanged([tmp_path / "a"])


def test_a_file_is_known_by_its_place(tmp_path, monkeypatch):
    written(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    files.check_unchanged(["a"])
    os.rename("a", "b")
    with pytest.raises(RunError):
        files.check_unchanged(["b"])


def test_what_is_about_something_else_is_as_if_it_were_of_somebody_else(
    tmp_path,
):
    written(tmp_path / "a")
    files.remember(tmp_path / "a", "one")
    files.check_unchanged([tmp_path / "a"], of="one")
    with pytest.raises(RunError, match="as this command wrote it for two, or"):
        files.check_unchanged([tmp_path / "a"], of="two")


def test_a_folder_and_a_broken_link_are_in_the_way(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "nothing")
    for name in "ab":
        with pytest.raises(RunError):
            files.check_unchanged([tmp_path / name])
    with pytest.raises(RunError, match="must be a file. Received: the folder"):
        files.check_unchanged([tmp_path / "a"], force=True)


def test_a_cache_that_cannot_be_written_to_loses_nothing(tmp_path, monkeypatch):
    """It is asked once more than it need be."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    written(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "ours"
    with pytest.raises(RunError):
        files.check_unchanged([tmp_path / "a"])
