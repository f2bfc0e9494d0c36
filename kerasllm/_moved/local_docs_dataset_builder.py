"""Moved: see `kerasllm.corpora`."""

from kerasllm.corpora._local_docs_builder import LocalDocs  # noqa: F401
