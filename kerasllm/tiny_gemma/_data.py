"""What the tiny Gemma reads and looks at, and what it has never seen."""

import functools
import hashlib
import itertools
import random

import keras
import numpy as np

from kerasllm.backend import tf
from kerasllm.evaluation import pictures_except
from kerasllm.images import (
    IMAGE_TOKEN,
    convert_images,
    place_images,
    vision_inputs,
)
from kerasllm.pipeline import without_autotune
from kerasllm.prompts import encode_all
from kerasllm.tiny_gemma._recipe import SEQUENCE_LENGTH, TinyRecipe
from kerasllm.toyworld import (
    COLORS,
    NUMBERS,
    SHAPES,
    picture_instructions,
    pictures,
)

NUM_PICTURES, NUM_REFUSALS = 2000, 300  # to tune on
PICTURES_PER_SEQUENCE = 3  # in every second sequence of pretraining
PICTURES_AT_ONCE = 256  # drawn and tokenized for pretraining
# What the vision encoder learns to recognize.
VISION_LABELS = {"number": NUMBERS, "color": tuple(COLORS), "shape": SHAPES}


# --- Texts and pictures for the model ----------------------------------------


def pretraining_dataset(recipe, preprocessor):
    """Return an endless dataset of texts and pictures.

    The documents follow one another, each from `<bos>` to `<eos>`, and in
    different words each time. Every second sequence begins with three
    pictures, each with its caption or with questions about it.

    Args:
        recipe: `TinyRecipe`.
        preprocessor: the `Gemma3CausalLMPreprocessor` of the model.

    Returns:
        `tf.data.Dataset` of `(x, y, sample_weight)`, the same each time that
        it is read. `y` is int32 and the weight float32, both of shape
        `(batch_size, sequence_length)`; `x` is a dict of the model's inputs.
    """
    return _dataset(
        functools.partial(_next_token_batches, recipe, preprocessor)
    )


def _next_token_batches(recipe, preprocessor):
    documents = _document_tokens(recipe, preprocessor.tokenizer)
    drawn = _pictures_with_tokens(recipe, preprocessor)
    while True:
        sequences, images = [], []
        for number in range(recipe.batch_size):
            sequence, shown = [], []
            if number % 2:
                for picture, tokens in itertools.islice(
                    drawn, PICTURES_PER_SEQUENCE
                ):
                    sequence += tokens
                    shown.append(picture.image)
            missing = SEQUENCE_LENGTH + 1 - len(sequence)
            sequences.append([*sequence, *itertools.islice(documents, missing)])
            images.append(shown)
        yield _next_token_batch(np.array(sequences), images, preprocessor)


def _next_token_batch(sequences, images, preprocessor):
    """Return `(x, y, sample_weight)` of sequences of one token more."""
    token_ids = sequences[:, :-1]
    x = {
        "token_ids": token_ids.astype("int32"),
        "padding_mask": np.ones_like(token_ids, "bool"),
        **vision_inputs(token_ids, images, preprocessor, PICTURES_PER_SEQUENCE),
    }
    y = sequences[:, 1:].astype("int32")
    # Nobody needs to guess where a picture's tokens are.
    weight = y != preprocessor.tokenizer.image_placeholder_id
    return x, y, weight.astype("float32")


def _document_tokens(recipe, tokenizer):
    """Yield the token ids of documents, without an end."""
    world = recipe.world()
    for number in itertools.count(recipe.seed):
        for tokens in tokenizer(world.documents(number)):
            yield tokenizer.start_token_id
            yield from map(int, tokens)
            yield tokenizer.end_token_id


def _pictures_with_tokens(recipe, preprocessor):
    """Yield pictures with the token ids of what stands under them."""
    tokenizer = preprocessor.tokenizer
    bos, eos = tokenizer.start_token_id, tokenizer.end_token_id
    for number in itertools.count():
        rng = random.Random(f"pictures {recipe.seed} {number}")
        drawn = _pretraining_pictures(recipe, number)
        segments = [
            place_images(
                [(IMAGE_TOKEN + picture_texts(picture, rng), False)],
                1,
                preprocessor,
            )
            for picture in drawn
        ]
        for picture, tokens in zip(
            drawn, encode_all(tokenizer, segments), strict=True
        ):
            yield picture, [bos, *tokens, eos]


def caption(picture):
    """Return the caption of a picture as a sentence."""
    text = picture.caption
    return f"{text[0].upper()}{text[1:]}."


def picture_texts(picture, rng):
    """Return what stands under a picture: its caption, or two questions."""
    if rng.random() < 0.5:
        return caption(picture)
    return " ".join(
        f"{question.text} {question.answer}"
        for question in rng.sample(picture.questions(), k=2)
    )


# --- Pictures for the vision encoder -----------------------------------------


def vision_dataset(recipe, preprocessor):
    """Return batches of pictures with their labels, without an end.

    Args:
        recipe: `TinyRecipe`.
        preprocessor: the `Gemma3CausalLMPreprocessor` of the model.

    Returns:
        `tf.data.Dataset` of `(images, labels)`: float32 of shape
        `(64, 1, size, size, 3)`, and a dict from each of `VISION_LABELS` to
        integers of shape `(64,)`.
    """
    return _dataset(functools.partial(_vision_batches, recipe, preprocessor))


def _vision_batches(recipe, preprocessor):
    for number in itertools.count():
        drawn = _vision_pictures(recipe, number)
        images = convert_images([p.image for p in drawn], preprocessor)
        seen = {
            "number": [p.count - 1 for p in drawn],
            "color": [VISION_LABELS["color"].index(p.color) for p in drawn],
            "shape": [VISION_LABELS["shape"].index(p.shape) for p in drawn],
        }
        labels = {name: np.array(values) for name, values in seen.items()}
        yield images[:, None], labels  # one image in each sequence


def _dataset(batches):
    """Return the dataset of a function that yields batches of arrays."""
    signature = keras.tree.map_structure(
        lambda array: tf.TensorSpec(array.shape, array.dtype), next(batches())
    )
    dataset = tf.data.Dataset.from_generator(
        batches, output_signature=signature
    )
    return without_autotune(dataset.prefetch(4))


# --- Requests and answers to tune on -----------------------------------------


def tuning_examples(recipe):
    """Return what the instruction model is tuned on, a list of requests."""
    world = recipe.world()
    # Many pictures and one question about each: the model would memorize few.
    drawn = _tuning_pictures(recipe)
    asked = picture_instructions(drawn)
    about_pictures = [asked[3 * i + i % 3] for i in range(len(drawn))]
    return world.instructions() + world.refusals(NUM_REFUSALS) + about_pictures


# --- What has been seen, and what has not ------------------------------------


def unseen_pictures(count, seed, recipe=None, but_not=()):
    """Draw pictures that the model has not seen in training.

    To exclude them, this draws all training pictures again, once, which takes
    seconds; see `evaluation.pictures_except`.

    Args:
        count: int.
        seed: int.
        recipe: `TinyRecipe` of the model.
        but_not: list of `toyworld.Picture` that must not be among them either.

    Returns:
        list of `toyworld.Picture`.
    """
    seen = _seen_pictures(recipe or TinyRecipe())
    return pictures_except(
        count, seed, seen.union(picture.digest() for picture in but_not)
    )


def fingerprint(recipe):
    """Return the SHA-256 of a recipe's training data: a str."""
    world = recipe.world()
    digest = hashlib.sha256()
    for text in world.documents(recipe.seed):
        digest.update(text.encode())
    for example in world.instructions() + world.refusals():
        digest.update(f"{example.instruction}\n{example.response}".encode())
    for picture in _pretraining_pictures(recipe, 0)[:16]:
        digest.update(picture.image.tobytes())
    return digest.hexdigest()


@functools.cache
def _seen_pictures(recipe):
    """Return the digests of all pictures of training."""
    return frozenset(p.digest() for p in _training_pictures(recipe))


def _training_pictures(recipe):
    for number in range(recipe.vision_steps):
        yield from _vision_pictures(recipe, number)
    placed = recipe.steps * (recipe.batch_size // 2) * PICTURES_PER_SEQUENCE
    for number in range(-(-placed // PICTURES_AT_ONCE)):
        yield from _pretraining_pictures(recipe, number)
    yield from _tuning_pictures(recipe)


def _vision_pictures(recipe, number):
    return pictures(64, seed=[recipe.seed, 1, number])


def _pretraining_pictures(recipe, number):
    return pictures(PICTURES_AT_ONCE, seed=[recipe.seed, 2, number])


def _tuning_pictures(recipe):
    return pictures(NUM_PICTURES, seed=recipe.seed + 2000)
