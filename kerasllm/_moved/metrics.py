"""Moved: see `kerasllm.evaluation`."""

from kerasllm.evaluation import (  # noqa: F401
    known_ngrams,
    ngram_set,
    repeated_ngrams,
)
