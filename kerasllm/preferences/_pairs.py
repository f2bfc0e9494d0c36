"""Pairs of responses as tokens, and as batches that are read in one pass."""

import dataclasses
import itertools
import warnings

import numpy as np

from kerasllm.backend import tf
from kerasllm.checks import (
    UserError,
    check_lists,
    check_positive_ints,
    shown,
)
from kerasllm.images import vision_inputs
from kerasllm.instructions import Bucketed, TokenizedInstructions
from kerasllm.preferences._preference import check_preferences

# What a pair is tokenized with: nothing is left out before it is counted.
_NO_LIMIT = 2**30


@dataclasses.dataclass(frozen=True)
class TokenizedPairs(Bucketed):
    """Tokenized comparisons, and how many of them were too long.

    Prompt and response are tokenized apart, exactly as in supervised
    fine-tuning, and the end token is a part of the response.

    Attributes:
        chosen: list of int32 arrays, the prompt and the chosen response in
            one.
        rejected: list of int32 arrays, the same prompts and the rejected
            responses.
        prompt_lengths: list of int. Where both responses begin.
        margins: float32 array `(number of pairs,)`, 0 where nobody gave one.
        numbers: list of int. Which of the preferences these pairs are.
        num_too_long: int. Pairs left out because one of their responses, with
            the prompt, is longer than `sequence_length`.
        longest: int. Number of tokens of the longest prompt with a response,
            even if it was left out.
        sequence_length: int.
        preprocessor: the preprocessor of the model.
        name: str. What warnings call the preferences.
    """

    chosen: list
    rejected: list
    prompt_lengths: list
    margins: np.ndarray
    numbers: list
    num_too_long: int
    longest: int
    sequence_length: int
    preprocessor: object
    name: str = "preferences"

    @classmethod
    def of(
        cls,
        preferences,
        preprocessor,
        template,
        sequence_length,
        name="preferences",
    ):
        """Tokenize preferences with the delimiters of a template.

        Args:
            preferences: list of `Preference`.
            preprocessor: the preprocessor of a KerasHub `CausalLM`.
            template: `PromptTemplate` or the name of one.
            sequence_length: int. The most tokens of a prompt with a response,
                with all delimiters and the end token.
            name: str. What errors and warnings call the preferences.

        Raises:
            UserError: there is no preference, one is something else, or no
                pair is short enough.
        """
        check_positive_ints(sequence_length=sequence_length)
        (preferences,) = check_lists(**{name: preferences})
        if not preferences:
            raise UserError(
                f"`{name}` must have at least one `Preference`. Received: "
                f"{name}={shown(preferences)}. Pass some."
            )
        check_preferences(preferences, name)
        both = [preference.instructions() for preference in preferences]
        tokenized = TokenizedInstructions.of(
            list(itertools.chain.from_iterable(both)),
            preprocessor,
            template,
            _NO_LIMIT,
            name,
        )
        chosen = tokenized.token_ids[::2]
        rejected = tokenized.token_ids[1::2]
        lengths = [
            max(len(a), len(b)) for a, b in zip(chosen, rejected, strict=True)
        ]
        short = [i for i, n in enumerate(lengths) if n <= sequence_length]
        if not short:
            raise UserError(
                f"At least one of `{name}` must fit in `sequence_length`. "
                f"Received: {len(lengths)} pairs of up to {max(lengths)} "
                f"tokens, all longer than sequence_length={sequence_length}. "
                f"Raise `sequence_length`, to {max(lengths)} for all of them."
            )
        return cls(
            [chosen[i] for i in short],
            [rejected[i] for i in short],
            [tokenized.prompt_lengths[2 * i] for i in short],
            np.array([preferences[i].margin or 0.0 for i in short], "float32"),
            short,
            len(lengths) - len(short),
            max(lengths),
            sequence_length,
            preprocessor,
            name,
        )

    @classmethod
    def of_both(cls, preferences, validation_preferences, *settings):
        """Tokenize what to train on and what to measure on, which may be none.

        Args:
            preferences: as `of`.
            validation_preferences: the same, or `None`.
            *settings: the other arguments of `of`.

        Returns:
            dict of `TokenizedPairs` by the names of the two arguments.
        """
        pairs = {"preferences": cls.of(preferences, *settings, "preferences")}
        if validation_preferences is not None:
            name = "validation_preferences"
            pairs[name] = cls.of(validation_preferences, *settings, name)
        for part in pairs.values():
            part.warn_of_long_pairs()
        return pairs

    @property
    def num_tokens(self):
        """Tokens of all pairs without padding, prompts twice: an int."""
        return sum(map(len, self.chosen)) + sum(map(len, self.rejected))

    def warn_of_long_pairs(self):
        """Say how many pairs were left out, if any was."""
        if self.num_too_long:
            warnings.warn(
                f"{self.num_too_long} of "
                f"{self.num_too_long + len(self.chosen)} `{self.name}` are "
                f"longer than sequence_length={self.sequence_length} tokens "
                f"and left out. Raise `sequence_length` to {self.longest} to "
                "keep all of them.",
                stacklevel=4,
            )

    def _sizes(self):
        return self._lengths().max(axis=1)

    def dataset(self, batch_size=8, seed=None, buckets=True):
        """Return batches of pairs.

        The two responses of a pair are sequences of the same batch, side by
        side: sequence `2 * i` is the chosen response of pair `i` and sequence
        `2 * i + 1` the rejected one. One forward pass reads both, and
        `scores[::2]` and `scores[1::2]` are what it gives for them.

        Args:
            batch_size: int. Pairs in a batch. A batch that cannot be filled
                repeats its first pair, with a weight of zero.
            seed: int to shuffle in a new order in each epoch, or `None` not to
                shuffle.
            buckets: bool. Whether pairs of similar length come together,
                padded to 32, 64, 128, ... tokens instead of `sequence_length`.
                The longer response of a pair counts.

        Returns:
            `tf.data.Dataset` of `(x, y, sample_weight)`. `x` is a dict:
            `token_ids`, int32, `padding_mask`, bool, true for every token, and
            `response_mask`, bool, true for those of a response with its end
            token, each `(2 * batch_size, length)`; and `numbers`, int32
            `(batch_size,)`, the index of each pair in `chosen`. For a model
            that takes images, `x` also has what
            `kerasllm.images.vision_inputs` returns for no image. `y` is
            float32 `(batch_size,)`, the margins. `sample_weight` is float32
            `(batch_size,)`, one for a pair and zero for a repeated one.
        """
        return self._one_epoch(batch_size, seed, buckets)

    def _lengths(self):
        """Return the lengths of both responses: int `(number of pairs, 2)`."""
        pairs = zip(self.chosen, self.rejected, strict=True)
        return np.array([(len(a), len(b)) for a, b in pairs], "int32")

    def _batches(self, numbers, batch_size, buckets):
        """Return the batches of a dataset of numbers of pairs."""
        both = zip(self.chosen, self.rejected, strict=True)
        token_ids = tf.ragged.constant(
            list(itertools.chain.from_iterable(both)), "int32"
        )
        pad_id = getattr(self.preprocessor.tokenizer, "pad_token_id", 0) or 0
        lengths = self._bucket_lengths(buckets)

        def pair(number):
            both = token_ids[2 * number : 2 * number + 2]
            return number, both.to_tensor(pad_id, shape=(2, None))

        batches = numbers.map(pair).bucket_by_sequence_length(
            lambda number, pair: tf.shape(pair)[1],
            bucket_boundaries=[length + 1 for length in lengths],
            bucket_batch_sizes=[batch_size] * (len(lengths) + 1),
            pad_to_bucket_boundary=True,
            padding_values=(np.int64(0), np.int32(pad_id)),
        )
        return batches.map(self._finisher(batch_size), tf.data.AUTOTUNE)

    def _finisher(self, batch_size):
        """Return a function that fills a batch and adds its masks."""
        lengths = tf.constant(self._lengths())
        prompt_lengths = tf.constant(self.prompt_lengths, "int32")
        margins = tf.constant(self.margins)
        no_images = {}
        if getattr(self.preprocessor, "image_converter", None) is not None:
            no_images = vision_inputs(
                np.zeros((2 * batch_size, 0), "int32"),
                [()] * (2 * batch_size),
                self.preprocessor,
            )

        def finish(numbers, token_ids):
            places = tf.range(batch_size)
            is_pair = places < tf.shape(numbers)[0]
            places = tf.where(is_pair, places, 0)
            numbers = tf.gather(numbers, places)
            token_ids = tf.gather(token_ids, places)  # (batch_size, 2, length)
            positions = tf.range(tf.shape(token_ids)[2])
            padding_mask = positions < tf.gather(lengths, numbers)[..., None]
            starts = tf.gather(prompt_lengths, numbers)[:, None, None]
            x = {
                "token_ids": token_ids,
                "padding_mask": padding_mask,
                "response_mask": padding_mask & (positions >= starts),
            }
            x = {name: _side_by_side(array) for name, array in x.items()}
            if no_images:
                no_mask = tf.zeros_like(x["padding_mask"])
                x |= no_images | {"vision_mask": no_mask}
            x["numbers"] = tf.cast(numbers, "int32")
            weights = tf.cast(is_pair, "float32")
            return x, tf.gather(margins, numbers), weights

        return finish


def _side_by_side(array):
    """Map `(batch_size, 2, length)` to `(2 * batch_size, length)`."""
    batch_size = array.shape[0]
    array = tf.reshape(array, (2 * batch_size, -1))
    return tf.ensure_shape(array, (2 * batch_size, None))
