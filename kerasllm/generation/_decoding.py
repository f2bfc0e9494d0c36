"""Cached decoding: the compiled steps behind `TextGenerator`.

A causal model never looks ahead, so the keys and values of a position do not
change when the text grows. They are kept in a cache. Each new token then costs
one pass over the weights instead of a pass over the whole text.
"""

import inspect
import threading

import keras
import numpy as np
from keras import ops

from kerasllm import backend
from kerasllm.checks import UserError
from kerasllm.generation._arguments import position_tables
from kerasllm.images import vision_inputs

SMALLEST_BUCKET = 8


class CachedDecoder:
    """A causal language model and its compiled functions.

    Arrays are padded to a few sizes, so that few versions are compiled. Batch
    sizes are powers of two. Lengths are powers of two or 1.5 times those.

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
        record = _is_traceable(causal_lm)
        # There are two steps, because a shared index can use a slice.
        self._step = self._compile(self._read_token, {1: 1}, record)
        self._step_apart = self._compile(self._read_token_apart, {1: 1}, record)
        self._take = backend.compiled(_take_sequences)
        self._insert = backend.compiled(_insert_sequence, donate={0: 0})

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
        functions = [self._step, self._step_apart, self._take, self._insert]
        return functions + list(self._prefills.values())

    @property
    def takes_positions(self):
        """Whether each sequence may be at a different position in a step."""
        return getattr(self.causal_lm, "takes_positions", False)

    def cache_length(self, max_length):
        """Return the length of the cache for texts of `max_length` tokens."""
        longest = min(position_tables(self.causal_lm), default=None)
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
        model = self.causal_lm
        spec = _cache_spec(model, batch_size, cache_length)
        for array in keras.tree.flatten(spec):
            if cache_length not in array.shape:
                raise UserError(
                    "The cache of a model must have an entry for each token. "
                    f"Received: {type(model).__name__} with a state of shape "
                    f"{array.shape} for {cache_length} tokens, which would "
                    "change when padding after a prompt is read. Call the "
                    "model's own `generate`."
                )

        def prefill(token_ids, last, vision=None):
            cache = keras.tree.map_structure(
                lambda array: ops.zeros(array.shape, array.dtype), spec
            )
            keywords = {}
            if vision is not None:
                keywords = dict(vision)
                keywords["img_embeddings"] = model.backbone.vision_encoder(
                    keywords.pop("images")
                )
            logits, _, cache = scoring_one(model, last).call_with_cache(
                token_ids, cache, 0, **keywords
            )
            if logits.shape[1] > 1:  # the view had no effect on this model
                logits = ops.take(logits, last[None], axis=1)
            return ops.cast(logits[:, 0], "float32"), cache

        return self._compile(prefill, record=_is_traceable(model))

    def _read_token(self, token_ids, cache, index):
        if not _is_traceable(self.causal_lm):  # our own models do not slice
            index = backend.hide_value(index)
        return self._read_token_apart(token_ids, cache, index)

    def _read_token_apart(self, token_ids, cache, positions):
        logits, _, cache = self.causal_lm.call_with_cache(
            token_ids, cache, positions
        )
        return ops.cast(logits[:, 0], "float32"), cache

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
        bound = (self._step_apart if apart else self._step).bind()

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


class _OnePosition:
    """A token embedding that scores the hidden states of one position only."""

    def __init__(self, embedding, position):
        self._embedding, self._position = embedding, position

    def __call__(self, inputs, *arguments, reverse=False, **keywords):
        if reverse:
            inputs = ops.take(inputs, self._position[None], axis=1)
        return self._embedding(inputs, *arguments, reverse=reverse, **keywords)

    def __getattr__(self, name):
        return getattr(self._embedding, name)


def scoring_one(causal_lm, position):
    """Return a view of a model that gives the logits of one position only.

    KerasHub's models score hidden states in different ways, but all of them
    finally call their token embedding in reverse. In the view, that embedding
    is replaced by another object. The model itself does not change, because
    other threads may use it.

    Args:
        causal_lm: a `keras_hub.models.CausalLM`.
        position: int32 scalar tensor.

    Returns:
        An object with the methods, layers and weights of `causal_lm`.
    """
    backbone = getattr(causal_lm, "backbone", None)
    for name in ("token_embedding", "embedding"):  # KerasHub's, ours
        embedding = getattr(backbone, name, None)
        if embedding is not None:
            one = _OnePosition(embedding, position)
            return _view(causal_lm, "backbone", _view(backbone, name, one))
    return causal_lm


def _view(owner, name, value):
    """Return a shallow copy of a Keras object with one attribute replaced."""
    view = object.__new__(type(owner))
    view.__dict__.update(owner.__dict__)
    # In KerasHub, `backbone` and `token_embedding` are properties.
    is_property = isinstance(getattr(type(owner), name, None), property)
    view.__dict__[f"_{name}" if is_property else name] = value
    return view


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


def _is_traceable(causal_lm):
    """Return whether PyTorch may record the model; only our models say so."""
    return getattr(causal_lm, "traceable", False)


def _cache_spec(causal_lm, batch_size, cache_length):
    """Return the cache of a model as `keras.KerasTensor`s."""
    parameters = inspect.signature(causal_lm._build_cache).parameters
    # The other arguments are for models that take images; they get `None`.
    others = {name: None for name in list(parameters)[1:]}

    # A model fills its new cache with a prompt. In this view it does not, since
    # tracing the whole model takes long.
    def leave_empty(token_ids, cache, *arguments, **keywords):
        return token_ids, token_ids, cache

    view = _view(causal_lm, "call_with_cache", leave_empty)

    class BuildCache(keras.Operation):
        def call(self, token_ids):
            return view._build_cache(token_ids, **others)

    token_ids = keras.KerasTensor((batch_size, cache_length), "int32")
    return BuildCache().compute_output_spec(token_ids)[1]
