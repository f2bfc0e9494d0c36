"""Completions as the tokens that a policy chose, and as batches to learn from.

A policy is a model that samples: what it does is to choose tokens. The stop
token that ends a completion is one of its choices, so it belongs to the
completion. Each token comes with the log-probability that it had in the
distribution it was drawn from.
"""

import dataclasses

import numpy as np

from kerasllm.checks import UserError, check_text, shown
from kerasllm.generation import TokenizedPrompt, length_bucket, position_tables
from kerasllm.images import vision_inputs
from kerasllm.prompts import encode_all, start_tokens
from kerasllm.samplers import chain

ANY_LENGTH = 2**30  # of a model without a position table


@dataclasses.dataclass(frozen=True, eq=False)
class Completion:
    """What was sampled after a prompt.

    Attributes:
        prompt_ids: tuple of ints, the tokens of the prompt.
        token_ids: tuple of ints, the tokens that were sampled, with the stop
            token if one ended the text.
        logprobs: tuple of floats, the log-probability of each of them in the
            distribution that it was drawn from, in nats.
        text: str, without the prompt and the delimiters after an answer.
        is_truncated: bool. Whether it was cut off at its largest length.
    """

    prompt_ids: tuple
    token_ids: tuple
    logprobs: tuple
    text: str
    is_truncated: bool


def tokenize_prompts(generator, prompts, template, name="prompts"):
    """Return the tokens of prompts, as the model reads them.

    Args:
        generator: `TextGenerator`.
        prompts: list of str.
        template: `PromptTemplate`, or `None` for prompts that are complete.
        name: str. What messages call them.

    Returns:
        list of `TokenizedPrompt`.

    Raises:
        UserError: there is no prompt, or one is no text, is empty or does not
            fit the model.
    """
    if isinstance(prompts, str) or not prompts:
        raise UserError(
            f"`{name}` must be a list with at least one prompt. Received: "
            f"{name}={shown(prompts)}. Put a single prompt into a list."
        )
    for prompt in prompts:
        check_text(name, prompt)
    causal_lm = generator.causal_lm
    asked = list(prompts)
    if template is not None:
        tokenizer = causal_lm.preprocessor.tokenizer
        start = start_tokens(tokenizer)
        segments = [template.prompt_segments(prompt) for prompt in prompts]
        asked = [
            TokenizedPrompt((*start, *token_ids))
            for token_ids in encode_all(tokenizer, segments)
        ]
    # This also checks that the model knows the tokens.
    sequences = generator.make_sequences(asked, longest_text(causal_lm), seed=0)
    return [TokenizedPrompt(sequence.prompt_ids) for sequence in sequences]


def longest_text(causal_lm):
    """Return the number of tokens that a model can read: an int."""
    return min(position_tables(causal_lm), default=ANY_LENGTH)


def sample_completions(
    generator,
    prompts,
    seeds,
    *,
    num_samples=1,
    temperature=1.0,
    max_completion_length,
    stop_token_ids="auto",
    end_of_answer="",
):
    """Sample completions of prompts, all in one batch.

    A prompt is read once for all of its completions. The largest length is
    that of a completion, whatever the length of its prompt.

    Args:
        generator: `TextGenerator`.
        prompts: list of `TokenizedPrompt`.
        seeds: list of lists of ints, one for each prompt.
        num_samples: int. Completions of each prompt.
        temperature: float. 0 takes the most likely tokens.
        max_completion_length: int.
        stop_token_ids: see `TextGenerator.generate`.
        end_of_answer: str. The text of a completion ends before it.

    Returns:
        list of `Completion`, those of a prompt side by side.
    """
    longest = max(len(prompt.token_ids) for prompt in prompts)
    sequences = generator.make_sequences(
        prompts,
        longest + max_completion_length,
        stop_token_ids,
        seed=0,
        num_samples=num_samples,
        sampler=chain(temperature=temperature),
    )
    for number, sequence in enumerate(sequences):
        prompt, sample = divmod(number, num_samples)
        # Otherwise, all prompts would share their random numbers.
        sequence.seed = [*seeds[prompt], sample]
        sequence.max_length = len(sequence.prompt_ids) + max_completion_length
    for _ in generator.run(
        sequences, num_samples=num_samples, with_logprobs=True
    ):
        pass
    texts = {}  # sure of itself, a policy repeats its texts
    return [
        _completion(sequence, generator.detokenize, end_of_answer, texts)
        for sequence in sequences
    ]


def _completion(sequence, detokenize, end_of_answer, texts):
    """Return the `Completion` of a finished `Sequence`."""
    token_ids = tuple(sequence.token_ids)
    text = texts.get(token_ids)
    if text is None:
        text = detokenize(list(token_ids))
        if end_of_answer:
            text = text.split(end_of_answer)[0]
        texts[token_ids] = text
    logprobs = tuple(sequence.sampler_logprobs)
    if sequence.stop_token is not None:
        token_id, _, logprob = sequence.stop_token
        token_ids, logprobs = (*token_ids, token_id), (*logprobs, logprob)
    return Completion(
        tuple(sequence.prompt_ids),
        token_ids,
        logprobs,
        text,
        sequence.finish_reason == "max_length",
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Completions as arrays of one shape, `(num_completions, length)`.

    What stands at a position is about the token after it, which the model
    predicts there.

    Attributes:
        token_ids: int32, prompts and completions without their last tokens,
            padded with zeros.
        padding_mask: bool, true for tokens.
        labels: int32, the next tokens.
        logprobs: float32, their log-probabilities when they were sampled, in
            nats; 0 where the next token is none of a completion.
        mask: float32, 1 where the next token is learned from.
        preprocessor: the preprocessor of the model.
    """

    token_ids: np.ndarray
    padding_mask: np.ndarray
    labels: np.ndarray
    logprobs: np.ndarray
    mask: np.ndarray
    preprocessor: object

    @classmethod
    def of(cls, completions, causal_lm, mask_truncated=True):
        """Make a batch of completions.

        Args:
            completions: list of `Completion`.
            causal_lm: the model that reads them.
            mask_truncated: bool. Whether nothing is learned from truncated
                completions.
        """
        texts = [[*c.prompt_ids, *c.token_ids] for c in completions]
        # One of a few lengths, since each is compiled once.
        longest = max(map(len, texts)) - 1
        length = length_bucket(longest, longest_text(causal_lm))
        shape = len(texts), length
        token_ids, labels = np.zeros(shape, "int32"), np.zeros(shape, "int32")
        logprobs, mask = np.zeros(shape, "float32"), np.zeros(shape, "float32")
        padding_mask = np.zeros(shape, bool)
        for i, (text, its) in enumerate(zip(texts, completions, strict=True)):
            first, end = len(its.prompt_ids) - 1, len(text) - 1
            token_ids[i, :end] = text[:-1]
            labels[i, :end] = text[1:]
            padding_mask[i, :end] = True
            logprobs[i, first:end] = its.logprobs
            mask[i, first:end] = not (mask_truncated and its.is_truncated)
        return cls(
            token_ids, padding_mask, labels, logprobs, mask,
            causal_lm.preprocessor,
        )  # fmt: skip

    def inputs(self, numbers):
        """Return what a `PolicyModel` reads of some completions: a dict."""
        inputs = {
            "token_ids": self.token_ids[numbers],
            "padding_mask": self.padding_mask[numbers],
            "labels": self.labels[numbers],
        }
        if getattr(self.preprocessor, "image_converter", None) is not None:
            count = len(inputs["token_ids"])
            inputs |= vision_inputs(
                np.zeros((count, 0), "int32"), [()] * count, self.preprocessor
            )
            # A sampled placeholder is a token like any other.
            inputs["vision_mask"] = np.zeros_like(inputs["padding_mask"])
        return inputs
