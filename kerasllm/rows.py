"""The rows of a batch: their texts while they are written, and their draws.

A row depends on its own seed and tokens alone, so that a text is the same
whatever stands beside it. `RowSampler` turns a batch of logits into a token
for each row.
"""

import dataclasses
import itertools
import math

import keras
import numpy as np
from keras import ops

from kerasllm import backend
from kerasllm.arguments import (
    check_logits,
    check_token_id,
    make_seed_generator,
)
from kerasllm.decoding import batch_bucket
from kerasllm.samplers import (
    chain_arguments,
    draw_at,
    filter_logits,
    greedy_search,
    parameters_of,
    top_k_filter,
)
from kerasllm.text_stream import TextStream


@dataclasses.dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt that is tokens already, and the images in it.

    Attributes:
        token_ids: tuple of ints, all that the model should read: its start
            token, and a run of placeholder tokens for each image.
        images: tuple of images, see `kerasllm.images.load_image`.
    """

    token_ids: tuple
    images: tuple = ()

    def __post_init__(self):
        # Whatever sequence of ints it was.
        object.__setattr__(self, "token_ids", tuple(map(int, self.token_ids)))


@dataclasses.dataclass
class Row:
    """One text while it is written."""

    prompt_ids: list
    images: tuple
    max_length: int
    stop_token_ids: set
    sampler: object
    seed: list
    token_ids: list = dataclasses.field(default_factory=list)
    logprobs: list = dataclasses.field(default_factory=list)
    sampler_logprobs: list = dataclasses.field(default_factory=list)
    stream: TextStream | None = None
    pieces: list = dataclasses.field(default_factory=list)
    finish_reason: str | None = None

    def add(self, token_id, logprob=math.nan, sampler_logprob=math.nan):
        """Take a new token, or stop because of it."""
        if token_id in self.stop_token_ids:
            self._finish("stop_token")
            return
        self.token_ids.append(token_id)
        self.logprobs.append(logprob)
        self.sampler_logprobs.append(sampler_logprob)
        if self.stream is not None:
            self._show(self.stream.push(token_id))
            if self.stream.stopped:
                self._finish("stop_string")
                return
        if len(self.prompt_ids) + len(self.token_ids) == self.max_length:
            self._finish("max_length")

    def _finish(self, reason):
        self.finish_reason = reason
        if self.stream is not None:
            self._show(self.stream.finish())
            if self.stream.stopped:  # it was in what had been held back
                self.finish_reason = "stop_string"

    def _show(self, piece):
        if piece:
            self.pieces.append(piece)


class RowSampler:
    """Samples a token for each row of a batch.

    Args:
        vocabulary_size: int.
        logit_processors: sequence of callables, see `TextGenerator`.
    """

    def __init__(self, vocabulary_size, logit_processors=()):
        self.vocabulary_size = vocabulary_size
        self.logit_processors = tuple(logit_processors)
        self._compiled_samplers = {}

    @property
    def num_compilations(self):
        """How often samplers have been compiled: an int."""
        return sum(f.count for f in self._compiled_samplers.values())

    def process(self, logits, token_ids):
        """Return float32 logits after the logit processors."""
        if self.logit_processors:  # PyTorch lets them write into what they get
            logits = ops.copy(logits)
        for processor in self.logit_processors:
            keywords = {}
            if "token_ids" in parameters_of(processor):
                keywords["token_ids"] = ops.convert_to_tensor(token_ids)
            result = ops.convert_to_tensor(processor(logits, **keywords))
            if keras.backend.standardize_dtype(result.dtype) == "bool":
                result = ops.where(result, logits, -math.inf)
            if tuple(result.shape) != tuple(logits.shape):
                raise ValueError(
                    "A logit processor must return logits or a mask of shape "
                    f"{tuple(logits.shape)}. Received: shape "
                    f"{tuple(result.shape)} from {processor}."
                )
            logits = ops.cast(result, "float32")
        return logits

    def prepare(self, rows, with_logprobs):
        """Return `sample(logits, token_ids, index)` for these rows.

        It returns NumPy arrays with an entry for each row: token ids, largest
        logits and, if wanted, log-probabilities under model and sampler.
        """
        sampler = rows[0].sampler
        arguments = chain_arguments(sampler)
        if arguments is None:
            return self._call_foreign_sampler(sampler, rows, with_logprobs)

        greedy = arguments["temperature"] == 0
        needs_tokens = bool(
            arguments["frequency_penalty"] or arguments["presence_penalty"]
        )
        numbers = {
            name: int(value) if name == "top_k" else float(value)
            for name, value in arguments.items()
            if value is not None
            and (needs_tokens if "penalty" in name else not greedy)
        }
        key = greedy, with_logprobs, *numbers
        if key not in self._compiled_samplers:
            self._compiled_samplers[key] = _compile_sampler(
                greedy, with_logprobs
            )
        compiled = self._compiled_samplers[key].bind()
        numbers = backend.scalars(numbers)
        generators = [np.random.default_rng(row.seed) for row in rows]

        def sample(logits, token_ids, index):
            uniforms = None
            if not greedy:
                uniforms = np.zeros(len(token_ids), "float32")
                for i, row in enumerate(rows):
                    if index >= len(row.prompt_ids):
                        uniforms[i] = generators[i].random(dtype="float32")
            processed = self.process(logits, token_ids)
            results = compiled(
                logits,
                processed,
                token_ids if needs_tokens else None,
                uniforms,
                numbers,
            )
            return [ops.convert_to_numpy(result) for result in results]

        return sample

    def _call_foreign_sampler(self, sampler, rows, with_logprobs):
        """Return a `sample` that calls any callable on one row at a time."""
        parameters = parameters_of(sampler)
        # One generator for the whole of a text: an int would make the same
        # draw at each step.
        keywords = [
            {"seed": make_seed_generator(_fold_seed(row.seed))}
            if "seed" in parameters
            else {}
            for row in rows
        ]

        def sample(logits, token_ids, index):
            if with_logprobs:  # first: PyTorch lets samplers write into them
                logprobs = ops.convert_to_numpy(ops.log_softmax(logits))
            processed = self.process(logits, token_ids)
            choices = np.zeros(len(rows), "int32")
            for i, row in enumerate(rows):
                if row.finish_reason or index < len(row.prompt_ids):
                    continue
                largest = ops.convert_to_numpy(ops.max(processed[i]))
                check_logits(largest, index)
                if "token_ids" in parameters:
                    so_far = ops.convert_to_tensor(token_ids[i])
                    keywords[i]["token_ids"] = so_far
                choice = sampler(processed[i], **keywords[i])
                choices[i] = check_token_id(choice, self.vocabulary_size)
            results = [choices, np.zeros(len(rows))]
            if with_logprobs:
                results.append(logprobs[np.arange(len(rows)), choices])
                results.append(np.full(len(rows), np.nan))
            return results

        return sample


def _compile_sampler(greedy, with_logprobs):
    """Return a compiled function that samples for a batch of rows."""

    def sample(logits, processed, token_ids, uniforms, numbers):
        # PyTorch computes what nobody needs, too.
        filtered = processed
        if numbers:
            filtered = filter_logits(processed, token_ids, **numbers)
        if greedy:
            choices = greedy_search(filtered)
            if with_logprobs:
                filtered = top_k_filter(filtered, 1)
        else:
            choices = draw_at(filtered, uniforms)
        results = [choices, ops.max(processed, axis=-1)]
        if with_logprobs:
            for values in (logits, filtered):
                logprobs = ops.log_softmax(values)
                chosen = ops.take_along_axis(logprobs, choices[:, None], -1)
                results.append(chosen[:, 0])
        return results

    return backend.compiled(sample, record=False)


def token_array(rows, length):
    """Return the prompts as int32 `(batch bucket, length)`, filled with -1."""
    token_ids = np.full((batch_bucket(len(rows)), length), -1, "int32")
    for i, row in enumerate(rows):
        token_ids[i, : len(row.prompt_ids)] = row.prompt_ids
    # Rows that nobody asked for repeat the first one.
    token_ids[len(rows) :] = token_ids[0]
    return token_ids


def row_seeds(sampler, seed, num_prompts, num_samples):
    """Yield a list of ints for each row: what its draws depend on."""
    parameters = parameters_of(sampler)
    if seed is None:
        seed = parameters.get("seed")
    elif "seed" not in parameters:
        raise ValueError(
            "`seed` needs a `sampler` with a parameter `seed`. Received: "
            f"seed={seed} and sampler={sampler}. Add the parameter, or seed "
            "Keras with `keras.utils.set_random_seed`."
        )
    if "seed" not in parameters:  # nothing is drawn, or not by our numbers
        states = itertools.repeat([0, 0])
    elif seed is None:  # each prompt for itself
        states = _states(make_seed_generator(None))
    else:
        states = itertools.repeat(next(_states(make_seed_generator(seed))))
    return (
        [*state, sample]
        for state in itertools.islice(states, num_prompts)
        for sample in range(num_samples)
    )


def _states(generator):
    """Yield what a `SeedGenerator` gives, as lists of two ints."""
    while True:
        state = ops.convert_to_numpy(generator.next())
        yield [int(part) & 0xFFFFFFFF for part in state]


def _fold_seed(seed):
    """Return a list of ints as one int that Keras takes for a seed."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)
