"""From a prompt to text, one token at a time.

`generate` is the loop itself: ask the model for the next token, append it, ask
again. `compiled_generate` gives the model inputs of one fixed length, so that
it is compiled once. Both compute all positions anew for every token.
"""

import inspect
import numbers

import keras
import numpy as np
from keras import ops

from kerasllm.samplers import check_sampler, greedy_search
from kerasllm.tokenizers import END_OF_TEXT


def generate(
    model,
    tokenizer,
    prompt,
    sample_fn=greedy_search,
    max_length=64,
    *,
    stop_token_ids="auto",
    seed=None,
    strip_prompt=False,
):
    """Continue a prompt by calling the model on a text that grows.

    Every step has a new length, and so new shapes: the slowest way to generate
    and the easiest to read.

    Args:
        model: a `keras.Model` that maps token ids, int32 `(1, length)`, to
            logits `(1, length, vocabulary_size)`.
        tokenizer: a `keras_hub.tokenizers.Tokenizer`, or anything that maps
            a string to ids when called and has a `detokenize`.
        prompt: str. The text to continue.
        sample_fn: any callable that maps float32 logits `(vocabulary_size,)`
            to a token id, such as `functools.partial(top_k, k=5)`. If it has
            a parameter `seed`, it gets one `keras.random.SeedGenerator` at
            every step. If it has a parameter `token_ids`, it gets the tokens
            so far, prompt included: int32 `(max_length,)`, filled up with -1,
            which `apply_penalties` does not count.
        max_length: int. Number of tokens at which to stop, prompt included.
        stop_token_ids: int or list of ints, the tokens that end the text;
            `None` for none of them; `"auto"` for the tokenizer's
            `end_token_id` or, where it has none, `"<|endoftext|>"`.
        seed: int or `keras.random.SeedGenerator`. An int gives the same text
            each time on the same backend. `None` takes the seed bound to
            `sample_fn` if there is one, else a new one.
        strip_prompt: bool. Whether to return the continuation alone.

    Returns:
        str: the prompt and its continuation without the stop token.

    Raises:
        ValueError: before the model is called, if the prompt is empty or has
            `max_length` tokens or more, if `max_length` is past the model's
            position table, or if another argument does not fit the model;
            later, if logits are NaN or `sample_fn` returns no token id.

    Source: chapter 16, section 16.2.3, listing 16.9.
    """

    def next_logits(token_ids):
        return model(np.array([token_ids], dtype="int32"))[0, -1]

    return _continue_text(
        next_logits,
        model,
        tokenizer,
        prompt,
        sample_fn,
        max_length,
        stop_token_ids,
        seed,
        strip_prompt,
    )


def compiled_generate(
    model,
    tokenizer,
    prompt,
    sample_fn=greedy_search,
    max_length=64,
    *,
    stop_token_ids="auto",
    seed=None,
    strip_prompt=False,
):
    """Continue a prompt by calling the compiled model on padded text.

    The input always has `max_length` tokens, so JAX and TensorFlow compile the
    model once for each `max_length`, whatever the prompt and the sampler. What
    stands after the last token cannot change its logits, because the model
    looks only backwards.

    Args:
        model: as for `generate`.
        tokenizer: as for `generate`.
        prompt: str, as for `generate`.
        sample_fn: as for `generate`.
        max_length: int, as for `generate`.
        stop_token_ids: as for `generate`.
        seed: as for `generate`.
        strip_prompt: bool, as for `generate`.

    Returns:
        str, as for `generate`.

    Raises:
        ValueError: as for `generate`.

    Source: chapter 16, section 16.2.3, listing 16.10.
    """

    def next_logits(token_ids):
        padded = np.zeros((1, max_length), dtype="int32")
        padded[0, : len(token_ids)] = token_ids
        # The same compiled function as in `predict`, without the data set and
        # the callbacks that `predict` makes for each call.
        return model.predict_on_batch(padded)[0, len(token_ids) - 1]

    return _continue_text(
        next_logits,
        model,
        tokenizer,
        prompt,
        sample_fn,
        max_length,
        stop_token_ids,
        seed,
        strip_prompt,
    )


def _continue_text(
    next_logits,
    model,
    tokenizer,
    prompt,
    sample_fn,
    max_length,
    stop_token_ids,
    seed,
    strip_prompt,
):
    """Check everything, then sample until a stop token or `max_length`."""
    vocabulary_size = _vocabulary_size(model, tokenizer)
    _check_max_length(max_length, model)
    token_ids = _tokenize(tokenizer, prompt, max_length, vocabulary_size)
    prompt_length = len(token_ids)
    stop_token_ids = _find_stop_tokens(
        stop_token_ids, tokenizer, vocabulary_size
    )
    check_sampler(sample_fn, vocabulary_size)
    step_keywords = _choose_step_keywords(sample_fn, seed, max_length)

    while len(token_ids) < max_length:
        logits = ops.convert_to_numpy(next_logits(token_ids))
        _check_logits(logits, position=len(token_ids))
        logits = ops.convert_to_tensor(logits.astype("float32"))
        token_id = sample_fn(logits, **step_keywords(token_ids))
        token_id = _check_token_id(token_id, vocabulary_size)
        if token_id in stop_token_ids:
            break
        token_ids.append(token_id)

    if strip_prompt:
        token_ids = token_ids[prompt_length:]
    # Python ints: KerasHub refuses a list of NumPy's.
    return tokenizer.detokenize(token_ids)


def _choose_step_keywords(sample_fn, seed, max_length):
    """Return `step_keywords(token_ids)`: what `sample_fn` takes but logits."""
    try:
        parameters = inspect.signature(sample_fn).parameters
    except ValueError:  # some callables written in C
        parameters = {}
    keywords = {}
    if "seed" in parameters:
        bound = parameters["seed"].default
        if seed is None and bound is not inspect.Parameter.empty:
            seed = bound
        # One generator for the whole text: an int would make the same draw
        # at each step.
        keywords["seed"] = _make_seed_generator(seed)
    elif seed is not None:
        raise ValueError(
            "`seed` needs a `sample_fn` with a parameter `seed`. Received: "
            f"seed={seed} and sample_fn={sample_fn}. Add the parameter, or "
            "seed Keras with `keras.utils.set_random_seed`."
        )

    def step_keywords(token_ids):
        if "token_ids" not in parameters:
            return keywords
        # One shape for all steps, or JAX compiles the sampler at each of them.
        padded = np.full((max_length,), -1, dtype="int32")
        padded[: len(token_ids)] = token_ids
        return keywords | {"token_ids": ops.convert_to_tensor(padded)}

    return step_keywords


def _make_seed_generator(seed):
    if isinstance(seed, keras.random.SeedGenerator):
        return seed
    if seed is None:
        return keras.random.SeedGenerator()
    if _is_int(seed):
        return keras.random.SeedGenerator(int(seed))
    raise ValueError(
        "`seed` must be an int, a `keras.random.SeedGenerator` or None. "
        f"Received: seed={seed!r}."
    )


def _tokenize(tokenizer, prompt, max_length, vocabulary_size):
    """Return the prompt's tokens as a list of ints that leaves room."""
    if not isinstance(prompt, str):
        raise ValueError(
            f"`prompt` must be a string. Received: {type(prompt).__name__}. "
            "Call once for each prompt."
        )
    token_ids = ops.convert_to_numpy(tokenizer(prompt)) if prompt else []
    token_ids = [int(token_id) for token_id in token_ids]
    if not token_ids:
        raise ValueError(
            "`prompt` must have at least one token. Received: "
            f"prompt={prompt!r}. To begin from nothing, pass {END_OF_TEXT!r}."
        )
    if len(token_ids) >= max_length:
        raise ValueError(
            "`prompt` must have fewer than `max_length` tokens, as these "
            f"include the prompt. Received: a prompt of {len(token_ids)} "
            f"tokens and max_length={max_length}. Shorten the prompt or raise "
            "`max_length`."
        )
    if not 0 <= min(token_ids) <= max(token_ids) < vocabulary_size:
        raise ValueError(
            f"The tokens of `prompt` must be in [0, {vocabulary_size}), the "
            "vocabulary of the model. Received: tokens from "
            f"{min(token_ids)} to {max(token_ids)}. Use the tokenizer that the "
            "model was trained with."
        )
    return token_ids


def _find_stop_tokens(stop_token_ids, tokenizer, vocabulary_size):
    """Return the set of ids that end a text."""
    if stop_token_ids is None:
        return set()
    if isinstance(stop_token_ids, str) and stop_token_ids == "auto":
        end_token_id = _end_token_id(tokenizer)
        return set() if end_token_id is None else {end_token_id}
    if _is_int(stop_token_ids):
        stop_token_ids = [stop_token_ids]
    if isinstance(stop_token_ids, str) or not all(
        _is_int(token_id) and 0 <= token_id < vocabulary_size
        for token_id in stop_token_ids
    ):
        raise ValueError(
            "`stop_token_ids` must be 'auto', None or token ids in "
            f"[0, {vocabulary_size}). Received: "
            f"stop_token_ids={stop_token_ids!r}. The id of a token is "
            "`tokenizer.token_to_id(token)`."
        )
    return {int(token_id) for token_id in stop_token_ids}


def _end_token_id(tokenizer):
    """Return the id of the token that ends a document, or `None`."""
    end_token_id = getattr(tokenizer, "end_token_id", None)
    if end_token_id is not None or not hasattr(tokenizer, "token_to_id"):
        return end_token_id
    # An unknown token has an id too, that of "unknown": ask back.
    token_id = tokenizer.token_to_id(END_OF_TEXT)
    known = tokenizer.id_to_token(token_id) == END_OF_TEXT
    return token_id if known else None


def _vocabulary_size(model, tokenizer):
    """Return how many logits the model gives, if it can tell."""
    output_shape = getattr(model, "output_shape", None)
    if output_shape and output_shape[-1]:
        return output_shape[-1]
    return tokenizer.vocabulary_size()


def _check_max_length(max_length, model):
    if not _is_int(max_length) or max_length < 2:
        raise ValueError(
            "`max_length` must be an int of at least 2, for one token of the "
            f"prompt and one new one. Received: max_length={max_length!r}."
        )
    num_positions = min(_position_tables(model), default=max_length)
    if max_length > num_positions:
        raise ValueError(
            f"`max_length` must be at most {num_positions}, the length of the "
            f"model's position table. Received: max_length={max_length}. "
            "Generate less, or train a model with a longer `sequence_length`."
        )


def _position_tables(layer):
    """Yield the length of every position table, at any depth of the model."""
    table = getattr(layer, "position_embeddings", None)
    if hasattr(table, "input_dim"):
        yield table.input_dim
    for inner in getattr(layer, "layers", []):
        yield from _position_tables(inner)


def _check_logits(logits, position):
    # The largest one tells all: NaN wins over every number.
    if not np.isfinite(logits.max()):
        raise ValueError(
            "Logits must be numbers, at least one of them above -inf. "
            f"Received: {logits.max()} as the largest logit of token "
            f"{position}. The model has probably diverged in training: use an "
            "earlier checkpoint, or train with a lower learning rate."
        )


def _check_token_id(token_id, vocabulary_size):
    """Return what `sample_fn` returned as an int."""
    array = ops.convert_to_numpy(token_id)
    is_one_int = array.size == 1 and np.issubdtype(array.dtype, np.integer)
    if not is_one_int or not 0 <= array.item() < vocabulary_size:
        raise ValueError(
            "`sample_fn` must return one int token id in "
            f"[0, {vocabulary_size}). Received: {token_id}. It is called with "
            "logits of shape (vocabulary_size,), a single row."
        )
    return array.item()


def _is_int(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
