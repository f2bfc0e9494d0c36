r"""Vocabularies: train one, load one, or download the chapter's.

A vocabulary of this package restores every text exactly (indentation, double
spaces, tabs, carriage returns, emoji), because nothing is normalized and a
character without a piece is encoded as its UTF-8 bytes. There is one exception:
SentencePiece writes a space as U+2581 inside its pieces, so a U+2581 in a text
becomes a space.

KerasHub's `detokenize` takes a list of Python ints, an array or a tensor, but
not a list of NumPy ints: write `tokenizer.detokenize(np.array(token_ids))`.

TensorFlow tokenizes text on every backend, and nothing here configures it. Its
first operation takes nearly all the memory of every GPU that it sees. On a
machine with GPUs and another backend, call `kerasllm.backend.set_up()` first,
which leaves the GPUs to that backend.
"""

from kerasllm import lazy
from kerasllm.tokenizers._documents import check_documents, check_shards
from kerasllm.tokenizers._training import (
    check_vocabulary_size,
    train_sentence_piece,
)
from kerasllm.tokenizers._vocabularies import (
    BOOK_VOCABULARY_URL,
    END_OF_TEXT,
    book_vocabulary,
    end_of_text_id,
    load_sentence_piece,
    token_id_of,
)

# A vocabulary can be trained without a backend. This layer needs one.
_FILE_OF = {"FastTokenizer": "_fast"}

__all__ = [
    "BOOK_VOCABULARY_URL",
    "END_OF_TEXT",
    "FastTokenizer",
    "book_vocabulary",
    "check_documents",
    "check_shards",
    "check_vocabulary_size",
    "end_of_text_id",
    "load_sentence_piece",
    "token_id_of",
    "train_sentence_piece",
]

__getattr__, __dir__ = lazy.names_of(__name__, _FILE_OF, __all__)
