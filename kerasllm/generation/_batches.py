"""Batches of sequences that advance together.

`write_together` is the loop behind `TextGenerator.generate`: all sequences of a
call begin at the same time. A `ContinuousBatch` admits new ones at any time.
"""

import threading
import time

import numpy as np
from keras import ops

from kerasllm.checks import UserError, check_int
from kerasllm.generation._arguments import check_logits, check_max_length
from kerasllm.generation._decoding import CachedDecoder, batch_bucket
from kerasllm.generation._results import make_result
from kerasllm.generation._sequences import token_array
from kerasllm.samplers import as_chain


def write_together(
    decoder, sampling, sequences, call, num_samples=1, with_logprobs=False
):
    """Write sequences that begin together, and yield after each position.

    Args:
        decoder: a `CachedDecoder`.
        sampling: a `BatchSampler`.
        sequences: list of `Sequence`, with one sampler and one `max_length`.
        call: a `Call`, which measures the speed and may be canceled.
        num_samples: int. Number of consecutive sequences that share a prompt.
        with_logprobs: bool. Whether to record log-probabilities.
    """
    sample = sampling.prepare(sequences[0].sampler, with_logprobs)
    start = min(len(sequence.prompt_ids) for sequence in sequences)
    token_ids, logits, cache = _read_prompts(
        decoder, sequences, start, num_samples
    )
    step = decoder.bind_step()
    for index in range(start, sequences[0].max_length):
        started = time.perf_counter()
        compiled = decoder.num_compilations
        if index > start:
            # A text that has ended has no token here, so any token will do.
            newest = np.maximum(token_ids[:, index - 1], 0)
            logits, cache = step(newest, cache, index - 1)
        # The other sequences have ended or are still within their prompts.
        active = [
            (i, sequence)
            for i, sequence in enumerate(sequences)
            if sequence.finish_reason is None and sequence.length == index
        ]
        choose_tokens(sample, logits, token_ids, active)
        ready = index > start and decoder.num_compilations == compiled
        if ready and active:
            call.count(time.perf_counter() - started)
        yield
        if call.is_canceled:
            cancel(sequences)
        if all(sequence.finish_reason for sequence in sequences):
            return


def _read_prompts(decoder, sequences, start, num_samples):
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
    read = decoder.prefill(token_ids, start, cache_length, images)
    if num_samples > 1:
        copies = np.arange(batch_bucket(len(sequences)), dtype="int32")
        copies = np.minimum(copies // num_samples, len(sources) - 1)
        read = decoder.take(read, copies, len(token_ids))
        token_ids = token_array(sequences, cache_length)
    return token_ids, *read


def choose_tokens(sample, logits, token_ids, active):
    """Append the next token to each active sequence.

    Args:
        sample: from `BatchSampler.prepare`.
        logits: float32 `(batch_size, vocabulary_size)`.
        token_ids: int32 array `(batch_size, length)`, the tokens so far. The
            new tokens are written into it.
        active: list of pairs, an index in the batch and its `Sequence`.
    """
    if not active:
        return
    choices, largest, *logprobs = sample(logits, token_ids, active)
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


class ContinuousBatch:
    """Sequences that start and end at different times but advance together.

    A server's loop admits waiting requests, takes a step and sends new text:

    ```python
    batch = ContinuousBatch(generator, max_sequences=8, max_length=256)
    first = batch.admit("Once upon a time", seed=1)
    while batch.sequences:
        if somebody_waits and batch.num_free:
            batch.admit(their_prompt)
        for sequence in batch.step():
            print(sequence.take_text(), sequence.finish_reason)
    ```

    Each sequence has its own position, sampler, seed and stop tokens, and its
    text does not depend on the other sequences. A model with
    `takes_positions`, such as `MiniGPTCausalLM`, reads one token of every
    sequence in a single pass over its weights. Any other model is called for
    one sequence at a time.

    Several threads may call the methods; they wait for one another.

    Args:
        generator: a `TextGenerator`.
        max_sequences: int. Largest number of sequences at the same time.
        max_length: int. Tokens of the longest sequence, prompt included.
            Defaults to the preprocessor's `sequence_length`.
        with_logprobs: bool. Whether to record log-probabilities.

    Raises:
        UserError: a number is out of range.

    Source: Yu et al., 2022, "Orca: A Distributed Serving System for
    Transformer-Based Generative Models", section 4.1 (iteration-level
    scheduling).
    """

    def __init__(
        self, generator, max_sequences=8, max_length=None, with_logprobs=False
    ):
        check_int("max_sequences", max_sequences, 1)
        if max_length is None:
            max_length = generator.causal_lm.preprocessor.sequence_length
        check_max_length(max_length, generator.causal_lm)
        self.generator = generator
        self.max_length = int(max_length)
        self._with_logprobs = bool(with_logprobs)
        self._decoder = CachedDecoder.of(generator.causal_lm)
        self._cache_length = self._decoder.cache_length(self.max_length)
        kind = _SharedCache if self._decoder.takes_positions else _OwnCaches
        self._cache = kind(self._decoder, batch_bucket(int(max_sequences)))
        self._slots = [None] * int(max_sequences)
        self._token_ids = np.full(
            (self._cache.size, self._cache_length), -1, "int32"
        )
        self._samples = {}  # sampling functions, by sampler
        self._lock = threading.RLock()

    @property
    def sequences(self):
        """The running sequences, a list."""
        return [s for s in list(self._slots) if s is not None]

    @property
    def num_free(self):
        """The number of sequences that can still be admitted: an int."""
        return len(self._slots) - len(self.sequences)

    def admit(
        self,
        prompt,
        max_length=None,
        stop_token_ids="auto",
        seed=None,
        *,
        stop_strings=(),
        sampler=None,
    ):
        """Read a prompt and sample the first token of a new sequence.

        Args:
            prompt: str or `TokenizedPrompt`.
            max_length: int, at most that of the batch, which is the default.
            stop_token_ids: see `TextGenerator.generate`, as for the rest.
            seed: int or `keras.random.SeedGenerator`.
            stop_strings: str or sequence of str.
            sampler: a sampler to use instead of the generator's own.

        Returns:
            The `Sequence`. Its `take_text()` returns the new text. Its
            `finish_reason` is `None` until the sequence ends, which may happen
            at its first token.

        Raises:
            UserError: the batch is full, or an argument does not fit.
        """
        if max_length is None:
            max_length = self.max_length
        (sequence,) = self.generator.make_sequences(
            [prompt], max_length, stop_token_ids, seed, stop_strings, 1,
            sampler, stream=True,
        )  # fmt: skip
        check_int("max_length", max_length, 2, self.max_length)
        with self._lock:
            if None not in self._slots:
                raise UserError(
                    f"A batch holds at most {len(self._slots)} sequences. "
                    "Received: one more. Wait until `num_free` is not 0, or "
                    "make a batch with a larger `max_sequences`."
                )
            self._read_prompt(self._slots.index(None), sequence)
        return sequence

    def _read_prompt(self, slot, sequence):
        length = sequence.length
        token_ids = token_array([sequence], self._cache_length)
        logits, cache = self._decoder.prefill(
            token_ids, length, self._cache_length, [sequence.images]
        )
        sample = self._sample_of(sequence, alone=True)
        choose_tokens(sample, logits, token_ids, [(0, sequence)])
        if sequence.finish_reason is None:
            self._cache.put(slot, cache)
            self._token_ids[slot] = token_ids[0]
            self._slots[slot] = sequence

    def step(self):
        """Read and sample one more token of each sequence.

        Returns:
            A list of the sequences that advanced, including those that have
            ended. Ended sequences are removed from the batch.
        """
        with self._lock:
            active = [
                (slot, sequence)
                for slot, sequence in enumerate(self._slots)
                if sequence is not None
            ]
            if not active:
                return []
            logits = self._cache.step(active)
            for group in self._by_sampler(active):
                sample = self._sample_of(group[0][1])
                choose_tokens(sample, logits, self._token_ids, group)
            for slot, sequence in active:
                if sequence.finish_reason is not None:
                    self._slots[slot] = None
            return [sequence for _, sequence in active]

    def finish(self, sequence):
        """End a sequence early and free its slot in the batch.

        Args:
            sequence: what `admit` returned. If it has ended, nothing changes.
        """
        with self._lock:
            if sequence in self._slots:
                sequence.finish("canceled")
                self._slots[self._slots.index(sequence)] = None

    def result(self, sequence, strip_prompt=False):
        """Return the result of a sequence: a `Generation`.

        Its text does not include what `take_text` has already returned.
        """
        return make_result(sequence, self.generator.detokenize, strip_prompt)

    def _sample_of(self, sequence, alone=False):
        """Return the sampling function of a sequence, bound once per shape."""
        key = alone, _key_of(sequence.sampler)
        if key not in self._samples:
            # The sampler is stored, too, since the key may be its address.
            sample = self.generator.sampling.prepare(
                sequence.sampler, self._with_logprobs
            )
            self._samples[key] = sequence.sampler, sample
        return self._samples[key][1]

    @staticmethod
    def _by_sampler(active):
        """Group the active sequences by their sampler, and return lists."""
        groups = {}
        for slot, sequence in active:
            key = _key_of(sequence.sampler)
            groups.setdefault(key, []).append((slot, sequence))
        return groups.values()


class _SharedCache:
    """One cache for all sequences, each at its own position."""

    def __init__(self, decoder, size):
        self.size = size
        self._decoder = decoder
        self._arrays = None
        self._step = decoder.bind_step(apart=True)

    def put(self, slot, cache):
        """Store the cache of a new sequence."""
        if self._arrays is None:  # copies fill the slots until they are used
            self._arrays = self._decoder.take(
                cache, np.zeros(self.size, "int32"), 1
            )
        self._arrays = self._decoder.insert(self._arrays, cache, slot)

    def step(self, active):
        """Return the logits after the newest token of each sequence."""
        # A free slot reads token 0 at position 0, which is later overwritten.
        token_ids = np.zeros(self.size, "int32")
        positions = np.zeros(self.size, "int32")
        for slot, sequence in active:
            token_ids[slot] = sequence.newest
            positions[slot] = sequence.length - 1
        logits, self._arrays = self._step(token_ids, self._arrays, positions)
        return logits


class _OwnCaches:
    """One cache per sequence, for models with one position per call."""

    def __init__(self, decoder, size):
        self.size = size
        self._caches = [None] * size
        self._step = decoder.bind_step()
        self._nothing = None

    def put(self, slot, cache):
        """Store the cache of a new sequence."""
        self._caches[slot] = cache

    def step(self, active):
        """Return the logits after the newest token of each sequence."""
        logits = [None] * self.size
        for slot, sequence in active:
            newest = np.array([sequence.newest], "int32")
            logits[slot], self._caches[slot] = self._step(
                newest, self._caches[slot], sequence.length - 1
            )
        nothing = ops.zeros_like(logits[active[0][0]])
        return ops.concatenate(
            [nothing if rows is None else rows for rows in logits]
        )


def _key_of(sampler):
    """Return a key that equal samplers share: a `Chain` or an address."""
    ours = as_chain(sampler)
    return id(sampler) if ours is None else ours
