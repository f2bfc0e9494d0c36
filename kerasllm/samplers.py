"""From a row of logits to the id of the next token.

A sampler is any callable of logits: `(vocabulary_size,)` to one id, or
`(batch_size, vocabulary_size)` to one id a row. Bind its numbers with
`functools.partial(top_k, k=5)`, or combine them with `chain`.

`seed` is an int, a `keras.random.SeedGenerator` or `None` (Keras's global
generator). An int gives the same draw at every call: fine for one draw, wrong
inside a loop, where a `SeedGenerator` gives a new draw each time.
"""

import functools
import inspect

import keras
import keras_hub
from keras import ops

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
    is_number,
    is_zero,
    min_p_filter,
    top_k_filter,
    top_p_filter,
)


def greedy_search(preds, seed=None):
    """Take the most likely token, the first one of equals.

    Args:
        preds: float tensor or array, logits `(vocabulary_size,)` or
            `(batch_size, vocabulary_size)`.
        seed: ignored. It is here so that all samplers are called alike.

    Returns:
        int32 tensor, `()` or `(batch_size,)`.

    Source: chapter 16, listing 16.9 and section "Sampling strategies".
    """
    return ops.cast(ops.argmax(_sampler_logits(preds), axis=-1), "int32")


def random_sample(preds, temperature=1.0, seed=None):
    """Draw a token from the softmax of the logits.

    Args:
        preds: float tensor or array, logits `(vocabulary_size,)` or
            `(batch_size, vocabulary_size)`. Half precision is computed in
            float32.
        temperature: float, at least 0. The logits are divided by it: below 1
            the likely tokens gain, above 1 the unlikely ones. 0 is
            `greedy_search`.
        seed: int, `keras.random.SeedGenerator` or `None`.

    Returns:
        int32 tensor, `()` or `(batch_size,)`.

    Raises:
        ValueError: `temperature` is negative or not finite.

    Source: chapter 16, section "Sampling strategies".
    """
    return chain(temperature=temperature)(preds, seed=seed)


def top_k(preds, k=5, temperature=1.0, seed=None):
    """Draw a token from the `k` most likely ones.

    Args:
        preds: logits, as in `random_sample`.
        k: int in `[1, vocabulary_size]`; see `top_k_filter`.
        temperature: float; see `random_sample`.
        seed: int, `keras.random.SeedGenerator` or `None`.

    Returns:
        int32 tensor, `()` or `(batch_size,)`.

    Raises:
        ValueError: `k` or `temperature` is out of range.

    Source: Fan et al., 2018, arXiv:1805.04833; chapter 16, section "Sampling
    strategies".
    """
    preds = _sampler_logits(preds)
    check_k("k", k, preds.shape[-1])
    return chain(temperature=temperature, top_k=k)(preds, seed=seed)


def top_p(preds, p=0.9, temperature=1.0, seed=None):
    """Draw a token from the fewest likely ones that hold the mass `p`.

    This sorts the vocabulary, which on a CPU can cost as much as the model
    itself; `chain(top_k=100, top_p=0.9)` sorts 100 candidates.

    Args:
        preds: logits, as in `random_sample`.
        p: float in `(0, 1]`; see `top_p_filter`.
        temperature: float; see `random_sample`. It is applied before `p`.
        seed: int, `keras.random.SeedGenerator` or `None`.

    Returns:
        int32 tensor, `()` or `(batch_size,)`.

    Raises:
        ValueError: `p` or `temperature` is out of range.

    Source: Holtzman et al., 2020, arXiv:1904.09751.
    """
    check("p", p, TOP_P)
    return chain(temperature=temperature, top_p=p)(preds, seed=seed)


def min_p(preds, p=0.05, temperature=1.0, seed=None):
    """Draw a token from those at least `p` times as likely as the best one.

    Args:
        preds: logits, as in `random_sample`.
        p: float in `[0, 1]`; see `min_p_filter`.
        temperature: float; see `random_sample`. It is applied before `p`.
        seed: int, `keras.random.SeedGenerator` or `None`.

    Returns:
        int32 tensor, `()` or `(batch_size,)`.

    Raises:
        ValueError: `p` or `temperature` is out of range.

    Source: Nguyen et al., 2024, arXiv:2407.01082.
    """
    check("p", p, MIN_P)
    return chain(temperature=temperature, min_p=p)(preds, seed=seed)


def chain(
    temperature=1.0,
    top_k=None,
    top_p=None,
    min_p=None,
    frequency_penalty=0.0,
    presence_penalty=0.0,
):
    """Make one sampler of several steps.

    The order is fixed: penalties on the raw logits, then temperature, top-k,
    top-p and min-p, as in Hugging Face's `generate`. `None` leaves a step out.

    Args:
        temperature: float, at least 0; see `random_sample`. At 0 the most
            likely token after the penalties is taken.
        top_k: int or `None`; see `top_k_filter`.
        top_p: float or `None`; see `top_p_filter`.
        min_p: float or `None`; see `min_p_filter`.
        frequency_penalty: float; see `apply_penalties`.
        presence_penalty: float; see `apply_penalties`.

    Returns:
        `sampler(logits, token_ids=None, seed=None)`, a `functools.partial`
        whose keywords are the arguments above. `token_ids` are the tokens so
        far, as for `apply_penalties`; only penalties need them.

    Raises:
        ValueError: a number is out of range. A `top_k` over the vocabulary
            shows when the sampler meets its first logits.

    Source: chapter 16, section "Sampling strategies".
    """
    arguments = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "frequency_penalty": frequency_penalty,
        "presence_penalty": presence_penalty,
    }
    _check_arguments(arguments)
    return functools.partial(_sample, **arguments)


def _check_arguments(arguments):
    """Refuse arguments of `chain` that make no sense."""
    for name, rule in (
        ("temperature", TEMPERATURE),
        ("top_p", TOP_P),
        ("min_p", MIN_P),
        ("frequency_penalty", PENALTY),
        ("presence_penalty", PENALTY),
    ):
        # `None` leaves a step out, where it is the default.
        if arguments[name] is not None or name not in ("top_p", "min_p"):
            check(name, arguments[name], rule)
    if arguments["top_k"] is not None:
        check_k("top_k", arguments["top_k"])


def chain_arguments(sampler):
    """Return the arguments with which `chain` makes the same sampler.

    Args:
        sampler: any callable.

    Returns:
        A dict of all of `chain`'s arguments, or `None` for a callable that is
        no sampler of this room, of which nothing is known.

    Raises:
        ValueError: a number is out of range.
    """
    function, keywords = sampler, {}
    if isinstance(sampler, functools.partial) and not sampler.args:
        function, keywords = sampler.func, sampler.keywords
    # In `greedy_search` the temperature is no argument but 0.
    for known, default, names in (
        (_sample, {}, {}),
        (greedy_search, {"temperature": 0.0}, {}),
        (random_sample, {}, {}),
        (top_k, {"k": 5}, {"k": "top_k"}),
        (top_p, {"p": 0.9}, {"p": "top_p"}),
        (min_p, {"p": 0.05}, {"p": "min_p"}),
    ):
        if function is known:
            given = {
                names.get(name, name): value
                for name, value in (default | keywords).items()
                if name != "seed"
            }
            defaults = parameters_of(chain)
            if given.keys() <= defaults.keys():
                _check_arguments(defaults | given)
                return defaults | given
    return None


def check_sampler(sampler, vocabulary_size):
    """Refuse what is no sampler, or one whose `k` is over the vocabulary.

    The sampler says the same when it meets its first logits. A generator asks
    here before it spends time on computing them.

    Args:
        sampler: any callable. Those of other rooms pass unseen.
        vocabulary_size: int.

    Raises:
        ValueError: it is no callable, or `k` is out of range.
    """
    if not callable(sampler):
        raise ValueError(
            "`sampler` must be a callable from logits to a token id. "
            f"Received: {sampler!r}. Pass a function, such as "
            "`kerasllm.greedy_search` or what `kerasllm.chain` returns."
        )
    arguments = chain_arguments(sampler)
    if arguments and arguments["top_k"] is not None:
        function = getattr(sampler, "func", sampler)
        name = "k" if function is top_k else "top_k"
        check_k(name, arguments["top_k"], vocabulary_size)


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
        float32 tensor of the shape of `logits`, removed tokens at `-inf`.

    Raises:
        ValueError: a number is out of range, or penalties lack `token_ids`.
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


def draw_at(logits, uniforms):
    """Draw a token with a random number that the caller has drawn.

    The tokens lie on a line from 0 to 1, each as long as it is likely, and
    the one at `uniforms` is taken (inverse transform sampling).

    Args:
        logits: float tensor `(batch_size, vocabulary_size)`.
        uniforms: float32 tensor `(batch_size,)`, in `[0, 1)`.

    Returns:
        int32 tensor `(batch_size,)`.
    """
    probabilities = ops.softmax(ops.cast(logits, "float32"))
    ends = ops.cumsum(probabilities, axis=-1)
    place = ops.convert_to_tensor(uniforms)[:, None] * ends[:, -1:]
    choice = ops.sum(ops.cast(ends <= place, "int32"), axis=-1)
    # Rounding must not step past the last token that has any probability.
    tokens = ops.arange(logits.shape[-1], dtype="int32")
    last = ops.max(ops.where(probabilities > 0, tokens, 0), axis=-1)
    return ops.minimum(choice, last)


def to_keras_hub(sampler, seed=None):
    """Wrap a sampler for `causal_lm.compile(sampler=...)` of KerasHub.

    Args:
        sampler: callable from float32 logits `(batch_size, vocabulary_size)`
            to int32 `(batch_size,)`, made of `keras.ops`, such as
            `chain(top_k=5)`. It gets `seed` and `token_ids` if it takes them.
        seed: int or `None`, for the generator that goes with it; by default
            the seed bound to `sampler`, if there is one.

    Returns:
        A `keras_hub.samplers.Sampler`.

    Raises:
        TypeError: `sampler` is not callable.
    """
    return KerasHubSampler(sampler, seed)


class KerasHubSampler(keras_hub.samplers.Sampler):
    """A sampler of KerasHub around a callable; see `to_keras_hub`."""

    def __init__(self, sampler, seed=None):
        super().__init__()
        if not callable(sampler):
            raise TypeError(
                "`sampler` must be a callable of logits. Received: "
                f"{sampler!r}. `chain(top_k=5)` makes one."
            )
        self.sampler = sampler
        self.parameters = parameters_of(sampler)
        if seed is None and "seed" in self.parameters:
            seed = self.parameters["seed"]
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._so_far = None

    def __call__(self, next, *args, **kwargs):
        def remember(prompt, cache, index):
            # KerasHub tells `get_next_token` nothing about the text.
            places = ops.arange(ops.shape(prompt)[-1], dtype="int32")
            self._so_far = ops.where(places < index, prompt, -1)
            return next(prompt, cache, index)

        try:
            return super().__call__(remember, *args, **kwargs)
        finally:
            self._so_far = None  # a tensor of a trace must not outlive it

    def compute_probabilities(self, logits):
        """Return the logits themselves: our samplers start from them."""
        return ops.cast(logits, "float32")

    def get_next_token(self, probabilities):
        """Sample from what `compute_probabilities` returned."""
        keywords = {"seed": self.seed_generator, "token_ids": self._so_far}
        token_ids = self.sampler(
            probabilities,
            **{k: v for k, v in keywords.items() if k in self.parameters},
        )
        if tuple(token_ids.shape) != tuple(probabilities.shape[:1]):
            raise ValueError(
                "A sampler must return one token id for each row of logits, "
                f"here {tuple(probabilities.shape)}. Received: shape "
                f"{tuple(token_ids.shape)}. Reduce over the last axis."
            )
        return ops.cast(token_ids, "int32")

    def get_config(self):
        return {"sampler": self.sampler, "seed": self.seed}


def parameters_of(sampler):
    """Return the names of a callable's parameters and their defaults.

    Returns:
        dict from name to default, `None` where there is none; empty for
        callables that do not tell, such as some written in C.
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


def _sample(
    logits,
    token_ids=None,
    seed=None,
    *,
    temperature,
    top_k,
    top_p,
    min_p,
    frequency_penalty,
    presence_penalty,
):
    """Draw one token a row; `chain` describes the arguments."""
    logits = _penalize(logits, token_ids, frequency_penalty, presence_penalty)
    if top_k is not None:
        check_k("top_k", top_k, logits.shape[-1])
    if is_number(temperature) and temperature < COLDEST:
        return greedy_search(logits)
    # Before the candidates are taken, which may lose the order of equals.
    logits = divide_by_temperature(logits, temperature)
    candidates = None
    if is_number(top_k):
        # What follows looks at k candidates instead of the vocabulary.
        logits, candidates = ops.top_k(logits, int(top_k))  # (..., k) twice
        top_k = None
    logits = filter_logits(logits, top_k=top_k, top_p=top_p, min_p=min_p)
    choice = _draw(logits, seed)
    if candidates is None:
        return choice
    token_ids = ops.take_along_axis(candidates, choice[..., None], axis=-1)
    return ops.cast(token_ids[..., 0], "int32")


def _penalize(logits, token_ids, frequency_penalty, presence_penalty):
    """Return float32 logits, lower where the text has been."""
    logits = _sampler_logits(logits)
    if is_zero(frequency_penalty) and is_zero(presence_penalty):
        return logits
    if token_ids is None:
        raise ValueError(
            "Penalties need the tokens so far. Received: token_ids=None. "
            "Call the sampler as `sampler(logits, token_ids=token_ids)`."
        )
    return apply_penalties(
        logits, token_ids, frequency_penalty, presence_penalty
    )


def _draw(logits, seed):
    """Draw from the softmax of each row: `(..., size)` to int32 `(...)`."""
    if len(logits.shape) == 1:
        return _draw(logits[None], seed)[0]
    return keras.random.categorical(logits, 1, dtype="int32", seed=seed)[:, 0]


def _sampler_logits(preds):
    """Return logits as a float32 tensor, one row or a batch of rows."""
    logits = ops.cast(ops.convert_to_tensor(preds), "float32")
    if len(logits.shape) not in (1, 2):
        raise ValueError(
            "A sampler takes logits (vocabulary_size,) or (batch_size, "
            f"vocabulary_size). Received: shape {tuple(logits.shape)}. Pass "
            "the logits of one position, such as `logits[:, -1]`."
        )
    return logits
