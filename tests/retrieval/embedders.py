"""An embedder that needs no model: each word adds a vector of its own."""

import hashlib
import re

import numpy as np

DIM = 16


def hashing(texts):
    """Return float32 `(n, 16)`: the sum of the vectors of the words."""
    vectors = np.zeros((len(texts), DIM), "float32")
    for vector, text in zip(vectors, texts, strict=True):
        for word in re.findall(r"\w+", text.lower()):
            digest = hashlib.sha256(word.encode()).digest()
            vector += np.frombuffer(digest[:DIM], "int8")
    return vectors


class Counting:
    """`hashing` that remembers what it was asked to embed."""

    name = "counting"

    def __init__(self):
        self.texts = []

    def __call__(self, texts):
        self.texts += texts
        return hashing(texts)
