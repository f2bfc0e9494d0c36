"""A batch that sequences join and leave, for servers."""

import threading

import numpy as np
from keras import ops

from kerasllm.checks import UserError, check_int
from kerasllm.generation._arguments import (
    check_generator,
    check_logits,
    check_max_length,
)
from kerasllm.generation._batches import choose_tokens
from kerasllm.generation._decoding import CachedDecoder, batch_bucket
from kerasllm.generation.texts import make_result, token_array
from kerasllm.samplers import as_chain


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
    text does not depend on the other sequences. Llama, Gemma 3, GPT-2 and
    mini-GPT read one token of every sequence in a single pass over their
    weights, and so does any model with `takes_positions`. Others are called
    for one sequence at a time.

    A sequence whose logits are not finite, or whose own sampler raises, ends
    with the `finish_reason` `"error"` and the exception in `error`; the others
    continue. An error in a logit processor changes nothing, and the step can
    be repeated. If the model itself fails, all running sequences end so.

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
        check_generator(generator)
        if max_length is None:
            max_length = generator.causal_lm.preprocessor.sequence_length
        check_max_length(max_length, generator.causal_lm)
        self.generator = generator
        self.max_length = int(max_length)
        self._with_logprobs = bool(with_logprobs)
        self._slots = [None] * int(max_sequences)
        self._lock = threading.RLock()
        self._use(CachedDecoder.of(generator.causal_lm))
        size, length = self._cache.size, self._cache_length
        self._token_ids = np.full((size, length), -1, "int32")

    def _use(self, decoder):
        """Start with an empty cache for a decoder."""
        self._decoder = decoder
        self._cache_length = decoder.cache_length(
            self.max_length, len(self._slots)
        )
        kind = _SharedCache if decoder.takes_positions else _OwnCaches
        self._cache = kind(decoder, batch_bucket(len(self._slots)))

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
            UserError: the batch is full, an argument does not fit, or the
                model has got other variables (adapters, for one) while
                sequences are running.
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
        decoder = CachedDecoder.of(self.generator.causal_lm)
        if decoder is not self._decoder:
            if self.sequences:
                raise UserError(
                    "The model of a batch must keep its variables while "
                    "sequences are running. Received: other variables than "
                    f"before, and {len(self.sequences)} sequences. Wait until "
                    "they have ended."
                )
            self._use(decoder)
        token_ids = token_array([sequence], self._cache_length)
        logits, cache = decoder.prefill(
            token_ids, sequence.length, self._cache_length, [sequence.images]
        )
        sampling = self.generator.sampling
        sample = sampling.prepare(sequence.sampler, self._with_logprobs)
        processed = sampling.process(logits, token_ids)
        choose_tokens(sample, logits, processed, token_ids, [(0, sequence)])
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
            logits = self._read_tokens(active)
            # What is in a free slot is nobody's, but processors see it.
            for slot in range(len(self._token_ids)):
                if slot >= len(self._slots) or self._slots[slot] is None:
                    self._token_ids[slot] = self._token_ids[active[0][0]]
            processed = self.generator.sampling.process(logits, self._token_ids)
            for group in _by_sampler(active):
                self._choose_tokens(logits, processed, group)
            self._free_slots()
            return [sequence for _, sequence in active]

    def _read_tokens(self, active):
        """Return the logits after the newest token of each sequence."""
        try:
            return self._cache.step(active)
        except Exception as error:
            # The memory of the cache may have been given to the failed step.
            for _, sequence in active:
                _fail(sequence, error)
            self._free_slots()
            self._use(self._decoder)
            raise

    def _choose_tokens(self, logits, processed, group):
        """Sample for sequences of one sampler; an error ends only its own."""
        sampler = group[0][1].sampler
        sample = self.generator.sampling.prepare(sampler, self._with_logprobs)
        if as_chain(sampler) is None:  # a user's: it is alone in its group
            try:
                choose_tokens(sample, logits, processed, self._token_ids, group)
            except Exception as error:
                _fail(group[0][1], error)
            return
        choices, largest, *logprobs = sample(
            logits, processed, self._token_ids, group
        )
        for slot, sequence in group:
            position = sequence.length
            try:
                check_logits(largest[slot], position)
            except UserError as error:
                _fail(sequence, error)
                continue
            numbers = [float(values[slot]) for values in logprobs]
            sequence.add(int(choices[slot]), *numbers)
            self._token_ids[slot, position] = choices[slot]

    def _free_slots(self):
        """Remove the sequences that have ended."""
        for slot, sequence in enumerate(self._slots):
            if sequence is not None and sequence.finish_reason is not None:
                self._slots[slot] = None

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


def _by_sampler(active):
    """Group active sequences by equal samplers; a user's sampler is alone."""
    groups = {}
    for slot, sequence in active:
        ours = as_chain(sequence.sampler)
        key = slot if ours is None else ours
        groups.setdefault(key, []).append((slot, sequence))
    return groups.values()


def _fail(sequence, error):
    sequence.error = error
    sequence.finish("error")


class _SharedCache:
    """One cache for all sequences, each at its own position."""

    def __init__(self, decoder, size):
        self.size = size
        self._decoder = decoder
        self._arrays = self._step = None

    def put(self, slot, cache):
        """Store the cache of a new sequence."""
        self._step = self._decoder.bind_step(apart=True)  # to present weights
        if self._arrays is None:  # copies fill the slots until they are used
            self._arrays = self._decoder.take(
                cache, np.zeros(self.size, "int32"), 1
            )
        self._arrays = self._decoder.insert(self._arrays, cache, slot)

    def step(self, active):
        """Return the logits after the newest token of each sequence."""
        # A free slot reads token 0 at position 0, which is overwritten later.
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
        self._decoder = decoder
        self._caches = [None] * size
        self._step = None

    def put(self, slot, cache):
        """Store the cache of a new sequence."""
        self._step = self._decoder.bind_step()  # to the present weights
        self._caches[slot] = cache

    def step(self, active):
        """Return the logits after the newest token of each sequence."""
        logits = [None] * self.size
        for slot, sequence in active:
            newest = np.array([sequence.newest], "int32")
            logits[slot], self._caches[slot] = self._step(
                newest, self._caches[slot], sequence.length - 1
            )
        others = logits[active[0][0]]  # for slots that are free
        return ops.concatenate(
            [others if own is None else own for own in logits]
        )
