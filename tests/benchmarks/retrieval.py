"""Search and indexing of a store against NumPy and rank_bm25.

    python -m tests.benchmarks.retrieval [--chunks 20000] [--queries 1000]
    python -m tests.benchmarks.retrieval --only embedding [--texts 1000]

The chunks are those of the documentation that this installation carries, and
the queries are runs of words of some of them. The vectors are random ones of
`--dim` numbers: what a search costs does not depend on where they point. All
ways answer the same query before the next one is asked, so that the ratios mean
something on a busy machine, and what they find is compared.

The second part embeds texts with a BERT of random weights, of the shape of
all-MiniLM-L6-v2, with an `Embedder` and with KerasHub's `BertTextEmbedder`, in
turns. Both return the same vectors.
"""

import argparse
import collections
import pathlib
import random
import re
import resource
import statistics
import tempfile
import time
import zlib

import numpy as np
import rank_bm25

from kerasllm import corpora
from kerasllm.retrieval import Store, chunk_document

K = 10
MAX_TOKENS = 100  # words of a chunk


def make_chunks(count):
    """Return texts of the local documentation, all different."""
    texts = {}
    for shard in corpora.local_docs():
        for line in pathlib.Path(shard).read_text("utf-8").splitlines():
            document = line.replace("\\n", "\n")
            for chunk in chunk_document(document, MAX_TOKENS, 0):
                texts[chunk.text] = None
                if len(texts) == count:
                    return list(texts)
    raise ValueError(f"The documentation has only {len(texts)} chunks.")


def make_queries(chunks, count):
    """Return runs of three to ten words of chunks."""
    draw, queries = random.Random(0), []
    while len(queries) < count:
        words = words_of(draw.choice(chunks))
        length = draw.randint(3, 10)
        if len(words) > length:
            begin = draw.randrange(len(words) - length)
            queries.append(" ".join(words[begin : begin + length]))
    return queries


def words_of(text):
    return re.findall(r"[^\W_]+", text.lower())


class RandomVectors:
    """An embedder that takes no time: a text decides its random vector."""

    name = "random"

    def __init__(self, dim):
        self.dim = dim

    def __call__(self, texts):
        return np.stack(
            [
                np.random.default_rng(zlib.crc32(text.encode())).normal(
                    size=self.dim
                )
                for text in texts
            ]
        ).astype("float32")


def seconds(function, *arguments):
    begin = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - begin, result


def report(name, values):
    """Print milliseconds: the median, and that of the slowest 5%."""
    values = sorted(1000 * value for value in values)
    slow = values[int(0.95 * len(values))]
    print(
        f"{name:28} {statistics.median(values):8.2f} ms, 95% below {slow:.2f}"
    )


def search(arguments):
    chunks = make_chunks(arguments.chunks)
    queries = make_queries(chunks, arguments.queries)
    print(f"{len(chunks):,} chunks, {len(queries):,} queries, k = {K}")
    embedder = RandomVectors(arguments.dim)
    # What embedding takes is not what is compared.
    duration, matrix = seconds(embedder, chunks)
    print(f"random vectors: {duration:.1f} s")
    known = dict(zip(chunks, matrix, strict=True))
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)

    def remembered(texts):
        return np.stack(
            [known[t] if t in known else embedder([t])[0] for t in texts]
        )

    duration, words = seconds(lambda: [words_of(text) for text in chunks])
    oracle_seconds, oracle = seconds(
        lambda: rank_bm25.BM25Okapi(words, k1=1.2, b=0.75)
    )
    print(f"rank_bm25 counts words: {duration + oracle_seconds:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        with Store(pathlib.Path(folder, "store.sqlite"), remembered) as store:
            duration, _ = seconds(store.add, chunks)
            print(
                f"ours, added in one transaction: {duration:.1f} s, "
                f"{len(chunks) / duration:,.0f} chunks/s, "
                f"{store.path.stat().st_size / 1e6:.0f} MB"
            )
            compare(store, oracle, matrix, embedder, queries)


def compare(store, oracle, matrix, embedder, queries):
    """Ask each way each query, and print how long it took."""

    def by_numpy(query):
        (vector,) = embedder([query])
        scores = matrix @ vector
        best = np.argpartition(-scores, K)[:K]
        return best[np.argsort(-scores[best])]

    def by_rank_bm25(query):
        scores = oracle.get_scores(words_of(query))
        best = np.argpartition(-scores, K)[:K]
        return best[np.argsort(-scores[best])]

    ways = {
        f"ours, {mode}": lambda query, mode=mode: store.search(query, K, mode)
        for mode in ("vector", "bm25", "hybrid")
    }
    ways |= {"NumPy, vectors": by_numpy, "rank_bm25": by_rank_bm25}
    times, same = collections.defaultdict(list), collections.Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for query in queries:
        found = {}
        for name, way in ways.items():
            duration, found[name] = seconds(way, query)
            times[name].append(duration)
        numbers = {
            name: {int(hit.id) - 1 for hit in found[name]}
            for name in ("ours, vector", "ours, bm25")
        }
        same["vectors"] += numbers["ours, vector"] == {
            *found["NumPy, vectors"].tolist()
        }
        # Of many chunks with an equal score, each may take others.
        same["BM25"] += (
            len(numbers["ours, bm25"] & {*found["rank_bm25"].tolist()}) / K
        )
    for name, values in times.items():
        report(name, values)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory grew by {(after - before) / 1024:.0f} MB in the search")
    for name, count in same.items():
        print(
            f"{name}: the same of the first {K} in {count / len(queries):.1%}"
        )


def embedding(arguments):
    import keras_hub

    from kerasllm.retrieval import Embedder

    texts = random.Random(0).sample(make_chunks(arguments.texts * 3),
                                    arguments.texts)  # fmt: skip
    counts = collections.Counter(w for text in texts for w in words_of(text))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary += [word for word, _ in counts.most_common(8000)]
    tokenizer = keras_hub.models.BertTokenizer(vocabulary, lowercase=True)
    backbone = keras_hub.models.BertBackbone(
        len(vocabulary), 6, 12, 384, 1536, max_sequence_length=256
    )
    longest = max(map(len, Embedder(
        backbone, keras_hub.models.BertTextEmbedderPreprocessor(tokenizer)
    ).tokenize(texts)))  # fmt: skip
    preprocessor = keras_hub.models.BertTextEmbedderPreprocessor(
        tokenizer, sequence_length=longest
    )
    ours = Embedder(backbone, preprocessor)
    theirs = keras_hub.models.BertTextEmbedder(backbone, preprocessor)
    lengths = sorted(map(len, ours.tokenize(texts)))
    print(
        f"{len(texts):,} texts of {lengths[0]} to {lengths[-1]} tokens, "
        f"median {statistics.median(lengths)}"
    )

    def by_ours():
        return ours.predict(texts)

    def by_theirs():
        return theirs.predict(texts, batch_size=32, verbose=0)

    # The first call compiles, and shows that both return the same.
    difference = np.abs(by_ours() - by_theirs()).max()
    print(f"largest difference of two vectors: {difference:.1e}")
    speeds = {"KerasHub": [], "ours": []}
    for _ in range(arguments.repeats):
        for name, way in (("KerasHub", by_theirs), ("ours", by_ours)):
            duration, _ = seconds(way)
            speeds[name].append(len(texts) / duration)
    for name, values in speeds.items():
        print(
            f"{name:10} median {statistics.median(values):,.0f} texts/s, "
            f"{min(values):,.0f} to {max(values):,.0f}"
        )
    ratios = [b / a for a, b in zip(*speeds.values(), strict=True)]
    print(
        f"ratio ours / KerasHub: median {statistics.median(ratios):.2f}, "
        f"{min(ratios):.2f} to {max(ratios):.2f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("search", "embedding"))
    parser.add_argument("--chunks", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.only != "embedding":
        search(arguments)
    if arguments.only != "search":
        embedding(arguments)


if __name__ == "__main__":
    main()
