"""The chapter's two loops, from a prompt to text one token at a time.

`generate` is the basic loop: ask the model for the next token, append it, and
repeat. `compiled_generate` pads the model's inputs to a fixed length, so that
the model is compiled only once. Both recompute all positions for every token.
`TextGenerator` keeps what it has computed.
"""

import numpy as np
from keras import ops

from kerasllm.checks import UserError, check_callable
from kerasllm.generation._arguments import (
    check_logits,
    check_max_length,
    check_token_id,
    find_stop_tokens,
    get_vocabulary_size,
    make_seed_generator,
    tokenize_prompt,
)
from kerasllm.samplers import check_sampler, greedy_search, parameters_of


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
    """Continue a prompt by calling the model on a growing text.

    Each step has a new length and so new shapes. This is the slowest way to
    generate text, and the easiest to read.

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
            so far, including the prompt. They are int32 `(max_length,)`,
            padded with -1, which `apply_penalties` ignores.
        max_length: int. Number of tokens at which to stop, prompt included.
        stop_token_ids: int or list of ints, the tokens that end the text;
            `None` for none of them; `"auto"` for the tokenizer's
            `end_token_id` or, if it has none, `"<|endoftext|>"`.
        seed: int or `keras.random.SeedGenerator`. An int gives the same text
            each time on the same backend. `None` uses the seed bound to
            `sample_fn` if there is one, or else a new one.
        strip_prompt: bool. Whether to return only the continuation.

    Returns:
        str: the prompt and its continuation without the stop token.

    Raises:
        UserError: before the model is called, if the prompt is empty or has
            `max_length` tokens or more, if `max_length` exceeds the model's
            position table, or if another argument does not fit the model.
            Later, if logits are NaN or `sample_fn` does not return a token id.

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
    model once for each `max_length`, whatever the prompt and the sampler. The
    padding after the last token cannot change its logits, because a causal
    model looks only at earlier positions.

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
        UserError: as for `generate`.

    Source: chapter 16, section 16.2.3, listing 16.10.
    """

    def next_logits(token_ids):
        padded = np.zeros((1, max_length), dtype="int32")
        padded[0, : len(token_ids)] = token_ids
        # This is the compiled function behind `predict`, without the dataset
        # and the callbacks that `predict` creates for each call.
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
    """Check all arguments, then sample until a stop token or `max_length`."""
    check_callable("model", model, "A `mini_gpt` is one.")
    check_callable("tokenizer", tokenizer, "One of KerasHub's is.")
    vocabulary_size = get_vocabulary_size(model, tokenizer)
    check_max_length(max_length, model)
    token_ids = tokenize_prompt(tokenizer, prompt, max_length, vocabulary_size)
    prompt_length = len(token_ids)
    stop_token_ids = find_stop_tokens(
        stop_token_ids, tokenizer, vocabulary_size
    )
    check_sampler(sample_fn, vocabulary_size)
    step_keywords = _choose_step_keywords(sample_fn, seed, max_length)

    while len(token_ids) < max_length:
        logits = ops.convert_to_numpy(next_logits(token_ids))
        check_logits(logits.max(), position=len(token_ids))
        logits = ops.convert_to_tensor(logits.astype("float32"))
        token_id = sample_fn(logits, **step_keywords(token_ids))
        token_id = check_token_id(token_id, vocabulary_size)
        if token_id in stop_token_ids:
            break
        token_ids.append(token_id)

    # Use Python ints, because KerasHub rejects a list of NumPy integers.
    text = tokenizer.detokenize(token_ids)
    if strip_prompt:
        # Decoded alone, the new tokens may lose the space at their start.
        text = text[len(tokenizer.detokenize(token_ids[:prompt_length])) :]
    return text


def _choose_step_keywords(sample_fn, seed, max_length):
    """Return `step_keywords(token_ids)`, the extra arguments of `sample_fn`."""
    parameters = parameters_of(sample_fn)
    keywords = {}
    if "seed" in parameters:
        # Use one generator for the whole text. An int would give the same draw
        # at each step.
        seed = parameters["seed"] if seed is None else seed
        keywords["seed"] = make_seed_generator(seed)
    elif seed is not None:
        raise UserError(
            "`seed` needs a `sample_fn` with a parameter `seed`. Received: "
            f"seed={seed} and sample_fn={sample_fn}. Add the parameter, or "
            "seed Keras with `keras.utils.set_random_seed`."
        )

    def step_keywords(token_ids):
        if "token_ids" not in parameters:
            return keywords
        # All steps share one shape, or JAX would compile the sampler each time.
        padded = np.full((max_length,), -1, dtype="int32")
        padded[: len(token_ids)] = token_ids
        return keywords | {"token_ids": ops.convert_to_tensor(padded)}

    return step_keywords
