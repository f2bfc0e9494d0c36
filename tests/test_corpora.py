"""Corpora: what is in them, and what is refused."""

import errno
import json

import pytest
import tensorflow_datasets as tfds

from kerasllm import corpora
from kerasllm.local_docs_dataset_builder import LocalDocs
from tests.test_files import archive, serve

LONG = "This sentence is here to make the docstring long enough for all. " * 2


@pytest.fixture
def small_docs(tmp_path, monkeypatch):
    """Let `local_docs` find twenty source files in place of thousands."""
    sources = []
    for i in range(20):
        path = tmp_path / "sources" / f"module{i}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f'"""Module {i}.\n\n{LONG}"""\n\n'
            f'def f():\n    """Function {i}. {LONG}"""\n\n'
            f'def g():\n    """The same everywhere. {LONG}"""\n\n'
            'def h():\n    """Too short."""\n'
        )
        sources.append(path)
    monkeypatch.setattr(corpora, "_source_files", lambda: iter(sources))
    return sources


def read(shards):
    documents = []
    for path in shards:
        with open(path, encoding="utf-8", newline="\n") as file:
            lines = file.read().removesuffix("\n").split("\n")
            documents += [line.replace("\\n", "\n") for line in lines]
    return documents


def test_local_docs_hold_each_docstring_once(small_docs):
    documents = read(corpora.local_docs())
    ours = [d for d in documents if LONG.strip() in d]
    assert len(ours) == 20 + 20 + 1  # modules, functions f, and one g
    assert f"Module 7.\n\n{LONG.strip()}" in documents
    assert not any("Too short." in document for document in documents)
    assert len(documents) > len(ours)  # the help topics of Python


def test_local_docs_are_sorted_shards_with_a_fingerprint(small_docs):
    shards = corpora.local_docs()
    assert shards == sorted(shards) and len(shards) == corpora.NUM_SHARDS
    folder = corpora.pathlib.Path(shards[0]).parent
    record = json.loads((folder / "fingerprint.json").read_text())
    assert record["documents"] == len(read(shards))
    assert record["facts"] == corpora.local_docs_versions()
    assert set(record["facts"]) >= {"python", "keras", "tensorflow"}


def test_local_docs_do_not_depend_on_the_order_of_the_files(
    small_docs, tmp_path, monkeypatch
):
    one = corpora.local_docs(tmp_path / "one")
    monkeypatch.setattr(
        corpora, "_source_files", lambda: iter(small_docs[::-1])
    )
    two = corpora.local_docs(tmp_path / "two")
    assert [open(p).read() for p in one] == [open(p).read() for p in two]


def test_local_docs_are_built_once_and_checked(small_docs, monkeypatch):
    shards = corpora.local_docs()
    monkeypatch.setattr(corpora, "_local_documents", None)  # not called again
    assert corpora.local_docs() == shards
    with open(shards[3], "a") as file:
        file.write("added\n")
    with pytest.raises(ValueError, match="stay as it was written.*shard3.txt"):
        corpora.local_docs()


def test_a_broken_build_leaves_nothing(small_docs, monkeypatch, tmp_path):
    def documents():
        yield "first " * 100
        raise KeyboardInterrupt

    monkeypatch.setattr(corpora, "_local_documents", documents)
    with pytest.raises(KeyboardInterrupt):
        corpora.local_docs(tmp_path / "corpora")
    assert list(tmp_path.glob("corpora/*")) == []


def test_a_full_disk_is_named(monkeypatch, tmp_path):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.txt").write_text("text")
    digest = corpora.files.sha256(tmp_path / "a.txt")
    calls = iter([lambda path: digest, full])
    monkeypatch.setattr(corpora.files, "sha256", lambda p: next(calls)(p))
    with pytest.raises(OSError, match="room on the disk.*KERAS_HOME"):
        corpora.text_shards(tmp_path / "a.txt", documents="files")


@pytest.mark.slow
def test_the_real_local_docs_are_about_17_megabytes_of_text():
    documents = read(corpora.local_docs())
    characters = sum(map(len, documents))
    assert 12e6 < characters < 30e6
    assert len(set(documents)) == len(documents) > 10_000
    joined = "\n".join(documents)
    for phrase in (
        "Turns positive integers (indexes) into dense vectors",  # keras
        'The "assert" statement',  # the help topics
        "Return the sum of array elements",  # numpy or jax
    ):
        assert phrase.lower()[:20] in joined.lower()


class TestLocalDocsBuilder(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own checks of a builder, on twenty small source files."""

    DATASET_CLASS = LocalDocs
    SPLITS = {"train": 41}
    SKIP_CHECKSUMS = True
    # The builder downloads nothing, so it needs no example files.
    EXAMPLE_DIR = "tests"

    @pytest.fixture(autouse=True)
    def use_small_docs(self, small_docs, monkeypatch):
        monkeypatch.setattr(
            corpora,
            "_local_documents",
            lambda: (
                text
                for path in small_docs
                for text in corpora._docstrings(path)
            ),
        )


def test_local_docs_can_be_read_through_tfds(small_docs, tmp_path):
    dataset = corpora.from_tfds("local_docs", data_dir=tmp_path)
    texts = [text.decode() for text in dataset.as_numpy_iterator()]
    assert texts == read(corpora.local_docs())


def test_from_tfds_refuses_what_is_not_there(small_docs, tmp_path):
    with pytest.raises(FileNotFoundError, match="must be prepared.*data_dir"):
        corpora.from_tfds("local_docs", data_dir=tmp_path, download=False)
    with pytest.raises(ValueError, match="data set that TFDS knows.*'nope'"):
        corpora.from_tfds("nope", data_dir=tmp_path)
    with pytest.raises(ValueError, match="`text_key`.*'body'.*'text'"):
        corpora.from_tfds("local_docs", text_key="body", data_dir=tmp_path)
    with pytest.raises(ValueError, match="`split`.*'dev'.*train"):
        corpora.from_tfds("local_docs", split="dev", data_dir=tmp_path)


def test_mini_c4_is_downloaded_once_and_sorted(tmp_path):
    with serve(archive(shard10="ten\n", shard2="two\n", readme="no")) as (
        url,
        requests,
    ):
        shards = corpora.mini_c4(tmp_path, url=url)
        assert corpora.mini_c4(tmp_path, url=url) == shards
    assert read(shards) == ["ten", "two"]
    assert len(requests) == 1


def test_mini_c4_must_hold_shards(tmp_path):
    with serve(archive(readme="nothing else")) as (url, _):
        with pytest.raises(ValueError, match="must hold files named shard"):
            corpora.mini_c4(tmp_path, url=url)


def test_lines_are_shards_already(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "a.txt", "deep/c.txt", "not_text.bin"):
        (tmp_path / name).write_text(f"one of {name}\\nnew line\ntwo\n")
    shards = corpora.text_shards(tmp_path)
    assert shards == [
        str(tmp_path / n) for n in ("a.txt", "b.txt", "deep/c.txt")
    ]
    assert corpora.text_shards([shards[0], tmp_path / "a.txt"]) == shards[:1]


def test_files_become_documents_with_their_newlines(tmp_path):
    texts = [f"Text {i}\n\nwith lines.\r\nEnd." for i in range(11)]
    for i, text in enumerate(texts):
        (tmp_path / f"{i:02}.txt").write_bytes(text.encode())
    shards = corpora.text_shards(tmp_path, documents="files")
    expected = {text.replace("\r\n", "\n") for text in texts}
    assert set(read(shards)) == expected
    assert corpora.text_shards(tmp_path, documents="files") == shards


def test_a_book_becomes_paragraphs(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("One,\ntwo.\n\nThree.\n \t\n\n\nFour.\n")
    shards = corpora.text_shards(path, documents="paragraphs")
    assert sorted(read(shards)) == ["Four.", "One,\ntwo.", "Three."]


def test_text_that_cannot_be_used_is_refused(tmp_path):
    bad = tmp_path / "bad.txt"
    with pytest.raises(FileNotFoundError, match="does not exist.*spelling"):
        corpora.text_shards(bad)
    with pytest.raises(ValueError, match="at least one file"):
        corpora.text_shards(tmp_path)
    bad.write_text(" \n")
    with pytest.raises(ValueError, match="must hold text.*bad.txt"):
        corpora.text_shards(bad)
    with pytest.raises(ValueError, match="must hold text"):
        corpora.text_shards(bad, documents="files")
    bad.write_bytes(b"good line\nbad \xff line\n")
    for documents in ("lines", "files"):
        with pytest.raises(ValueError, match="UTF-8.*bad.txt.*byte 14.*iconv"):
            corpora.text_shards(bad, documents=documents)
    with pytest.raises(ValueError, match='"lines", "files"'):
        corpora.text_shards(bad, documents="words")
