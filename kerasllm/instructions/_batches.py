"""Batches of examples of similar length, in a new order in each epoch."""

import numpy as np

from kerasllm.backend import tf

SHORTEST_BUCKET = 32


class Bucketed:
    """What is tokenized, in batches of a few lengths.

    A subclass has the attribute `sequence_length` and the methods `_sizes`,
    which returns the length of each example, and `_batches`, which makes
    batches of a dataset of their numbers.
    """

    def num_batches(self, batch_size=8, buckets=True):
        """Return the number of batches that `dataset` gives: an int."""
        buckets = np.searchsorted(self._bucket_lengths(buckets), self._sizes())
        _, counts = np.unique(buckets, return_counts=True)
        return int(np.sum(-(-counts // batch_size)))

    def endless(self, batch_size=8, seed=0, buckets=True):
        """Return an endless dataset: the batches of one epoch after another.

        The order of `Dataset.shuffle` depends on how often and how far the
        dataset has been read before, and Keras reads ahead. Here, the order
        depends only on the seed and the number of the epoch. So a run that was
        killed and resumed sees the same batches as one that was not.

        Args:
            batch_size: int.
            seed: int.
            buckets: bool. See `dataset`.

        Returns:
            `tf.data.Dataset`, see `dataset`.
        """
        last = len(self._sizes()) - 1

        def epoch_batches(epoch):
            key = tf.stack([tf.cast(seed, "int64"), epoch])
            numbers = tf.data.Dataset.range(last + 1).map(
                lambda i: tf.random.experimental.index_shuffle(i, key, last)
            )
            return self._batches(numbers, batch_size, buckets)

        return tf.data.Dataset.range(2**62).flat_map(epoch_batches).prefetch(4)

    def _one_epoch(self, batch_size, seed, buckets):
        """Return what `dataset` returns."""
        count = len(self._sizes())
        numbers = tf.data.Dataset.range(count)
        if seed is not None:
            numbers = numbers.shuffle(count, seed=seed)
        batches = self._batches(numbers, batch_size, buckets)
        # Keras warns of a dataset that ends without having said when.
        count = self.num_batches(batch_size, buckets)
        batches = batches.apply(tf.data.experimental.assert_cardinality(count))
        return batches.prefetch(4)

    def _bucket_lengths(self, buckets):
        lengths = [self.sequence_length]
        while buckets and lengths[0] // 2 >= SHORTEST_BUCKET:
            lengths.insert(0, lengths[0] // 2)
        return lengths
