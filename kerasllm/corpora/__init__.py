r"""Text corpora to train on.

A corpus is a list of shard files in the format of the chapter's mini-C4: UTF-8
text, one document per line, with line breaks inside a document written as the
two characters `\n`. The format has no escape for a backslash. Where a document
contains those two characters itself, as `\nabla` does, `text_shards` writes
U+0010 between them, which the readers of this package remove.

`local_docs` finds text that is part of every installation, `mini_c4` downloads
the chapter's corpus, `text_shards` takes the user's own files, and `from_tfds`
reads a TensorFlow dataset instead of shards.
"""

from kerasllm.corpora._local_docs import (
    MIN_CHARACTERS,
    OPTIONAL_MODULES,
    PACKAGES,
    local_docs,
    local_docs_versions,
)
from kerasllm.corpora._mini_c4 import MINI_C4_URL, mini_c4
from kerasllm.corpora._shards import (
    FINGERPRINT,
    NUM_SHARDS,
    RECIPE,
    fingerprint,
)
from kerasllm.corpora._text_shards import text_shards
from kerasllm.corpora._tfds import from_tfds

__all__ = [
    "FINGERPRINT",
    "MINI_C4_URL",
    "MIN_CHARACTERS",
    "NUM_SHARDS",
    "OPTIONAL_MODULES",
    "PACKAGES",
    "RECIPE",
    "fingerprint",
    "from_tfds",
    "local_docs",
    "local_docs_versions",
    "mini_c4",
    "text_shards",
]
