"""Finding the passages that fit a question: documents, chunks, and stores.

`index_folder` adds the documents of a folder to a `Store`: it reads them
(`read_document`), splits them into chunks (`chunk_document`), and embeds the
new chunks. `Store.search` finds the chunks that fit a question, by vectors, by
words, or by both.

An embedder is any callable from a list of str to float32 `(n, dim)`. Nothing
here needs a backend.

Source: section 16.4.3 of the chapter.
"""

from kerasllm.retrieval._chunking import Chunk, chunk_document
from kerasllm.retrieval._indexing import IndexReport, index_folder
from kerasllm.retrieval._passages import Hit, Passage
from kerasllm.retrieval._reading import (
    Document,
    Section,
    markdown,
    plain,
    read_document,
)
from kerasllm.retrieval._store import Store

__all__ = [
    "Chunk",
    "Document",
    "Hit",
    "IndexReport",
    "Passage",
    "Section",
    "Store",
    "chunk_document",
    "index_folder",
    "markdown",
    "plain",
    "read_document",
]
