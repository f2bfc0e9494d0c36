"""Corpora: what is in them, and what is refused."""

import errno
import importlib
import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

from kerasllm import corpora, files, pipeline, tokenizers
from kerasllm.checks import EnvironmentFailure, MissingFileError, UserError
from kerasllm.corpora import _local_docs
from kerasllm.corpora._local_docs_builder import LocalDocs
from kerasllm.files import restore_line
from tests.serving import archive, serve

pytestmark = pytest.mark.any_backend

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
    monkeypatch.setattr(_local_docs, "_source_files", lambda: iter(sources))
    return sources


def read(shards):
    documents = []
    for path in shards:
        with open(path, encoding="utf-8", newline="\n") as file:
            lines = file.read().removesuffix("\n").split("\n")
            documents += [restore_line(line) for line in lines]
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
    folder = pathlib.Path(shards[0]).parent
    record = json.loads((folder / "fingerprint.json").read_text())
    assert record["documents"] == len(read(shards))
    assert record["facts"] == corpora.local_docs_versions()
    assert set(record["facts"]) >= {"python", "keras", "tensorflow"}


def test_local_docs_do_not_depend_on_the_order_of_the_files(
    small_docs, tmp_path, monkeypatch
):
    one = corpora.local_docs(tmp_path / "one")
    monkeypatch.setattr(
        _local_docs, "_source_files", lambda: iter(small_docs[::-1])
    )
    two = corpora.local_docs(tmp_path / "two")
    assert [open(p).read() for p in one] == [open(p).read() for p in two]


def test_local_docs_are_built_once_and_checked(small_docs, monkeypatch):
    shards = corpora.local_docs()
    monkeypatch.setattr(
        _local_docs, "_local_documents", None
    )  # not called again
    assert corpora.local_docs() == shards
    with open(shards[3], "a") as file:
        file.write("added\n")
    with pytest.raises(UserError, match="stay as it was written.*shard3.txt"):
        corpora.local_docs()
    folder = pathlib.Path(shards[0]).parent
    (folder / "fingerprint.json").write_text('{"facts":')
    with pytest.raises(UserError, match="must have its fingerprint.json"):
        corpora.local_docs()


def test_another_version_of_a_package_is_another_corpus(
    small_docs, monkeypatch
):
    before = corpora.local_docs()
    versions = corpora.local_docs_versions() | {"keras": "99.0"}
    monkeypatch.setattr(_local_docs, "local_docs_versions", lambda: versions)
    after = corpora.local_docs()
    assert set(before).isdisjoint(after)
    assert pathlib.Path(before[0]).exists()


def test_docstrings_are_read_without_running_the_source(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '"""Half a pair: \\ud800."""\n'
        "raise SystemExit\n"
        "class C:\n"
        '    async def f(self):\n        """Of a method."""\n'
        'add_newdoc("numpy", ("sin", """Of a compiled function."""))\n'
    )
    texts = set(_local_docs._docstrings(path))
    assert texts >= {"Of a method.", "Of a compiled function."}
    path.write_text('"""A docstring."""\nprint "Python 2"\n')
    assert list(_local_docs._docstrings(path)) == []


def test_local_docs_are_utf_8_whatever_the_source_escapes(
    small_docs, tmp_path, monkeypatch
):
    path = tmp_path / "odd.py"
    path.write_text(f'"""Odd \\ud800 and \\r. {LONG}"""')
    monkeypatch.setattr(_local_docs, "_source_files", lambda: iter([path]))
    documents = read(corpora.local_docs(tmp_path))
    assert f"Odd  and \n. {LONG.strip()}" in documents


def test_sources_are_the_installed_packages_without_their_tests():
    paths = [path.as_posix() for path in _local_docs._source_files()]
    assert len(set(paths)) > 3_000
    for ending in (
        "/json/decoder.py",
        "/textwrap.py",
        "/keras_hub/__init__.py",
    ):
        assert any(path.endswith(ending) for path in paths)
    for part in ("-packages/torch/", "/turtle.py", "_test.py"):
        assert not any(part in path for path in paths)


def test_a_broken_build_leaves_nothing(small_docs, monkeypatch, tmp_path):
    def documents():
        yield "first " * 100
        raise KeyboardInterrupt

    monkeypatch.setattr(_local_docs, "_local_documents", documents)
    with pytest.raises(KeyboardInterrupt):
        corpora.local_docs(tmp_path / "corpora")
    assert list(tmp_path.glob("corpora/*")) == []


def test_a_folder_that_cannot_be_written_to_is_named(small_docs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="can be written to"):
        corpora.local_docs(tmp_path / "file")


def test_a_full_disk_is_named(monkeypatch, tmp_path):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.txt").write_text("text")
    digest = files.sha256(tmp_path / "a.txt")
    calls = iter([lambda path: digest, full])
    monkeypatch.setattr(files, "sha256", lambda p: next(calls)(p))
    with pytest.raises(
        EnvironmentFailure, match="room on the disk.*KERAS_HOME"
    ):
        corpora.text_shards(tmp_path / "a.txt", documents="files")


@pytest.mark.once
def test_the_real_local_docs_are_about_17_megabytes_of_text(
    shared_cache, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", shared_cache)
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
    EXAMPLE_DIR = os.path.dirname(__file__)

    @pytest.fixture(autouse=True)
    def use_small_docs(self, small_docs, monkeypatch):
        monkeypatch.setattr(
            _local_docs,
            "_local_documents",
            lambda: (
                text
                for path in small_docs
                for text in _local_docs._docstrings(path)
            ),
        )


def test_the_builder_keeps_its_name_and_its_first_path(tmp_path):
    first = importlib.import_module("kerasllm.local_docs_dataset_builder")
    assert first.LocalDocs is LocalDocs
    config = corpora.fingerprint(corpora.local_docs_versions())
    found = tfds.builder("local_docs", data_dir=tmp_path)
    assert isinstance(found, LocalDocs)
    assert found.info.full_name == f"local_docs/{config}/1.0.0"


def test_local_docs_can_be_read_through_tfds(small_docs, tmp_path):
    dataset = corpora.from_tfds("local_docs", data_dir=tmp_path)
    texts = [text.decode() for text in dataset.as_numpy_iterator()]
    assert texts == read(corpora.local_docs())


def test_from_tfds_refuses_what_is_not_there(small_docs, tmp_path):
    with pytest.raises(MissingFileError, match="must be prepared.*data_dir"):
        corpora.from_tfds("local_docs", data_dir=tmp_path, download=False)
    with pytest.raises(UserError, match="dataset that TFDS knows.*'nope'"):
        corpora.from_tfds("nope", data_dir=tmp_path)
    with pytest.raises(UserError, match="`text_key`.*'body'.*'text'"):
        corpora.from_tfds("local_docs", text_key="body", data_dir=tmp_path)
    with pytest.raises(UserError, match="`split`.*'dev'.*train"):
        corpora.from_tfds("local_docs", split="dev", data_dir=tmp_path)


class OneText(tfds.core.GeneratorBasedBuilder):
    """A data set with a text beside features of other kinds."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        words = tfds.features.Sequence(np.str_)
        features = {"label": np.int64, "body": np.str_, "words": words}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(3):
            yield i, {"label": i, "body": f"text {i}", "words": ["a", "b"]}


class Unreachable(OneText):
    def _split_generators(self, dl_manager):
        # Port 9 of this machine: nobody listens there.
        dl_manager.download("http://127.0.0.1:9/data.txt")


def test_from_tfds_reads_any_string_feature_in_a_fixed_order(tmp_path):
    for _ in range(2):
        dataset = corpora.from_tfds(
            "one_text", text_key="body", data_dir=tmp_path
        )
        assert dataset.element_spec.shape == ()
        texts = list(dataset.as_numpy_iterator())
        assert sorted(texts) == [b"text 0", b"text 1", b"text 2"]
    again = corpora.from_tfds("one_text", text_key="body", data_dir=tmp_path)
    assert list(again.as_numpy_iterator()) == texts
    for wrong in ("label", "words", "text"):
        with pytest.raises(UserError, match=f"`text_key`.*{wrong}.*'body'"):
            corpora.from_tfds("one_text", text_key=wrong, data_dir=tmp_path)
    with pytest.raises(UserError, match="`split` must be.*no data"):
        corpora.from_tfds(
            "one_text", split="train[:0]", text_key="body", data_dir=tmp_path
        )


def test_from_tfds_names_a_format_that_tf_data_cannot_read(tmp_path):
    OneText(
        data_dir=tmp_path, file_format="array_record"
    ).download_and_prepare()
    with pytest.raises(UserError, match="must be stored.*tfrecord"):
        corpora.from_tfds("one_text", text_key="body", data_dir=tmp_path)


def test_from_tfds_without_a_network_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloader, "MAX_RETRIES", 0)  # not for minutes
    with pytest.raises(
        EnvironmentFailure, match="must be reachable.*`data_dir`"
    ):
        corpora.from_tfds("unreachable", text_key="body", data_dir=tmp_path)


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
        with pytest.raises(UserError, match="must hold files named shard"):
            corpora.mini_c4(tmp_path, url=url)


def test_the_shards_of_mini_c4_are_checked_too(tmp_path):
    with serve(archive(shard0="good\n", shard1=b"caf\xe9\n")) as (url, _):
        with pytest.raises(UserError, match="UTF-8.*shard1.txt.*byte 3"):
            corpora.mini_c4(tmp_path, url=url)


def test_lines_are_shards_already(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in (
        "b.txt",
        "a.txt",
        "deep/c.txt",
        "not_text.bin",
        "._a.txt",
        ".hidden/a.txt",
    ):
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
    assert sorted(read(shards)) == sorted(expected)
    assert corpora.text_shards(tmp_path, documents="files") == shards


def test_what_editors_add_to_a_text_is_left_out(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfOld\rMac\r\n")
    shards = corpora.text_shards(path, documents="files")
    assert read(shards) == ["Old\nMac\n"]


def test_changed_text_is_another_corpus(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    before = corpora.text_shards(path, documents="files")
    path.write_text("two")
    after = corpora.text_shards(path, documents="files")
    assert (read(before), read(after)) == (["one"], ["two"])


@pytest.mark.parametrize("documents", ["lines", "files", "paragraphs"])
def test_a_jsonl_file_has_a_document_in_each_object(tmp_path, documents):
    texts = ["One,\ntwo.", "A \\n that is none.", "\n\nFour.\n\nFive.", " "]
    rows = [json.dumps({"text": text, "url": "u"}) for text in texts]
    (tmp_path / "a.JSONL").write_text("\n".join(rows))
    (tmp_path / "b.txt").write_text("Six.")
    shards = corpora.text_shards(
        [tmp_path / "a.JSONL", tmp_path / "b.txt"], documents
    )
    assert sorted(read(shards)) == sorted([*texts[:3], "Six."])
    # The same bytes under another name are another corpus.
    (tmp_path / "a.JSONL").rename(tmp_path / "a.txt")
    again = read(corpora.text_shards(tmp_path, documents))
    assert any('"url"' in text for text in again)


@pytest.mark.parametrize(
    ("line", "received"),
    [
        ('{"instruction": "Go.", "response": "No."}', "instruction, response"),
        ('{"text": 3}', "line 2, with 'text'"),
        ("plain text", "line 2"),
    ],
)
def test_a_row_without_a_text_is_refused(tmp_path, line, received):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "One."}\n' + line)
    with pytest.raises(UserError, match=f"Received: .*{received}"):
        corpora.text_shards(path)


def test_a_book_becomes_paragraphs(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("One,\ntwo.\n\nThree.\n \t\n\n\nFour.\n")
    shards = corpora.text_shards(path, documents="paragraphs")
    assert sorted(read(shards)) == ["Four.", "One,\ntwo.", "Three."]


@pytest.mark.parametrize(
    "blank",
    ["", " \t", "\u3000", "\u00a0", "\f", "\v\x1c\x85", "\u200b\ufeff",
     "\u200e\u202a", "\u200c\u200d\xad", "\u2800\u3164"],
    ids=ascii,
)  # fmt: skip
@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n"], ids=ascii)
def test_a_blank_line_divides_paragraphs(tmp_path, blank, newline):
    path = tmp_path / "book.txt"
    lines = [blank, "One,", "two.", blank, "\u3000Three.", blank, blank]
    lines += ["Four.", blank]
    path.write_bytes(newline.join(lines).encode())
    shards = corpora.text_shards(path, documents="paragraphs")
    assert sorted(read(shards)) == ["Four.", "One,\ntwo.", "\u3000Three."]


@pytest.mark.parametrize("newline", ["\x85", "\u2028"], ids=ascii)
def test_line_ends_of_mainframes_and_unicode_divide_paragraphs(
    tmp_path, newline
):
    path = tmp_path / "book.txt"
    path.write_text(newline.join(["", "One,", "two.", "", " ", "Three.", ""]))
    shards = corpora.text_shards(path, documents="paragraphs")
    assert sorted(read(shards)) == [f"One,{newline}two.", "Three."]


@pytest.mark.parametrize("documents", ["lines", "files", "paragraphs"])
def test_marks_at_the_start_are_none_of_the_text(tmp_path, documents):
    path = tmp_path / "a.txt"
    path.write_text("\ufeff\ufeffone", "utf-8")
    assert read(corpora.text_shards(path, documents=documents)) == ["one"]


@pytest.mark.parametrize("documents", ["lines", "files", "paragraphs"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(tmp_path, documents, encoding):
    """Without a mark, it would pass for a text that is half NULs."""
    path = tmp_path / "a.txt"
    path.write_text("One.\n\nTwo.\n", encoding)
    with pytest.raises(UserError, match="a.txt.*iconv -f UTF-16 -t UTF-8"):
        corpora.text_shards(path, documents=documents)


def test_carriage_returns_are_none_of_the_documents(tmp_path):
    path = tmp_path / "dos.txt"
    path.write_bytes(b"one two\r\nthree\r\n" * 20)
    tokenizer = tokenizers.train_sentence_piece(corpora.text_shards(path), 270)
    assert not any("\r" in token for token in tokenizer.get_vocabulary())


def test_lines_may_end_as_on_an_old_mac(tmp_path):
    (tmp_path / "mac.txt").write_bytes(b"one\\nmore\rtwo\r\rthree")
    (tmp_path / "unix.txt").write_bytes(b"four\nfive\r\n")
    shards = corpora.text_shards(tmp_path)
    expected = ["one\nmore", "two", "three", "four", "five"]
    assert sorted(read(shards)) == sorted(expected)
    assert corpora.text_shards(tmp_path / "unix.txt")[0].endswith("unix.txt")


BACKSLASHES = [
    r"\nabla \neq \\nu",
    "line \\\ncontinued \\\\\nn \\",
    "\\\x10n \\\x10\x10n \\\x10\nn",
    "\\n\\n\n\\\\n",
]


def test_a_backslash_before_an_n_is_kept(tmp_path):
    for i, text in enumerate(BACKSLASHES):
        (tmp_path / f"{i}.txt").write_text(text)
    shards = corpora.text_shards(tmp_path, documents="files")
    assert sorted(read(shards)) == sorted(BACKSLASHES)
    # The vocabulary and the pipeline read the same.
    tokenizer = tokenizers.train_sentence_piece(shards, 283)
    dataset = pipeline.pretraining_dataset(shards, tokenizer, 40, 1)
    ((x, _),) = dataset  # nearly all of it
    text = tokenizer.detokenize(x[0].numpy())
    assert text in "".join(t + "<|endoftext|>" for t in read(shards))


def test_what_is_written_reads_back():
    rng = np.random.default_rng(0)
    for _ in range(1000):
        text = "".join(rng.choice(list("\\\\n\n\x10a"), 12))
        line = files.escape_line(text).replace("\n", "\\n")
        assert "\n" not in line and files.restore_line(line) == text


def test_a_file_name_need_not_be_utf_8(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt")
    with open(path, "w") as file:
        file.writelines(f"document {i} of a few\n" for i in range(30))
    shards = corpora.text_shards(tmp_path)
    assert os.fsencode(shards[0]) == path
    tokenizer = tokenizers.train_sentence_piece(shards, 285)
    assert len(pipeline.pretraining_dataset(shards, tokenizer, 8, 1)) > 5
    paragraphs = corpora.text_shards(tmp_path, documents="paragraphs")
    assert len(read(paragraphs)) == 1


def test_text_that_cannot_be_used_is_refused(tmp_path):
    bad = tmp_path / "bad.txt"
    with pytest.raises(MissingFileError, match="does not exist.*spelling"):
        corpora.text_shards(bad)
    with pytest.raises(UserError, match="at least one file"):
        corpora.text_shards(tmp_path)
    bad.write_text(" \n")
    with pytest.raises(UserError, match="must hold text.*bad.txt"):
        corpora.text_shards(bad)
    with pytest.raises(UserError, match="must hold text"):
        corpora.text_shards(bad, documents="files")
    bad.write_bytes(b"good line\nbad \xff line\n")
    for documents in ("lines", "files"):
        with pytest.raises(UserError, match="UTF-8.*bad.txt.*byte 14.*iconv"):
            corpora.text_shards(bad, documents=documents)
    with pytest.raises(UserError, match="'lines', 'files'"):
        corpora.text_shards(bad, documents="words")
