"""A sampler of several steps, as a value.

Every sampler of this package is equivalent to a `Chain`. The generators
recognize it by its type and compile it for a whole batch of sequences.
"""

import contextlib
import contextvars
import dataclasses
import inspect
import warnings

import keras
import numpy as np
from keras import ops

from kerasllm import backend
from kerasllm.checks import LARGEST_SEED, UserError, check_int, is_real, shown
from kerasllm.logit_filters import (
    COLDEST,
    MIN_P,
    PENALTY,
    TEMPERATURE,
    TOP_P,
    apply_penalties,
    check,
    check_k,
    divide_by_temperature,
    is_zero,
    min_p_filter,
    number_tensor,
    top_k_filter,
    top_p_filter,
)

_OTHER_SEEDS = "Or use a `keras.random.SeedGenerator`, or None for any draw."
# A user-defined sampler that is being called, for a warning; see `calling`.
_CALLER = contextvars.ContextVar("caller", default=None)


def chain(
    temperature=1.0,
    top_k=None,
    top_p=None,
    min_p=None,
    frequency_penalty=0.0,
    presence_penalty=0.0,
):
    """Combine several steps into one sampler.

    The order is fixed: penalties on the raw logits, then temperature, top-k,
    top-p and min-p, as in Hugging Face's `generate`. `None` skips a step.

    Args:
        temperature: float, at least 0; see `random_sample`. At 0 the most
            likely token after the penalties is taken.
        top_k: int or `None`; see `top_k_filter`.
        top_p: float or `None`; see `top_p_filter`.
        min_p: float or `None`; see `min_p_filter`.
        frequency_penalty: float; see `apply_penalties`.
        presence_penalty: float; see `apply_penalties`.

    Returns:
        A `Chain`: a frozen value that can be called, compared, printed and
        saved.

    Raises:
        UserError: a number is out of range. A `top_k` larger than the
            vocabulary raises when the sampler is first given logits.

    Example:
    ```python
    sampler = chain(temperature=0.8, top_p=0.9)
    sampler(logits, seed=1)
    sampler == chain(top_p=0.9, temperature=0.8)  # True
    ```

    Source: chapter 16, section "Sampling strategies".
    """
    return Chain(
        temperature, top_k, top_p, min_p, frequency_penalty, presence_penalty
    )


@keras.saving.register_keras_serializable(package="kerasllm")
@dataclasses.dataclass(frozen=True, repr=False)
class Chain:
    """A sampler of several steps, which `chain` makes.

    Attributes:
        temperature: float.
        top_k: int or `None`.
        top_p: float or `None`.
        min_p: float or `None`.
        frequency_penalty: float.
        presence_penalty: float.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0

    def __post_init__(self):
        for name, rule in (
            ("temperature", TEMPERATURE),
            ("top_p", TOP_P),
            ("min_p", MIN_P),
            ("frequency_penalty", PENALTY),
            ("presence_penalty", PENALTY),
        ):
            value = getattr(self, name)
            # `None` skips a step for which it is the default.
            if value is not None or name not in ("top_p", "min_p"):
                check(name, value, rule)
                self._settle(name, value, float)
        if self.top_k is not None:
            check_k("top_k", self.top_k)
            self._settle("top_k", self.top_k, int)

    def _settle(self, name, value, kind):
        """Convert a plain number to a Python number; leave a tensor alone."""
        if is_real(value):
            object.__setattr__(self, name, kind(value))

    def __call__(self, logits, token_ids=None, seed=None, **numbers):
        """Draw a token from each sequence's logits.

        Args:
            logits: float tensor or array, `(vocabulary_size,)` or
                `(batch_size, vocabulary_size)`.
            token_ids: int tensor, the tokens so far, as for
                `apply_penalties`; only penalties need them.
            seed: int from 0 to 2**31 - 1, `keras.random.SeedGenerator` or
                `None`.
            **numbers: arguments of `chain` to use instead of its own, as
                `functools.partial(chain(top_k=5), temperature=0.5)` binds.

        Returns:
            int32 tensor, `()` or `(batch_size,)`.

        Raises:
            UserError: `top_k` is larger than the vocabulary, penalties are
                used without `token_ids`, the seed is out of range, or a
                sequence has a NaN or no finite logit.
        """
        if numbers:
            return dataclasses.replace(self, **numbers)(logits, token_ids, seed)
        warn_of_caller()
        logits = checked_logits(logits)
        logits = _penalize(
            logits, token_ids, self.frequency_penalty, self.presence_penalty
        )
        top_k, candidates = self.top_k, None
        if top_k is not None:
            check_k("top_k", top_k, logits.shape[-1])
        if is_real(self.temperature) and self.temperature < COLDEST:
            return likeliest(logits)
        # This comes before `ops.top_k`, which may not keep the order of ties.
        logits = divide_by_temperature(logits, self.temperature)
        if is_real(top_k):
            # The next steps look at k candidates instead of the vocabulary.
            logits, candidates = ops.top_k(logits, top_k)  # (..., k) twice
            top_k = None
        logits = filter_logits(
            logits, top_k=top_k, top_p=self.top_p, min_p=self.min_p
        )
        choice = _draw(logits, seed)
        if candidates is None:
            return choice
        token_ids = ops.take_along_axis(candidates, choice[..., None], axis=-1)
        return ops.cast(token_ids[..., 0], "int32")

    @property
    def keywords(self):
        """The arguments of `chain` that make the same sampler: a dict."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
        }

    def __repr__(self):
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        numbers = [
            f"{name}={value!r}"
            for name, value in self.keywords.items()
            if not (is_real(value) or value is None) or value != defaults[name]
        ]
        return f"chain({', '.join(numbers)})"

    def get_config(self):
        """Return the arguments of `chain`, for Keras's serialization."""
        return self.keywords

    @classmethod
    def from_config(cls, config):
        """Return the sampler with a given configuration."""
        return cls(**config)


@contextlib.contextmanager
def calling(sampler):
    """Note that a user-defined sampler is called inside this block.

    If it calls one of our samplers, `warn_of_caller` explains what that costs.
    """
    token = _CALLER.set(sampler)
    try:
        yield
    finally:
        _CALLER.reset(token)


def warn_of_caller():
    """Warn if a user-defined function calls one of our samplers."""
    caller = _CALLER.get()
    if caller is not None:
        warnings.warn(
            f"The function {caller!r} calls a sampler of kerasllm. A sampler "
            "that is passed directly is compiled for all sequences at once. "
            "Inside a function it is called for one sequence at a time, which "
            "is slower and gives the same tokens or the same distribution.",
            stacklevel=2,
        )


def likeliest(logits):
    """Return the first index of the maximum: `(..., size)` to int32 `(...)`."""
    return ops.cast(ops.argmax(sampler_logits(logits), axis=-1), "int32")


def filter_logits(
    logits,
    token_ids=None,
    *,
    temperature=1.0,
    top_k=None,
    top_p=None,
    min_p=None,
    frequency_penalty=0.0,
    presence_penalty=0.0,
):
    """Return the logits of the distribution that `chain` draws from.

    Args:
        logits: `(vocabulary_size,)` or `(batch_size, vocabulary_size)`.
        token_ids: the tokens so far, as for `apply_penalties`, which only
            penalties need.
        temperature: see `chain`, as for the rest. All may be tensors.
        top_k: int or `None`.
        top_p: float or `None`.
        min_p: float or `None`.
        frequency_penalty: float.
        presence_penalty: float.

    Returns:
        float32 tensor of the shape of `logits`, removed tokens set to `-inf`.

    Raises:
        UserError: a number is out of range, or penalties are used without
            `token_ids`.
    """
    logits = _penalize(logits, token_ids, frequency_penalty, presence_penalty)
    logits = divide_by_temperature(logits, temperature)
    if top_k is not None:
        logits = top_k_filter(logits, top_k)
    if top_p is not None:
        logits = top_p_filter(logits, top_p)
    if min_p is not None:
        logits = min_p_filter(logits, min_p)
    return logits


def parameters_of(sampler):
    """Return the names of a callable's parameters and their defaults.

    Returns:
        dict from name to default, `None` for parameters without one. Empty for
        callables without a signature, such as some written in C.
    """
    try:
        parameters = inspect.signature(sampler).parameters
    except ValueError:
        return {}
    return {
        name: None
        if parameter.default is parameter.empty
        else parameter.default
        for name, parameter in parameters.items()
    }


def _penalize(logits, token_ids, frequency_penalty, presence_penalty):
    """Return float32 logits, lowered for tokens that occur in the text."""
    logits = sampler_logits(logits)
    if is_zero(frequency_penalty) and is_zero(presence_penalty):
        return logits
    if token_ids is None:
        raise UserError(
            "Penalties need the tokens so far. Received: token_ids=None. "
            "Call the sampler as `sampler(logits, token_ids=token_ids)`."
        )
    return apply_penalties(
        logits, token_ids, frequency_penalty, presence_penalty
    )


def _draw(logits, seed):
    """Draw from the softmax of logits: `(..., size)` to int32 `(...)`."""
    if seed is not None and not isinstance(seed, keras.random.SeedGenerator):
        seed = check_int("seed", seed, 0, LARGEST_SEED, cure=_OTHER_SEEDS)
    if len(logits.shape) == 1:
        return _draw(logits[None], seed)[0]
    return keras.random.categorical(logits, 1, dtype="int32", seed=seed)[:, 0]


def sampler_logits(preds):
    """Return logits, of one sequence or of a batch, as a float32 tensor."""
    logits = ops.cast(number_tensor("logits", preds), "float32")
    if len(logits.shape) not in (1, 2) or logits.shape[-1] == 0:
        raise UserError(
            "A sampler takes logits (vocabulary_size,) or (batch_size, "
            f"vocabulary_size). Received: shape {tuple(logits.shape)}. Pass "
            "the logits of one position, such as `logits[:, -1]`."
        )
    return logits


def checked_logits(preds):
    """Return what `sampler_logits` does, if a token can be drawn from it.

    While a function is compiled, the values are not known, and not checked.
    """
    logits = sampler_logits(preds)
    if backend.is_known(logits):
        # NumPy's maximum is NaN wherever there is one.
        largest = ops.convert_to_numpy(logits).max(axis=-1)
        if not np.isfinite(largest).all():
            raise UserError(
                "Logits must be numbers, and the largest one of a sequence "
                f"must be finite. Received: {shown(largest.tolist())} as the "
                "largest. If all of them are NaN, the model has diverged; if "
                "all are -inf, a mask leaves no token to choose."
            )
    return logits
