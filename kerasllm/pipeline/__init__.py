r"""The pretraining pipeline, from shard files to batches of windows.

    documents -> (split) -> tokens + end token -> one long stream
              -> windows of sequence_length + 1 -> (shuffle) -> batches (x, y)

Everything runs inside `tf.data` on every backend. Documents never pass through
Python, and only a few batches of documents and the shuffle buffer are in memory
at a time.

The tokens are counted first, so `fit` and `dataset.cardinality()` know the
number of batches in advance. That costs one pass over the corpus (seconds for
17 MB, minutes for gigabytes). The counts of shard files are kept in the cache,
indexed by the content of the shard and the vocabulary, so a second call reads
the shards only to identify them.

A document about language models may contain the text `<|endoftext|>` itself.
It must not seem to end there, so that text is read as `< |endoftext|>`.

Nothing here configures TensorFlow. On a machine with GPUs and another backend,
call `kerasllm.backend.set_up()` first. It keeps TensorFlow from taking the
memory of the GPUs at its first operation.
"""

from kerasllm.pipeline._documents import without_autotune
from kerasllm.pipeline._windows import pretraining_dataset, side_by_side

__all__ = ["pretraining_dataset", "side_by_side", "without_autotune"]
