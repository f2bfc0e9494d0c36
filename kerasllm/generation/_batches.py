"""Batches of sequences that advance together.

`write_together` is the loop behind `TextGenerator.generate`: all sequences of a
call begin at the same time. A `ContinuousBatch` admits new ones at any time.
"""

import threading
import time

import numpy as np

from kerasllm.generation._arguments import check_logits
from kerasllm.generation._decoding import batch_bucket, length_bucket
from kerasllm.generation.texts import token_array

# Reading a shared prefix first takes two more compiled functions.
FEWEST_SHARED = 64
MOST_SCORES = 2**20  # of one head, which take 4 MB
# Finished sequences stay in smaller batches: each size is compiled once more.
FEWEST_TO_SHRINK = 64


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
        sequences: list of `Sequence`, with one sampler.
        call: a `Call`, which measures the speed and may be canceled.
        num_samples: int. Number of consecutive sequences that share a prompt.
        with_logprobs: bool. Whether to record log-probabilities.
        past: `Past` of a conversation that one sequence continues, or `None`.
    """
    sample = sampling.prepare(sequences[0].sampler, with_logprobs)
    start = min(len(sequence.prompt_ids) for sequence in sequences)
    longest = max(sequence.max_length for sequence in sequences)
    cache_length = decoder.cache_length(longest, len(sequences))
    if any(sequence.images for sequence in sequences) or not decoder.extends:
        past = None
    model = None if past is None else (decoder, cache_length, decoder.weights())
    token_ids, logits, cache = _read_prompts(
        decoder, sequences, start, num_samples, cache_length, past, model
    )
    step = decoder.bind_step()
    for index in range(start, longest):
        started = time.perf_counter()
        delays = decoder.num_delays
        if index > start:
            if _are_few_running(sequences, len(token_ids)):
                sequences, token_ids, cache = _drop_finished(
                    decoder, sequences, token_ids, cache
                )
                # These are for one size of batches.
                sample = sampling.prepare(sequences[0].sampler, with_logprobs)
                step = decoder.bind_step()
            # A text that has ended has no token here, so any token will do.
            newest = np.maximum(token_ids[:, index - 1], 0)
            logits, cache = step(newest, cache, index - 1)
        active = _waiting_at(sequences, index)
        processed = sampling.process(logits, token_ids) if active else logits
        choose_tokens(sample, logits, processed, token_ids, active)
        if active and index > start and decoder.num_delays == delays:
            call.count(time.perf_counter() - started)
        try:
            yield
        except GeneratorExit:  # nobody reads on
            break
        if call.is_canceled:
            cancel(sequences)
        if all(sequence.finish_reason for sequence in sequences):
            break
    if past is not None:
        past.keep(model, cache, token_ids[0, :index])


def _waiting_at(sequences, index):
    """Return which sequences need a token at a position.

    The others have ended or are still within their prompts.

    Returns:
        list of pairs of an index in the batch and a `Sequence`.
    """
    return [
        (i, sequence)
        for i, sequence in enumerate(sequences)
        if sequence.finish_reason is None and sequence.length == index
    ]


def _are_few_running(sequences, batch_size):
    """Return whether a quarter of a large batch would be enough."""
    if batch_size < FEWEST_TO_SHRINK:
        return False
    num_running = sum(sequence.finish_reason is None for sequence in sequences)
    return 4 * num_running <= batch_size


def _drop_finished(decoder, sequences, token_ids, cache):
    """Return what is left of a batch without its finished sequences.

    Args:
        decoder: the `CachedDecoder`.
        sequences: list of `Sequence`, not all of which have finished.
        token_ids: int32 array `(batch_size, length)`; see `token_array`.
        cache: the cache of the batch.

    Returns:
        The same three, for a smaller batch.
    """
    running = [i for i, s in enumerate(sequences) if s.finish_reason is None]
    # Unused sequences of the batch repeat the first one.
    kept = np.full(batch_bucket(len(running)), running[0], "int32")
    kept[: len(running)] = running
    cache = decoder.take(cache, kept, len(token_ids))
    return [sequences[i] for i in running], token_ids[kept], cache


def _read_prompts(
    decoder, sequences, start, num_samples, cache_length, past, model
):
    """Read the first `start` tokens of all sequences.

    Returns:
        The prompts as an array (see `token_array`), the logits for the
        position `start`, and the cache.
    """
    # A prompt is read once and then copied for each of its samples.
    sources = sequences[::num_samples]
    token_ids = token_array(sources, cache_length)
    images = [sequence.images for sequence in sources]
    cache, num_read = None, 0
    if past is not None:
        cache, num_read = past.take(model, token_ids[0, :start])
        if not _saves_time(num_read, start, cache_length):
            num_read = 0
    elif not any(images):
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
    """Read the prefix that all prompts of a batch share, if that saves time.

    Worked examples in front of each question are such a prefix.

    Returns:
        A cache, and the number of tokens of each prompt that are in it;
        `None` and 0 if every prompt should be read as a whole.
    """
    batch_size, cache_length = token_ids.shape
    length = num_shared(token_ids[:, :start])
    if batch_size == 1 or length < FEWEST_SHARED:
        return None, 0
    if not (decoder.extends and _saves_time(length, start, cache_length)):
        return None, 0
    _, cache = decoder.prefill(token_ids[:1], length, cache_length)
    return decoder.take(cache, np.zeros(batch_size, "int32"), 1), length


def num_shared(token_ids):
    """Return how many tokens several prompts share, but for the last one.

    Args:
        token_ids: int32 array `(batch_size, length)`. The last token must be
            read to go on, so it does not count.
    """
    token_ids = token_ids[:, :-1]
    is_shared = (token_ids == token_ids[0]).all(axis=0)
    return len(is_shared) if is_shared.all() else int(is_shared.argmin())


def _saves_time(num_read, start, cache_length):
    """Return whether to read the rest of a prompt after what was read.

    Its scores are for the whole length of the cache, and those of a prompt
    that is read at once are not.
    """
    rest, whole = length_bucket(start - num_read), length_bucket(start)
    return rest < whole and rest * cache_length <= max(whole**2, MOST_SCORES)


class Past:
    """What a model has read of a conversation: its tokens and their cache.

    Each turn of a conversation begins with all that was said before. Give the
    same `Past` to the calls for all its turns, and each of them reads only
    what is new. A call takes what is there and puts it back when it has
    ended; another call that comes meanwhile reads everything.

    The result is that of a call without it, up to rounding. If the model's
    weights have changed, the text is read anew.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._kept = None  # a model, a cache, and the tokens in it

    def take(self, model, token_ids):
        """Return what was read of a text, and keep it no longer.

        Args:
            model: what is equal for the same weights and sizes.
            token_ids: int32 array `(length,)`, the text.

        Returns:
            A cache, and the number of tokens of the text that are in it. They
            are fewer than `length`, since the last one must be read to go on.
            `None` and 0, if nothing can be used.
        """
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is None or kept[0] != model:
            return None, 0
        _, cache, before = kept
        length = min(len(before) + 1, len(token_ids))
        both = np.zeros((2, length), "int32")
        both[0, : length - 1] = before[: length - 1]
        both[1] = token_ids[:length]
        num_read = num_shared(both)
        return (cache, num_read) if num_read else (None, 0)

    def keep(self, model, cache, token_ids):
        """Keep a cache for the next call.

        Args:
            model: as for `take`.
            cache: the cache of one sequence. It must not be used any more.
            token_ids: int32 array, the tokens at its filled positions.
        """
        with self._lock:
            self._kept = model, cache, token_ids


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
    are_finite = np.isfinite(largest).tolist()
    # Python reads numbers from a list faster than from an array.
    numbers = [array.tolist() for array in (choices, *logprobs)]
    numbers = list(zip(*numbers, strict=True))
    for i, sequence in active:
        position = sequence.length
        if not are_finite[i]:
            check_logits(largest[i], position)
        sequence.add(*numbers[i])
        token_ids[i, position] = numbers[i][0]


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
