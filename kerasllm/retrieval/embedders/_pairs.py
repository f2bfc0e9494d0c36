"""Pairs of a question and its passage as batches of tokens."""

import dataclasses
import hashlib
import json

import numpy as np

from kerasllm.backend import tf
from kerasllm.checks import UserError, check_list, check_text, shown
from kerasllm.images import vision_inputs
from kerasllm.retrieval.embedders._embedder import embedder_inputs

# Each side of a pair has the inputs of the backbone, under these names.
SIDES = ("question_", "passage_")


@dataclasses.dataclass(frozen=True)
class TokenizedPairs:
    """Questions with their passages, ready for training.

    Attributes:
        inputs: dict of arrays, one entry a pair: the inputs of the backbone
            for the questions, and those for the passages.
        constants: dict of arrays that are the same for each pair.
        numbers: int32 `(number of pairs, 2)`. Pairs with the same question
            have the same first number, and those with the same passage the
            same second one.
        num_tokens: int. Tokens of all pairs, without padding.
    """

    inputs: dict
    constants: dict
    numbers: np.ndarray
    num_tokens: int

    @classmethod
    def of(cls, pairs, embedder, name="pairs"):
        """Tokenize pairs.

        Args:
            pairs: list of `(question, passage)`.
            embedder: `Embedder`.
            name: str. What errors call the pairs.

        Raises:
            UserError: there are fewer than two, or one is something else.
        """
        pairs = check_pairs(pairs, name)
        inputs, numbers, num_tokens = {}, [], 0
        for prefix, texts in zip(SIDES, zip(*pairs, strict=True), strict=True):
            tokens = embedder.tokenize(texts)
            num_tokens += sum(map(len, tokens))
            arrays = embedder_inputs(embedder, tokens)
            inputs |= {
                prefix + key: array[: len(tokens)]
                for key, array in arrays.items()
                # No text has an image: what stands for that is constant.
                if key in ("token_ids", "padding_mask", "segment_ids")
            }
            number_of = {text: i for i, text in enumerate(dict.fromkeys(texts))}
            numbers.append([number_of[text] for text in texts])
        return cls(
            inputs,
            _no_images(embedder),
            np.array(numbers, "int32").T,
            num_tokens,
        )

    def __len__(self):
        return len(self.numbers)

    def endless(self, batch_size, seed):
        """Return full batches in an order that the seed and the epoch decide.

        A batch always has as many pairs, since each is a negative for the
        others. So each epoch leaves out the few that fill no batch, others
        each time.

        Args:
            batch_size: int, at most `len(self)`.
            seed: int.

        Returns:
            Endless `tf.data.Dataset` of `(x, numbers)`: a dict of the inputs,
            and int32 `(batch_size, 2)`.
        """
        last = len(self) - 1
        steps = len(self) // batch_size

        def epoch_batches(epoch):
            key = tf.stack([tf.cast(seed, "int64"), epoch])
            order = tf.data.Dataset.range(len(self)).map(
                lambda i: tf.random.experimental.index_shuffle(i, key, last)
            )
            return order.batch(batch_size, drop_remainder=True).take(steps)

        epochs = tf.data.Dataset.range(2**62)
        return epochs.flat_map(epoch_batches).map(self._batch()).prefetch(2)

    def dataset(self, batch_size):
        """Return the full batches of one epoch, in the order of the pairs."""
        order = tf.data.Dataset.range(len(self))
        batches = order.batch(batch_size, drop_remainder=True)
        return batches.map(self._batch()).prefetch(2)

    def _batch(self):
        """Return a function from the indices of a batch to what `fit` takes."""
        inputs = {key: tf.constant(array) for key, array in self.inputs.items()}
        numbers = tf.constant(self.numbers)

        def batch(indices):
            x = {
                key: tf.gather(array, indices) for key, array in inputs.items()
            }
            for prefix in SIDES if self.constants else ():
                shape = tf.shape(x[f"{prefix}token_ids"])
                x[f"{prefix}vision_mask"] = tf.zeros(shape, "bool")
                for key, array in self.constants.items():
                    size = [shape[0]] + [1] * (array.ndim - 1)
                    x[prefix + key] = tf.tile(array, size)
            return x, tf.gather(numbers, indices)

        return batch


def check_pairs(pairs, name="pairs"):
    """Check that pairs are two texts each, and at least two.

    Returns:
        list of tuples of str.
    """
    pairs = check_list(name, pairs, "a list of pairs")
    if len(pairs) < 2:
        raise UserError(
            f"`{name}` must have at least two pairs, because each is compared "
            f"with the others. Received: {shown(pairs)}. Pass some more."
        )
    for index, pair in enumerate(pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UserError(
                f"`{name}[{index}]` must be a pair (question, passage). "
                f"Received: {shown(pair)}. Write two strings."
            )
        for text in pair:
            check_text(f"{name}[{index}]", text)
            if not text.strip():
                raise UserError(
                    f"`{name}[{index}]` must have text. Received: "
                    f"{shown(pair)}. Leave it out."
                )
    return [tuple(pair) for pair in pairs]


def describe_pairs(pairs, validation_pairs):
    """Return hashes of pairs in their order: a dict."""
    parts = {"pairs": pairs, "validation_pairs": validation_pairs or ()}
    return {
        name: hashlib.sha256(
            json.dumps([list(pair) for pair in part]).encode()
        ).hexdigest()
        for name, part in parts.items()
    }


def _no_images(embedder):
    """Return what stands for no image beside one text: a dict of arrays."""
    if "vision_mask" not in embedder.input:
        return {}
    inputs = vision_inputs(
        np.zeros((1, 0), "int32"), [()], embedder.preprocessor
    )
    return {
        key: np.asarray(array)
        for key, array in inputs.items()
        if key in embedder.input and key != "vision_mask"
    }
