"""Batches of sequences that advance together.

`write_together` is the loop behind `TextGenerator.generate`: all sequences of a
call begin at the same time. A `ContinuousBatch` admits new ones at any time.
"""

import time

import numpy as np

from kerasllm.generation._arguments import check_logits
from kerasllm.generation._decoding import batch_bucket
from kerasllm.generation.texts import token_array

# Reading a shared prefix first takes two more compiled functions.
FEWEST_SHARED = 64


def write_together(
    decoder,
    sampling,
    sequences,
    call,
    num_samples=1,
    with_logprobs=False,
    past=None,
):
    """Write sequences that begin together, and yield after each position.

    Args:
        decoder: a `CachedDecoder`.
        sampling: a `BatchSampler`.
        sequences: list of `Sequence`, with one sampler and one `max_length`.
        call: a `Call`, which measures the speed and may be canceled.
        num_samples: int. Number of consecutive sequences that share a prompt.
        with_logprobs: bool. Whether to record log-probabilities.
        past: `Past` of a conversation that one sequence continues, or `None`.
    """
    sample = sampling.prepare(sequences[0].sampler, with_logprobs)
    start = min(len(sequence.prompt_ids) for sequence in sequences)
    if past is None or any(sequence.images for sequence in sequences):
        past = Past()  # which nobody looks at again
    token_ids, logits, cache = _read_prompts(
        decoder, sequences, start, num_samples, past
    )
    past.keep(cache, token_ids[0, :start])
    step = decoder.bind_step()
    for index in range(start, sequences[0].max_length):
        started = time.perf_counter()
        delays = decoder.num_delays
        if index > start:
            # A text that has ended has no token here, so any token will do.
            newest = np.maximum(token_ids[:, index - 1], 0)
            past.forget()  # the step may use the memory of the cache
            logits, cache = step(newest, cache, index - 1)
            past.keep(cache, token_ids[0, :index])
        # The other sequences have ended or are still within their prompts.
        active = [
            (i, sequence)
            for i, sequence in enumerate(sequences)
            if sequence.finish_reason is None and sequence.length == index
        ]
        processed = sampling.process(logits, token_ids) if active else logits
        choose_tokens(sample, logits, processed, token_ids, active)
        ready = index > start and decoder.num_delays == delays
        if ready and active:
            call.count(time.perf_counter() - started)
        yield
        if call.is_canceled:
            cancel(sequences)
        if all(sequence.finish_reason for sequence in sequences):
            return


def _read_prompts(decoder, sequences, start, num_samples, past):
    """Read the first `start` tokens of all sequences.

    Returns:
        The prompts as an array (see `token_array`), the logits for the
        position `start`, and the cache.
    """
    cache_length = decoder.cache_length(sequences[0].max_length)
    # A prompt is read once and then copied for each of its samples.
    sources = sequences[::num_samples]
    token_ids = token_array(sources, cache_length)
    images = [sequence.images for sequence in sources]
    cache, num_read = past.take(decoder, token_ids[0, :start], cache_length)
    if not num_read and not any(images):
        cache, num_read = _read_once(decoder, token_ids, start)
    if num_read:
        read = decoder.extend(cache, token_ids, num_read, start)
    else:
        read = decoder.prefill(token_ids, start, cache_length, images)
    if num_samples > 1:
        copies = np.arange(batch_bucket(len(sequences)), dtype="int32")
        copies = np.minimum(copies // num_samples, len(sources) - 1)
        read = decoder.take(read, copies, len(token_ids))
        token_ids = token_array(sequences, cache_length)
    return token_ids, *read


def _read_once(decoder, token_ids, start):
    """Read the prefix that all prompts of a batch share, if it is long.

    Worked examples in front of each question are such a prefix.

    Returns:
        A cache, and the number of tokens of each prompt that are in it;
        `None` and 0 if every prompt should be read as a whole.
    """
    batch_size, cache_length = token_ids.shape
    is_shared = (token_ids[:, : start - 1] == token_ids[0, : start - 1]).all(0)
    length = start - 1 if is_shared.all() else int(is_shared.argmin())
    if batch_size == 1 or length < FEWEST_SHARED or not decoder.extends:
        return None, 0
    _, cache = decoder.prefill(token_ids[:1], length, cache_length)
    return decoder.take(cache, np.zeros(batch_size, "int32"), 1), length


class Past:
    """What a model has read of a conversation: its tokens and their cache.

    Each turn of a conversation begins with all that was said before. Give the
    same `Past` to the calls for all its turns, and each of them reads only
    what is new. Only one call at a time gets the cache; another one that comes
    meanwhile reads everything.

    The result is that of a call without it, up to rounding. If the model's
    weights have changed, the text is read anew.
    """

    def __init__(self):
        self._model = None
        self.forget()

    def forget(self):
        """Forget all that was read."""
        self._cache, self._token_ids = None, np.zeros(0, "int32")

    def keep(self, cache, token_ids):
        """Remember a cache whose first positions are filled.

        Args:
            cache: the cache of one sequence.
            token_ids: int32 array, the tokens at its filled positions.
        """
        self._cache, self._token_ids = cache, token_ids

    def take(self, decoder, token_ids, cache_length):
        """Return what was read of a text, and forget it.

        Args:
            decoder: `CachedDecoder` that reads the text.
            token_ids: int32 array `(length,)`, the text.
            cache_length: int. Length of the cache that it needs.

        Returns:
            A cache, and the number of tokens of the text that are in it. They
            are fewer than `length`, since the last one must be read to go on.
            `None` and 0, if nothing can be used.
        """
        cache, before = self._cache, self._token_ids
        self.forget()
        model = decoder, cache_length, decoder.weights()
        known, self._model = self._model == model, model
        if cache is None or not known or not decoder.extends:
            return None, 0
        longest = min(len(before), len(token_ids) - 1)
        equal = before[:longest] == token_ids[:longest]
        num_read = longest if equal.all() else int(equal.argmin())
        return (cache, num_read) if num_read else (None, 0)


def choose_tokens(sample, logits, processed, token_ids, active):
    """Append the next token to each active sequence.

    Args:
        sample: from `BatchSampler.prepare`.
        logits: float32 `(batch_size, vocabulary_size)`.
        processed: the same after the logit processors.
        token_ids: int32 array `(batch_size, length)`, the tokens so far. The
            new tokens are written into it.
        active: list of pairs, an index in the batch and its `Sequence`.
    """
    if not active:
        return
    choices, largest, *logprobs = sample(logits, processed, token_ids, active)
    for i, sequence in active:
        position = sequence.length
        check_logits(largest[i], position)
        sequence.add(int(choices[i]), *(float(v[i]) for v in logprobs))
        token_ids[i, position] = choices[i]


def cancel(sequences):
    """End all sequences that are still running."""
    for sequence in sequences:
        if sequence.finish_reason is None:
            sequence.finish("canceled")


def batches_of(sequences, num_samples, image_token_id):
    """Return lists of sequences that can be read together.

    An image is read as a whole, before any sampling. So all sequences are in
    one list, unless one has an image that extends past the end of another's
    prompt.

    Args:
        sequences: list of `Sequence`.
        num_samples: int. Number of consecutive sequences that share a prompt.
        image_token_id: int, the placeholder for a part of an image; `None`
            for a model without images.
    """
    if not any(sequence.images for sequence in sequences):
        return [sequences] if sequences else []
    image_ends = [
        max(
            np.flatnonzero(np.equal(sequence.prompt_ids, image_token_id)),
            default=0,
        )
        for sequence in sequences
    ]
    if max(image_ends) < min(
        len(sequence.prompt_ids) for sequence in sequences
    ):
        return [sequences]
    return [
        sequences[i : i + num_samples]
        for i in range(0, len(sequences), num_samples)
    ]
