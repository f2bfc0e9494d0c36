"""The store: what it finds, what it keeps, and what it refuses."""

import functools
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc

import apsw
import numpy as np
import pytest

from kerasllm.checks import (
    FolderIsFileError,
    MissingFileError,
    RunError,
    UserError,
)
from kerasllm.retrieval import Store, _database, embedder_name
from tests.retrieval.embedders import DIM, Counting, hashing

pytestmark = pytest.mark.any_backend

WORDS = "kite fish tower river bell lamp stone cloud fox harbor".split()


def sentences(number, seed=0, words=WORDS, length=8):
    draw = random.Random(seed)
    return [
        " ".join(draw.choices(words, k=draw.randint(2, length)))
        for _ in range(number)
    ]


@pytest.fixture
def store():
    with Store(":memory:", hashing) as store:
        yield store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.sqlite"


# What a search finds.


def test_vectors_equal_a_search_by_numpy(store):
    texts = sentences(300)
    store.add(texts)
    vectors = hashing(texts).astype("float64")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for query in ("kite and lamp", "the fox", "rivers"):
        (vector,) = hashing([query]).astype("float64")
        cosines = vectors @ vector / np.linalg.norm(vector)
        hits = store.search(query, k=20, mode="vector")
        best = np.sort(cosines)[::-1][:20]
        np.testing.assert_allclose([h.score for h in hits], best, atol=1e-6)
        assert [h.rank for h in hits] == list(range(1, 21))
        for hit in hits:
            assert hit.text == texts[int(hit.id) - 1]
            assert hit.score == pytest.approx(cosines[int(hit.id) - 1])


def test_words_are_ranked_as_by_rank_bm25(store):
    rank_bm25 = pytest.importorskip("rank_bm25")
    # Rare words, so that none has an idf below zero.
    words = [f"word{i}" for i in range(60)]
    texts = sentences(200, words=words, length=20)
    store.add(texts)
    oracle = rank_bm25.BM25Okapi([t.split() for t in texts], k1=1.2, b=0.75)
    queries = sentences(20, seed=1, words=words)
    queries += ["word1 word2 word1 word3 word3 word3", "word4 word4"]
    for query in queries:
        scores = oracle.get_scores(query.split())
        expected = [i for i in np.argsort(-scores, kind="stable") if scores[i]]
        hits = store.search(query, k=200, mode="bm25")
        np.testing.assert_allclose(
            [hit.score for hit in hits], scores[expected], rtol=1e-9
        )
        for hit in hits:
            assert hit.score == pytest.approx(scores[int(hit.id) - 1])


def test_a_word_of_most_texts_weighs_next_to_nothing(store):
    store.add(["a kite", "a fish", "a tower"])
    (hit, *others) = store.search("a fish", mode="bm25")
    assert hit.id == "2" and all(0 < o.score < 1e-5 for o in others)
    assert len(others) == 2


def test_very_common_words_are_left_out(store, monkeypatch):
    monkeypatch.setattr("kerasllm.retrieval._search._MANY", 2)
    store.add(["the kite", "the fish", "the tower", "a bell"])
    assert [h.id for h in store.search("the fish", mode="bm25")] == ["2"]
    assert len(store.search("the", mode="bm25")) == 3  # there is no other


def test_the_rarest_words_of_a_long_query_count(store):
    store.add([" ".join(f"a{i}" for i in range(100)), "a0 b", "a1 c", "a99"])
    query = " ".join(f"a{i}" for i in range(100))
    ids = [h.id for h in store.search(query, mode="bm25")]
    assert sorted(ids) == ["1"]  # the others have what is less rare
    assert len(store.search("a0 a1 a99", mode="bm25")) == 4


def test_hybrid_adds_reciprocal_ranks(store):
    texts = sentences(60)
    store.add(texts)
    query = "kite lamp"
    expected = dict.fromkeys(store.ids(), 0)
    for mode in ("vector", "bm25"):
        for hit in store.search(query, k=60, mode=mode):
            expected[hit.id] += 1 / (60 + hit.rank)
    best = sorted(expected.values(), reverse=True)[:7]
    hits = store.search(query, k=7, mode="hybrid")
    assert [hit.score for hit in hits] == pytest.approx(best)
    assert [expected[hit.id] for hit in hits] == pytest.approx(best)


def test_hybrid_finds_what_one_of_them_finds():
    # Words that the embedder does not know, and a text without them.
    table = {"a kite": [1, 0], "xyzzy": [0, 1], "kites fly": [0.9, 0.1]}
    with Store(
        ":memory:",
        lambda texts: np.array([table.get(t, [1.0, 0.0]) for t in texts]),
    ) as store:
        store.add(["a kite", "xyzzy", "kites fly"])
        assert store.search("xyzzy?", k=1, mode="vector")[0].text == "a kite"
        hits = store.search("xyzzy?", mode="hybrid")
        assert hits[0].text == "xyzzy"
        assert {h.text for h in hits} == table.keys()


def test_numpys_numbers_are_metadata(store):
    facts = {"n": np.int64(3), "x": np.float32(0.5), "is": np.bool_(True)}
    plain = {"n": 3, "x": 0.5, "is": True}
    store.add(["a", "b"], metadata=[facts, {}])
    assert store.get(["1"])[0].metadata == plain
    assert store.ids(where=facts) == store.ids(where=plain) == ["1"]


def test_where_selects_by_metadata(store):
    texts = sentences(40)
    metadata = [{"n": i, "odd": i % 2 == 1, "none": None} for i in range(40)]
    store.add(texts, metadata=metadata)
    store.add(["a kite of its own"], metadata=[{}])
    for mode in ("vector", "bm25", "hybrid"):
        find = functools.partial(store.search, "kite", k=100, mode=mode)
        everything = find()
        for where, holds in [
            ({"odd": True}, lambda m: m.get("odd") is True),
            ({"n": [3, 8, 77]}, lambda m: m.get("n") in (3, 8, 77)),
            ({"none": None}, lambda m: "none" in m),
            ({"odd": False, "n": 4}, lambda m: m.get("n") == 4),
            ({"n": "4"}, lambda m: False),
            ({"n": []}, lambda m: False),
            ({"'; DROP TABLE words; --": 1}, lambda m: False),
        ]:
            expected = {h.id for h in everything if holds(h.metadata)}
            assert {h.id for h in find(where=where)} == expected, where
    assert len(store.ids({"odd": True})) == 20


def test_a_hit_tells_where_it_is_from(store):
    place = {"source": "a.md", "start": 3, "end": 9, "title": "Kites"}
    store.add(["a kite", "a fish"], ["k", "f"], [place, {}])
    kite, fish = store.search("kite")
    assert (kite.id, kite.source, kite.offsets) == ("k", "a.md", (3, 9))
    assert kite.metadata == place
    assert (fish.source, fish.offsets, fish.metadata) == (None, None, {})


# Zeros.


def test_zeros_have_no_direction(store):
    store.add(["...", "a kite"])
    assert [h.text for h in store.search("kite", mode="vector")] == ["a kite"]
    assert store.search("!!!", mode="vector") == []
    store.add(["?!"], ["2"])  # zeros replace what had a direction
    assert store.search("kite", mode="vector") == []
    assert store.search("kite", mode="hybrid") == []


def test_zeros_are_found_by_their_words():
    with Store(":memory:", lambda texts: np.zeros((len(texts), 3))) as store:
        store.add(["a kite"])
        assert store.search("kite", mode="vector") == []
        assert len(store.search("kite", mode="bm25")) == 1
        assert len(store.search("kite", mode="hybrid")) == 1


def test_tiny_and_huge_vectors_have_a_direction():
    for scale in (1e-300, 1e300):
        with Store(
            ":memory:",
            lambda texts, scale=scale: hashing(texts).astype("float64") * scale,
        ) as store:
            store.add(["a kite", "a fish"])
            hit = store.search("a fish", k=1)[0]
            assert hit.text == "a fish" and hit.score == pytest.approx(1)


# Any text is a query.

ODD = [
    "what's it?",
    "dutch-made",
    "@x",
    '"',
    '""" OR "',
    "kite AND",
    "NOT",
    "NEAR(a b, 3)",
    "text: kite",
    "^kite*",
    "(((",
    "{a b} : c",
    "🙂",
    "👩‍👩‍👧",
    "e\u0301",
    "日本語 の",
    "\0",
    "kite\0fish",
    "\u2028",
    "%_\\",
    "'; DROP TABLE passages; --",
    "kite " * 2000,
    "".join(map(chr, range(1, 1000))),
]


@pytest.mark.parametrize("query", [q for q in ODD if q.strip()])
def test_odd_texts_are_queries_and_passages(store, query):
    store.add(["a kite", query])
    for mode in ("vector", "bm25", "hybrid"):
        store.search(query, mode=mode)
    assert store.get(["2"])[0].text == query
    if re.search(r"[a-z]", query):
        found = store.search(query, mode="bm25")
        assert query in [hit.text for hit in found]


def test_any_text_is_a_query(store):
    store.add(sentences(20))
    draw = random.Random(0)
    pieces = [*ODD[:-2], *WORDS, "AND", "OR", "NOT", "NEAR", "*", "-", "\n"]
    for _ in range(100):
        query = "".join(draw.choices(pieces, k=draw.randint(1, 8)))
        query += "".join(chr(draw.randrange(1, 0xD800)) for _ in range(5))
        for mode in ("vector", "bm25", "hybrid"):
            hits = store.search(query + "x", k=3, mode=mode)
            assert len(hits) <= 3


def test_a_long_query_is_one(store):
    store.add(sentences(50))
    query = " ".join(sentences(400))[:10_000]
    assert len(query) == 10_000
    assert len(store.search(query, mode="hybrid")) == 5


@pytest.mark.parametrize("query", ["", " \n\t", "\u3000"])
def test_a_blank_query_is_refused(store, query):
    with pytest.raises(UserError, match="`query` must have text. Received: "):
        store.search(query)


# What a store keeps.


def numbers_in(store):
    """Return how many rows each table has."""
    tables = ("passages", "words", "vectors", "facts")
    return [
        store._connection.execute(f"SELECT count(*) FROM {table}").get
        for table in tables
    ]


def test_deleting_frees_the_rows_of_all_tables(store):
    texts = sentences(300)
    ids = store.add(texts, metadata=[{"n": i} for i in range(300)])
    assert numbers_in(store) == [300] * 4
    assert store.delete([*ids[:299], ids[0], "unknown"]) == 299
    assert numbers_in(store) == [1] * 4 and len(store) == 1
    for mode in ("vector", "bm25", "hybrid"):
        assert [h.id for h in store.search(texts[299], mode=mode)] == ["300"]
    assert store.delete(ids) == 1
    tables = store._connection.execute(
        "SELECT count(*) FROM vectors_vector_chunks00"
    )
    assert numbers_in(store) == [0] * 4 and tables.get == 0
    assert store.search("kite") == []
    assert store.add(["a kite"]) == ["301"]  # no id is given twice


def test_the_same_id_replaces(store):
    store.add(["a kite", "a fish"], ["1", "x"], [{"n": 1}, {"n": 2}])
    store.add(["a tower", "a bell"], ["x", "y"], [{"m": 3}, {}])
    assert len(store) == 3 and numbers_in(store)[:3] == [3] * 3
    assert store.get(["x", "gone", "1"])[0].text == "a tower"
    assert store.get(["gone"]) == [None]
    assert store.search("fish", mode="bm25") == []
    assert store.ids({"n": 2}) == [] and store.ids({"m": 3}) == ["x"]
    # The numbers step aside for ids that are taken.
    assert "1" not in store.add(["no", "id"])
    assert len(store) == 5


class Compared(str):
    """A text that counts how often it is compared."""

    count = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Compared.count += 1
        return str.__eq__(self, other)


def test_each_text_is_looked_at_a_few_times_and_not_once_for_each_other(store):
    store.add([Compared(f"kite {number}") for number in range(300)])
    assert Compared.count < 10 * 300  # and not 300 ** 2 / 2


def test_the_same_text_is_embedded_once(path):
    with Store(path, Counting()) as store:
        store.add(["a kite", "a kite", "a fish"], ["1", "2", "3"])
        store.embedder.texts.clear()
        store.add(["a kite", "a bell"], ["1", "3"], [{"n": 1}, {}])
        assert store.embedder.texts == ["a bell"]
        assert store.get(["1"])[0].metadata == {"n": 1}
        assert store.ids({"n": 1}) == ["1"]
        assert [h.text for h in store.search("bell", k=1)] == ["a bell"]


def test_a_store_is_one_file_that_is_found_again(tmp_path):
    path = tmp_path / "new" / "folder" / "store.sqlite"
    with Store(path, hashing) as store:
        store.add(sentences(20))
        before = store.search("kite", mode="hybrid")
    assert [p.name for p in path.parent.iterdir()] == ["store.sqlite"]
    with Store(str(path), hashing) as store:
        assert store.search("kite", mode="hybrid") == before
        assert len(store) == 20


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda t: None, "object of shape \\(\\) for 1 texts"),
        (lambda t: np.ones(3), "float64 of shape \\(3,\\)"),
        (lambda t: np.ones((2, 3)), "shape \\(2, 3\\) for 1 texts"),
        (lambda t: np.ones((len(t), 0)), "shape \\(1, 0\\)"),
        (lambda t: [["a"]], "must return floats"),
        (lambda t: np.full((len(t), 3), np.nan), "Received: infinity or NaN"),
    ],
)
def test_an_embedder_that_returns_something_else_is_refused(wrong, message):
    with Store(":memory:", wrong) as store:
        with pytest.raises(UserError, match=message):
            store.add(["a kite"])
        assert len(store) == 0


def test_an_embedder_that_fails_changes_nothing(store):
    store.add(["a kite"])

    def fail(texts):
        raise KeyboardInterrupt

    store.embedder = fail
    with pytest.raises(KeyboardInterrupt):
        store.add(["a fish", "a bell"])
    assert len(store) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("a kite",), "`texts` must be a list. Received: texts='a kite'"),
        (([1],), r"`texts\[0\]` must be a string"),
        ((["a", " "],), r"`texts\[1\]` must have text"),
        ((["\ud800"],), r"`texts\[0\]` must be text that UTF-8 can write"),
        ((["a"], "x"), "`ids` must be a list"),
        ((["a"], [1]), r"`ids\[0\]` must be a string"),
        ((["a"], [""]), r"`ids\[0\]` must not be empty"),
        ((["a"], []), "`ids` must have one entry for each text"),
        ((["a", "b"], ["x", "x"]), "must differ .* Received: 'x' twice"),
        ((["a"], None, {}), "`metadata` must be a list"),
        ((["a"], None, [{}, {}]), "`metadata` must have one entry"),
        ((["a"], None, ["x"]), r"`metadata\[0\]` must be a dict"),
        ((["a"], None, [{1: 2}]), "the keys of metadata"),
        ((["a"], None, [{"n": [1]}]), r"`metadata\[0\]\['n'\]` must be a str"),
        ((["a"], None, [{"n": float("nan")}]), "finite float"),
        ((["a"], None, [{"n": 2**63}]), "an int of 64 bits"),
    ],
)
def test_what_cannot_be_added_is_refused(store, arguments, message):
    with pytest.raises(UserError, match=message):
        store.add(*arguments)
    assert len(store) == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"k": 0}, r"`k` must be an int in \[1, 4096\]"),
        ({"k": 5000}, r"`k` must be an int in \[1, 4096\]"),
        ({"mode": "fuzzy"}, "`mode` must be one of 'vector', 'bm25', 'hybrid'"),
        ({"where": "a.md"}, "`where` must be a dict"),
        ({"where": {"n": {}}}, r"`where\['n'\]` must be a str"),
        ({"query": 3}, "`query` must be a string"),
    ],
)
def test_a_search_that_breaks_a_rule_is_refused(store, arguments, message):
    store.add(["a kite"])
    with pytest.raises(UserError, match=message):
        store.search(**{"query": "kite"} | arguments)


def test_a_closed_store_says_so(store):
    store.close()
    store.close()
    with pytest.raises(UserError, match="A store must be open"):
        len(store)


# Other embedders, other versions, other files.


def test_another_embedder_is_refused_by_name(path):
    with Store(path, hashing) as store:
        store.add(["a kite"])
    with pytest.raises(RunError, match="Received: counting .* of hashing"):
        Store(path, Counting())
    with Store(path, functools.partial(hashing)) as store:  # it is the same
        assert len(store.search("kite")) == 1


def test_another_embedder_of_the_same_name_is_refused(path):
    def reverse(texts):
        return -hashing(texts)

    def wide(texts):
        return np.tile(hashing(texts), (1, 2))

    reverse.__qualname__ = wide.__qualname__ = "hashing"
    with Store(path, hashing) as store:
        store.add(["a kite"])
    for embedder, what in [
        (reverse, "cosine similarity -1.00"),
        (wide, f"vectors of {2 * DIM} numbers, not {DIM}"),
    ]:
        with Store(path, embedder) as store:
            with pytest.raises(RunError, match=what):
                store.search("kite", mode="vector")
            with pytest.raises(RunError, match=what):
                store.add(["a fish"])
            assert len(store) == 1
            assert len(store.search("kite", mode="bm25")) == 1


def test_a_store_tells_which_embedder_it_needs(path, tmp_path):
    Store(path, Counting()).close()
    assert embedder_name(path) == "counting"
    with pytest.raises(MissingFileError, match="there is no such file"):
        embedder_name(tmp_path / "gone.sqlite")
    empty = tmp_path / "empty.sqlite"
    for content in (b"", b"no store at all"):
        empty.write_bytes(content)
        with pytest.raises(RunError, match="which is damaged or no store"):
            embedder_name(empty)


class TextEmbedder:
    """What KerasHub's has."""

    name = "text_embedder_7"

    def __call__(self, texts):
        raise ValueError("tokens, not texts")

    def encode_text(self, text, verbose="auto"):
        return hashing(text)


def test_an_embedder_of_keras_hub_is_taken_as_it_is(path):
    with Store(path, TextEmbedder()) as store:
        store.add(["a kite", "a fish"])
        assert store.search("a fish", k=1)[0].text == "a fish"
    assert embedder_name(path) == "TextEmbedder"  # whatever its number


def test_an_embedder_may_be_in_half_precision(path):
    def half(texts):
        return hashing(texts).astype("float16")

    half.__qualname__ = "hashing"
    with Store(path, hashing) as store:
        store.add(["a kite"])
    with Store(path, half) as store:
        assert store.search("a kite")[0].score == pytest.approx(1, abs=1e-3)


def test_another_version_is_refused_by_name(path):
    Store(path, hashing).close()
    with apsw.Connection(str(path)) as connection:
        connection.pragma("user_version", 2)
    with pytest.raises(RunError, match="of version 1, .* of version 2"):
        Store(path, hashing)


def test_the_database_of_another_program_is_left_alone(path):
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE passages (number)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(RunError, match="an SQLite file of another program"):
        Store(path, hashing)
    assert path.read_bytes() == before


def test_a_folder_is_no_store(tmp_path):
    with pytest.raises(FolderIsFileError, match="Received: a folder"):
        Store(tmp_path, hashing)


def test_an_embedder_must_be_callable(path):
    with pytest.raises(
        UserError, match="`embedder` must be callable. Received"
    ):
        Store(path, "all-MiniLM")
    assert not path.exists()


def test_a_damaged_file_is_said_to_be_one(path, tmp_path):
    with Store(path, hashing) as store:
        store.add(sentences(300))
    whole = path.read_bytes()
    text = b"This is no store, and it is longer than a header. " * 10
    for damaged in (
        text,
        whole[:100],
        whole[: len(whole) // 2],
        whole[:4096] + b"\xff" * (len(whole) - 4096),
        b"x" + whole[1:],
    ):
        other = tmp_path / "damaged.sqlite"
        other.write_bytes(damaged)
        with pytest.raises(RunError, match="which is damaged or no store"):
            with Store(other, hashing) as store:
                store.search("kite", mode="hybrid")
        assert other.read_bytes() == damaged
        other.unlink()


@pytest.mark.parametrize("table", ["words_data", "vectors_chunks", "settings"])
def test_a_table_that_is_missing_is_damage(path, table):
    with Store(path, hashing) as store:
        store.add(["a kite"])
    connection = apsw.Connection(str(path))
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    connection.execute(f"DROP TABLE {table}")
    connection.close()
    with pytest.raises(RunError, match="which is damaged or no store"):
        with Store(path, hashing) as store:
            store.search("kite", mode="hybrid")


# Several at a time.

CHILD = """
import sys
from kerasllm.retrieval import Store
from tests.retrieval.embedders import hashing
store = Store(sys.argv[1], hashing)
"""


def start(path, program, *args):
    root = pathlib.Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + program, str(path), *args],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


KILLED = """
rows = 0
def stop_at_a_row(*event):
    global rows
    rows += 1
    if rows == 700:
        wait()
def wait():
    print("here", flush=True)
    sys.stdin.read()
if sys.argv[2] == "row":
    store._connection.set_update_hook(stop_at_a_row)
else:
    store._connection.set_commit_hook(wait)
store._is_checked = True
store._connection.pragma("cache_size", 10)  # spills what is not committed
store.delete(["1"]) if sys.argv[2] == "delete" else store.add(
    ["a new text"] * 500, ids=[str(i) for i in range(500)]
)
"""


@pytest.mark.skipif(os.name == "nt", reason="it kills by a signal")
@pytest.mark.parametrize("moment", ["row", "commit", "delete"])
def test_a_kill_leaves_the_old_state(path, moment):
    with Store(path, hashing) as store:
        store.add(sentences(200))
        before = store.search("kite", k=50, mode="hybrid"), numbers_in(store)
    child = start(path, KILLED, moment)
    assert child.stdout.readline() == "here\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    with Store(path, hashing) as store:
        after = store.search("kite", k=50, mode="hybrid"), numbers_in(store)
        assert after == before
        store.add(["a new text"])  # nothing is locked
        assert len(store) == 201
        assert store._connection.pragma("integrity_check") == "ok"


READER = """
for line in sys.stdin:
    hits = store.search("kite", k=3, mode="hybrid")
    print(len(store), *(hit.id for hit in hits), flush=True)
"""


def test_two_processes_read_while_one_writes(path):
    with Store(path, hashing) as store:
        store.add(["a kite", "a fish", "a bell"])
        readers = [start(path, READER) for _ in range(2)]

        def ask():
            for reader in readers:
                reader.stdin.write("\n")
                reader.stdin.flush()
            return [reader.stdout.readline().split() for reader in readers]

        old = ask()
        assert old[0] == old[1] and old[0][:2] == ["3", "1"]
        store._connection.pragma("cache_size", 1)  # the change is written
        with store._transaction("IMMEDIATE") as connection:
            connection.executemany(
                "INSERT INTO facts VALUES (?, ?, ?)",
                [(i, "key", "x" * 1000) for i in range(100)],
            )
            connection.execute("DELETE FROM words WHERE rowid = 1")
            connection.execute("DELETE FROM passages WHERE number = 1")
            assert ask() == old
            connection.execute("DELETE FROM vectors WHERE rowid = 1")
        new = ask()
        assert new[0] == new[1] and new[0][0] == "2" and "1" not in new[0][1:]
        for reader in readers:
            reader.communicate()
            assert reader.returncode == 0


def test_a_second_writer_is_told_to_wait(path, monkeypatch):
    monkeypatch.setattr(_database, "_MILLISECONDS", 1)
    with Store(path, hashing) as store, Store(path, hashing) as other:
        store.add(["a kite"])
        with store._transaction("IMMEDIATE"):
            with pytest.raises(RunError, match="One process at a time"):
                other.add(["a fish"])
        other.add(["a fish"])
        assert len(store) == 2


def test_the_embedder_keeps_no_writer_waiting(path):
    with Store(path, hashing) as store, Store(path, hashing) as other:

        def slow(texts):
            other.add(["in between"], ["x"])
            return hashing(texts)

        slow.__qualname__ = "hashing"
        store.embedder = slow
        store.add(["a fish"], ["x"])
        assert [p.text for p in other.get(["x"])] == ["a fish"]


def test_threads_share_a_store(store):
    store.add(sentences(50))
    expected = store.search("kite", mode="hybrid")
    found = []

    def search():
        found.extend(store.search("kite", mode="hybrid") for _ in range(20))

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80 and all(hits == expected for hits in found)


def test_a_copy_is_a_store(path, tmp_path):
    with Store(path, hashing) as store:
        store.add(["a kite"])
    shutil.copy(path, tmp_path / "copy.sqlite")
    with Store(tmp_path / "copy.sqlite", hashing) as store:
        assert len(store) == 1


def test_the_memory_of_a_search_does_not_grow_with_the_store(path):
    """What SQLite holds and what Python holds, with a small cache of pages."""

    def wide(texts):
        return np.tile(hashing(texts), (1, 16))

    texts = sentences(1600, length=20)
    peaks = []
    for number in (400, 1600):
        with Store(path, wide) as store:
            store.add(texts[len(store) : number])
        with Store(path, wide) as store:
            store._connection.pragma("cache_size", 50)  # pages
            for mode in ("vector", "bm25", "hybrid"):
                store.search("kite lamp", mode=mode)
            peaks.append(peak_of_searches(store))
    assert path.stat().st_size > 1_500_000
    assert peaks[1] < peaks[0] + 50_000, peaks


def peak_of_searches(store):
    base = apsw.memory_used()
    apsw.memory_high_water(True)
    tracemalloc.start()
    for mode in ("vector", "bm25", "hybrid"):
        store.search("kite lamp", mode=mode)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return apsw.memory_high_water() - base + peak
