"""Beam search over a cached model; see `TextGenerator.beam_search`."""

import dataclasses

import numpy as np
from keras import ops

from kerasllm.checks import check_real
from kerasllm.generation._arguments import check_logits
from kerasllm.generation._decoding import batch_bucket

# The number of tokens to this power is still a float.
LARGEST_LENGTH_PENALTY = 50


def check_length_penalty(length_penalty):
    """Check that a length penalty is a number of reasonable size."""
    check_real(
        "length_penalty",
        length_penalty,
        lambda value: abs(value) <= LARGEST_LENGTH_PENALTY,
        "a finite number between -50 and 50",
        cure="1 compares texts by the mean log-probability of their tokens.",
    )


@dataclasses.dataclass(frozen=True)
class Beam:
    """A continuation of the prompt.

    Attributes:
        token_ids: tuple of ints, without the stop token.
        logprobs: tuple of floats, one for each token, under the model.
        processed_logprobs: the same, after the logit processors.
        logprob: float, that of the whole continuation after the processors,
            including the stop token.
        stopped: bool. Whether a stop token ended the continuation.
    """

    token_ids: tuple = ()
    logprobs: tuple = ()
    processed_logprobs: tuple = ()
    logprob: float = 0.0
    stopped: bool = False

    def score(self, length_penalty):
        """Return the score that compares continuations of different lengths."""
        length = len(self.token_ids) + self.stopped
        return self.logprob / max(length, 1) ** length_penalty

    def extend(self, token_id, logprob, processed_logprob, stop_token_ids):
        """Return this beam with one more token, which may be a stop token."""
        total = self.logprob + processed_logprob
        if token_id in stop_token_ids:
            return dataclasses.replace(self, logprob=total, stopped=True)
        return Beam(
            (*self.token_ids, token_id),
            (*self.logprobs, logprob),
            (*self.processed_logprobs, processed_logprob),
            total,
        )


def search_beams(decoder, sequence, num_beams, length_penalty, process):
    """Return the best continuation that a beam search finds.

    Args:
        decoder: a `CachedDecoder`.
        sequence: a `Sequence`, with the prompt and the stop tokens.
        num_beams: int. Number of prefixes that are kept.
        length_penalty: float. A score is the log-probability divided by
            `length ** length_penalty`.
        process: function that applies the generator's logit processors. It
            maps logits `(batch_size, vocabulary_size)` and token ids
            `(batch_size, length)` to logits.

    Returns:
        A `Beam`.
    """
    length, max_length = sequence.length, sequence.max_length
    token_ids, logits, cache = _read_prompt(decoder, sequence, num_beams)
    step = decoder.bind_step()
    beams, best = [Beam()], None
    for index in range(length, max_length):
        if index > length:
            logits, cache = step(token_ids[:, index - 1], cache, index - 1)
        processed = process(logits, token_ids)
        largest = ops.convert_to_numpy(ops.max(processed, axis=-1))
        check_logits(largest[: len(beams)], index)
        logprobs, processed = (
            ops.convert_to_numpy(ops.log_softmax(array))[: len(beams)]
            for array in (logits, processed)
        )
        is_last = index + 1 == max_length
        parents, extended = [], []
        for parent, beam in _extend_beams(
            beams, logprobs, processed, num_beams, sequence.stop_token_ids
        ):
            if not (beam.stopped or is_last):
                parents.append(parent)
                extended.append(beam)
            elif best is None or beam.score(length_penalty) > best.score(
                length_penalty
            ):
                best = beam
        beams = extended
        if not beams or _is_settled(
            best, beams, max_length - length, length_penalty
        ):
            break
        # Unused sequences of the batch copy the first beam.
        indices = np.zeros(len(token_ids), "int32")
        indices[: len(parents)] = parents
        cache = decoder.take(cache, indices, len(token_ids))
        token_ids = token_ids[indices]
        token_ids[:, index] = beams[0].token_ids[-1]
        token_ids[: len(beams), index] = [b.token_ids[-1] for b in beams]
    return best


def _read_prompt(decoder, sequence, num_beams):
    """Return a copy of the prompt per beam, the next logits, and the cache."""
    length = sequence.length
    cache_length = decoder.cache_length(sequence.max_length, num_beams)
    token_ids = np.full((batch_bucket(num_beams), cache_length), -1, "int32")
    token_ids[:, :length] = sequence.prompt_ids
    read = decoder.prefill(token_ids[:1], length, cache_length)
    return token_ids, *decoder.take(read, np.zeros(len(token_ids), "int32"), 1)


def _extend_beams(beams, logprobs, processed, num_beams, stop_token_ids):
    """Yield the likeliest beams that are one token longer, and their parents.

    Args:
        beams: list of `Beam`.
        logprobs: float array `(len(beams), vocabulary_size)`, under the model.
        processed: the same, after the logit processors. These rank the beams.
        num_beams: int. Largest number of beams to yield.
        stop_token_ids: set of ints.
    """
    totals = processed + np.array([[beam.logprob] for beam in beams])
    for position in _largest(totals.ravel(), num_beams):
        parent, token_id = divmod(int(position), processed.shape[1])
        if processed[parent, token_id] == -np.inf:
            return  # this token is banned, and so are all that follow
        yield (
            parent,
            beams[parent].extend(
                token_id,
                float(logprobs[parent, token_id]),
                float(processed[parent, token_id]),
                stop_token_ids,
            ),
        )


def _largest(values, count):
    """Return the indices of the largest values, largest first."""
    count = min(count, len(values))
    positions = np.argpartition(-values, count - 1)[:count]
    return positions[np.argsort(-values[positions], kind="stable")]


def _is_settled(best, beams, longest, length_penalty):
    """Return whether no other beam can still beat the best one."""
    if best is None:
        return False
    # A beam's log-probability can only fall, and its length can only grow.
    lengths = len(beams[0].token_ids) + 1, longest
    bound = max(beam.logprob for beam in beams)
    return best.score(length_penalty) >= max(
        bound / length**length_penalty for length in lengths
    )
