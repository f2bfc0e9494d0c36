r"""From shard files to the windows that a model trains on.

    documents -> (split) -> tokens + end token -> one long stream
              -> windows of sequence_length + 1 -> (shuffle) -> batches (x, y)

Everything runs inside `tf.data` on every backend: no document passes through
Python, and no more of the corpus is in memory than a few batches of documents
and the shuffle buffer.

How many batches there are is known beforehand, to `fit` and through
`dataset.cardinality()`, because the tokens are counted first. That costs one
pass over the corpus (seconds for 17 MB, minutes for gigabytes). The counts of
shard files are kept in the cache, by the content of shard and vocabulary, so a
second call only reads the shards to recognize them.

A document that contains the text `<|endoftext|>` itself (documents about
language models do) must not seem to end there: it is read as
`< |endoftext|>`.

Nothing here sets TensorFlow up. On a machine with GPUs and another backend,
call `kerasllm.backend.set_up()` first: it keeps TensorFlow from taking the
memory of the GPUs at its first operation.
"""

from kerasllm.pipeline._windows import pretraining_dataset, side_by_side

__all__ = ["pretraining_dataset", "side_by_side"]
