"""Reading a text once: the compiled steps behind `TextGenerator`.

A causal model never looks forward, so the keys and values of a position stay
what they are when the text grows. They are kept in a cache, and each new token
costs one pass over the weights instead of one pass over the text.
"""

import contextlib
import inspect

import keras
import numpy as np
from keras import ops

from kerasllm import backend
from kerasllm.arguments import position_tables
from kerasllm.images import vision_inputs

SMALLEST_BUCKET = 8


class CachedDecoder:
    """A causal language model and the functions that were compiled of it.

    Arrays come in a few padded sizes, so that few things are compiled: rows
    in powers of two, lengths in powers of two and one and a half times these.

    Args:
        causal_lm: a `keras_hub.models.CausalLM` with `call_with_cache`.
    """

    def __init__(self, causal_lm):
        self.causal_lm = causal_lm
        self._count = 0
        self._compile()

    @classmethod
    def of(cls, causal_lm):
        """Return the decoder of a model, always the same one.

        What was compiled lives as long as the model, as KerasHub's own
        `generate_function` does.
        """
        if not hasattr(causal_lm, "_cached_decoder"):
            causal_lm._cached_decoder = cls(causal_lm)
        return causal_lm._cached_decoder

    @property
    def num_compilations(self):
        """How often a function of this model has been compiled: an int."""
        functions = [self._step, self._take, *self._prefills.values()]
        return self._count + sum(function.count for function in functions)

    def _refresh(self):
        """Compile anew if the model has got other weights, as by LoRA."""
        # Not if the weights have got other values: these are arguments.
        if [id(v) for v in self.causal_lm.variables] != self._weights:
            self._count = self.num_compilations
            self._compile()

    def _compile(self):
        model = self.causal_lm
        self._weights = [id(variable) for variable in model.variables]
        self._prefills = {}

        def step(token_ids, cache, index):
            if not _is_traceable(model):  # ours slices nothing
                index = backend.hide_value(index)
            logits, _, cache = model.call_with_cache(token_ids, cache, index)
            return ops.cast(logits[:, 0], "float32"), cache

        def take(arrays, rows, old_rows):
            def take_array(array):
                # A cache of ours has rows and attention heads in one axis.
                rest = array.shape[1:]
                array = ops.reshape(array, (old_rows.shape[0], -1, *rest))
                array = ops.take(array, rows, axis=0)
                return ops.reshape(array, (-1, *rest))

            return keras.tree.map_structure(take_array, arrays)

        self._step = backend.compiled(
            step, model.variables, donate={1: 1}, record=_is_traceable(model)
        )
        self._take = backend.compiled(take)

    def cache_length(self, max_length):
        """Return the length of a cache for texts of `max_length` tokens."""
        longest = min(position_tables(self.causal_lm), default=None)
        return length_bucket(max_length, longest)

    def prefill(self, token_ids, length, cache_length, images=()):
        """Read the beginning that all rows have.

        Args:
            token_ids: int32 array `(batch_size, at least length)`.
            length: int. How many tokens to read.
            cache_length: int, from `cache_length`.
            images: list of sequences of images, one for each of the first
                rows; all of them lie in the first `length` tokens.

        Returns:
            float32 logits `(batch_size, vocabulary_size)` for the position
            after the beginning, and a cache whose first `length` positions
            are filled.
        """
        self._refresh()
        num_images = max(map(len, images), default=0)
        # A mask over image tokens has the length of the whole cache.
        bucket = cache_length
        if not num_images:
            bucket = length_bucket(length, cache_length)
        padded = np.zeros((len(token_ids), bucket), "int32")
        padded[:, :length] = token_ids[:, :length]
        key = len(token_ids), cache_length, num_images
        if key not in self._prefills:
            self._prefills[key] = self._make_prefill(*key)
        last = np.int32(length - 1)
        inputs = [padded, last]
        if num_images:
            copies = [images[0]] * (len(token_ids) - len(images))
            inputs.append(
                vision_inputs(
                    padded, [*images, *copies], self.causal_lm.preprocessor
                )
            )
        return self._prefills[key](*inputs)

    def _make_prefill(self, batch_size, cache_length, num_images):
        model = self.causal_lm
        spec = _cache_spec(model, batch_size, cache_length)
        for array in keras.tree.flatten(spec):
            if cache_length not in array.shape:
                raise ValueError(
                    "The cache of a model must have a place for each token. "
                    f"Received: {type(model).__name__} with a state of shape "
                    f"{array.shape} for {cache_length} tokens, which reading "
                    "the padding behind a prompt would change. Call its own "
                    "`generate`."
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
            with _scoring_one(model, last):
                logits, _, cache = model.call_with_cache(
                    token_ids, cache, 0, **keywords
                )
            if logits.shape[1] > 1:  # the model scores in another way
                logits = ops.take(logits, last[None], axis=1)
            return ops.cast(logits[:, 0], "float32"), cache

        return backend.compiled(
            prefill, model.variables, record=_is_traceable(model)
        )

    def bind_step(self):
        """Return the function that reads one more token of each row.

        Returns:
            A function of int32 `token_ids` `(batch_size,)`, the tokens at
            `index`, a cache that is filled up to `index`, which is used up,
            and the int `index`. It returns float32 logits
            `(batch_size, vocabulary_size)` for the position after `index`,
            and the next cache.
        """
        bound = self._step.bind()

        def step(token_ids, cache, index):
            return bound(token_ids[:, None], cache, np.int32(index))

        return step

    def take(self, arrays, rows, old_batch_size):
        """Return copies of some rows.

        Args:
            arrays: a cache, maybe in a tuple with its logits.
            rows: int32 array `(new_batch_size,)`.
            old_batch_size: int. The rows that there are.
        """
        return self._take(arrays, rows, np.zeros(old_batch_size, "int32"))


def length_bucket(length, longest=None):
    """Round a length up to 8, 12, 16, 24, 32, ..., but at most `longest`."""
    bucket = SMALLEST_BUCKET
    while bucket < length:
        # A power of two and one and a half times it follow in turns.
        is_power = bucket & (bucket - 1) == 0
        bucket = bucket * 3 // 2 if is_power else bucket * 4 // 3
    return bucket if longest is None else min(bucket, longest)


def batch_bucket(batch_size):
    """Round a number of rows up to a power of two."""
    return 1 << (batch_size - 1).bit_length()


@contextlib.contextmanager
def _scoring_one(causal_lm, position):
    """Let a model compute the logits of one position only.

    How KerasHub's models score hidden states differs from one to the next; at
    last all of them call their token embedding in reverse.

    Args:
        causal_lm: a `keras_hub.models.CausalLM`.
        position: int32 scalar tensor.
    """
    backbone = getattr(causal_lm, "backbone", None)
    embedding = getattr(backbone, "token_embedding", None)
    embedding = embedding or getattr(backbone, "embedding", None)  # ours
    if embedding is None:
        yield
        return
    call = embedding.call

    def call_one(inputs, *arguments, reverse=False, **keywords):
        if reverse:
            inputs = ops.take(inputs, position[None], axis=1)
        return call(inputs, *arguments, reverse=reverse, **keywords)

    embedding.call = call_one
    try:
        yield
    finally:
        del embedding.call  # what is left is the method of the class


def _is_traceable(causal_lm):
    """Tell whether PyTorch may record the model; KerasHub's own do not say."""
    return getattr(causal_lm, "traceable", False)


def _cache_spec(causal_lm, batch_size, cache_length):
    """Return the cache of a model as `keras.KerasTensor`s."""
    parameters = inspect.signature(causal_lm._build_cache).parameters
    # Those of models that take images; there are none.
    others = {name: None for name in list(parameters)[1:]}

    class BuildCache(keras.Operation):
        def call(self, token_ids):
            return causal_lm._build_cache(token_ids, **others)

    token_ids = keras.KerasTensor((batch_size, cache_length), "int32")
    return BuildCache().compute_output_spec(token_ids)[1]
