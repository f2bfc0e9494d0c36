"""The arguments of the generators, checked before any long work starts."""

import keras
import keras_hub
import numpy as np
from keras import ops

from kerasllm.checks import (
    LARGEST_SEED,
    UserError,
    check_list,
    check_text,
    is_int,
    shown,
)
from kerasllm.tokenizers import END_OF_TEXT, token_id_of

# Tokens that end an answer, in addition to the token that ends a text.
END_OF_TURN = ("<end_of_turn>", "<|eot_id|>", "<|im_end|>")


def make_seed_generator(seed):
    """Return a `SeedGenerator` for an int, a generator or None.

    Raises:
        UserError: `seed` is something else.
    """
    if isinstance(seed, keras.random.SeedGenerator):
        return seed
    if seed is None:
        return keras.random.SeedGenerator()
    if is_int(seed) and 0 <= seed <= LARGEST_SEED:
        return keras.random.SeedGenerator(int(seed))
    raise UserError(
        "`seed` must be an int, a `keras.random.SeedGenerator` or None, and "
        f"an int from 0 to {LARGEST_SEED}. Received: seed={shown(seed)}."
    )


def check_generator(generator, attribute="causal_lm"):
    """Refuse what is no generator, such as a model.

    Raises:
        UserError: it lacks an attribute that a `TextGenerator` has.
    """
    if not hasattr(generator, attribute):
        raise UserError(
            "`generator` must be a `TextGenerator`. Received: "
            f"{shown(generator)}. `TextGenerator(causal_lm)` is one."
        )


def check_seeds(seeds, num_prompts):
    """Check that there is one seed for each prompt.

    Raises:
        UserError: there is not, or one of them is no int within the range.
    """
    seeds = check_list("seed", seeds)
    fits = [is_int(seed) and 0 <= seed <= LARGEST_SEED for seed in seeds]
    if len(seeds) != num_prompts or not all(fits):
        raise UserError(
            "A list `seed` must have an int for each prompt, each from 0 to "
            f"{LARGEST_SEED}. Received: {len(seeds)} for {num_prompts} "
            f"prompts, seed={shown(list(seeds))}."
        )


def tokenize_prompt(tokenizer, prompt, max_length, vocabulary_size):
    """Return the prompt's tokens, a list of ints shorter than `max_length`.

    Args:
        tokenizer: callable from a string to ids.
        prompt: str.
        max_length: int. Largest number of tokens, including the prompt.
        vocabulary_size: int. That of the model.

    Raises:
        UserError: the prompt is not a string, is empty, has `max_length`
            tokens or more, or has tokens that the model does not know.
    """
    check_prompt(prompt)
    token_ids = [int(i) for i in ops.convert_to_numpy(tokenizer(prompt))]
    check_prompt_tokens(token_ids, prompt, max_length, vocabulary_size)
    return token_ids


def tokenize_prompts(prompts, preprocessor, max_length, vocabulary_size):
    """Return the tokens of prompts, with the start token of the model.

    Args:
        prompts: list of str, or of objects with `token_ids`, which are
            returned unchanged.
        preprocessor: that of a KerasHub `CausalLM`.
        max_length: int. Largest number of tokens, including the prompt.
        vocabulary_size: int. That of the model.

    Returns:
        A list with a tuple of ints for each string. Other objects are
        unchanged.

    Raises:
        UserError: a prompt is empty, has `max_length` tokens or more, or has
            tokens that the model does not know.
    """
    texts = [prompt for prompt in prompts if not hasattr(prompt, "token_ids")]
    for text in texts:
        check_prompt(text)
    tokens = iter(_tokenize_texts(texts, preprocessor) if texts else ())
    tokenized = []
    for prompt in prompts:
        is_tokens = hasattr(prompt, "token_ids")
        tokenized.append(prompt if is_tokens else next(tokens))
        check_prompt_tokens(
            prompt.token_ids if is_tokens else tokenized[-1],
            prompt,
            max_length,
            vocabulary_size,
        )
    return tokenized


def _tokenize_texts(texts, preprocessor):
    """Return the tokens of texts as the preprocessor makes them, tuples."""
    if isinstance(preprocessor, keras_hub.models.Gemma3CausalLMPreprocessor):
        return _tokenize_for_gemma(texts, preprocessor)
    # This is nearly always enough. A token is usually a byte or more, unless a
    # vocabulary spells out characters or the text contains an image.
    longest = max(len(text.encode()) for text in texts) + 8
    while True:
        inputs = preprocessor.generate_preprocess(
            texts, sequence_length=longest
        )
        token_ids = ops.convert_to_numpy(inputs["token_ids"])
        lengths = ops.convert_to_numpy(inputs["padding_mask"]).sum(axis=-1)
        if max(lengths) < longest:  # nothing was truncated
            break
        longest *= 2
    return [
        tuple(map(int, padded[:length]))
        for padded, length in zip(token_ids, lengths, strict=True)
    ]


def _tokenize_for_gemma(texts, preprocessor):
    """Do without `generate_preprocess`, which needs TensorFlow for this.

    Commands hide TensorFlow from the process, since importing it takes
    seconds. The tokens are the same, also those of an image.
    """
    tokenizer = preprocessor.tokenizer
    if not preprocessor.text_only_model:
        image = (
            f"\n\n{preprocessor.start_of_image_token}"
            + preprocessor.image_placeholder
            * preprocessor.num_vision_tokens_per_image
            + f"{preprocessor.end_of_image_token}\n\n"
        )
        texts = [
            text.replace(preprocessor.start_of_image_token, image)
            for text in texts
        ]
    return [
        (tokenizer.start_token_id, *map(int, ops.convert_to_numpy(ids)))
        for ids in tokenizer(texts)
    ]


def check_prompt(prompt):
    """Check that a prompt is text and not empty."""
    check_text("prompt", prompt, "Call once for each prompt.")
    if not prompt:
        raise UserError(
            "`prompt` must have at least one token. Received: "
            f"prompt={shown(prompt)}. To start without a prompt, pass "
            f"{END_OF_TEXT!r}."
        )


def check_prompt_tokens(token_ids, prompt, max_length, vocabulary_size):
    """Check the number of tokens in a prompt, and that the model knows them."""
    if not token_ids:
        raise UserError(
            "`prompt` must have at least one token. Received: "
            f"prompt={shown(prompt)}. To start without a prompt, pass "
            f"{END_OF_TEXT!r}."
        )
    if len(token_ids) >= max_length:
        raise UserError(
            "`prompt` must have fewer than `max_length` tokens, as these "
            f"include the prompt. Received: a prompt of {len(token_ids)} "
            f"tokens and max_length={max_length}. Shorten the prompt or raise "
            "`max_length`."
        )
    if not 0 <= min(token_ids) <= max(token_ids) < vocabulary_size:
        raise UserError(
            f"The tokens of `prompt` must be in [0, {vocabulary_size}), the "
            "vocabulary of the model. Received: tokens from "
            f"{min(token_ids)} to {max(token_ids)}. Use the tokenizer that the "
            "model was trained with."
        )


def find_stop_tokens(stop_token_ids, tokenizer, vocabulary_size):
    """Return the set of token ids that end a text.

    Args:
        stop_token_ids: an int or several, `None`, or `"auto"` for the end
            tokens of the tokenizer.
        tokenizer: a KerasHub tokenizer.
        vocabulary_size: int. That of the model.

    Raises:
        UserError: a token is not in the vocabulary.
    """
    if stop_token_ids is None:
        return set()
    if isinstance(stop_token_ids, str) and stop_token_ids == "auto":
        return end_token_ids(tokenizer)
    if is_int(stop_token_ids) or not np.iterable(stop_token_ids):
        stop_token_ids = [stop_token_ids]
    stop_token_ids = list(stop_token_ids)
    if not all(
        is_int(token_id) and 0 <= token_id < vocabulary_size
        for token_id in stop_token_ids
    ):
        raise UserError(
            "`stop_token_ids` must be 'auto', None or token ids in "
            f"[0, {vocabulary_size}). Received: "
            f"stop_token_ids={shown(stop_token_ids)}. The id of a token is "
            "`tokenizer.token_to_id(token)`."
        )
    return {int(token_id) for token_id in stop_token_ids}


def check_stop_strings(stop_strings):
    """Return stop strings as a list, after checking them."""
    if isinstance(stop_strings, str):
        stop_strings = [stop_strings]
    if not isinstance(stop_strings, list | tuple) or not all(
        isinstance(string, str) and string for string in stop_strings
    ):
        raise UserError(
            "`stop_strings` must be strings that are not empty. Received: "
            f"stop_strings={shown(stop_strings)}."
        )
    return stop_strings


def end_token_ids(tokenizer):
    """Return the set of token ids that end a text or an answer."""
    ids = {
        getattr(tokenizer, name, None)
        for name in ("end_token_id", "end_token2_id")
    }
    if hasattr(tokenizer, "token_to_id"):
        for token in (END_OF_TEXT, *END_OF_TURN):
            ids.add(token_id_of(tokenizer, token))
    return ids - {None}


def get_vocabulary_size(model, tokenizer):
    """Return the number of logits of the model, or `None` if unknown."""
    output_shape = getattr(model, "output_shape", None)
    if output_shape and output_shape[-1]:
        return output_shape[-1]
    return tokenizer.vocabulary_size()


def check_max_length(max_length, model):
    """Check that a length has room for a new token and fits the model."""
    if not is_int(max_length) or max_length < 2:
        raise UserError(
            "`max_length` must be an int of at least 2, for one token of the "
            f"prompt and one new one. Received: max_length={shown(max_length)}."
        )
    num_positions = min(position_tables(model), default=max_length)
    if max_length > num_positions:
        raise UserError(
            f"`max_length` must be at most {num_positions}, the length of the "
            f"model's position table. Received: max_length={max_length}. "
            "Generate less, or train a model with a longer `sequence_length`."
        )


def position_tables(layer):
    """Yield the length of every position table, at any depth of the model."""
    if hasattr(layer, "backbone"):  # a KerasHub task
        layer = layer.backbone
    for table in (
        getattr(layer, "position_embeddings", None),  # ours
        getattr(layer, "position_embedding", None),  # KerasHub's
    ):
        length = getattr(table, "sequence_length", None)
        length = getattr(table, "input_dim", length)
        if length is not None:
            yield length
    for inner in getattr(layer, "layers", []):
        # The position table of an image encoder does not limit the text.
        if not isinstance(inner, keras_hub.models.Backbone):
            yield from position_tables(inner)


def check_logits(largest, position):
    """Check that a token can be chosen from the logits.

    Args:
        largest: float array, the largest logit of each sequence. It is NaN if
            any logit is NaN.
        position: int, the position of the token to be chosen.
    """
    wrong = np.extract(~np.isfinite(largest), largest)
    if wrong.size:
        or_else = ""
        if wrong[0] == -np.inf:
            or_else = (
                " Or logit processors have banned every token, and must leave "
                "one."
            )
        raise UserError(
            "Logits must be numbers, at least one of them above -inf. "
            f"Received: {wrong[0]} as the largest logit of token "
            f"{position}. The model has probably diverged in training: use an "
            "earlier checkpoint, or train with a lower learning rate." + or_else
        )


def check_token_id(token_id, vocabulary_size):
    """Check the token id that a sampler returned, and return it as an int."""
    array = ops.convert_to_numpy(token_id)
    is_one_int = array.size == 1 and np.issubdtype(array.dtype, np.integer)
    if not is_one_int or not 0 <= array.item() < vocabulary_size:
        raise UserError(
            "A sampler must return one int token id in "
            f"[0, {vocabulary_size}). Received: {token_id}. It is called with "
            "logits of shape (vocabulary_size,), those of one sequence."
        )
    return array.item()
