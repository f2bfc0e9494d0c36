"""More computing for one answer: longer thoughts, and a score for samples."""

import dataclasses

import numpy as np

from kerasllm.checks import UserError, check_int, check_text
from kerasllm.generation import check_generator, position_tables
from kerasllm.reasoning.checkers import MARKER, check_marker
from kerasllm.tuning import response_logprobs


@dataclasses.dataclass(frozen=True)
class ForcedText:
    """A response whose thought was made longer or cut off.

    Attributes:
        text: str, the thought, the marker and the answer.
        num_tokens: int, those that the model wrote before the marker.
        num_waits: int, how often it was told to go on.
        was_cut: bool. Whether the budget ended the thought.
    """

    text: str
    num_tokens: int
    num_waits: int
    was_cut: bool


def force_budget(
    generator,
    prompt,
    min_tokens,
    max_tokens,
    *,
    marker=MARKER,
    wait="Wait,",
    separator="\n",
    answer_tokens=16,
    seed=None,
):
    """Have a model think for at least, and at most, so many tokens.

    Where it wants to answer or to end before `min_tokens`, that is taken
    away, and `wait` is put in its place, so that it goes on. After
    `max_tokens`, the thought is cut off. The marker follows in any case, and
    the model writes its answer.

    Args:
        generator: `TextGenerator`. It writes one text at a time here, since
            the lengths of thoughts differ.
        prompt: str.
        min_tokens: int of at least 0. Tokens of the thought at least.
        max_tokens: int. Tokens of the thought at most.
        marker: str. What ends a thought and begins the answer.
        wait: str.
        separator: str, what is put before `wait` and before the marker if
            there is no white space.
        answer_tokens: int. Tokens of the answer at most. It ends at a line
            break, too.
        seed: int or `None`, see `TextGenerator.generate`.

    Returns:
        `ForcedText`.

    Raises:
        UserError: the prompt is no text, a number is out of range, or prompt
            and thought do not fit in the model.

    Source: Muennighoff et al., 2025, arXiv:2501.19393 (budget forcing).
    """
    check_generator(generator)
    check_text("prompt", prompt, "It writes one text at a time.")
    check_marker(marker)
    check_text("wait", wait)
    check_text("separator", separator)
    min_tokens = check_int("min_tokens", min_tokens, 0)
    max_tokens = check_int("max_tokens", max_tokens, 1)
    answer_tokens = check_int("answer_tokens", answer_tokens, 1)
    if min_tokens > max_tokens:
        raise UserError(
            "`min_tokens` must be at most `max_tokens`. Received: min_tokens="
            f"{min_tokens} and max_tokens={max_tokens}."
        )
    thought, spent, num_waits, was_cut = "", 0, 0, False
    while True:
        part, num_new, was_cut = _write(
            generator, prompt + thought, max_tokens - spent, marker, seed
        )
        thought, spent = thought + part, spent + num_new
        if was_cut or spent >= min_tokens:
            break
        if num_waits and not num_new:
            break  # it has nothing more to say
        thought = _append(thought, wait, separator)
        num_waits += 1
    text = _append(thought, marker, separator)
    answer, _, _ = _write(generator, prompt + text, answer_tokens, "\n", seed)
    return ForcedText(text + answer, spent, num_waits, was_cut)


def mean_logprobs(causal_lm, prompts, responses, template=None):
    """Return the mean log-probability of the tokens of responses.

    As a scorer of `kerasllm.generation.best_of_n`, with
    `functools.partial(mean_logprobs, causal_lm)`, it prefers what the model
    itself is sure of. The sum would prefer short responses.

    The template is put around the prompts. Where they are complete as they
    are, as for a bare `TextGenerator`, pass one without delimiters:
    `PromptTemplate("plain", "", "", "", "")`.

    Args:
        causal_lm: any `keras_hub.models.CausalLM` with a preprocessor.
        prompts: list of str.
        responses: list of str, one for each.
        template: see `kerasllm.tuning.response_logprobs`.

    Returns:
        float32 array `(len(prompts),)`, in nats.

    Raises:
        UserError: as `kerasllm.tuning.response_logprobs`.
    """
    scores = response_logprobs(
        causal_lm, prompts, responses, template, per_token=True
    )
    return np.array([score.mean() for score in scores], "float32")


def _write(generator, prompt, most, stop_string, seed):
    """Continue a prompt by some tokens.

    Returns:
        The text, its number of tokens without those of the stop string, and
        whether `most` ended it.
    """
    longest = min(position_tables(generator.causal_lm), default=2**30)
    (sequence,) = generator.make_sequences([prompt], longest)
    written = generator.generate(
        prompt,
        min(len(sequence.prompt_ids) + most, longest),
        seed=seed,
        strip_prompt=True,
        return_logprobs=True,
        stop_strings=stop_string,
    )
    was_cut = written.finish_reason == "max_length"
    num_tokens = len(written.token_ids)
    if written.finish_reason == "stop_string":
        num_tokens = _count(generator, written)
    return written.text, num_tokens, was_cut


def _count(generator, written):
    """Return how many of the first tokens make up a text."""
    length = len(written.text.strip())
    for count in range(len(written.token_ids)):
        text = generator.detokenize(list(written.token_ids[:count]))
        if len(text.strip()) >= length:
            return count
    return len(written.token_ids)


def _append(text, addition, separator):
    """Return a text with something after it, and white space between."""
    between = "" if not text or text[-1].isspace() else separator
    return text + between + addition
