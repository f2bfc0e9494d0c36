"""Cached, compiled, streaming generation for every causal model of KerasHub.

One loop serves all methods. It reads the prefix that the sequences share. Then,
at each position, it samples a token for each sequence and reads it. `generate`
runs the loop to the end, and `stream` returns text along the way. See
`kerasllm.generate` for a loop that recomputes everything.

A generator keeps no state between calls, so threads may share one.
"""

import threading

import numpy as np

from kerasllm.checks import UserError, check_int
from kerasllm.generation._arguments import (
    check_max_length,
    check_prompt,
    check_stop_strings,
    find_stop_tokens,
    get_vocabulary_size,
    tokenize_prompts,
)
from kerasllm.generation._batches import batches_of, write_together
from kerasllm.generation._beam_search import check_length_penalty, search_beams
from kerasllm.generation._decoding import CachedDecoder
from kerasllm.generation.texts import (
    BatchSampler,
    Call,
    Sequence,
    Stream,
    TextStream,
    TokenizedPrompt,
    make_result,
    make_results,
    sequence_seeds,
)
from kerasllm.samplers import check_sampler, greedy_search


class TextGenerator:
    """Generates text with a key/value cache.

    Each position is computed once. A model is compiled once for each padded
    size (`num_compilations` counts), whatever the prompts, the sampler and its
    parameters are, and however many generators use it. TensorFlow reads the
    first prompt of a size without compiling.

    Args:
        causal_lm: a `MiniGPTCausalLM`, or any other KerasHub task that has
            `call_with_cache`, a cache with an entry for each token, and a
            preprocessor. GPT-2, Llama 3 and Gemma 3 are tested.
        sampler: any callable from float32 logits `(vocabulary_size,)` to a
            token id, as for `kerasllm.generate`. The samplers of
            `kerasllm.samplers` are compiled and see all sequences at once;
            any other one is called unchanged, for one sequence at a time.
        logit_processors: sequence of callables that change the logits before
            the sampler sees them, in this order. Each gets float32 logits
            `(batch_size, vocabulary_size)` and, if it has a parameter
            `token_ids`, the tokens so far, int32 `(batch_size, length)`
            padded with -1. It returns logits, or a bool mask of their shape
            (or one that broadcasts to it), true for tokens that may come
            next.

    Threads may share a generator, or each have one for the same model. Each
    call returns what it would return on its own.

    Raises:
        UserError: the model has no cache or no preprocessor, the sampler is
            not callable, or its `k` is larger than the vocabulary.

    Example:
    ```python
    generator = TextGenerator(causal_lm, chain(temperature=0.8, top_k=40))
    print(generator.generate("Once upon a time", max_length=128, seed=0))
    for piece in generator.stream("Once upon a time", max_length=128):
        print(piece, end="", flush=True)
    ```

    Source: chapter 16, section 16.2.3, the box on key and value caching; Pope
    et al., 2022, arXiv:2211.05102.
    """

    def __init__(self, causal_lm, sampler=greedy_search, logit_processors=()):
        for name in ("call_with_cache", "_build_cache", "preprocessor"):
            if getattr(causal_lm, name, None) is None:
                raise UserError(
                    "`causal_lm` must be a KerasHub `CausalLM` with a cache "
                    "and a preprocessor. Received: a "
                    f"{type(causal_lm).__name__} without `{name}`. "
                    "`MiniGPTCausalLM.from_mini_gpt(model, tokenizer)` makes "
                    "one from a mini-GPT."
                )
        self.causal_lm = causal_lm
        self.sampler = sampler
        self._tokenizer = causal_lm.preprocessor.tokenizer
        self._special_token_ids = frozenset(
            getattr(self._tokenizer, "special_token_ids", ())
        )
        self._vocabulary_size = get_vocabulary_size(causal_lm, self._tokenizer)
        check_sampler(sampler, self._vocabulary_size)
        self.sampling = BatchSampler(self._vocabulary_size, logit_processors)
        self._latest = Call()
        self._running = set()
        self._lock = threading.Lock()

    @property
    def tokens_per_second(self):
        """Speed of one sequence in the most recent call: a float or `None`.

        It does not count the time to read prompts, sample the first token and
        compile, nor the time that the reader of a stream takes between pieces.
        If threads share the generator, ask the `Generation` or the `Stream`.
        """
        return self._latest.tokens_per_second

    @property
    def num_compilations(self):
        """Number of compilations of the model and the samplers: a dict."""
        return {
            "model": self._decoder.num_compilations,
            "samplers": self.sampling.num_compilations,
        }

    @property
    def _decoder(self):
        return CachedDecoder.of(self.causal_lm)

    def stop(self):
        """End all running calls; any thread may call this.

        Each call ends after the current token and returns what it has, with
        `finish_reason` set to `"canceled"`. Later calls are not affected.
        """
        with self._lock:
            for call in self._running:
                call.cancel()

    def generate(
        self,
        prompts,
        max_length=None,
        stop_token_ids="auto",
        seed=None,
        strip_prompt=False,
        return_logprobs=False,
        *,
        stop_strings=(),
        num_samples=1,
        sampler=None,
        stop_event=None,
    ):
        """Continue prompts until each text ends.

        Args:
            prompts: str or list of str, of any lengths. A `TokenizedPrompt`
                may be used instead of a str.
            max_length: int. Number of tokens at which to stop, prompt
                included. Defaults to the preprocessor's `sequence_length`.
            stop_token_ids: int or list of ints, the tokens that end a text;
                `None` for none; `"auto"` for the tokenizer's end tokens.
            seed: int or `keras.random.SeedGenerator`, whose draws all prompts
                share, or a list of ints, one for each prompt. A prompt then
                gives the same text on the same backend, whatever else is in
                the batch, but for rounding in half precision. `None` gives new
                draws each time, as `keras.utils.set_random_seed` controls.
            strip_prompt: bool. Whether to return only the continuations.
            return_logprobs: bool. Whether to return `Generation`s, with
                log-probabilities, instead of strings.
            stop_strings: str or sequence of str. A text ends before the one
                of them that is complete first after its prompt. Special tokens
                are not text; pass them as `stop_token_ids`.
            num_samples: int. Number of texts for each prompt, with different
                draws. The prompt is read once for all of them.
            sampler: a sampler for this call instead of the generator's own.
            stop_event: `threading.Event`. When another thread sets it, all
                texts end after the current token; see `stop`.

        Returns:
            str for one prompt, a list of str for a list. If `num_samples` is
            greater than 1, each text is replaced by a list of texts.

        Raises:
            UserError: an argument does not fit the model, before anything is
                computed. Or, while sampling, logits are NaN or a user-defined
                sampler does not return a token id.
        """
        one = isinstance(prompts, str | TokenizedPrompt)
        if not one and not isinstance(prompts, list | tuple | np.ndarray):
            check_prompt(prompts)
        prompts = [prompts] if one else list(prompts)
        check_int("num_samples", num_samples, 1)
        sequences = self.make_sequences(
            prompts, max_length, stop_token_ids, seed, stop_strings,
            num_samples, sampler,
        )  # fmt: skip
        call = Call(stop_event)
        for _ in self.run(sequences, call, num_samples, return_logprobs):
            pass
        results = make_results(
            sequences, num_samples, self.detokenize, strip_prompt,
            return_logprobs, call,
        )  # fmt: skip
        return results[0] if one else results

    def stream(
        self,
        prompt,
        max_length=None,
        stop_token_ids="auto",
        seed=None,
        *,
        stop_strings=(),
        sampler=None,
        stop_event=None,
        past=None,
    ):
        """Continue a prompt and yield text as it is sampled.

        The joined pieces are what `generate` returns with `strip_prompt=True`.
        No piece ends within a character.

        Args:
            prompt: str or `TokenizedPrompt`.
            max_length: see `generate`, as for the rest.
            stop_token_ids: int, list of ints, `None` or `"auto"`.
            seed: int or `keras.random.SeedGenerator`.
            stop_strings: str or sequence of str.
            sampler: a sampler for this call.
            stop_event: `threading.Event`; see `generate`.
            past: `Past` of a conversation. What it has read is not read again.

        Returns:
            A `Stream`, an iterator of str.

        Raises:
            UserError: as for `generate`. A wrong argument raises at once, not
                when the first piece is read.
        """
        if not isinstance(prompt, TokenizedPrompt):
            check_prompt(prompt)
        (sequence,) = self.make_sequences(
            [prompt], max_length, stop_token_ids, seed, stop_strings, 1,
            sampler, stream=True,
        )  # fmt: skip
        call = Call(stop_event)
        return Stream(sequence, self.run([sequence], call, past=past), call)

    def beam_search(
        self,
        prompt,
        num_beams=4,
        length_penalty=1.0,
        max_length=None,
        stop_token_ids="auto",
        strip_prompt=False,
        return_logprobs=False,
    ):
        """Continue a prompt with the most likely text found by beam search.

        At each position, the `num_beams` likeliest prefixes are kept. Those
        that end with a stop token are finished, and the others continue. The
        score of a finished text is its log-probability divided by
        `number_of_new_tokens ** length_penalty`, counting a stop token. The
        generator's sampler is not used, but its logit processors are.

        Args:
            prompt: str.
            num_beams: int. With 1, this is greedy search with stop tokens.
            length_penalty: float. 0 compares texts by log-probability, which
                favors short ones; 1 by the mean log-probability per token.
            max_length: int; see `generate`, as for the rest.
            stop_token_ids: int, list of ints, `None` or `"auto"`.
            strip_prompt: bool.
            return_logprobs: bool.

        Returns:
            str, or a `Generation`.

        Raises:
            UserError: an argument does not fit the model.

        Source: Wu et al., 2016, arXiv:1609.08144, section 7, without its
        coverage penalty and with a plain power of the length.
        """
        check_int("num_beams", num_beams, 1, cure="1 is greedy search.")
        check_length_penalty(length_penalty)
        check_prompt(prompt)
        (sequence,) = self.make_sequences(
            [prompt], max_length, stop_token_ids, None, (), 1, greedy_search
        )
        beam = search_beams(
            self._decoder,
            sequence,
            int(num_beams),
            float(length_penalty),
            self.sampling.process,
        )
        sequence.token_ids = list(beam.token_ids)
        sequence.logprobs = list(beam.logprobs)
        sequence.sampler_logprobs = list(beam.processed_logprobs)
        sequence.finish_reason = "stop_token" if beam.stopped else "max_length"
        return make_result(
            sequence, self.detokenize, strip_prompt, return_logprobs
        )

    def make_sequences(
        self,
        prompts,
        max_length=None,
        stop_token_ids="auto",
        seed=None,
        stop_strings=(),
        num_samples=1,
        sampler=None,
        stream=False,
    ):
        """Check all arguments and return a `Sequence` for each new text.

        Args:
            prompts: list of str or `TokenizedPrompt`.
            max_length: see `generate`, as for the next five.
            stop_token_ids: int, list of ints, `None` or `"auto"`.
            seed: int, list of ints or `keras.random.SeedGenerator`.
            stop_strings: str or sequence of str.
            num_samples: int.
            sampler: any sampler.
            stream: bool. Whether the text is needed piece by piece.
        """
        if max_length is None:
            max_length = self.causal_lm.preprocessor.sequence_length
        check_max_length(max_length, self.causal_lm)
        stop_token_ids = find_stop_tokens(
            stop_token_ids, self._tokenizer, self._vocabulary_size
        )
        stop_strings = check_stop_strings(stop_strings)
        sampler = self.sampler if sampler is None else sampler
        check_sampler(sampler, self._vocabulary_size)
        seeds = sequence_seeds(sampler, seed, len(prompts), num_samples)

        prompts = tokenize_prompts(
            prompts,
            self.causal_lm.preprocessor,
            max_length,
            self._vocabulary_size,
        )

        def make(prompt):
            token_ids = list(getattr(prompt, "token_ids", prompt))
            text = None
            if stop_strings or stream:
                text = TextStream(
                    self.detokenize,
                    token_ids,
                    stop_strings,
                    self._special_token_ids,
                )
            return Sequence(
                prompt_ids=token_ids,
                images=getattr(prompt, "images", ()),
                max_length=int(max_length),
                stop_token_ids=stop_token_ids,
                sampler=sampler,
                seed=next(seeds),
                stream=text,
            )

        return [make(prompt) for prompt in prompts for _ in range(num_samples)]

    def run(
        self, sequences, call=None, num_samples=1, with_logprobs=False,
        past=None,
    ):  # fmt: skip
        """Write sequences of `make_sequences`; yield after each position."""
        self._latest = call = call or Call()
        with self._lock:
            self._running.add(call)
        try:
            image_token_id = getattr(
                self._tokenizer, "image_placeholder_id", None
            )
            for batch in batches_of(sequences, num_samples, image_token_id):
                yield from write_together(
                    self._decoder, self.sampling, batch, call, num_samples,
                    with_logprobs, past,
                )  # fmt: skip
        finally:
            with self._lock:
                self._running.discard(call)

    def detokenize(self, token_ids):
        """Return the text of a list of ints, without special tokens."""
        special = self._special_token_ids
        token_ids = [i for i in token_ids if i not in special]
        return self._tokenizer.detokenize(token_ids) if token_ids else ""
