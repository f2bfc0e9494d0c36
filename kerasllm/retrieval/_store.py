"""A store of passages that are searched by vectors and by words."""

import itertools
import json
import threading
from contextlib import contextmanager

import numpy as np

from kerasllm.checks import (
    UserError,
    check_callable,
    check_choice,
    check_int,
    check_text,
)
from kerasllm.retrieval import _search
from kerasllm.retrieval._database import (
    VECTORS,
    explained,
    open_database,
    set_setting,
    setting,
    transaction,
)
from kerasllm.retrieval._embedding import PROBE, check_same, embed, name_of
from kerasllm.retrieval._passages import (
    Passage,
    check_ids,
    check_metadata,
    check_new_ids,
    check_texts,
)


class Store:
    """Passages in an SQLite file, searchable by vectors and by words.

    `sqlite-vec` stores the vectors, and SQLite's FTS5 indexes the words. Every
    change is one transaction, so a killed process leaves the state from before
    the change. Several processes may read while one writes. Threads may share
    a store.

    Example:
    ```python
    with Store("guide.sqlite", embedder) as store:
        store.add(["Kites fly high."], ids=["kites"])
        for hit in store.search("What flies?", k=3):
            print(hit.rank, hit.score, hit.text)
    ```

    Args:
        path: str or path of the file, or `":memory:"` for a store that ends
            with the program. A missing file is created, and so is its folder.
        embedder: callable from a list of str to float32 `(n, dim)`, such as
            an `Embedder`; or a `keras_hub.models.TextEmbedder`, as it is. The
            store records its name, which is the attribute `name` or the name
            of the function or class. It also records the vector of one
            sentence, and compares it when it first uses the embedder.

    Raises:
        RunError: the file is no store, it is damaged, or another embedder or
            another version of kerasllm has written it.
        UserError: the path is a folder, or it may not be written to.
        EnvironmentFailure: the disk is full or broken. Each method raises
            these errors, too.
    """

    def __init__(self, path, embedder):
        check_callable(
            "embedder",
            embedder,
            "Give a function from a list of str to float32 (n, dim).",
        )
        self.path = path
        self.embedder = embedder
        self._is_checked = False  # that it is the embedder of the vectors
        self._lock = threading.RLock()
        self._connection = open_database(path, name_of(embedder))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Close the file. Closing it twice is harmless."""
        with self._lock, explained(self.path):
            self._connection.close()

    def __len__(self):
        with self._transaction() as connection:
            return connection.execute("SELECT count(*) FROM passages").get

    def add(self, texts, ids=None, metadata=None):
        """Add texts, all of them or none.

        If an id exists already, its text and metadata are replaced. If the
        text is the same, it is not embedded again.

        Args:
            texts: list of str that are not blank.
            ids: list of str, one for each text, no two the same. `None`
                numbers the texts: `"1"`, `"2"` and so on.
            metadata: list of dicts, one for each text, from str to str, int,
                float, bool, or `None`. A search returns them, and `where`
                selects by them. `"source"`, `"start"`, and `"end"` record
                where the text comes from.

        Returns:
            The ids, a list of str.

        Raises:
            UserError: an argument breaks a rule, or the embedder returns
                something else than finite float32 `(n, dim)`.
            RunError: the embedder is not the one that has filled the store,
                or another process is writing for more than 20 seconds.
        """
        texts = check_texts(texts)
        if ids is not None:
            ids = check_new_ids(ids, len(texts))
        if metadata is None:
            metadata = [{}] * len(texts)
        metadata = check_metadata(metadata, len(texts))
        if not texts:
            return []
        # Nobody waits for the embedder: it works between two transactions.
        vectors = {}
        while True:
            with self._transaction("IMMEDIATE") as connection:
                names = ids or _free_ids(connection, len(texts))
                rows = list(zip(names, texts, metadata, strict=True))
                stored = _stored(connection, names)
                # Each once, in their order.
                missing = list(
                    dict.fromkeys(
                        text
                        for name, text, _ in rows
                        if text not in vectors
                        and stored.get(name, (None, None))[1] != text
                    )
                )
                if not missing:
                    self._write(connection, rows, stored, vectors)
                    return names
            self._check_embedder()
            found = embed(self.embedder, missing)
            vectors.update(zip(missing, found, strict=True))

    def delete(self, ids):
        """Delete passages. Ids that are not in the store are ignored.

        Args:
            ids: list of str.

        Returns:
            int, the number of passages that were deleted.
        """
        ids = check_ids(ids)
        with self._transaction("IMMEDIATE") as connection:
            numbers = [row[0] for row in _stored(connection, ids).values()]
            for number in numbers:
                _remove(connection, number)
        return len(numbers)

    def get(self, ids):
        """Return passages by their ids.

        Args:
            ids: list of str.

        Returns:
            A list of `Passage`, in the order of `ids`, with `None` for an id
            that the store does not have.
        """
        ids = check_ids(ids)
        with self._transaction() as connection:
            stored = _stored(connection, ids)
        found = []
        for name in ids:
            _, text, metadata = stored.get(name, (None, None, None))
            has = text is not None
            found.append(
                Passage(name, text, json.loads(metadata)) if has else None
            )
        return found

    def ids(self, where=None):
        """Return the ids of all passages, in the order of their arrival.

        Args:
            where: dict, as in `search`.

        Returns:
            A list of str.
        """
        _search.check_where(where)
        sql, values = _search.condition(where)
        with self._transaction() as connection:
            found = connection.execute(
                f"SELECT id FROM passages WHERE TRUE {sql} ORDER BY number",
                values,
            )
            return [name for (name,) in found]

    def search(self, query, k=5, mode="vector", where=None):
        """Return the passages that fit a query best, best first.

        `"vector"` scores by cosine similarity. A text whose vector is all
        zeros has no direction and is never found by it.

        `"bm25"` scores by the words that query and text share, whatever their
        case and accents, by BM25 with k1 = 1.2 and b = 0.75. A word weighs
        `log((N - n + 0.5) / (n + 0.5))` if n of N passages have it, and
        0.000001 if that is not positive; `rank_bm25` has another floor. Words
        in more than half of the passages and in more than 1,000 are left
        out, unless the query has no others; and so are all but the 64 rarest
        of its words.

        `"hybrid"` is reciprocal rank fusion of both: a text's score is the
        sum of `1 / (60 + rank)`. It looks at the best `10 * k` of each kind,
        or 100 if that is more.

        Of texts with equal scores, the one that was added first comes first.
        The memory of a search does not grow with the store, but for 8 bytes
        for each passage that `where` selects.

        Args:
            query: str, any text that is not blank.
            k: int in [1, 4096]. The largest number of hits.
            mode: str, `"vector"`, `"bm25"` or `"hybrid"`.
            where: dict. Only passages with these metadata are searched. A list
                of values accepts each of them:
                `where={"source": ["a.md", "b.md"]}`.

        Returns:
            A list of `Hit` with `id`, `text`, `score`, `rank`, `metadata`,
            `source` and `offsets`, best first.

        Raises:
            UserError: an argument breaks a rule, such as a blank query.
            RunError: the embedder is not the one that has filled the store.

        Source: section 16.4.3 of the chapter. Robertson and Zaragoza, "The
        Probabilistic Relevance Framework: BM25 and Beyond" (2009). Cormack et
        al., "Reciprocal Rank Fusion" (2009).
        """
        check_text("query", query)
        if not query.strip():
            raise UserError(
                f"`query` must have text. Received: {query[:20]!r}. Ask "
                "something."
            )
        k = check_int("k", k, 1, _search.MOST_HITS)
        check_choice("mode", mode, ("vector", "bm25", "hybrid"))
        _search.check_where(where)
        vector = None
        if mode != "bm25" and len(self):
            self._check_embedder()
            (vector,) = embed(self.embedder, [query])
        depth = _search.depth_of(k) if mode == "hybrid" else k
        rankings = []
        with self._transaction() as connection:
            if vector is not None:
                rankings.append(
                    _search.by_vector(connection, vector, depth, where)
                )
            if mode != "vector":
                rankings.append(
                    _search.by_words(connection, query, depth, where)
                )
            if mode == "hybrid":
                rankings = [_search.fuse(*rankings)[:k]]
            return _search.hits(connection, rankings[0] if rankings else [])

    @contextmanager
    def _transaction(self, kind="DEFERRED"):
        """Yield the connection, for one thread and one state of the file."""
        with self._lock, explained(self.path):
            with transaction(self._connection, kind):
                yield self._connection

    def _check_embedder(self):
        """Check that the embedder is that of the vectors in the store.

        The first one that is used leaves its vector of a sentence.
        """
        if self._is_checked:
            return
        with self._transaction() as connection:
            probe = setting(connection, "probe")
        if probe is None:
            (vector,) = embed(self.embedder, [PROBE])
            with self._transaction("IMMEDIATE") as connection:
                probe = setting(connection, "probe")
                if probe is None:  # no other process has come first
                    set_setting(connection, "probe", vector.tobytes())
                    connection.execute(VECTORS.format(dim=len(vector)))
        if probe is not None:
            probe = np.frombuffer(probe, "float32")
            check_same(self.embedder, probe, self.path)
        self._is_checked = True

    def _write(self, connection, rows, stored, vectors):
        """Write what is not in the file as it should be."""
        for name, text, metadata in rows:
            number, old_text, old_metadata = stored.get(name, (None,) * 3)
            if (text, metadata) == (old_text, old_metadata):
                continue
            if text == old_text:
                _replace_metadata(connection, number, metadata)
                continue
            if number is not None:
                _remove(connection, number)
            _insert(connection, name, text, metadata, vectors[text])


def _free_ids(connection, number):
    """Return numbers that are no ids yet, as a list of str."""
    last = connection.execute(
        "SELECT seq FROM sqlite_sequence WHERE name = 'passages'"
    ).get
    names = map(str, itertools.count((last or 0) + 1))
    free = (name for name in names if not _stored(connection, [name]))
    return list(itertools.islice(free, number))


def _stored(connection, ids):
    """Return the number, the text and the metadata of each id that exists."""
    rows = {}
    for name in ids:
        row = connection.execute(
            "SELECT number, text, metadata FROM passages JOIN words "
            "ON words.rowid = number WHERE id = ?",
            (name,),
        ).get
        if row is not None:
            rows[name] = row
    return rows


def _insert(connection, name, text, metadata, vector):
    connection.execute(
        "INSERT INTO passages (id, metadata) VALUES (?, ?)", (name, metadata)
    )
    number = connection.last_insert_rowid()
    connection.execute(
        "INSERT INTO words (rowid, text) VALUES (?, ?)", (number, text)
    )
    _insert_facts(connection, number, metadata)
    if vector.any():  # zeros have no cosine
        connection.execute(
            "INSERT INTO vectors (rowid, vector) VALUES (?, ?)",
            (number, vector.tobytes()),
        )


def _insert_facts(connection, number, metadata):
    connection.executemany(
        "INSERT INTO facts VALUES (?, ?, ?)",
        [(number, *item) for item in json.loads(metadata).items()],
    )


def _replace_metadata(connection, number, metadata):
    connection.execute(
        "UPDATE passages SET metadata = ? WHERE number = ?", (metadata, number)
    )
    connection.execute("DELETE FROM facts WHERE number = ?", (number,))
    _insert_facts(connection, number, metadata)


def _remove(connection, number):
    """Delete a passage from all tables."""
    for table in ("words", "vectors"):
        connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (number,))
    connection.execute("DELETE FROM facts WHERE number = ?", (number,))
    connection.execute("DELETE FROM passages WHERE number = ?", (number,))
