# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   kerasllm:
#     forbidden:
#     - kerasllm
#     - keras_hub
#     - sentencepiece
#     - tensorflow
#     - tensorflow_text
#     - tiktoken
#     - tokenizers
#     - torch
#     - transformers
#     graded:
#     - pair_counts
#     - merge_pair
#     - train_bpe
#     - encode
#     - decode
#     - pack
#     - make_windows
#     - make_batches
#     - held_out_number
#     - split_documents
#     - count_batches
# ---

# %% [markdown]
# # Homework 1: Tokens and windows
#
# A language model does not read letters or documents. It reads sequences of
# integers that all have the same length. In this homework you write everything
# between the two: a small byte-pair encoder, code that packs documents into
# windows, a split that does not leak, and the arithmetic behind an epoch.
# Chapter 1 of the course does the same with a different kind of subword.
#
# | part | points |
# |---|---|
# | 1 A byte-pair encoder | 45 |
# | 2 Packing | 20 |
# | 3 A split that does not leak | 15 |
# | 4 Counting | 5 |
# | 5 A figure, graded by a person | 15 |
#
# Rules:
#
# - Replace each `raise NotImplementedError()` with your code. Keep the names
#   and arguments of the functions. You may add cells and functions.
# - You cannot change the test cells. Grading restores them. It also runs tests
#   that you do not see, on inputs that differ each time.
# - If the test of one of your functions fails in grading, the tests that follow
#   use the solution's version of that function. So one mistake costs its own
#   points and no others. On your own machine the later tests use your function,
#   so fix the first failing test first.
# - You may use the standard library, NumPy, and Matplotlib. Libraries that
#   already contain what you are asked to write cannot be imported in grading.
# - Do not use the variables of test cells in your code. In grading, the tests
#   run in a separate process that calls your functions.
# - In grading, a cell may take one minute, a call of a function may take 20
#   seconds, and the whole notebook may use 4 GB of memory.
# - Before you hand the notebook in, restart and run all cells, or run `kerasllm
#   homework check hw1_tokens_and_windows.ipynb`.

# %%
import collections
import hashlib
import random

import matplotlib.pyplot as plt
import numpy as np

# %% [markdown]
# ## The text
#
# The documents are pages of Python's own manual, which every installation
# contains. Everyone in the class works on the same pages this term.

# %%
SEED = 0


# %% nbgrader={"grade": false, "grade_id": "read_documents", "locked": true, "schema_version": 3, "solution": false, "task": false}
def read_documents(seed, count=40):
    """Return `count` pages of Python's manual, drawn with a seed."""
    import pydoc_data.topics
    import random

    pages = [text for _, text in sorted(pydoc_data.topics.topics.items())]
    return random.Random(seed).sample(pages, min(count, len(pages)))


# %%
documents = read_documents(SEED)
print(len(documents), "documents,", sum(map(len, documents)), "characters")
print(documents[0][:300])

# %% [markdown]
# ## 1 A byte-pair encoder
#
# Byte-pair encoding starts with single bytes, so it can represent any text. It
# then finds the most frequent pair of neighboring tokens, merges that pair into
# a new token, and repeats. Merges never cross the border of a word. The
# function below cuts a text into words without losing any of it:


# %% nbgrader={"grade": false, "grade_id": "split_words", "locked": true, "schema_version": 3, "solution": false, "task": false}
def split_words(text):
    """Cut a text into words, each with the one space before it."""
    import re

    return re.findall(r"\s?\S+|\s", text)


def to_symbols(word):
    """Turn a word into its bytes, a tuple of `bytes` of length 1."""
    return tuple(bytes([byte]) for byte in word.encode("utf-8"))


# %%
print(split_words("the theme  of\nthe thesis"))
print(to_symbols("thé"))

# %% [markdown]
# ### 1.1 Counting pairs (5 points)
#
# The dict `words` maps each distinct word, as a tuple of symbols, to the number
# of times that it occurs. Count each pair of neighboring symbols once for every
# occurrence of its word. The pair `(b"a", b"a")` occurs twice in `(b"a", b"a",
# b"a")`.


# %% nbgrader={"grade": false, "grade_id": "pair_counts", "locked": false, "schema_version": 3, "solution": true, "task": false}
def pair_counts(words):
    """Count the pairs of neighboring symbols.

    Args:
        words: dict from tuple of bytes to int.

    Returns:
        dict from pair, a tuple of two bytes, to int. Only pairs that occur.
    """
    ### BEGIN SOLUTION
    counts = collections.Counter()
    for symbols, count in words.items():
        for pair in zip(symbols, symbols[1:]):
            counts[pair] += count
    return dict(counts)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_pair_counts", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
counts = pair_counts({(b"a", b"b", b"a"): 3, (b"b", b"a"): 2, (b"c",): 9})
assert counts is not None, "`pair_counts` must return its counts."
assert dict(counts) == {(b"a", b"b"): 3, (b"b", b"a"): 5}, (
    "A pair counts once for each occurrence of its word, summed over all "
    "words, and a word of one symbol has no pair."
)
counts = dict(pair_counts({(b"a", b"a", b"a"): 1}))
assert counts == {(b"a", b"a"): 2}, (
    "Pairs may overlap: three equal symbols contain the pair twice."
)
assert dict(pair_counts({})) == {}, "No words have no pairs."
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} pairs")
for _ in range(20):
    words = {
        tuple(rng.choices([b"x", b"y", b"zz"], k=rng.randint(1, 8))): (
            rng.randint(1, 50)
        )
        for _ in range(rng.randint(1, 12))
    }
    counts = dict(pair_counts(words))
    expected = {}
    for symbols, count in words.items():
        for i in range(len(symbols) - 1):
            pair = symbols[i], symbols[i + 1]
            expected[pair] = expected.get(pair, 0) + count
    assert counts == expected, (
        "The counts must be right for any words. For some random words they "
        "are not."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 1.2 Merging (5 points)
#
# Replace a pair with one symbol wherever it occurs, from left to right. A
# symbol can be part of only one merge.


# %% nbgrader={"grade": false, "grade_id": "merge_pair", "locked": false, "schema_version": 3, "solution": true, "task": false}
def merge_pair(symbols, pair):
    """Join a pair of neighbors into one symbol wherever it occurs.

    Args:
        symbols: tuple of bytes.
        pair: tuple of two bytes.

    Returns:
        tuple of bytes.
    """
    ### BEGIN SOLUTION
    merged, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == tuple(pair):
            merged.append(pair[0] + pair[1])
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return tuple(merged)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_merge_pair", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
merged = merge_pair((b"t", b"h", b"e", b"t", b"h"), (b"t", b"h"))
assert merged == (b"th", b"e", b"th"), (
    "Every occurrence is merged, including the last. The result is a tuple. "
    f"Received: {merged!r}."
)
merged = merge_pair((b"a", b"a", b"a"), (b"a", b"a"))
assert merged == (b"aa", b"a"), (
    "A symbol is part of one merge only, from left to right. Received: "
    f"{merged!r}."
)
merged = merge_pair((b"a", b"bc"), (b"ab", b"c"))
assert merged == (b"a", b"bc"), (
    f"Whole symbols are compared, not their joined bytes. Received: {merged!r}."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} merge")
for _ in range(50):
    symbols = tuple(rng.choices([b"a", b"b", b"ab"], k=rng.randint(0, 12)))
    pair = tuple(rng.choices([b"a", b"b", b"ab"], k=2))
    merged = merge_pair(symbols, pair)
    assert isinstance(merged, tuple), "`merge_pair` must return a tuple."
    assert b"".join(merged) == b"".join(symbols), (
        "A merge must not change the bytes of a word."
    )
    # The oracle eats the word from the left, one or two symbols at a time.
    expected, rest = (), symbols
    while rest:
        step = 2 if rest[:2] == pair else 1
        expected, rest = (*expected, b"".join(rest[:step])), rest[step:]
    assert merged == expected, (
        "Merges must be made from left to right, wherever the pair occurs. "
        "For some random symbols they are not."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 1.3 Training (15 points)
#
# Start from bytes. Find the pair with the highest count, merge it in all words,
# and repeat. If several pairs have the highest count, take the smallest, in the
# order in which Python compares tuples of bytes. Stop after `num_merges`
# merges, or when no pair occurs at least twice. Count over distinct words
# rather than over the texts, because most words occur many times.


# %% nbgrader={"grade": false, "grade_id": "train_bpe", "locked": false, "schema_version": 3, "solution": true, "task": false}
def train_bpe(texts, num_merges):
    """Learn merges from texts.

    Args:
        texts: list of str.
        num_merges: int, the most merges to learn.

    Returns:
        list of pairs, each a tuple of two bytes, in the order of learning.
    """
    ### BEGIN SOLUTION
    words = collections.Counter(
        to_symbols(word) for text in texts for word in split_words(text)
    )
    merges = []
    while len(merges) < num_merges:
        counts = pair_counts(words)
        if not counts or max(counts.values()) < 2:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        merged_words = collections.Counter()
        for symbols, count in words.items():
            merged_words[merge_pair(symbols, best)] += count
        words = merged_words
    return merges
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_train_bpe_small", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
merges = train_bpe(["aaa aab"], 1)
assert merges == [(b"a", b"a")], (
    f"The most frequent pair comes first. Received: {merges!r}."
)
merges = train_bpe(["ab ab cd cd"], 4)
assert merges[:1] == [(b" ", b"c")], (
    "Of pairs with equal counts the smallest is taken, and the space before "
    f"a word belongs to it. Received: {merges!r}."
)
assert train_bpe(["abc"], 5) == [], "A pair must occur twice to be merged."
assert train_bpe(["abab"], 0) == [], "No merges were asked for."
assert train_bpe([], 3) == [], "Without text there is nothing to merge."
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} small")
for _ in range(10):
    text = "".join(rng.choices("ab ", k=30))
    merges = train_bpe([text], 3)
    found = {a + b for a, b in merges}
    assert len(found) == len(merges), "Each merge must make a new token."
    for token in found:
        assert text.encode().count(token) >= 1, (
            "A merge must be of neighbors that the text has."
        )
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "test_train_bpe_oracle", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
page = read_documents(1, count=1)[0][:3000]
merges = train_bpe([page], 20)
assert len(merges) == 20, (
    f"A page has enough pairs for 20 merges. Received: {len(merges)}."
)
assert train_bpe([page], 10) == merges[:10], (
    "Fewer merges must be the beginning of more merges."
)


### BEGIN HIDDEN TESTS
def brute_force(texts, num_merges):
    """Train on the plain list of all words, in the slowest way."""
    words = [to_symbols(w) for text in texts for w in split_words(text)]
    merges = []
    for _ in range(num_merges):
        seen = {}
        for word in words:
            for i in range(len(word) - 1):
                pair = word[i : i + 2]
                seen[pair] = seen.get(pair, 0) + 1
        frequent = sorted((-n, pair) for pair, n in seen.items() if n > 1)
        if not frequent:
            break
        best = frequent[0][1]
        merges.append(best)
        for k, word in enumerate(words):
            joined = []
            for symbol in word:
                # `None` closes a merged symbol against a second merge.
                if joined and joined[-1] == best[0] and symbol == best[1]:
                    joined[-1:] = [best[0] + best[1], None]
                else:
                    joined.append(symbol)
            words[k] = tuple(s for s in joined if s is not None)
    return merges


import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} train")
for _ in range(8):
    alphabet = rng.choice(["ab ", "abcd \n", "aé漢 ", "tha esin  "])
    texts = [
        "".join(rng.choices(alphabet, k=rng.randint(1, 120)))
        for _ in range(rng.randint(1, 4))
    ]
    merges = train_bpe(texts, 15)
    assert list(merges) == brute_force(texts, 15), (
        "Each merge must be the most frequent pair after all earlier merges, "
        "the smallest of equals, until no pair occurs twice. For some "
        "random texts it is not."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 1.4 Encoding (10 points)
#
# Ids 0 to 255 are the bytes. Id 256 is the end of a text. Merge number `i`
# makes token `257 + i`. To encode a text, cut it into words and apply the
# merges to each word, in the order in which they were learned.

# %%
END = 256


# %% nbgrader={"grade": false, "grade_id": "encode", "locked": false, "schema_version": 3, "solution": true, "task": false}
def encode(text, merges):
    """Turn a text into token ids.

    Args:
        text: str.
        merges: what `train_bpe` returns.

    Returns:
        list of int.
    """
    ### BEGIN SOLUTION
    known = {bytes([byte]): byte for byte in range(256)}
    # A token that two merges can make has the id of the first.
    for i, pair in enumerate(merges):
        known.setdefault(pair[0] + pair[1], 257 + i)
    ids, cache = [], {}
    for word in split_words(text):
        if word not in cache:
            symbols = to_symbols(word)
            for pair in merges:
                if len(symbols) > 1:
                    symbols = merge_pair(symbols, pair)
            cache[word] = [known[symbol] for symbol in symbols]
        ids.extend(cache[word])
    return ids
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_encode", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
merges = [(b"t", b"h"), (b"th", b"e"), (b" ", b"the")]
ids = encode("the the", merges)
assert list(ids) == [258, 259], (
    "Merges are applied in the order of learning, and merge number i makes "
    f"token 257 + i. Received: {ids!r}."
)
assert list(encode("hé", [])) == [104, 195, 169], (
    "Without merges the ids are the bytes of the text in UTF-8."
)
ids = encode("abc", [(b"b", b"c"), (b"a", b"b")])
assert list(ids) == [97, 257], (
    f"An earlier merge is applied before a later one. Received: {ids!r}."
)
assert list(encode("", merges)) == [], "An empty text has no tokens."
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} encode")
for _ in range(8):
    alphabet = rng.choice(["ab ", "aé漢 \n", "thesi  "])
    made, merges = [bytes([byte]) for byte in alphabet.encode()], []
    for _ in range(12):
        left, right = rng.choices(made, k=2)
        if left + right not in made:
            made.append(left + right)
            merges.append((left, right))
    probe = "".join(rng.choices(alphabet, k=60))
    ids = list(encode(probe, merges))
    expected = []
    for word in split_words(probe):
        symbols = list(to_symbols(word))
        for left, right in merges:
            i = 0
            while i < len(symbols) - 1:
                if symbols[i] == left and symbols[i + 1] == right:
                    symbols[i : i + 2] = [left + right]
                i += 1
        expected += symbols
    tokens = {257 + i: a + b for i, (a, b) in enumerate(merges)}
    written = [tokens.get(i) or bytes([i]) for i in ids]
    assert written == expected, (
        "Each word must be cut as the merges say, in their order. For some "
        "random texts it is not."
    )
    fewer = list(encode(probe, merges[:5]))
    assert len(ids) <= len(fewer) <= len(probe.encode()), (
        "More merges never make more tokens."
    )
for _ in range(20):
    text = "".join(
        chr(rng.choice([rng.randrange(32, 127), rng.randrange(160, 0xD800),
                        rng.randrange(0x10000, 0x11000), 10, 32]))
        for _ in range(rng.randint(1, 40))
    )  # fmt: skip
    ids = list(encode(text, []))
    assert all(isinstance(i, int) for i in ids), "`encode` must return ints."
    assert ids == list(text.encode()), (
        "Without merges the ids must be the bytes of the text, whatever "
        "characters it has."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 1.5 Decoding (10 points)
#
# To decode, join the bytes of all tokens and read the result as UTF-8. The end
# of a text has no bytes. Use `errors="replace"`, because a model can produce
# half of a character.


# %% nbgrader={"grade": false, "grade_id": "decode", "locked": false, "schema_version": 3, "solution": true, "task": false}
def decode(ids, merges):
    """Turn token ids back into a text.

    Args:
        ids: list of int.
        merges: what `train_bpe` returns.

    Returns:
        str.
    """
    ### BEGIN SOLUTION
    tokens = [bytes([byte]) for byte in range(256)] + [b""]
    tokens += [left + right for left, right in merges]
    return b"".join(tokens[i] for i in ids).decode("utf-8", errors="replace")
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_round_trip", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
merges = [(b"t", b"h"), (b"\xc3", b"\xa9"), (b"th", b"\xc3\xa9")]
text = decode([259, 32, 97], merges)
assert text == "th\u00e9 a", (
    f"Token 257 + i has the bytes of merge number i. Received: {text!r}."
)
for text in ["", "café", " two  spaces\n\tand a tab ", "漢字 🙂", "\x00\x7f"]:
    again = decode(encode(text, merges), merges)
    assert again == text, (
        f"A text must come back unchanged. Received: {again!r} for {text!r}."
    )
assert decode([104, 256, 105], merges) == "hi", (
    "The end of a text (256) has no bytes."
)
assert decode([195], []) == "\ufffd", (
    'Half of a character is read with errors="replace".'
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} round trip")
(page,) = read_documents(rng.random(), count=1)
page = page[:2000]
# Merges of the page's own neighbors, so that they occur all the time.
merges, known = [], [bytes([b]) for b in page.encode()]
for _ in range(30):
    i = rng.randrange(len(known) - 1)
    merges.append((known[i], known[i + 1]))
    known[i : i + 2] = [known[i] + known[i + 1]]
assert decode(encode(page, merges), merges) == page, (
    "A page must come back unchanged, with merges that occur on it."
)
tokens = [bytes([b]) for b in range(256)] + [b""]
tokens += [a + b for a, b in merges]
for _ in range(20):
    ids = [rng.randrange(257 + len(merges)) for _ in range(20)]
    expected = b"".join(tokens[i] for i in ids).decode("utf-8", "replace")
    assert decode(ids, merges) == expected, (
        "Any ids must be decoded: all their bytes in a row, read as UTF-8."
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 2 Packing
#
# ### 2.1 One stream (5 points)
#
# Documents differ in length, but sequences must not. Join all documents into
# one stream, and put the end token after each document. An empty document
# becomes the end token alone.


# %% nbgrader={"grade": false, "grade_id": "pack", "locked": false, "schema_version": 3, "solution": true, "task": false}
def pack(documents, end_id):
    """Put documents into one stream of tokens.

    Args:
        documents: list of lists of int.
        end_id: int, which closes each document.

    Returns:
        list of int.
    """
    ### BEGIN SOLUTION
    return [token for ids in documents for token in [*ids, end_id]]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_pack", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
stream = pack([[1, 2], [], [3]], 9)
assert list(stream) == [1, 2, 9, 9, 3, 9], (
    "Each document is followed by the end token, including the last one and "
    f"an empty one. Received: {stream!r}."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} pack")
for _ in range(20):
    end = rng.randrange(100, 200)
    texts = [
        [rng.randrange(100) for _ in range(rng.randrange(6))]
        for _ in range(rng.randrange(8))
    ]
    stream = list(pack(texts, end))
    assert stream.count(end) == len(texts), (
        "There must be as many end tokens as documents."
    )
    cut, current = [], []
    for token in stream:
        if token == end:
            cut.append(current)
            current = []
        else:
            current.append(token)
    assert cut == texts and not current, (
        "Cut at its end tokens, the stream must give the documents back."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 2.2 Windows (10 points)
#
# Cut the stream into consecutive windows of `sequence_length + 1` tokens that
# do not overlap. `x` is the window without its last token. `y` is the window
# without its first token, so it holds the token that comes next at each
# position. Leave out tokens at the end that do not fill a window.


# %% nbgrader={"grade": false, "grade_id": "make_windows", "locked": false, "schema_version": 3, "solution": true, "task": false}
def make_windows(stream, sequence_length):
    """Cut a stream of tokens into inputs and targets.

    Args:
        stream: list of int.
        sequence_length: int, tokens in a row of `x`.

    Returns:
        A pair `(x, y)` of int32 arrays `(num_windows, sequence_length)`.
    """
    ### BEGIN SOLUTION
    length = sequence_length + 1
    num_windows = len(stream) // length
    windows = np.array(stream[: num_windows * length], dtype="int32")
    windows = windows.reshape(num_windows, length)
    return windows[:, :-1], windows[:, 1:]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_make_windows", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
import numpy as np

x, y = make_windows(list(range(11)), 4)
assert isinstance(x, np.ndarray) and x.dtype == np.int32, (
    "`x` and `y` are NumPy arrays of int32."
)
assert x.shape == y.shape == (2, 4), (
    f"11 tokens fill two windows of 5. Received: {x.shape}, {y.shape}."
)
assert x.tolist() == [[0, 1, 2, 3], [5, 6, 7, 8]], (
    "Windows follow each other without overlaps or gaps. Received: "
    f"{x.tolist()}."
)
assert y.tolist() == [[1, 2, 3, 4], [6, 7, 8, 9]], (
    f"`y` is the token after each token of `x`. Received: {y.tolist()}."
)
x, y = make_windows([1, 2], 4)
assert x.shape == y.shape == (0, 4), (
    "Too few tokens for a window give arrays of no rows and 4 columns."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} windows")
for _ in range(30):
    # Different tokens, so that each can be found again.
    stream = rng.sample(range(10**6), rng.randrange(1, 90))
    length = rng.randint(1, 9)
    x, y = make_windows(stream, length)
    assert x.dtype == y.dtype == np.int32, "Windows are arrays of int32."
    assert x.shape == y.shape == (len(stream) // (length + 1), length), (
        "There must be as many windows as fit, of `sequence_length` tokens."
    )
    seen = np.concatenate([x[:, :1], y], axis=1).ravel().tolist()
    assert seen == stream[: len(seen)], (
        "In the windows, `x` and the last of `y`, every token must appear "
        "exactly once and in order."
    )
    assert np.array_equal(x[:, 1:], y[:, :-1]), (
        "`y` must be `x` shifted by one position."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 2.3 Batches (5 points)
#
# Shuffle the rows with a random generator that you create from `seed`, and cut
# them into batches. The last batch may be smaller. Keep the rows of `x` and `y`
# together. The same seed must give the same order. Do not change `x` or `y`
# themselves.


# %% nbgrader={"grade": false, "grade_id": "make_batches", "locked": false, "schema_version": 3, "solution": true, "task": false}
def make_batches(x, y, batch_size, seed):
    """Shuffle rows and cut them into batches.

    Args:
        x: int32 array `(num_windows, sequence_length)`.
        y: int32 array of the same shape.
        batch_size: int, rows in a batch.
        seed: int.

    Returns:
        list of pairs `(x, y)` of arrays `(batch_size, sequence_length)`.
    """
    ### BEGIN SOLUTION
    order = np.random.default_rng(seed).permutation(len(x))
    return [
        (x[order[i : i + batch_size]], y[order[i : i + batch_size]])
        for i in range(0, len(x), batch_size)
    ]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_make_batches", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
import numpy as np

x = np.arange(40, dtype="int32").reshape(10, 4)
batches = make_batches(x, x + 1, 4, seed=3)
sizes = [len(a) for a, _ in batches]
assert sizes == [4, 4, 2], (
    f"10 rows make batches of 4, 4, and 2. Received: {sizes}."
)
assert all(np.array_equal(a + 1, b) for a, b in batches), (
    "Rows of `x` and `y` must stay together."
)
rows = np.concatenate([a for a, _ in batches])
assert np.array_equal(rows[rows[:, 0].argsort()], x), (
    "Each row must be in exactly one batch."
)
assert not np.array_equal(rows, x), "The rows must be shuffled."
again = np.concatenate([a for a, _ in make_batches(x, x + 1, 4, seed=3)])
assert np.array_equal(rows, again), "The same seed must give the same order."
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} batches")
orders = set()
for _ in range(12):
    num, size = rng.randint(20, 60), rng.randint(1, 12)
    x = np.array(rng.sample(range(10**6), num), "int32")[:, None]
    y = np.array(rng.sample(range(10**6), num), "int32")[:, None]
    batches = make_batches(x, y, size, rng.randrange(10**6))
    sizes = [len(a) for a, _ in batches]
    assert len(sizes) == -(-num // size) and set(sizes[:-1]) <= {size}, (
        "All batches but the last must have `batch_size` rows."
    )
    pairs = [
        (int(a), int(b))
        for xs, ys in batches
        for a, b in zip(xs[:, 0], ys[:, 0], strict=True)
    ]
    whole = list(zip(x[:, 0].tolist(), y[:, 0].tolist(), strict=True))
    assert sorted(pairs) == sorted(whole), (
        "Each row must be in exactly one batch, with its own target."
    )
    x = np.arange(20, dtype="int32")[:, None]
    mixed = make_batches(x, x, 20, rng.randrange(10**6))
    orders.add(tuple(mixed[0][0][:, 0].tolist()))
assert len(orders) > 6, "Different seeds must give different orders."
### END HIDDEN TESTS

# %% [markdown]
# ## 3 A split that does not leak
#
# We hold out some documents to evaluate the model. A corpus changes over time:
# some documents occur more than once, new ones arrive, and another machine may
# read the files in another order. If the text of a document alone decides its
# side, none of this moves it to the other side, and all copies stay together.
#
# ### 3.1 A number for a text (5 points)
#
# Compute the SHA-256 hash of the text's UTF-8 bytes (`hashlib.sha256`). Read
# its first 8 bytes as a big-endian integer, and divide by 2 to the power of 64.
# (Python's own `hash` does not work here: for strings it returns different
# numbers each time Python starts.)


# %% nbgrader={"grade": false, "grade_id": "held_out_number", "locked": false, "schema_version": 3, "solution": true, "task": false}
def held_out_number(text):
    """Return a number in [0, 1) that depends on the text alone.

    Args:
        text: str.
    """
    ### BEGIN SOLUTION
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_held_out_number", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
number = held_out_number("abc")
assert isinstance(number, float) and 0 <= number < 1, (
    f"The number lies in [0, 1). Received: {number!r}."
)
assert abs(number - 0.7284) < 1e-4, (
    "The number comes from the first 8 bytes of the SHA-256 of the text. The "
    f"first byte is the most significant. Received: {number!r} for 'abc'."
)
### BEGIN HIDDEN TESTS
import hashlib
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} number")
for _ in range(20):
    text = "".join(rng.choices("abc é漢🙂\n", k=rng.randrange(30)))
    expected = int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) / 2**64
    number = held_out_number(text)
    assert number is not None and abs(number - expected) < 1e-12, (
        "The number must be right for any text, including an empty one and "
        "characters that are not ASCII."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### 3.2 The split (10 points)
#
# A document is held out for validation if its number is below `fraction`. Both
# sides keep the order of the documents and all copies.


# %% nbgrader={"grade": false, "grade_id": "split_documents", "locked": false, "schema_version": 3, "solution": true, "task": false}
def split_documents(documents, fraction):
    """Split documents by their text.

    Args:
        documents: list of str.
        fraction: float in (0, 1), the expected share of the second side.

    Returns:
        A pair of lists of str: for training and for validation.
    """
    ### BEGIN SOLUTION
    train, validation = [], []
    for text in documents:
        held_out = held_out_number(text) < fraction
        (validation if held_out else train).append(text)
    return train, validation
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_split_documents", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
pages = [f"page {i % 150}" for i in range(200)]
train, validation = split_documents(pages, 0.2)
assert sorted([*train, *validation]) == sorted(pages), (
    "Each document, and each copy of it, must be on one side."
)
assert not set(train) & set(validation), (
    "A document that occurs twice must be on one side both times."
)
assert 10 < len(validation) < 80, (
    f"About a fifth is held out. Received: {len(validation)} of 200."
)
for side in (train, validation):
    places = [pages.index(text) for text in dict.fromkeys(side)]
    assert places == sorted(places), "Each side keeps the order."
### BEGIN HIDDEN TESTS
import hashlib
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} split")
pages = [f"{rng.random()} é" for _ in range(400)]
fraction = rng.uniform(0.1, 0.4)
train, validation = split_documents(pages, fraction)
assert sorted([*train, *validation]) == sorted(pages), (
    "Each document must be on one side."
)
assert abs(len(validation) / 400 - fraction) < 0.12, (
    "The share of validation documents must be about `fraction`."
)
for text in rng.sample(pages, 20):
    number = int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) / 2**64
    assert (text in validation) == (number < fraction), (
        "A document is for validation if its number is below `fraction`."
    )
some = rng.sample(pages, 150)
train_2, validation_2 = split_documents(some + some[:50], fraction)
assert set(validation_2) == set(some) & set(validation), (
    "The order, the other documents, and copies must not move a document "
    "to the other side."
)
assert validation_2 == [t for t in some + some[:50] if t in set(validation)], (
    "Each side must keep the order and the copies."
)
_, more = split_documents(pages, fraction + 0.2)
assert set(validation) <= set(more), (
    "What is held out at a small fraction must be held out at a larger one."
)
### END HIDDEN TESTS

# %% [markdown]
# ## 4 Counting (5 points)
#
# How long is an epoch? Compute it from the number of tokens alone, before
# anything is cut: how many windows are there, how many batches (the last one
# may be smaller), and how many tokens are left over at the end?


# %% nbgrader={"grade": false, "grade_id": "count_batches", "locked": false, "schema_version": 3, "solution": true, "task": false}
def count_batches(num_tokens, sequence_length, batch_size):
    """Count windows, batches and unused tokens.

    Args:
        num_tokens: int, the length of the stream.
        sequence_length: int, tokens in a row of `x`.
        batch_size: int, rows in a batch.

    Returns:
        A tuple of three ints: windows, batches, tokens left out.
    """
    ### BEGIN SOLUTION
    windows, unused = divmod(num_tokens, sequence_length + 1)
    return windows, -(-windows // batch_size), unused
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test_count_batches", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
counted = count_batches(52, 4, 4)
assert tuple(counted) == (10, 3, 2), (
    "52 tokens make 10 windows of 5, in batches of 4, 4, and 2, and leave 2 "
    f"tokens. Received: {counted!r}."
)
### BEGIN HIDDEN TESTS
import os
import random

term = os.environ.get("KERASLLM_HOMEWORK_SEED", "0")
rng = random.Random(f"{term} count")
for _ in range(30):
    num, length, size = rng.randrange(400), rng.randint(1, 9), rng.randint(1, 9)
    # The oracle cuts and counts.
    rows = [
        range(i, i + length + 1)
        for i in range(0, num, length + 1)
        if i + length + 1 <= num
    ]
    batches = [rows[i : i + size] for i in range(0, len(rows), size)]
    used = sum(map(len, rows))
    expected = (len(rows), len(batches), num - used)
    assert tuple(count_batches(num, length, size)) == expected, (
        "The counts must match real windows and batches. For some random "
        "sizes they do not."
    )
big = 10**20 + rng.randrange(10**6)
assert tuple(count_batches(big, 256, 128))[0] == big // 257, (
    "Count with integers: a float is not exact for a large corpus."
)
### END HIDDEN TESTS

# %% [markdown]
# ## 5 A figure
#
# ### 5.1 What merges buy (10 points, graded by a person)
#
# Split `documents` with a fraction of 0.2. Learn 200 merges from the training
# side. For each side, plot the number of bytes per token against the number of
# merges, from 0 to 200. Six points on each curve are enough. Draw both curves
# on one pair of axes, and label them so that a reader who has not seen this
# page understands the figure.

# %% nbgrader={"grade": true, "grade_id": "figure", "locked": false, "points": 10, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
train, validation = split_documents(documents, 0.2)
learned = train_bpe(train, 200)
steps = range(0, 201, 40)
figure, ax = plt.subplots()
for name, side in {"training": train, "held out": validation}.items():
    size = sum(len(text.encode()) for text in side)
    ax.plot(
        steps,
        [
            size / sum(len(encode(text, learned[:n])) for text in side)
            for n in steps
        ],
        label=f"{name} documents",
    )
ax.set_xlabel("merges learned from the training documents")
ax.set_ylabel("bytes a token")
ax.legend()
plt.show()
### END SOLUTION

# %% [markdown]
# ### 5.2 What the figure says (5 points, graded by a person)
#
# Write three to six sentences. Why do the curves rise quickly at first and
# slowly later? Is there a gap between the two curves, and what would you expect
# for another kind of text, such as a novel? About how many more merges would it
# take to reach half a byte per token more than you have at 200? Say how you
# estimate this.

# %% [markdown] nbgrader={"grade": true, "grade_id": "discussion", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# The first merges join pairs that are very common, such as a space and a
# letter. Later merges spell out rarer words and affect less and less of the
# text. The gap is small and can have either sign: 200 merges are so common that
# they fit all pages of the manual equally well, and the pages themselves differ
# more than that. On a novel the curve would be lower. The last 40 merges add
# about 0.1 bytes per token, so at that rate half a byte more would take about
# 200 merges. The curve keeps flattening, so I expect 300 or more.
