"""Log-probabilities of responses, the basis of preference learning."""

import functools

import numpy as np
from keras import ops

from kerasllm import backend
from kerasllm.checks import UserError, check_int, check_list, check_text, shown
from kerasllm.generation import batch_bucket, length_bucket, position_tables
from kerasllm.images import images_of_each, vision_inputs
from kerasllm.instructions import Instruction, TokenizedInstructions
from kerasllm.prompts import get_template

LARGEST_LOGITS = 2**24  # logits in memory at the same time: 64 MiB


def response_logprobs(
    causal_lm,
    prompts,
    responses,
    template=None,
    per_token=False,
    *,
    images=None,
    batch_size=16,
):
    """Return how likely a model finds responses to prompts.

    The log-probability of a response is the sum of those of its tokens, each
    given the prompt and all tokens before it. Prompt and response are
    tokenized apart, as in training, so the border between them is a border
    between tokens. The delimiters and the end token that the template puts
    after a response count as a part of it.

    A sequence is scored on its own: its result does not depend on the other
    sequences or on the padding. The logits of only a few positions at a time
    are in memory.

    Args:
        causal_lm: any `keras_hub.models.CausalLM` with a preprocessor.
        prompts: list of str.
        responses: list of str, one for each prompt.
        template: `PromptTemplate` or the name of one. `None` for the one whose
            special tokens the model has; see `prompts.get_template`.
        per_token: bool. Whether to return each token's log-probability.
        images: list of lists of images, one list for each prompt; see
            `kerasllm.images.load_image`. `None` for no images.
        batch_size: int. Sequences that are scored together.

    Returns:
        float32 NumPy array `(len(prompts),)`, in nats. With `per_token`, a
        list of float32 arrays `(number of tokens of the response,)`.

    Raises:
        UserError: there is not one response for each prompt, one of them is
            not text, or a sequence is longer than the model's position table.

    Source: chapter 16, section 16.4.1.
    """
    batch_size = check_int("batch_size", batch_size, 1)
    examples = make_examples(prompts, responses, images)
    if not examples:
        return [] if per_token else np.zeros(0, "float32")
    tokens, starts, its_images = tokenize(causal_lm, examples, template)
    results = score_responses(causal_lm, tokens, starts, its_images, batch_size)
    if per_token:
        return results
    return np.array([scores.sum(dtype="float64") for scores in results]).astype(
        "float32"
    )


def score_responses(causal_lm, token_ids, starts, images=None, batch_size=16):
    """Return the log-probability of each token of responses.

    Args:
        causal_lm: any `keras_hub.models.CausalLM` with a preprocessor.
        token_ids: list of int32 arrays, prompt and response in one.
        starts: list of int. Where each response begins.
        images: list of tuples of images, one for each sequence, or `None`.
        batch_size: int. Sequences that are scored together.

    Returns:
        list of float32 arrays `(number of tokens of the response,)`.
    """
    images = images or [()] * len(token_ids)
    scorer = _Scorer.of(causal_lm)
    results = [None] * len(token_ids)
    for numbers in by_length(token_ids, batch_size):
        scores = scorer.score(
            [token_ids[i] for i in numbers], [images[i] for i in numbers]
        )
        for i, its_scores in zip(numbers, scores, strict=False):
            # The score at a position is that of the token after it.
            response = slice(starts[i] - 1, len(token_ids[i]) - 1)
            results[i] = its_scores[response]
    return results


def next_token_logprobs(causal_lm, inputs, labels, temperature=1.0, start=0):
    """Return the log-probabilities of given next tokens, for a gradient, too.

    There is no dropout, in training neither: it would add noise to the
    differences of log-probabilities that preferences are learned from.

    Args:
        causal_lm: any `keras_hub.models.CausalLM`.
        inputs: dict of tensors, what `causal_lm` takes: `token_ids` and
            `padding_mask`, each `(batch_size, length)`, and so on.
        labels: int `(batch_size, length)`, the token after each position.
        temperature: float, positive. The logits are divided by it, as they
            were when the tokens were sampled.
        start: int. The first position that is scored.

    Returns:
        float32 `(batch_size, length - start)`, in nats. The logits of only a
        few positions at a time are in memory, in the backward pass as well.
    """
    labels = labels[:, start:]
    backbone = causal_lm.backbone
    embedding = getattr(
        backbone, "embedding", getattr(backbone, "token_embedding", None)
    )
    if embedding is None:  # the logits of all positions, then
        logits = causal_lm(inputs, training=False)
        return _logprobs(logits[:, start:], labels, temperature)

    def score(hidden_states, labels):
        logits = embedding(hidden_states, reverse=True)
        return _logprobs(logits, labels, temperature)

    hidden_states = backbone(inputs, training=False)[:, start:]
    batch_size, length, size = hidden_states.shape
    # In the graph of TensorFlow's `fit`, the length is not known: it differs
    # between batches. One sequence is a part then.
    count = batch_size
    if length is not None:
        count = _num_chunks(batch_size * length, embedding.input_dim)
    # One matrix: PyTorch multiplies a batch of slices one by one.
    hidden_states = ops.reshape(hidden_states, (count, 1, -1, size))
    labels = ops.reshape(labels, (count, 1, -1))
    if count == 1:  # nothing need be computed again in the backward pass
        scores = score(hidden_states[0], labels[0])
    else:
        scores = backend.remat_in_turn(score, hidden_states, labels)
    return ops.reshape(scores, (batch_size, -1))  # (batch_size, length - start)


def make_examples(prompts, responses, images=None):
    """Return prompts and responses as a list of `Instruction`.

    Args:
        prompts: list of str.
        responses: list of str.
        images: list of lists of images, or `None`.

    Raises:
        UserError: as `response_logprobs`.
    """
    prompts = check_list("prompts", prompts, "a list of strings")
    responses = check_list("responses", responses, "a list of strings")
    if len(prompts) != len(responses):
        raise UserError(
            "There must be one response for each prompt. Received: "
            f"{len(prompts)} prompts, {len(responses)} responses."
        )
    images = images_of_each(images, len(prompts), "prompt")
    for name, texts in (("prompts", prompts), ("responses", responses)):
        for text in texts:
            check_text(name, text)
    return [
        Instruction(prompt, response, images=tuple(its_images))
        for prompt, response, its_images in zip(
            prompts, responses, images, strict=True
        )
    ]


def tokenize(model, examples, template=None, num_unread=1):
    """Return the tokens, where the responses start, and the images.

    Args:
        model: anything with the `preprocessor` and the `backbone` of a
            `CausalLM`.
        examples: list of `Instruction`.
        template: `PromptTemplate`, the name of one, or `None`.
        num_unread: int. Tokens at the end that the model predicts and does
            not read.

    Raises:
        UserError: an example does not fit in the model's position table.
    """
    preprocessor = getattr(model, "preprocessor", None)
    if preprocessor is None:
        raise UserError(
            "`causal_lm` must be a KerasHub `CausalLM` with a preprocessor. "
            f"Received: {shown(model)}. That of a `ChatModel` is its "
            "`causal_lm`."
        )
    template = "auto" if template is None else template
    template = get_template(template, preprocessor.tokenizer)
    tokenized = TokenizedInstructions.of(
        examples, preprocessor, template, sequence_length=2**30
    )
    longest = min(position_tables(model), default=2**30)
    if tokenized.longest + 1 - num_unread > longest:
        raise UserError(
            f"A prompt and its response must fit in {longest} tokens, the "
            "length of the model's position table. Received: one with "
            f"{tokenized.longest + 1 - num_unread}, delimiters included. "
            "Shorten or drop it."
        )
    return tokenized.token_ids, tokenized.prompt_lengths, tokenized.images


class _Scorer:
    """A model and its compiled function; it holds no state of any text."""

    def __init__(self, causal_lm):
        self.causal_lm = causal_lm
        self.variables = list(causal_lm.variables)
        self._function = backend.compiled(
            functools.partial(next_token_logprobs, causal_lm),
            self.variables,
            record=False,
        )

    @classmethod
    def of(cls, causal_lm):
        """Return the scorer of a model; see `backend.companion_of`."""
        return backend.companion_of(
            causal_lm, "_response_scorer", lambda model, _: cls(model)
        )

    def score(self, tokens, images):
        """Return the log-probability of each token after the first.

        Args:
            tokens: list of int arrays.
            images: list of tuples of images, one for each sequence.

        Returns:
            float32 array `(at least len(tokens), length)`. The score at a
            position is that of the next token.
        """
        # The last token is only predicted.
        inputs = model_inputs(self.causal_lm, [t[:-1] for t in tokens], images)
        labels = np.zeros_like(inputs["token_ids"])
        for i, its_tokens in enumerate(tokens):
            labels[i, : len(its_tokens) - 1] = its_tokens[1:]
        return ops.convert_to_numpy(self._function(inputs, labels))


def by_length(tokens, batch_size):
    """Yield the numbers of sequences for each batch: lists of int.

    Sequences of similar length share a batch, and so need little padding.
    """
    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
    for first in range(0, len(order), batch_size):
        yield order[first : first + batch_size]


def model_inputs(model, tokens, images=()):
    """Return sequences as what a model reads, padded to one of a few sizes.

    Args:
        model: anything with the `preprocessor` and the `backbone` of a
            `CausalLM`.
        tokens: list of int arrays.
        images: sequence of tuples of images, one for each of the first
            sequences.

    Returns:
        dict of arrays: `token_ids` and `padding_mask`, each `(at least
        len(tokens), length)`, and for a model that takes images what
        `kerasllm.images.vision_inputs` returns.
    """
    longest = min(position_tables(model), default=None)
    length = length_bucket(max(map(len, tokens)), longest)
    token_ids = np.zeros((batch_bucket(len(tokens)), length), "int32")
    padding_mask = np.zeros(token_ids.shape, bool)
    for i, its_tokens in enumerate(tokens):
        token_ids[i, : len(its_tokens)] = its_tokens
        padding_mask[i, : len(its_tokens)] = True
    padding_mask[len(tokens) :, 0] = True  # attention to nothing is NaN
    inputs = {"token_ids": token_ids, "padding_mask": padding_mask}
    if getattr(model.preprocessor, "image_converter", None) is not None:
        images = [*images, *[()] * (len(token_ids) - len(images))]
        inputs |= vision_inputs(token_ids, images, model.preprocessor)
    return inputs


def _num_chunks(num_positions, vocabulary_size):
    """Return the number of equal parts in which logits are computed."""
    count = 1
    while (
        num_positions // count * vocabulary_size > LARGEST_LOGITS
        and num_positions % (2 * count) == 0
    ):
        count *= 2
    return count


def _logprobs(logits, labels, temperature=1.0):
    """Return the log-probabilities of labels, computed in float32."""
    logits = ops.cast(logits, "float32")  # (..., vocabulary_size)
    if temperature != 1:  # PyTorch would make a copy
        logits = logits / temperature
    return backend.token_logprobs(logits, labels)
