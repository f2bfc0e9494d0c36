"""Cached, compiled, streaming generation for every causal model of KerasHub.

One loop serves all: read the beginning that the rows share, then, position by
position, sample a token for each row and read it. `generate` runs it to the
end, `stream` hands out text on the way. See `kerasllm.generation` for the
loops that compute everything anew.
"""

import dataclasses
import numbers
import time

import numpy as np
from keras import ops

from kerasllm.arguments import (
    check_logits,
    check_max_length,
    check_prompt,
    check_prompt_tokens,
    find_stop_tokens,
    get_vocabulary_size,
    is_int,
)
from kerasllm.beam_search import search_beams
from kerasllm.decoding import CachedDecoder, batch_bucket
from kerasllm.rows import (
    Row,
    RowSampler,
    TokenizedPrompt,
    row_seeds,
    token_array,
)
from kerasllm.samplers import check_sampler, greedy_search
from kerasllm.text_stream import TextStream


@dataclasses.dataclass(frozen=True)
class Generation:
    """A generated text and how it came about.

    Attributes:
        text: str, as `TextGenerator.generate` returns it.
        token_ids: tuple of ints, the new tokens, without the stop token.
        finish_reason: `"stop_token"`, `"stop_string"` or `"max_length"`.
        logprobs: tuple of floats, the natural logarithm of the probability
            of each new token under the model.
        sampler_logprobs: the same under the distribution that the sampler
            drew from, after temperature, filters, penalties and logit
            processors; `None` for a sampler that does not tell.
    """

    text: str
    token_ids: tuple
    finish_reason: str
    logprobs: tuple
    sampler_logprobs: tuple | None


class TextGenerator:
    """Generates text with a key/value cache.

    Each position is computed once. A model is compiled once for each padded
    size (`num_compilations` counts), whatever the prompts, the sampler and its
    numbers are, and however many generators it has.

    Args:
        causal_lm: a `MiniGPTCausalLM`, or any other task of KerasHub that has
            `call_with_cache`, a cache with a place for each token, and a
            preprocessor. GPT-2, Llama 3 and Gemma 3 are tested.
        sampler: any callable from float32 logits `(vocabulary_size,)` to a
            token id, as for `kerasllm.generate`. The samplers of
            `kerasllm.samplers` are compiled and see all rows at once; any
            other one is called as it is, row by row.
        logit_processors: sequence of callables that change the logits before
            the sampler sees them, in this order. Each gets float32 logits
            `(batch_size, vocabulary_size)` and, if it has a parameter
            `token_ids`, the tokens so far, int32 `(batch_size, length)`
            filled up with -1. It returns logits, or a bool mask of their
            shape (or one that broadcasts to it), true for tokens that may
            come next.

    Raises:
        ValueError: the model has no cache or no preprocessor, or the sampler
            is no callable or its `k` over the vocabulary.

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
                raise ValueError(
                    "`causal_lm` must be a KerasHub `CausalLM` with a cache "
                    f"and a preprocessor. Received: {causal_lm!r} without "
                    f"`{name}`. `MiniGPTCausalLM.from_mini_gpt(model, "
                    "tokenizer)` makes one of a mini-GPT."
                )
        self.causal_lm = causal_lm
        self.sampler = sampler
        self._tokenizer = causal_lm.preprocessor.tokenizer
        self._special_token_ids = frozenset(
            getattr(self._tokenizer, "special_token_ids", ())
        )
        self._vocabulary_size = get_vocabulary_size(causal_lm, self._tokenizer)
        check_sampler(sampler, self._vocabulary_size)
        self._decoder = CachedDecoder.of(causal_lm)
        self._sampling = RowSampler(self._vocabulary_size, logit_processors)
        self._steps, self._seconds = 0, 0.0

    @property
    def tokens_per_second(self):
        """Speed of one row in the last call: a float, `None` before any.

        Reading prompts, the first token and what had to be compiled are not
        counted; nor is what the reader of a stream does in between.
        """
        return self._steps / self._seconds if self._steps else None

    @property
    def num_compilations(self):
        """How often the model and the samplers have been compiled: a dict."""
        return {
            "model": self._decoder.num_compilations,
            "samplers": self._sampling.num_compilations,
        }

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
    ):
        """Continue prompts, each until it stops by itself.

        Args:
            prompts: str or list of str, of any lengths. A `TokenizedPrompt`
                may stand for a str.
            max_length: int. Number of tokens at which to stop, prompt
                included. Defaults to the preprocessor's `sequence_length`.
            stop_token_ids: int or list of ints, the tokens that end a text;
                `None` for none; `"auto"` for the tokenizer's end tokens.
            seed: int or `keras.random.SeedGenerator`. A prompt then gives the
                same text each time on the same backend, whatever else is in
                the batch. (In half precision one row and many are rounded
                differently, which can turn the choice between tokens that
                are nearly as likely.) `None` draws anew, as
                `keras.utils.set_random_seed` says.
            strip_prompt: bool. Whether to return the continuations alone.
            return_logprobs: bool. Whether to return `Generation`s, with log
                probabilities, in place of strings.
            stop_strings: str or sequence of str. A text ends before the first
                of them that appears after its prompt. Special tokens are no
                text: they belong to `stop_token_ids`.
            num_samples: int. Texts for each prompt, with different draws. The
                prompt is read once for all of them.
            sampler: a sampler for this call in place of the generator's own.

        Returns:
            str for one prompt, a list of str for a list. With `num_samples`
            over 1 a list of texts stands in place of each text.

        Raises:
            ValueError: an argument does not fit the model, before anything is
                computed; or the logits are NaN, or a sampler of your own
                returns no token id, at the first token.
        """
        one = isinstance(prompts, str | TokenizedPrompt)
        if not one and not isinstance(prompts, list | tuple | np.ndarray):
            check_prompt(prompts)
        prompts = [prompts] if one else list(prompts)
        if not is_int(num_samples) or num_samples < 1:
            raise ValueError(
                "`num_samples` must be a positive int. Received: "
                f"num_samples={num_samples!r}."
            )
        rows = self._make_rows(
            prompts, max_length, stop_token_ids, seed, stop_strings,
            num_samples, sampler,
        )  # fmt: skip
        for _ in self._run(rows, num_samples, return_logprobs):
            pass
        results = [
            self._result(row, strip_prompt, return_logprobs) for row in rows
        ]
        if num_samples > 1:
            results = [
                results[i : i + num_samples]
                for i in range(0, len(results), num_samples)
            ]
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
    ):
        """Continue a prompt and yield text as it is sampled.

        The pieces joined are what `generate` returns with
        `strip_prompt=True`. None ends within a character.

        Args:
            prompt: str or `TokenizedPrompt`.
            max_length: see `generate`, as for the rest.
            stop_token_ids: int, list of ints, `None` or `"auto"`.
            seed: int or `keras.random.SeedGenerator`.
            stop_strings: str or sequence of str.
            sampler: a sampler for this call.

        Returns:
            An iterator of str.

        Raises:
            ValueError: as for `generate`; a wrong argument shows at once, not
                when the first piece is asked for.
        """
        if not isinstance(prompt, TokenizedPrompt):
            check_prompt(prompt)
        rows = self._make_rows(
            [prompt], max_length, stop_token_ids, seed, stop_strings, 1,
            sampler, stream=True,
        )  # fmt: skip
        return self._stream(rows)

    def _stream(self, rows):
        (row,) = rows
        for _ in self._run(rows):
            if row.pieces:
                yield "".join(row.pieces)
                row.pieces.clear()

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
        """Continue a prompt with the most likely text that beams find.

        At each position the `num_beams` likeliest beginnings are kept; those
        that a stop token ends are finished, the others go on. A finished text
        is scored by its log-probability over
        `number_of_new_tokens ** length_penalty`, a stop token included. The
        generator's sampler plays no role; its logit processors do.

        Args:
            prompt: str.
            num_beams: int. At 1 this is greedy search, stop tokens included.
            length_penalty: float. 0 compares texts by their probability,
                which favours short ones; 1 by the mean of its logarithm.
            max_length: int; see `generate`, as for the rest.
            stop_token_ids: int, list of ints, `None` or `"auto"`.
            strip_prompt: bool.
            return_logprobs: bool.

        Returns:
            str, or a `Generation`.

        Raises:
            ValueError: an argument does not fit the model.

        Source: Wu et al., 2016, arXiv:1609.08144, section 7, without its
        coverage penalty and with a plain power of the length.
        """
        if not is_int(num_beams) or num_beams < 1:
            raise ValueError(
                "`num_beams` must be a positive int. Received: "
                f"num_beams={num_beams!r}. 1 is greedy search."
            )
        if not isinstance(length_penalty, numbers.Real) or not np.isfinite(
            length_penalty
        ):
            raise ValueError(
                "`length_penalty` must be a finite number. Received: "
                f"length_penalty={length_penalty!r}. 1 compares texts by the "
                "mean log-probability of their tokens."
            )
        check_prompt(prompt)
        (row,) = self._make_rows(
            [prompt], max_length, stop_token_ids, None, (), 1, greedy_search
        )
        beam = search_beams(
            self._decoder,
            row.prompt_ids,
            row.max_length,
            row.stop_token_ids,
            int(num_beams),
            float(length_penalty),
            self._sampling.process,
        )
        row.token_ids = list(beam.token_ids)
        row.logprobs = list(beam.logprobs)
        row.sampler_logprobs = list(beam.processed_logprobs)
        row.finish_reason = "stop_token" if beam.stopped else "max_length"
        return self._result(row, strip_prompt, return_logprobs)

    def _make_rows(
        self,
        prompts,
        max_length,
        stop_token_ids,
        seed,
        stop_strings,
        num_samples,
        sampler,
        stream=False,
    ):
        """Check all arguments and return a `Row` for each text to come."""
        if max_length is None:
            max_length = self.causal_lm.preprocessor.sequence_length
        check_max_length(max_length, self.causal_lm)
        stop_token_ids = find_stop_tokens(
            stop_token_ids, self._tokenizer, self._vocabulary_size
        )
        if isinstance(stop_strings, str):
            stop_strings = [stop_strings]
        if not isinstance(stop_strings, list | tuple) or not all(
            isinstance(string, str) and string for string in stop_strings
        ):
            raise ValueError(
                "`stop_strings` must be strings that are not empty. Received: "
                f"stop_strings={stop_strings!r}."
            )
        sampler = self.sampler if sampler is None else sampler
        check_sampler(sampler, self._vocabulary_size)
        seeds = row_seeds(sampler, seed, len(prompts), num_samples)
        rows = []
        for prompt in self._tokenize(prompts, max_length):
            token_ids = list(prompt.token_ids)
            for _ in range(num_samples):
                row = Row(
                    prompt_ids=token_ids,
                    images=prompt.images,
                    max_length=int(max_length),
                    stop_token_ids=stop_token_ids,
                    sampler=sampler,
                    seed=next(seeds),
                )
                if stop_strings or stream:
                    row.stream = TextStream(
                        self._detokenize,
                        token_ids,
                        stop_strings,
                        self._special_token_ids,
                    )
                rows.append(row)
        return rows

    def _tokenize(self, prompts, max_length):
        """Return all prompts as `TokenizedPrompt`s, begun as the model wants.

        Those that are one already stay as they are.
        """
        texts = [p for p in prompts if not isinstance(p, TokenizedPrompt)]
        for text in texts:
            check_prompt(text)
        rows = iter(self._tokenize_texts(texts) if texts else ())
        tokenized = [
            prompt
            if isinstance(prompt, TokenizedPrompt)
            else TokenizedPrompt(next(rows))
            for prompt in prompts
        ]
        for row, prompt in zip(tokenized, prompts, strict=True):
            check_prompt_tokens(
                row.token_ids, prompt, max_length, self._vocabulary_size
            )
        return tokenized

    def _tokenize_texts(self, texts):
        # Nearly always enough: a token is a byte or more, unless a vocabulary
        # spells characters out, or an image is in the text.
        longest = max(len(text.encode()) for text in texts) + 8
        while True:
            inputs = self.causal_lm.preprocessor.generate_preprocess(
                texts, sequence_length=longest
            )
            token_ids = ops.convert_to_numpy(inputs["token_ids"])
            lengths = ops.convert_to_numpy(inputs["padding_mask"]).sum(axis=-1)
            if max(lengths) < longest:  # nothing was cut
                break
            longest *= 2
        return [
            tuple(map(int, row[:length]))
            for row, length in zip(token_ids, lengths, strict=True)
        ]

    def _run(self, rows, num_samples=1, with_logprobs=False):
        """Fill the rows, and yield after each position."""
        self._steps, self._seconds = 0, 0.0
        for batch in self._batches(rows, num_samples):
            yield from self._run_batch(batch, num_samples, with_logprobs)

    def _batches(self, rows, num_samples):
        """Return lists of rows that can be read together.

        All of them, unless one has an image that goes on after the end of
        another's prompt: an image is read as a whole, before any sampling.
        """
        if not any(row.images for row in rows):
            return [rows] if rows else []
        placeholder = self._tokenizer.image_placeholder_id
        image_ends = [
            max(
                np.flatnonzero(np.equal(row.prompt_ids, placeholder)), default=0
            )
            for row in rows
        ]
        if max(image_ends) < min(len(row.prompt_ids) for row in rows):
            return [rows]
        return [
            rows[i : i + num_samples] for i in range(0, len(rows), num_samples)
        ]

    def _run_batch(self, rows, num_samples, with_logprobs):
        sample = self._sampling.prepare(rows, with_logprobs)
        decoder = self._decoder
        max_length = rows[0].max_length
        cache_length = decoder.cache_length(max_length)
        start = min(len(row.prompt_ids) for row in rows)

        # One row a prompt is read, then copied for each of its samples.
        sources = rows[::num_samples]
        token_ids = token_array(sources, cache_length)
        images = [row.images for row in sources]
        read = decoder.prefill(token_ids, start, cache_length, images)
        if num_samples > 1:
            copies = np.arange(batch_bucket(len(rows)), dtype="int32")
            copies = np.minimum(copies // num_samples, len(sources) - 1)
            read = decoder.take(read, copies, len(token_ids))
            token_ids = token_array(rows, cache_length)

        logits, cache = read
        step = decoder.bind_step()
        for index in range(start, max_length):
            started = time.perf_counter()
            compiled = decoder.num_compilations
            if index > start:
                # A row that is done has no token here; any will do.
                newest = np.maximum(token_ids[:, index - 1], 0)
                logits, cache = step(newest, cache, index - 1)
            choices, largest, *logprobs = sample(logits, token_ids, index)
            sampled = 0
            for i, row in enumerate(rows):
                if row.finish_reason or index < len(row.prompt_ids):
                    continue
                sampled += 1
                check_logits(largest[i], index)
                row.add(
                    int(choices[i]), *(float(values[i]) for values in logprobs)
                )
                token_ids[i, index] = choices[i]
            ready = index > start and decoder.num_compilations == compiled
            if ready and sampled:
                self._steps += 1
                self._seconds += time.perf_counter() - started
            yield
            if all(row.finish_reason for row in rows):
                return

    def _result(self, row, strip_prompt, return_logprobs):
        prompt = self._detokenize(row.prompt_ids)
        if row.stream is not None:
            text = prompt + "".join(row.pieces)
        else:
            text = self._detokenize([*row.prompt_ids, *row.token_ids])
        if strip_prompt:
            # Decoded alone, the new tokens may begin otherwise.
            text = text[len(prompt) :]
        if not return_logprobs:
            return text
        told = not np.isnan(row.sampler_logprobs).any()
        return Generation(
            text,
            tuple(row.token_ids),
            row.finish_reason,
            tuple(row.logprobs),
            tuple(row.sampler_logprobs) if told else None,
        )

    def _detokenize(self, token_ids):
        special = self._special_token_ids
        token_ids = [i for i in token_ids if i not in special]
        return self._tokenizer.detokenize(token_ids) if token_ids else ""
