"""`kerasllm index` and `kerasllm chat --store`: from a folder to an answer."""

import io

import pytest

from kerasllm.cli.asking import _stores
from kerasllm.retrieval import Embedder, Store, embedder_name
from tests.cli.messages import one_line
from tests.several_models import make_mini_gpt

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    """The file of a small embedder."""
    folder = tmp_path_factory.mktemp("embedder")
    causal_lm = make_mini_gpt(folder, None)
    Embedder(causal_lm.backbone, causal_lm.preprocessor).save(
        folder / "embedder.keras"
    )
    return folder / "embedder.keras"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "cats.md").write_text("# The cat\n\nThe cat sat on the mat.\n")
    (folder / "red.txt").write_text("Say red. Say blue.")
    return folder


@pytest.fixture
def store(tmp_path):
    return tmp_path / "a store.sqlite"


def test_a_folder_is_indexed_and_what_changes(run, embedder, folder, store):
    index = ("index", folder, "--store", store)
    status, out, err = run(*index, "--embedder", embedder)
    assert status == 0, err
    assert "2 files with 2 chunks: 2 added, 0 deleted." in out
    assert f"kerasllm chat --preset smollm2 --store '{store}'" in out
    assert "Indexing docs, 2 of 2 files" in err and "Left out" not in err
    assert embedder_name(store) == str(embedder)
    (folder / "red.txt").write_text("Say blue.")
    (folder / "broken.txt").write_bytes(b"caf\xe9")
    for name in "abcde":
        (folder / f"{name}.html").write_text("<p>Not read.</p>")
    # The embedder is that of the store.
    status, out, err = run(*index)
    assert status == 0 and "2 chunks: 1 added, 1 deleted." in out
    assert "broken.txt is left out. A document must be UTF-8" in err
    assert "Left out: docs/a.html, docs/b.html, docs/c.html and 2 more." in err
    status, out, err = run(*index, "--name", "more", "--max-tokens", 9)
    assert status == 0
    found = _stores.NamedEmbedder(str(embedder), None)
    with Store(store, found) as opened:
        assert opened.ids({"source": "more/red.txt"})
        texts = [p.text for p in opened.get(opened.ids({"collection": "more"}))]
    tokenize = make_tokenizer(embedder)
    assert all(len(tokenize([text])[0]) <= 9 for text in texts)
    assert len(texts) > 2


def make_tokenizer(embedder):
    import keras

    return keras.saving.load_model(embedder).tokenize


def test_ctrl_c_keeps_what_was_indexed(
    run, embedder, folder, store, monkeypatch
):
    add = Store.add

    def interrupted(self, texts, *args):
        add(self, texts[:1], *(part[:1] for part in args))
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "add", interrupted)
    index = ("index", folder, "--store", store, "--embedder", embedder)
    status, out, err = run(*index)
    assert status == 130 and out == ""
    assert "what was finished is kept. To go on: kerasllm index" in err
    monkeypatch.setattr(Store, "add", add)
    status, out, err = run(*index)
    assert status == 0 and "2 files with 2 chunks: 1 added" in out


def test_chat_answers_from_a_store(
    run, untrained, embedder, folder, store, monkeypatch
):
    from kerasllm.chat import ChatModel

    assert (
        run("index", folder, "--store", store, "--embedder", embedder)[0] == 0
    )
    monkeypatch.setattr(
        ChatModel,
        "_answers",
        lambda self, prompts, *args, **kwargs: ["On the mat."] * len(prompts),
    )
    lines = "Where did the cat sit?\n\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    chat = ("chat", "--preset", "tiny", "--store", store)
    status, out, err = run(*chat, "--passages", 2)
    assert status == 0, err
    answer, source = out.splitlines()
    assert answer in ("On the mat. [1]", "On the mat. [2]")
    assert source == f"{answer[-3:]} docs/cats.md:11-34 (The cat)"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    status, out, err = run(*chat, "--max-distance", 0)
    assert (status, out) == (0, "I cannot tell from the context.\n")


def test_a_store_of_another_embedder_is_refused(
    run, embedder, folder, store, tmp_path
):
    assert (
        run("index", folder, "--store", store, "--embedder", embedder)[0] == 0
    )
    for command in (
        ("index", folder, "--store", store),
        ("chat", "--preset", "tiny", "--store", store),
    ):
        status, _, err = run(*command, "--embedder", "tiny")
        assert status == 2
        assert "Received: --embedder tiny for" in one_line(err)
    mine = tmp_path / "mine.sqlite"
    Store(mine, lambda texts: None).close()
    status, _, err = run("chat", "--preset", "tiny", "--store", mine)
    assert status == 2
    assert "must be one that `kerasllm index` has filled" in one_line(err)


def test_a_chunk_is_no_longer_than_what_is_read(run, embedder, folder, store):
    index = ("index", folder, "--store", store, "--embedder", embedder)
    status, _, err = run(*index, "--max-tokens", 64)
    assert status == 2
    assert "--max-tokens must be an int in [1, 63]" in one_line(err)
    status, _, err = run(*index, "--max-tokens", 20, "--overlap", 20)
    assert status == 2
    assert "--overlap must be an int in [0, 19]" in err


def test_a_file_without_an_embedder_is_refused(run, folder, store, tmp_path):
    import keras

    path = tmp_path / "other.keras"
    keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).save(path)
    status, _, err = run("index", folder, "--store", store, "--embedder", path)
    assert status == 2 and not store.exists()
    assert "Received: " in one_line(err) and "with a Sequential" in err
