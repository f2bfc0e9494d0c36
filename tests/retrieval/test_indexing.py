"""Folders in a store: only what changed is embedded, nothing stays behind."""

import os

import pytest

from kerasllm.checks import MissingFileError, RunError, UserError
from kerasllm.retrieval import Store, index_folder
from tests.retrieval.embedders import Counting
from tests.retrieval.test_chunks import pdf

pytestmark = pytest.mark.any_backend


@pytest.fixture
def store():
    with Store(":memory:", Counting()) as store:
        yield store


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "docs"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name, text in {
        "kites.md": "# Kites\n\nThey fly high.\n\n# Care\n\nKeep them dry.\n",
        "deep/er/fish.txt": "Fish swim. They do not fly.",
        ".hidden/secret.md": "Nobody reads this.",
        "deep/.secret.md": "Nor this.",
        "deep/program.py": "print('no document')",
        "empty.md": "",
    }.items():
        (folder / name).write_text(text)
    return folder


def index(store, folder, **arguments):
    """Index, and return the report and what was embedded."""
    store.embedder.texts.clear()
    report = index_folder(store, folder, **{"verbose": 0} | arguments)
    probe = "The quick brown fox"
    texts = [t for t in store.embedder.texts if not t.startswith(probe)]
    return report, sorted(texts)


KITES = "Kites\n\nThey fly high."
CARE = "Care\n\nKeep them dry."
FISH = "Fish swim. They do not fly."


def texts_of(store):
    return sorted(passage.text for passage in store.get(store.ids()))


def test_a_folder_is_read_with_its_subfolders(store, folder):
    report, texts = index(store, folder)
    assert texts == texts_of(store) == [CARE, FISH, KITES]
    assert (report.files, report.chunks, report.added) == (3, 3, 3)
    assert (report.deleted, report.skipped) == (0, {})
    assert report.unread == ("docs/deep/program.py",)
    hit = store.search("dry", k=1, mode="bm25")[0]
    assert (hit.source, hit.metadata["title"]) == ("docs/kites.md", "Care")
    start, end = hit.offsets
    text = (folder / "kites.md").read_text()
    assert text[start:end] == "Keep them dry."


def test_names_need_not_be_utf_8(store, tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(folder)
    with open(os.path.join(folder, b"\xfc.txt"), "w") as file:
        file.write(CARE)
    for added in (1, 0):
        report = index_folder(store, os.fsdecode(folder), verbose=0)
        assert (report.files, report.added) == (1, added)
    (passage,) = store.get(store.ids())
    assert passage.source == "caf\\xe9/\\xfc.txt"
    with pytest.raises(UserError, match="`path` must be text that UTF-8"):
        Store(os.fsdecode(folder) + "/s.sqlite", str)


def test_a_second_run_embeds_only_what_changed(store, folder):
    index(store, folder)
    report, texts = index(store, folder)
    assert texts == [] and (report.added, report.deleted) == (0, 0)
    # A new section at the top moves the others.
    path = folder / "kites.md"
    path.write_text("# New\n\nAt the top.\n\n" + path.read_text())
    report, texts = index(store, folder)
    assert texts == ["New\n\nAt the top."] and report.added == 1
    start, end = store.search("dry", k=1, mode="bm25")[0].offsets
    assert path.read_text()[start:end] == "Keep them dry."


def test_what_is_gone_from_the_folder_is_gone_from_the_store(store, folder):
    store.add(["not of a folder"], ["mine"])
    index(store, folder)
    (folder / "deep/er/fish.txt").unlink()
    (folder / "kites.md").write_text("# Kites\n\nThey fly high.\n")
    report, texts = index(store, folder)
    assert texts == [] and report.deleted == 2
    assert texts_of(store) == [KITES, "not of a folder"]
    (folder / "kites.md").write_text("")
    assert index(store, folder)[0].deleted == 1


def test_the_same_text_twice_has_two_places(store, folder):
    text = "Again and again."
    (folder / "kites.md").write_text(f"# A\n{text}\n# A\n{text}\n")
    index(store, folder)
    found = store.search(text, mode="bm25", k=2)
    assert [hit.offsets for hit in found] == [(4, 20), (25, 41)]


@pytest.mark.parametrize("moment", range(3))
def test_an_interrupted_run_goes_on(tmp_path, folder, moment):
    path = tmp_path / "store.sqlite"

    class Interrupted(Counting):
        def __call__(self, texts):
            if len(self.texts) > moment:  # the first one is the probe
                raise KeyboardInterrupt
            return super().__call__(texts)

    with Store(path, Interrupted()) as store:
        with pytest.raises(KeyboardInterrupt):
            index_folder(store, folder, batch_size=1, verbose=0)
        before = len(store)
        assert before == moment
    with Store(path, Counting()) as store:
        report, texts = index(store, folder, batch_size=1)
        assert len(texts) == 3 - before and report.chunks == 3
        assert texts_of(store) == [CARE, FISH, KITES]


def test_other_sizes_of_chunks_replace_the_old_ones(store, folder):
    index(store, folder)
    index(store, folder, max_tokens=4, overlap=0)
    assert "Fish swim." in texts_of(store) and FISH not in texts_of(store)
    index(store, folder, batch_size=2)
    assert texts_of(store) == [CARE, FISH, KITES]


def test_a_store_may_have_many_folders(store, folder, tmp_path):
    other = tmp_path / "other" / "docs"
    other.mkdir(parents=True)
    (other / "kites.md").write_text("Others.")
    index(store, folder)
    with pytest.raises(RunError, match="Give another `name`"):
        index(store, other)
    index(store, other, name="more")
    assert len(store) == 4
    assert len(store.ids({"collection": "more"})) == 1
    assert store.ids({"source": "more/kites.md"})


def test_a_folder_may_move(store, folder, tmp_path):
    index(store, folder)
    (tmp_path / "new").mkdir()
    moved = folder.rename(tmp_path / "new" / "docs")
    report, texts = index(store, moved)
    assert texts == [] and (report.added, report.deleted) == (0, 0)
    assert len(store.ids({"folder": str(moved)})) == 3


def test_a_file_that_cannot_be_read_is_reported(store, folder):
    index(store, folder)
    (folder / "deep/er/fish.txt").write_bytes(b"caf\xe9")
    (folder / "kites.md").write_text("# Kites\n\nNew.\n")
    report, texts = index(store, folder)
    assert texts == ["Kites\n\nNew."] and report.deleted == 2
    assert list(report.skipped) == ["docs/deep/er/fish.txt"]
    assert "must be UTF-8" in report.skipped["docs/deep/er/fish.txt"]
    assert FISH in texts_of(store)  # what was read before stays


@pytest.mark.parametrize("is_installed", [True, False])
def test_pdf_files_are_documents(store, folder, monkeypatch, is_installed):
    (folder / "bell.pdf").write_bytes(pdf("A bell rings."))
    if is_installed:
        pytest.importorskip("pypdf", reason='`pip install -e ".[pdf]"`')
        index(store, folder)
        (hit,) = store.search("rings", mode="bm25")
        assert hit.text == "page 1\n\nA bell rings."
    else:  # before anything is embedded
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(UserError, match="pypdf is not installed"):
            index(store, folder)
        assert len(store) == 0


def test_folders_without_documents_are_refused(store, folder, tmp_path):
    with pytest.raises(MissingFileError, match="which does not exist"):
        index(store, tmp_path / "gone")
    with pytest.raises(UserError, match="which is a file"):
        index(store, folder / "kites.md")
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="must have a document"):
        index(store, tmp_path / "bare")
    with pytest.raises(UserError, match="`batch_size` must be a positive int"):
        index(store, folder, batch_size=0)
    with pytest.raises(UserError, match="`overlap` must be an int"):
        index(store, folder, overlap=-1)


def test_progress_is_said_on_stderr(store, folder, capfd):
    index(store, folder, verbose=1)
    said = capfd.readouterr()
    assert "Indexing docs, 3 of 3 files ..." in said.err and said.out == ""
    # Of a file that takes long, the part that is done.
    with Store(":memory:", Counting()) as other:
        index_folder(other, folder, batch_size=1)
    assert "files, chunk 2 of 2 ..." in capfd.readouterr().err
    index(store, folder)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_no_document(store, folder):
    os.mkfifo(folder / "pipe.txt")
    assert index(store, folder)[0].files == 3
