"""Models that read tokens with their own `call_with_cache`."""

import inspect

import keras
from keras import ops

from kerasllm import backend
from kerasllm.checks import UserError


class Plain:
    """A model whose own `call_with_cache` is used as it is.

    Attributes:
        records: bool. Whether PyTorch may record a step. A model says so by
            an attribute `traceable`: it never branches on the value of an
            array.
        takes_positions: bool. Whether each sequence of a batch may be at a
            position of its own, and whether several tokens may be read after
            others. A model says so by the attribute of this name.

    Args:
        causal_lm: a `keras_hub.models.CausalLM` with `call_with_cache`.
    """

    def __init__(self, causal_lm):
        self.causal_lm = causal_lm
        self.records = getattr(causal_lm, "traceable", False)
        self.takes_positions = getattr(causal_lm, "takes_positions", False)

    def cache_spec(self, batch_size, cache_length):
        """Return an empty cache as nested `keras.KerasTensor`s.

        Raises:
            UserError: the cache has no entry for each token.
        """
        spec = _spec_of_own_cache(self.causal_lm, batch_size, cache_length)
        for array in keras.tree.flatten(spec):
            if cache_length not in array.shape:
                raise UserError(
                    "The cache of a model must have an entry for each token. "
                    f"Received: {type(self.causal_lm).__name__} with a state "
                    f"of shape {array.shape} for {cache_length} tokens, which "
                    "would change when padding after a prompt is read. Call "
                    "the model's own `generate`."
                )
        return spec

    def read_prompt(self, token_ids, last, cache, vision=None):
        """Read a prompt into an empty cache.

        Args:
            token_ids: int32 `(batch_size, length)`, padded at the end.
            last: int32 scalar tensor. Position of the last token.
            cache: zeros, in the shapes of `cache_spec`.
            vision: `None`, or a dict from `kerasllm.images.vision_inputs`.

        Returns:
            float32 logits `(batch_size, vocabulary_size)` after the last
            token, and the cache.
        """
        model = self.causal_lm
        keywords = {}
        if vision is not None:
            keywords = dict(vision)
            keywords["img_embeddings"] = model.backbone.vision_encoder(
                keywords.pop("images")
            )
        logits, _, cache = scoring_one(model, last).call_with_cache(
            token_ids, cache, 0, **keywords
        )
        return _only(logits, last), cache

    def read_more(self, token_ids, cache, index, last):
        """Read several tokens after those that were read.

        A model must have `takes_positions`.

        Args:
            token_ids: int32 `(batch_size, length)`, padded at the end.
            cache: a cache that is filled up to `index`.
            index: int32 scalar tensor. Position of the first of them.
            last: int32 scalar tensor. Which of them is the last.

        Returns:
            As `read_prompt`.
        """
        logits, _, cache = scoring_one(self.causal_lm, last).call_with_cache(
            token_ids, cache, index
        )
        return _only(logits, last), cache

    def read_token(self, token_ids, cache, index):
        """Read one more token of each sequence.

        Args:
            token_ids: int32 `(batch_size, 1)`.
            cache: a cache that is filled up to `index`.
            index: int32 scalar tensor, or int32 `(batch_size,)` for a model
                that `takes_positions`.

        Returns:
            float32 logits `(batch_size, vocabulary_size)`, and the cache.
        """
        if backend.is_scalar(index) and not self.records:
            index = backend.hide_value(index)  # ours do not slice
        logits, _, cache = self.causal_lm.call_with_cache(
            token_ids, cache, index
        )
        return ops.cast(logits[:, 0], "float32"), cache


def _only(logits, position):
    """Return float32 logits of one position, `(batch_size, size)`.

    Args:
        logits: `(batch_size, 1 or length, size)`: of this position, or of all
            if `scoring_one` had no effect on the model.
        position: int32 scalar tensor.
    """
    if logits.shape[1] > 1:
        logits = ops.take(logits, position[None], axis=1)
    return ops.cast(logits[:, 0], "float32")


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


def _spec_of_own_cache(causal_lm, batch_size, cache_length):
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
