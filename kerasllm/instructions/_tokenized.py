"""Examples as tokens, and as batches in which only the response counts."""

import dataclasses
import functools
import os
import warnings

import numpy as np

from kerasllm.backend import tf
from kerasllm.checks import (
    LARGEST_SEED,
    UserError,
    accept_former_names,
    check_int,
    check_lists,
    check_positive_ints,
    shown,
)
from kerasllm.images import keep_image, place_images, vision_inputs
from kerasllm.instructions._batches import Bucketed
from kerasllm.instructions._example import check_examples
from kerasllm.instructions._response_mask import mask_prompt
from kerasllm.prompts import encode_all, get_template, start_tokens
from kerasllm.tokenizers import end_of_text_id


@dataclasses.dataclass(frozen=True)
class TokenizedInstructions(Bucketed):
    """Tokenized examples, and how many of them were too long.

    Attributes:
        token_ids: list of int32 arrays, prompt and response in one.
        prompt_lengths: list of int. Where the response begins.
        longest: int. Number of tokens of the longest example, with its
            delimiters, even if it was left out.
        num_too_long: int. Examples left out, because with all their tokens
            they are longer than `sequence_length`. If they were cut, they
            would teach the model to stop in the middle, or never.
        sequence_length: int.
        preprocessor: the preprocessor of the model.
        images: list of tuples, the images of each example. An address is
            replaced by the path of a copy in the cache.
        name: str. What warnings call the examples.
    """

    token_ids: list
    prompt_lengths: list
    num_too_long: int
    sequence_length: int
    preprocessor: object
    images: list
    name: str = "examples"
    longest: int | None = None

    @classmethod
    @accept_former_names(rows="examples")
    def of(
        cls, examples, preprocessor, template, sequence_length, name="examples"
    ):
        """Tokenize examples with the delimiters of a template.

        Args:
            examples: list of `Instruction`.
            preprocessor: the preprocessor of a KerasHub `CausalLM`.
            template: `PromptTemplate` or the name of one.
            sequence_length: int. Longest example, with all its delimiters.
            name: str. What errors and warnings call the examples.

        Raises:
            UserError: there is no example, none is short enough, or the
                images of one cannot be read, or fit neither its text nor the
                model.
            MissingFileError: there is no such file of an image.
            EnvironmentFailure: the address of an image does not answer.
        """
        check_positive_ints(sequence_length=sequence_length)
        (examples,) = check_lists(**{name: examples})
        if not examples:
            raise UserError(
                f"`{name}` must have at least one `Instruction`. Received: "
                f"{name}={shown(examples)}."
            )
        check_examples(examples, name)
        kept = _keep_images(examples)  # before hours of training
        tokens, prompt_lengths = _tokenize(
            examples, preprocessor, get_template(template)
        )
        # One token more than the inputs: the last one is only predicted.
        longest = max(map(len, tokens)) - 1
        short = [
            i for i, ids in enumerate(tokens) if len(ids) <= sequence_length + 1
        ]
        if not short:
            raise UserError(
                f"At least one of `{name}` must fit in `sequence_length`. "
                f"Received: {len(examples)} examples of up to {longest} "
                f"tokens, all longer than sequence_length={sequence_length}. "
                f"Raise `sequence_length`, to {longest} for all of them."
            )
        return cls(
            [tokens[i] for i in short],
            [prompt_lengths[i] for i in short],
            len(examples) - len(short),
            sequence_length,
            preprocessor,
            [kept[i] for i in short],
            name,
            longest,
        )

    @property
    def num_tokens(self):
        """Tokens of all examples without padding: an int."""
        return sum(map(len, self.token_ids))

    def warn_of_long_examples(self):
        """Say how many examples were left out, if any was."""
        if self.num_too_long:
            warnings.warn(
                f"{self.num_too_long} of "
                f"{self.num_too_long + len(self.token_ids)} `{self.name}` are "
                f"longer than sequence_length={self.sequence_length} tokens "
                f"and left out. Raise `sequence_length` to {self.longest} to "
                "keep all of them.",
                stacklevel=3,
            )

    warn_of_long_rows = warn_of_long_examples  # its former name

    def _sizes(self):
        return [len(tokens) - 1 for tokens in self.token_ids]

    def dataset(self, batch_size=8, seed=None, buckets=True):
        """Return batches for `fit`.

        Args:
            batch_size: int. Examples in a batch. One that cannot be filled
                ends with sequences of padding, which weigh nothing.
            seed: int to shuffle in a new order in each epoch, or `None` not to
                shuffle.
            buckets: bool. Whether examples of similar length come together,
                padded to 32, 64, 128, ... tokens instead of `sequence_length`.
                Short examples then cost less than long ones, and each length
                is compiled once.

        Returns:
            `tf.data.Dataset` of `(x, y, sample_weight)`: `x` a dict of int32
            `token_ids` and bool `padding_mask`, `y` the tokens that follow,
            `sample_weight` float32, one for tokens of a response and zero for
            all others; each `(batch_size, length)`. For a model that takes
            images `x` has what `kerasllm.images.vision_inputs` returns, too.
        """
        return self._one_epoch(batch_size, seed, buckets)

    def _batches(self, numbers, batch_size, buckets):
        """Return the batches of a dataset of numbers of examples."""
        token_ids = tf.ragged.constant(self.token_ids, "int32")
        prompt_lengths = tf.constant(self.prompt_lengths)
        lengths = self._bucket_lengths(buckets)
        pad_id = getattr(self.preprocessor.tokenizer, "pad_token_id", 0) or 0
        examples = numbers.map(
            lambda i: (i, *mask_prompt(token_ids[i], prompt_lengths[i]))
        )
        batches = examples.bucket_by_sequence_length(
            lambda number, x, y, weight: tf.shape(y)[0],
            bucket_boundaries=[length + 1 for length in lengths],
            bucket_batch_sizes=[batch_size] * (len(lengths) + 1),
            pad_to_bucket_boundary=True,
            padding_values=(
                np.int64(-1),
                {"token_ids": pad_id, "padding_mask": False},
                pad_id,
                0.0,
            ),
        )

        def fill(numbers, *batch):
            x, y, weight = tf.nest.map_structure(_filler(batch_size), batch)
            if getattr(self.preprocessor, "image_converter", None) is not None:
                x |= self._vision_inputs(numbers, x["token_ids"], batch_size)
            return x, y, weight

        return batches.map(fill, tf.data.AUTOTUNE)

    def _vision_inputs(self, numbers, token_ids, batch_size):
        """Return the images of a batch, read only when they are needed."""
        num_images = max(map(len, self.images))
        tokens_per_image = self.preprocessor.num_vision_tokens_per_image
        image_size = self.preprocessor.image_converter.image_size

        def read(numbers, token_ids):
            images = [self.images[i] for i in numbers]
            images += [()] * (batch_size - len(images))
            inputs = vision_inputs(
                token_ids, images, self.preprocessor, num_images
            )
            return [inputs[name] for name in names]

        names = ("images", "vision_mask", "vision_indices")
        images, mask, indices = tf.numpy_function(
            read, [numbers, token_ids], ("float32", "bool", "int32")
        )
        shape = batch_size, num_images, *image_size, 3
        return {
            "images": tf.ensure_shape(images, shape),
            "vision_mask": tf.ensure_shape(mask, token_ids.shape),
            "vision_indices": tf.ensure_shape(
                indices, (batch_size, num_images * tokens_per_image)
            ),
        }


@accept_former_names(rows="examples")
def instruction_dataset(
    examples,
    preprocessor,
    template,
    sequence_length=256,
    batch_size=8,
    seed=0,
    buckets=True,
):
    """Turn requests and answers into batches, and warn about long ones.

    Args:
        examples: list of `Instruction`.
        preprocessor: the preprocessor of a KerasHub `CausalLM`.
        template: `PromptTemplate` or the name of one.
        sequence_length: int. Longest example. Longer ones are left out, with
            a warning that counts them.
        batch_size: int.
        seed: int or `None`. See `TokenizedInstructions.dataset`.
        buckets: bool. See there.

    Returns:
        `tf.data.Dataset`, see `TokenizedInstructions.dataset`.

    Raises:
        UserError: a number is out of range, or as
            `TokenizedInstructions.of`.
    """
    check_positive_ints(batch_size=batch_size)
    if seed is not None:
        check_int("seed", seed, 0, LARGEST_SEED)
    tokenized = TokenizedInstructions.of(
        examples, preprocessor, template, sequence_length
    )
    tokenized.warn_of_long_examples()
    return tokenized.dataset(batch_size, seed, buckets)


def _keep_images(examples):
    """Return the images of each example; a file is read once for all."""
    keep_file = functools.cache(keep_image)

    def keep(image):
        is_file = isinstance(image, str | os.PathLike)
        return keep_file(image) if is_file else keep_image(image)

    return [tuple(map(keep, example.images)) for example in examples]


def _tokenize(examples, preprocessor, template):
    """Return the tokens of examples, and how many of them are the prompt's.

    Returns:
        list of int32 arrays, and a list of ints.
    """
    tokenizer = preprocessor.tokenizer
    prompts = encode_all(
        tokenizer,
        [_prompt_segments(e, template, preprocessor) for e in examples],
    )
    responses = encode_all(
        tokenizer, [template.response_segments(e.response) for e in examples]
    )
    prefix = start_tokens(tokenizer)
    end = getattr(tokenizer, "end_token_id", None)
    if end is None:
        end = end_of_text_id(tokenizer)
    tokens = [
        np.array([*prefix, *prompt, *response, end], "int32")
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    return tokens, [len(prefix) + len(prompt) for prompt in prompts]


def _prompt_segments(example, template, preprocessor):
    """Return the segments of a request, with its images placed."""
    segments = template.prompt_segments(example.instruction, example.context)
    if example.messages:
        messages = [*example.messages, ("user", example.instruction)]
        segments = template.chat_segments(
            [{"role": role, "content": text} for role, text in messages]
        )
    try:
        return place_images(segments, len(example.images), preprocessor)
    except UserError as error:  # in which one of thousands?
        raise UserError(
            f"{error} The example: {shown(example.instruction)}."
        ) from None


def _filler(batch_size):
    """Return a function that adds sequences of zeros up to `batch_size`."""

    def fill(array):
        missing = batch_size - tf.shape(array)[0]
        array = tf.pad(array, [[0, missing], [0, 0]])
        return tf.ensure_shape(array, [batch_size, None])

    return fill
