"""The results of a generator's call, its speed, and how to stop it."""

import dataclasses
import math
import os
import threading

from kerasllm.checks import UserError, shown


@dataclasses.dataclass(frozen=True)
class Generation:
    """A generated text, with its tokens and their log-probabilities.

    Attributes:
        text: str, as `TextGenerator.generate` returns it.
        token_ids: tuple of ints, the new tokens, without the stop token.
        finish_reason: `"stop_token"`, `"stop_string"`, `"max_length"`;
            `"canceled"` for a text that was stopped from outside; `"error"`
            in a `ContinuousBatch`.
        logprobs: tuple of floats, the natural logarithm of the probability
            of each new token under the model; `None` if a `ContinuousBatch`
            does not record them.
        sampler_logprobs: the same under the distribution that the sampler
            drew from, after temperature, filters, penalties and logit
            processors; `None` if the sampler's distribution is unknown.
        tokens_per_second: float, the speed of the call, for each sequence; see
            `TextGenerator.tokens_per_second`.
    """

    text: str
    token_ids: tuple
    finish_reason: str
    logprobs: tuple | None
    sampler_logprobs: tuple | None
    tokens_per_second: float | None = None


class Call:
    """The speed of one call of a generator, and a way to stop it.

    Args:
        stop_event: `threading.Event`, or `None` to create a new one.
    """

    def __init__(self, stop_event=None):
        if stop_event is None:
            stop_event = threading.Event()
        if not callable(getattr(stop_event, "is_set", None)):
            raise UserError(
                "`stop_event` must be a `threading.Event`. Received: "
                f"stop_event={shown(stop_event)}."
            )
        self.stop_event = stop_event
        self._canceled = threading.Event()
        self._steps, self._seconds = 0, 0.0

    def cancel(self):
        """End all sequences of the call; any thread may call this."""
        self._canceled.set()

    @property
    def is_canceled(self):
        """Whether the call should end: a bool."""
        return self._canceled.is_set() or self.stop_event.is_set()

    @property
    def tokens_per_second(self):
        """Speed of one sequence: a float, or `None` before the first step."""
        return self._steps / self._seconds if self._steps else None

    def count(self, seconds):
        """Count a step that spent its time in the model only."""
        self._steps += 1
        self._seconds += seconds


class Stream:
    """The text of a sequence while it is generated: an iterator of str.

    Attributes:
        finish_reason: str, see `Generation`; `None` until the text ends.
        token_ids: tuple of ints, the new tokens so far.
        tokens_per_second: float or `None`, the speed so far.
    """

    def __init__(self, sequence, steps, call):
        self._sequence, self._steps, self._call = sequence, steps, call

    def __iter__(self):
        return self

    def __next__(self):
        for _ in self._steps:
            if self._sequence.pieces:
                break
        # A text that is canceled ends after its last step.
        if not self._sequence.pieces:
            raise StopIteration
        return self._sequence.take_text()

    def close(self):
        """Stop computing; for the thread that reads the stream."""
        self._steps.close()

    def cancel(self):
        """End the text after the current token; any thread may call this."""
        self._call.cancel()

    @property
    def finish_reason(self):
        return self._sequence.finish_reason

    @property
    def token_ids(self):
        return tuple(self._sequence.token_ids)

    @property
    def tokens_per_second(self):
        return self._call.tokens_per_second


def make_result(
    sequence,
    detokenize,
    strip_prompt=False,
    return_logprobs=True,
    call=None,
    prompt=None,
):
    """Return the result of a sequence.

    Args:
        sequence: a `Sequence`.
        detokenize: callable from a list of ints to a str.
        strip_prompt: bool. See `TextGenerator.generate`, as for the next.
        return_logprobs: bool.
        call: the `Call` that generated it, to report its speed, or `None`.
        prompt: str, the text of the prompt's tokens, where it is known.

    Returns:
        str, or a `Generation`.
    """
    if prompt is None:
        prompt = detokenize(sequence.prompt_ids)
    text = detokenize([*sequence.prompt_ids, *sequence.token_ids])
    # Decoded alone, the new tokens may begin differently. And they may finish
    # a character that the prompt began.
    start = len(prompt)
    if not text.startswith(prompt):
        start = len(os.path.commonprefix([prompt, text]))
    prompt, new = text[:start], text[start:]
    if sequence.stream is not None:  # it ends before a stop string
        new = "".join(sequence.pieces)
    text = new if strip_prompt else prompt + new
    if not return_logprobs:
        return text
    logprobs, sampler_logprobs = (
        None if any(map(math.isnan, values)) else tuple(values)
        for values in (sequence.logprobs, sequence.sampler_logprobs)
    )
    return Generation(
        text,
        tuple(sequence.token_ids),
        sequence.finish_reason,
        logprobs,
        sampler_logprobs,
        call and call.tokens_per_second,
    )


def make_results(
    sequences, num_samples, detokenize, strip_prompt, return_logprobs, call
):
    """Return the results of all sequences of a call: a list.

    Args:
        sequences: list of `Sequence`.
        num_samples: int. Number of consecutive sequences that share a prompt,
            whose text is made once. If there are several, their results are a
            list within the list.
        detokenize: see `make_result`, as for the rest.
        strip_prompt: bool.
        return_logprobs: bool.
        call: `Call`.
    """
    results = []
    for first in range(0, len(sequences), num_samples):
        prompt = detokenize(sequences[first].prompt_ids)
        group = [
            make_result(
                sequence, detokenize, strip_prompt, return_logprobs, call,
                prompt,
            )
            for sequence in sequences[first : first + num_samples]
        ]  # fmt: skip
        results += [group] if num_samples > 1 else group
    return results
