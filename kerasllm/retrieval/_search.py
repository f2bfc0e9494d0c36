"""The searches of a store: by vectors, by words, and by both."""

import collections
import json

import apsw

from kerasllm.checks import UserError, shown
from kerasllm.retrieval._database import TOKENIZER
from kerasllm.retrieval._passages import Hit, check_facts

# The largest number of neighbors that sqlite-vec returns.
MOST_HITS = 4096
# Of reciprocal rank fusion, as published.
RRF_CONSTANT = 60
# Hybrid search fuses so many hits of each kind, or ten times `k`.
_LEAST_DEPTH = 100
# A word that is in more than half of the passages says next to nothing, and
# in a large store it costs the most: it is left out.
_MANY = 1000
# For each passage, FTS5 goes through all the words of a query. Of a page, the
# rarest words say what it is about.
MOST_WORDS = 64


def depth_of(k):
    """Return how many hits of each kind a hybrid search looks at."""
    return min(MOST_HITS, max(_LEAST_DEPTH, 10 * k))


def condition(where):
    """Return SQL for the numbers of the passages with some metadata.

    Args:
        where: dict from str to a value, or to a list of values of which one
            must be there. `None` takes all passages.

    Returns:
        A condition on `rowid`, str, and the values that it needs, a list.
    """
    if not where:
        return "", []
    parts, values = [], []
    for key, wanted in where.items():
        wanted = wanted if isinstance(wanted, list | tuple) else [wanted]
        wanted = [check_facts("where", {key: v})[key] for v in wanted]
        is_one = " OR ".join(["value IS ?"] * len(wanted)) or "FALSE"
        parts.append(f"SELECT number FROM facts WHERE key = ? AND ({is_one})")
        values += [key, *wanted]
    return f"AND rowid IN ({' INTERSECT '.join(parts)})", values


def check_where(where):
    """Check that `where` is a dict, or `None`."""
    if where is not None and not isinstance(where, dict):
        raise UserError(
            f"`where` must be a dict. Received: {shown(where)}. Write "
            'where={"source": "guide.md"}, for example.'
        )


def by_vector(connection, vector, k, where=None):
    """Return the passages whose vectors have the smallest angle to one.

    Args:
        connection: an `apsw.Connection`.
        vector: float32 `(dim,)`.
        k: int.
        where: as of `condition`.

    Returns:
        A list of `(number, cosine similarity)`, best first. It is empty for
        a vector of zeros, which has no direction.
    """
    if not vector.any():
        return []
    sql, values = condition(where)
    found = connection.execute(
        "SELECT rowid, distance FROM vectors "
        f"WHERE vector MATCH ? AND k = ? {sql} ORDER BY distance",
        (vector.tobytes(), k, *values),
    )
    found = sorted(found, key=lambda row: (row[1], row[0]))
    return [(number, 1 - distance) for number, distance in found]


def by_words(connection, query, k, where=None):
    """Return the passages with the best BM25 scores.

    Args:
        connection: an `apsw.Connection`.
        query: str, any text.
        k: int.
        where: as of `condition`.

    Returns:
        A list of `(number, BM25)`, best first.
    """
    words = _telling(connection, words_of(connection, query))
    if not words:
        return []
    sql, values = condition(where)
    # Not the same word twice: FTS5's time grows with the square of that.
    words_by_count = {}
    for word, count in collections.Counter(words).items():
        words_by_count.setdefault(count, []).append(f'"{word}"')
    parts, bindings = [], []
    for count, group in words_by_count.items():
        parts.append(
            "SELECT rowid AS number, ? * bm25(words) AS score FROM words "
            f"WHERE words MATCH ? {sql}"
        )
        bindings += [count, " OR ".join(group), *values]
    scores = " UNION ALL ".join(parts)
    if len(parts) > 1:
        scores = (
            "SELECT number, sum(score) AS score "
            f"FROM ({scores}) GROUP BY number"
        )
    found = connection.execute(
        f"{scores} ORDER BY score, number LIMIT ?", (*bindings, k)
    )
    # FTS5's scores are negative, so that the best is the smallest.
    return [(number, -score) for number, score in found]


def words_of(connection, text):
    """Split a text as the index does.

    No word has a character that means something in a query of FTS5: they are
    all letters and digits.
    """
    name, *options = TOKENIZER.split()
    tokenizer = connection.fts5_tokenizer(name, options)
    found = tokenizer(text.encode(), apsw.FTS5_TOKENIZE_QUERY, None)
    return [word for _, _, word in found]


def _telling(connection, words):
    """Leave out words that most passages have, and all but the rarest."""
    total = connection.execute("SELECT count(*) FROM passages").get
    counts = {
        word: connection.execute(
            "SELECT doc FROM vocabulary WHERE term = ?", (word,)
        ).get
        or 0
        for word in set(words)
    }
    words = [word for word in words if counts[word]]
    most = max(_MANY, total / 2)
    words = [word for word in words if counts[word] <= most] or words
    rarest = sorted(set(words), key=lambda word: (counts[word], word))
    kept = set(rarest[:MOST_WORDS])
    return [word for word in words if word in kept]


def fuse(*rankings):
    """Fuse rankings by reciprocal ranks.

    Args:
        *rankings: lists of `(number, score)`, best first.

    Returns:
        A list of `(number, sum of 1 / (60 + rank))`, best first.
    """
    scores = {}
    for ranking in rankings:
        for rank, (number, _) in enumerate(ranking, 1):
            scores[number] = scores.get(number, 0) + 1 / (RRF_CONSTANT + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def hits(connection, ranking):
    """Return the passages of a ranking as a list of `Hit`."""
    found = []
    for rank, (number, score) in enumerate(ranking, 1):
        name, metadata, text = connection.execute(
            "SELECT id, metadata, text FROM passages JOIN words "
            "ON words.rowid = number WHERE number = ?",
            (number,),
        ).get
        found.append(Hit(name, text, json.loads(metadata), score, rank))
    return found
