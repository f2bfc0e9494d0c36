"""Finding the passages that fit a question: documents, chunks, and stores.

`index_folder` adds the documents of a folder to a `Store`: it reads them
(`read_document`), splits them into chunks (`chunk_document`), and embeds the
new chunks. `Store.search` finds the chunks that fit a question, by vectors, by
words, or by both.

An embedder is any callable from a list of str to float32 `(n, dim)`. An
`Embedder` is one that reads with a language model, and `train_embedder` teaches
it which passages answer a question. All else needs no backend.

Source: section 16.4.3 of the chapter.
"""

from kerasllm import lazy
from kerasllm.retrieval._chunking import Chunk, chunk_document
from kerasllm.retrieval._database import embedder_name
from kerasllm.retrieval._distances import distance_threshold
from kerasllm.retrieval._indexing import (
    IndexReport,
    document_paths,
    index_folder,
)
from kerasllm.retrieval._passages import Hit, Passage
from kerasllm.retrieval._reading import (
    Document,
    Section,
    markdown,
    plain,
    read_document,
)
from kerasllm.retrieval._store import Store

# A store needs no backend. These are imported when they are used.
_FILE_OF = dict.fromkeys(
    ("Embedder", "contrastive_loss", "train_embedder"), "embedders"
)

__all__ = [
    "Chunk",
    "Document",
    "Embedder",
    "Hit",
    "IndexReport",
    "Passage",
    "Section",
    "Store",
    "chunk_document",
    "contrastive_loss",
    "distance_threshold",
    "document_paths",
    "embedder_name",
    "index_folder",
    "markdown",
    "plain",
    "read_document",
    "train_embedder",
]

__getattr__, __dir__ = lazy.names_of(__name__, _FILE_OF, __all__)
