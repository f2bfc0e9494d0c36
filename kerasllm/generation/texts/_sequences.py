"""The sequences of a batch, and the sampling of their next tokens.

A sequence depends only on its own seed and tokens, so its text is the same
whatever else is in the batch. `BatchSampler` turns a batch of logits into one
token per sequence.
"""

import dataclasses
import functools
import itertools
import math
import threading

import keras
import numpy as np
from keras import ops

from kerasllm import backend
from kerasllm.checks import (
    UserError,
    check_callable,
    check_list,
    check_numbers,
)
from kerasllm.generation._arguments import (
    check_logits,
    check_seeds,
    check_token_id,
    make_seed_generator,
)
from kerasllm.generation._decoding import batch_bucket
from kerasllm.generation.texts._text_stream import TextStream
from kerasllm.images import list_images
from kerasllm.samplers import (
    as_chain,
    calling,
    draw_filtered,
    filter_logits,
    likeliest,
    parameters_of,
)

DRAWS_AT_ONCE = 32


@dataclasses.dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt that has already been tokenized, and its images.

    Attributes:
        token_ids: tuple of ints, everything that the model should read,
            including its start token and a run of placeholder tokens for each
            image.
        images: tuple of images; see `kerasllm.images.load_image`.
    """

    token_ids: tuple
    images: tuple = ()

    def __post_init__(self):
        # Accept any sequence of ints, and any images.
        token_ids = check_list("token_ids", self.token_ids, "a list of ints")
        token_ids = check_numbers("token_ids", token_ids)
        object.__setattr__(self, "token_ids", tuple(map(int, token_ids)))
        object.__setattr__(self, "images", tuple(list_images(self.images)))


@dataclasses.dataclass(eq=False)
class Sequence:
    """A text while it is generated.

    Attributes:
        prompt_ids: list of ints, the tokens of the prompt.
        images: tuple of images in the prompt.
        max_length: int. Number of tokens at which to stop, prompt included.
        stop_token_ids: set of ints.
        sampler: any sampler.
        seed: list of ints that determine its random draws.
        token_ids: list of ints, the new tokens.
        logprobs: list of floats; see `Generation`.
        sampler_logprobs: list of floats; see `Generation`. NaN if the
            sampler's distribution is unknown.
        stop_token: tuple of the stop token that ended it and its two
            log-probabilities, or `None`.
        stream: `TextStream`, or `None` if no text is needed before the end.
        pieces: list of str, the text that has not been taken yet.
        finish_reason: str, see `Generation`; `None` until the text ends.
        error: the exception that ended it, where the reason is `"error"`.
    """

    prompt_ids: list
    images: tuple
    max_length: int
    stop_token_ids: set
    sampler: object
    seed: list
    token_ids: list = dataclasses.field(default_factory=list)
    logprobs: list = dataclasses.field(default_factory=list)
    sampler_logprobs: list = dataclasses.field(default_factory=list)
    stop_token: tuple | None = None
    stream: TextStream | None = None
    pieces: list = dataclasses.field(default_factory=list)
    finish_reason: str | None = None
    error: Exception | None = None
    _drawn: float | None = None

    @functools.cached_property
    def _draws(self):
        return _uniforms(self.seed)

    def draw(self):
        """Return the random number for the next token, a float in `[0, 1)`.

        It stays the same until a token is added, so that a step that failed
        can be repeated.
        """
        if self._drawn is None:
            self._drawn = next(self._draws)
        return self._drawn

    @functools.cached_property
    def seed_generator(self):
        """The sequence's `SeedGenerator`, for samplers that take one."""
        seed = np.random.SeedSequence(self.seed).generate_state(1)[0]
        return make_seed_generator(int(seed >> 1))  # within Keras's range

    @property
    def length(self):
        """Number of tokens so far, prompt included: an int."""
        return len(self.prompt_ids) + len(self.token_ids)

    @property
    def newest(self):
        """The most recent token: an int."""
        return (self.token_ids or self.prompt_ids)[-1]

    def add(self, token_id, logprob=math.nan, sampler_logprob=math.nan):
        """Add a new token, or end the text because of it."""
        self._drawn = None
        if token_id in self.stop_token_ids:
            self.stop_token = token_id, logprob, sampler_logprob
            self.finish("stop_token")
            return
        self.token_ids.append(token_id)
        self.logprobs.append(logprob)
        self.sampler_logprobs.append(sampler_logprob)
        if self.stream is not None:
            self._show(self.stream.push(token_id))
            if self.stream.stopped:
                self.finish("stop_string")
                return
        if self.length == self.max_length:
            self.finish("max_length")

    def finish(self, reason):
        """End the text and release any text that was held back."""
        self.finish_reason = reason
        if self.stream is not None:
            self._show(self.stream.finish())
            if self.stream.stopped:  # the held-back text had a stop string
                self.finish_reason = "stop_string"

    def take_text(self):
        """Return the new text since the last call: a str."""
        count = len(self.pieces)  # another thread may add to them now
        text = "".join(self.pieces[:count])
        del self.pieces[:count]
        return text

    def _show(self, piece):
        if piece:
            self.pieces.append(piece)


class BatchSampler:
    """Samples a token for each sequence of a batch.

    Args:
        vocabulary_size: int.
        logit_processors: sequence of callables, see `TextGenerator`.
    """

    def __init__(self, vocabulary_size, logit_processors=()):
        self.vocabulary_size = vocabulary_size
        processors = check_list("logit_processors", logit_processors)
        for processor in processors:
            check_callable("logit_processors", processor)
        self.logit_processors = tuple(processors)
        self._compiled = {}
        self._lock = threading.Lock()

    @property
    def num_compilations(self):
        """The number of times samplers have been compiled: an int."""
        return sum(f.count for f in list(self._compiled.values()))

    def process(self, logits, token_ids):
        """Return float32 logits after the logit processors."""
        if self.logit_processors:  # PyTorch allows them to change it in place
            logits = ops.copy(logits)
        for processor in self.logit_processors:
            keywords = {}
            if "token_ids" in parameters_of(processor):
                keywords["token_ids"] = ops.convert_to_tensor(token_ids)
            result = ops.convert_to_tensor(processor(logits, **keywords))
            if keras.backend.standardize_dtype(result.dtype) == "bool":
                result = ops.where(result, logits, -math.inf)
            if tuple(result.shape) != tuple(logits.shape):
                raise UserError(
                    "A logit processor must return logits or a mask of shape "
                    f"{tuple(logits.shape)}. Received: shape "
                    f"{tuple(result.shape)} from {processor}."
                )
            logits = ops.cast(result, "float32")
        return logits

    def prepare(self, sampler, with_logprobs):
        """Return a function that draws from one sampler.

        Args:
            sampler: any sampler.
            with_logprobs: bool. Whether to compute log-probabilities.

        Returns:
            `sample(logits, processed, token_ids, active)`. `logits` are
            float32 `(batch_size, vocabulary_size)`, and `processed` the same
            after `process`. `token_ids` are the tokens so far,
            int32 `(batch_size, length)`, padded with -1. `active` is a list of
            pairs: an index in the batch and the `Sequence` there that needs a
            token. The function returns NumPy arrays `(batch_size,)`: token
            ids, largest logits and, if requested, log-probabilities under the
            model and the sampler. Values for inactive sequences are undefined.
        """
        ours = as_chain(sampler)
        if ours is None:
            return self._call_one_by_one(sampler, with_logprobs)
        if any(map(ops.is_tensor, ours.keywords.values())):
            raise UserError(
                "A generator takes samplers of plain numbers, and compiles "
                f"them itself. Received: {sampler}. Pass no tensors."
            )
        greedy = ours.temperature == 0
        needs_tokens = bool(ours.frequency_penalty or ours.presence_penalty)
        numbers = {
            name: value
            for name, value in ours.keywords.items()
            if value is not None
            and (needs_tokens if "penalty" in name else not greedy)
        }
        key = greedy, with_logprobs, *numbers
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = _compile_sampler(greedy, with_logprobs)
        compiled = self._compiled[key].bind()
        numbers = backend.scalars(numbers)

        def sample(logits, processed, token_ids, active):
            uniforms = None
            if not greedy:
                uniforms = np.zeros(len(token_ids), "float32")
                for index, sequence in active:
                    uniforms[index] = sequence.draw()
            results = compiled(
                logits,
                processed,
                token_ids if needs_tokens else None,
                uniforms,
                numbers,
            )
            return [ops.convert_to_numpy(result) for result in results]

        return sample

    def _call_one_by_one(self, sampler, with_logprobs):
        """Return a `sample` that calls any callable, one sequence at a time."""
        parameters = parameters_of(sampler)

        def choose(logits, token_ids, sequence):
            largest = ops.convert_to_numpy(ops.max(logits))
            check_logits(largest, sequence.length)
            keywords = {}
            if "seed" in parameters:
                # Use one generator for the whole text. An int would give the
                # same draw at each step.
                keywords["seed"] = sequence.seed_generator
            if "token_ids" in parameters:
                keywords["token_ids"] = ops.convert_to_tensor(token_ids)
            with calling(sampler):
                choice = sampler(logits, **keywords)
            return check_token_id(choice, self.vocabulary_size)

        def sample(logits, processed, token_ids, active):
            if with_logprobs:  # this comes first: samplers may change logits
                logprobs = ops.convert_to_numpy(ops.log_softmax(logits))
            size = len(token_ids)
            choices = np.zeros(size, "int32")
            for index, sequence in active:
                choices[index] = choose(
                    processed[index], token_ids[index], sequence
                )
            results = [choices, np.zeros(size)]
            if with_logprobs:
                results.append(logprobs[np.arange(size), choices])
                results.append(np.full(size, np.nan))
            return results

        return sample


def _compile_sampler(greedy, with_logprobs):
    """Return a compiled function that samples for a batch of sequences."""

    def sample(logits, processed, token_ids, uniforms, numbers):
        # PyTorch would also compute results that are not needed.
        penalties = {k: v for k, v in numbers.items() if "penalty" in k}
        numbers = {k: v for k, v in numbers.items() if "penalty" not in k}
        penalized = processed
        if penalties:
            penalized = filter_logits(processed, token_ids, **penalties)
        if greedy:
            results = [likeliest(penalized)]
            if with_logprobs:  # nothing else could have been drawn
                results.append(ops.zeros_like(penalized[:, 0]))
        else:
            results = draw_filtered(
                penalized, uniforms, with_logprobs, **numbers
            )
        choices, *sampled = results
        results = [choices, ops.max(processed, axis=-1)]
        if with_logprobs:
            results += [backend.token_logprobs(logits, choices), *sampled]
        return results

    return backend.compiled(sample, record=False)


def token_array(sequences, length):
    """Return the prompts as int32 `(batch bucket, length)`, padded with -1."""
    token_ids = np.full((batch_bucket(len(sequences)), length), -1, "int32")
    for i, sequence in enumerate(sequences):
        token_ids[i, : len(sequence.prompt_ids)] = sequence.prompt_ids
    # Unused sequences of the batch repeat the first one.
    token_ids[len(sequences) :] = token_ids[0]
    return token_ids


def sequence_seeds(sampler, seed, num_prompts, num_samples):
    """Yield a list of ints per sequence that determines its random draws."""
    parameters = parameters_of(sampler)
    if seed is None:
        seed = parameters.get("seed")
    elif "seed" not in parameters:
        raise UserError(
            "`seed` needs a `sampler` with a parameter `seed`. Received: "
            f"seed={seed} and sampler={sampler}. Add the parameter, or seed "
            "Keras with `keras.utils.set_random_seed`."
        )
    if "seed" not in parameters:  # the sampler does not use our random numbers
        states = itertools.repeat([0, 0])
    elif seed is None:  # a different seed for each prompt
        states = _states(make_seed_generator(None))
    elif isinstance(seed, list | tuple) or np.ndim(seed):
        check_seeds(seed, num_prompts)
        states = ([int(number), 0] for number in seed)  # as `_states` begins
    else:
        states = itertools.repeat(next(_states(make_seed_generator(seed))))
    return (
        [*state, sample]
        for state in itertools.islice(states, num_prompts)
        for sample in range(num_samples)
    )


def _uniforms(seed):
    """Yield random float32 numbers in `[0, 1)` for a list of ints."""
    generator = np.random.default_rng(seed)
    while True:  # many at once take hardly longer than one
        yield from generator.random(DRAWS_AT_ONCE, np.float32).tolist()


def _states(generator):
    """Yield the states of a `SeedGenerator` as lists of two ints."""
    while True:
        state = ops.convert_to_numpy(generator.next())
        yield [int(part) & 0xFFFFFFFF for part in state]
