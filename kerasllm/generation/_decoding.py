"""Cached decoding: the compiled steps behind `TextGenerator`.

A causal model never looks ahead, so the keys and values of a position do not
change when the text grows. They are kept in a cache. Each new token then costs
one pass over the weights instead of a pass over the whole text.
"""

import threading

import keras
import numpy as np
from keras import ops

from kerasllm import backend
from kerasllm.generation._arguments import position_tables
from kerasllm.generation.families import Blockwise, Family, family_of
from kerasllm.images import vision_inputs
from kerasllm.layers import arrange_kernels

SMALLEST_BUCKET = 8
# Short texts share one size. A few unused positions cost a step nothing.
SMALLEST_CACHE = 128
FEW_TEXTS = 8


class CachedDecoder:
    """A causal language model and its compiled functions.

    Arrays are padded to a few sizes, so that few versions are compiled. Batch
    sizes are powers of two. Lengths are powers of two or 1.5 times those, and
    caches of a few texts have at least 128 positions.

    A decoder holds no state of any text. Caches are arguments and results, so
    threads may share a decoder.

    Args:
        causal_lm: a `keras_hub.models.CausalLM` with `call_with_cache`.
        count: int. Initial value of `num_compilations`.
    """

    def __init__(self, causal_lm, count=0):
        self.causal_lm = causal_lm
        self._count = count
        self._variables = list(causal_lm.variables)
        self._prefills = {}
        self._lock = threading.Lock()
        self._family = family = family_of(causal_lm)
        arrange_kernels([causal_lm])
        self._in_blocks = (
            isinstance(family, Family) and backend.shares_compiled()
        )
        # It is compiled apart for a shared position and one for each sequence.
        self._step = self._compile(family.read_token, {1: 1}, family.records)
        self._take = backend.compiled(_take_sequences)
        self._insert = backend.compiled(_insert_sequence, donate={0: 0})
        self._extend = (
            Blockwise(family)
            if self._in_blocks
            else self._compile(family.read_more, record=family.records)
        )

    @classmethod
    def of(cls, causal_lm):
        """Return the decoder of a model, always the same for one model.

        Compiled functions live as long as the model, as KerasHub's own
        `generate_function` does. If the model gets other variables, for
        example through LoRA, it gets a new decoder. New values of the same
        variables do not matter.
        """

        def make(model, previous):
            return cls(model, previous.num_compilations if previous else 0)

        return backend.companion_of(causal_lm, "_cached_decoder", make)

    def _compile(self, function, donate=None, record=False):
        return backend.compiled(function, self._variables, donate, record)

    @property
    def num_compilations(self):
        """Number of times a function of this model was compiled: an int."""
        return self._count + sum(f.count for f in self._functions())

    @property
    def num_delays(self):
        """Number of calls that compiled, or waited for it: an int."""
        waits = sum(function.waits for function in self._functions())
        return self.num_compilations + waits

    def _functions(self):
        functions = [self._step, self._take, self._insert, self._extend]
        return functions + list(self._prefills.values())

    @property
    def takes_positions(self):
        """Whether each sequence may be at a different position in a step."""
        return self._family.takes_positions

    def cache_length(self, max_length, num_texts=1):
        """Return the length of the cache for texts of `max_length` tokens."""
        longest = min(position_tables(self.causal_lm), default=None)
        if num_texts <= FEW_TEXTS:
            max_length = max(max_length, SMALLEST_CACHE)
        return length_bucket(max_length, longest)

    def prefill(self, token_ids, length, cache_length, images=()):
        """Read the prefix that all sequences of a batch have.

        Args:
            token_ids: int32 array `(batch_size, at least length)`.
            length: int. Number of tokens to read.
            cache_length: int, from `cache_length`.
            images: list of sequences of images, one for each of the first
                texts. All images are within the first `length` tokens.

        Returns:
            float32 logits `(batch_size, vocabulary_size)` for the position
            after the prefix, and a cache whose first `length` positions are
            filled.
        """
        num_images = max(map(len, images), default=0)
        # A mask over image tokens must be as long as the cache.
        bucket = cache_length
        if not num_images:
            bucket = length_bucket(length, cache_length)
        padded = np.zeros((len(token_ids), bucket), "int32")
        padded[:, :length] = token_ids[:, :length]
        inputs = [padded, np.int32(length - 1)]
        if num_images:
            copies = [images[0]] * (len(token_ids) - len(images))
            inputs.append(
                vision_inputs(
                    padded, [*images, *copies], self.causal_lm.preprocessor
                )
            )
        function = self._prefill(len(token_ids), cache_length, num_images)
        return function(*inputs)

    def _prefill(self, *sizes):
        """Return the compiled function that reads prompts of a given size."""
        with self._lock:
            if sizes not in self._prefills:
                self._prefills[sizes] = self._make_prefill(*sizes)
            return self._prefills[sizes]

    def _make_prefill(self, batch_size, cache_length, num_images):
        family = self._family
        spec = family.cache_spec(batch_size, cache_length)
        if self._in_blocks and not num_images:
            return Blockwise(family, spec)

        def prefill(token_ids, last, vision=None):
            cache = keras.tree.map_structure(
                lambda array: ops.zeros(array.shape, array.dtype), spec
            )
            return family.read_prompt(token_ids, last, cache, vision)

        # KerasHub's code for images is not recorded.
        return self._compile(prefill, record=family.records and not num_images)

    @property
    def extends(self):
        """Whether several tokens can be read after others: a bool."""
        return self._family.takes_positions

    def extend(self, cache, token_ids, start, length):
        """Read more of a text.

        Args:
            cache: a cache that is filled up to `start`. It must not be used
                again.
            token_ids: int32 array `(batch_size, cache_length)`.
            start: int. Number of tokens that were read before.
            length: int. Number of tokens of the text.

        Returns:
            As `prefill`.
        """
        cache_length = token_ids.shape[1]
        bucket = length_bucket(length - start, cache_length)
        # What is written must fit, so a few tokens may be read once more.
        start = min(start, cache_length - bucket)
        padded = np.zeros((len(token_ids), bucket), "int32")
        padded[:, : length - start] = token_ids[:, start:length]
        last = np.int32(length - 1 - start)
        return self._extend(padded, cache, np.int32(start), last)

    def weights(self):
        """Return what differs after the weights have; see `state_of`."""
        return backend.state_of(self._variables)

    def bind_step(self, apart=False):
        """Return the function that reads one more token of each sequence.

        Args:
            apart: bool. Whether each sequence has its own position. The model
                must have `takes_positions`.

        Returns:
            A function `step(token_ids, cache, index)` for use by one thread.
            `token_ids` are int32 `(batch_size,)`, the tokens at `index`.
            `cache` is filled up to `index` and must not be used again.
            `index` is an int, or an int32 array `(batch_size,)` if `apart`.
            It returns float32 logits `(batch_size, vocabulary_size)` for the
            position after `index`, and the next cache.
        """
        bound = self._step.bind()

        def step(token_ids, cache, index):
            return bound(token_ids[:, None], cache, np.int32(index))

        return step

    def take(self, arrays, indices, old_batch_size):
        """Return copies of some sequences.

        Args:
            arrays: a cache, or a tuple of a cache and its logits.
            indices: int32 array `(new_batch_size,)`.
            old_batch_size: int. Current number of sequences.
        """
        return self._take(arrays, indices, np.zeros(old_batch_size, "int32"))

    def insert(self, cache, other, index):
        """Return a cache in which one sequence is replaced.

        Args:
            cache: the cache of a batch, which must not be used again.
            other: the cache of a single sequence, of the same length.
            index: int. Index in the batch of the sequence to replace.
        """
        return self._insert(cache, other, np.int32(index))[0]


def _take_sequences(arrays, indices, old_sequences):
    def take(array):
        # Our caches combine sequences and attention heads in the first axis.
        rest = array.shape[1:]
        array = ops.reshape(array, (old_sequences.shape[0], -1, *rest))
        array = ops.take(array, indices, axis=0)
        return ops.reshape(array, (-1, *rest))

    return keras.tree.map_structure(take, arrays)


def _insert_sequence(cache, other, index):
    def insert(array, new):
        # So one sequence has as many entries as there are attention heads.
        start = backend.hide_value(index * new.shape[0])
        return backend.write_cache(array, start, new, axis=0)

    return (keras.tree.map_structure(insert, cache, other),)


def length_bucket(length, longest=None):
    """Round a length up to 8, 12, 16, 24, 32, ..., at most `longest`."""
    bucket = SMALLEST_BUCKET
    while bucket < length:
        # Powers of two alternate with 1.5 times a power of two.
        is_power = bucket & (bucket - 1) == 0
        bucket = bucket * 3 // 2 if is_power else bucket * 4 // 3
    return bucket if longest is None else min(bucket, longest)


def batch_bucket(batch_size):
    """Round a number of sequences up to a power of two."""
    return 1 << (batch_size - 1).bit_length()
