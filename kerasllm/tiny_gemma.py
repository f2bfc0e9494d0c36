"""The offline Gemma: Gemma 3's architecture, small enough to train here.

A base model, `tiny`, that has read about the small world and nothing else, and
an instruction model, `tiny_instruct`, that was tuned from it. Both are presets
of KerasHub like Google's own and lie in `assets/`. Made by

    python -m kerasllm.tiny_gemma --out assets

in about an hour on two cores, and measured again by

    python -m kerasllm.tiny_gemma --measure
"""

import dataclasses
import itertools

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from kerasllm.images import IMAGE_MARK, place_images, vision_inputs
from kerasllm.pretraining import pretrain
from kerasllm.prompts import encode_all
from kerasllm.tokenizers import train_sentence_piece
from kerasllm.toyworld import World, pictures

SEED = 0
IMAGE_SIZE = 64
VOCABULARY_SIZE = 2048
SEQUENCE_LENGTH = 128
SPECIAL_TOKENS = (
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<img>",
)
# Gemma's own order.
CONTROL_TOKENS = {
    "pad": "<pad>",
    "eos": "<eos>",
    "bos": "<bos>",
    "unk": "<unk>",
}


def train_tokenizer(seed=SEED):
    """Learn a vocabulary from other worlds of the same kind.

    From others, so that no name of this world is a token by itself, and names
    of things that exist look like those of things that do not.

    Returns:
        A `keras_hub.tokenizers.Gemma3Tokenizer`.
    """
    # All that is ever said, about a few things that would fit in a room ...
    world = World(seed + 1000, entities_per_kind=4)
    texts = []
    for i in range(100):
        texts += world.documents(i)
        rows = world.instructions(i) + world.refusals(seed=i)
        texts += [part for r in rows for part in (r.instruction, r.response)]
    for picture in pictures(500, seed=seed + 1000):
        texts += [caption(picture), picture.caption]
        for question in picture.questions():
            texts += [question.text, question.answer]
    # ... and the syllables of many names.
    for entity in World(seed + 1001).entities:
        texts += [f"{entity.name} {entity.name}."] * 4
    tokenizer = train_sentence_piece(
        tf.data.Dataset.from_tensor_slices(texts),
        VOCABULARY_SIZE,
        special_tokens=SPECIAL_TOKENS,
        control_tokens=CONTROL_TOKENS,
        model_type="bpe",
    )
    return keras_hub.tokenizers.Gemma3Tokenizer(tokenizer.proto)


@dataclasses.dataclass(frozen=True)
class TinyRecipe:
    """What the tiny Gemma is and how it is pretrained.

    Attributes:
        hidden_dim: int. A feed-forward layer has three times as many units.
        num_layers: int. The last of six sees the whole text, the others a
            window, as in Gemma 3.
        vision_dim: int. Width of the vision encoder.
        entities_per_kind: int. Size of the world, see `World`.
        batch_size: int. Rows of `SEQUENCE_LENGTH` tokens.
        steps: int. Batches.
        learning_rate: float. The highest; it falls along a cosine to zero.
        seed: int. Decides everything that is drawn.
    """

    hidden_dim: int = 128
    num_layers: int = 6
    vision_dim: int = 96
    entities_per_kind: int = 75
    batch_size: int = 16
    steps: int = 4000
    learning_rate: float = 2e-3
    seed: int = SEED

    def world(self):
        """Return the `World` that the model reads about."""
        return World(self.seed, self.entities_per_kind)


def pretrain_base(recipe, directory, verbose="auto"):
    """Train the base model, or go on where this was interrupted.

    Args:
        recipe: `TinyRecipe`.
        directory: str or path. Where the checkpoint and the log go.
        verbose: as for `fit`.

    Returns:
        `(causal_lm, history)`: the task with its preprocessor, and what
        `kerasllm.pretrain` returns.
    """
    # Before there is a tokenizer: seeding TensorFlow clears its kernels.
    keras.utils.set_random_seed(recipe.seed)
    causal_lm = build(
        train_tokenizer(recipe.seed),
        recipe.hidden_dim,
        recipe.num_layers,
        recipe.vision_dim,
    )
    preprocessor, causal_lm.preprocessor = causal_lm.preprocessor, None
    warmup_steps = max(1, recipe.steps // 20)
    history = pretrain(
        causal_lm,
        pretraining_dataset(
            recipe.world(), preprocessor, recipe.batch_size, recipe.seed
        ),
        directory=directory,
        epochs=10,
        steps_per_epoch=recipe.steps // 10,
        learning_rate=keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            warmup_target=recipe.learning_rate,
            warmup_steps=warmup_steps,
            decay_steps=recipe.steps - warmup_steps,
        ),
        verbose=verbose,
    )
    causal_lm.preprocessor = preprocessor
    return causal_lm, history


def build(tokenizer, hidden_dim=128, num_layers=6, vision_dim=96):
    """Return an untrained `Gemma3CausalLM` with its preprocessor."""
    vision_encoder = keras_hub.models.Gemma3VisionEncoder(
        image_size=IMAGE_SIZE,
        patch_size=8,
        num_heads=4,
        hidden_dim=vision_dim,
        num_layers=3,
        intermediate_dim=2 * vision_dim,
        output_dim=hidden_dim,
        pool_size=2,
    )
    backbone = keras_hub.models.Gemma3Backbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        image_size=IMAGE_SIZE,
        num_layers=num_layers,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=hidden_dim,
        intermediate_dim=3 * hidden_dim,
        head_dim=hidden_dim // 4,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        use_sliding_window_attention=True,
        sliding_window_size=512,
        vision_encoder=vision_encoder,
    )
    preprocessor = keras_hub.models.Gemma3CausalLMPreprocessor(
        tokenizer,
        image_converter=keras_hub.layers.Gemma3ImageConverter(
            image_size=(IMAGE_SIZE, IMAGE_SIZE), scale=1 / 127.5, offset=-1
        ),
        sequence_length=SEQUENCE_LENGTH,
        max_images_per_prompt=2,
        num_vision_tokens_per_image=(
            vision_encoder.num_vision_tokens_per_image
        ),
    )
    return keras_hub.models.Gemma3CausalLM(
        backbone=backbone, preprocessor=preprocessor
    )


def caption(picture):
    """Return the caption of a picture as a sentence."""
    text = picture.caption
    return f"{text[0].upper()}{text[1:]}."


def pretraining_dataset(world, preprocessor, batch_size=16, seed=SEED):
    """Return batches of all that there is to read, without an end.

    Documents follow one another, each from `<bos>` to `<eos>`; every second
    row begins with a picture and its caption. The facts come in other words
    each time.

    Args:
        world: `World`.
        preprocessor: the `Gemma3CausalLMPreprocessor` of the model.
        batch_size: int.
        seed: int.

    Returns:
        `tf.data.Dataset` of `(x, y, sample_weight)`, the same each time that
        it is read.
    """
    tokenizer = preprocessor.tokenizer
    bos, eos = tokenizer.start_token_id, tokenizer.end_token_id
    length = SEQUENCE_LENGTH + 1

    def document_tokens():
        for number in itertools.count(seed):
            texts = world.documents(number)
            for tokens in tokenizer(texts):
                yield from (bos, *map(int, tokens), eos)

    def captioned_pictures():
        for number in itertools.count(1):
            batch = pictures(256, seed=[seed, number])
            segments = [
                place_images(
                    [(IMAGE_MARK + caption(picture), False)], 1, preprocessor
                )
                for picture in batch
            ]
            rows = encode_all(tokenizer, segments)
            for picture, tokens in zip(batch, rows, strict=True):
                yield picture.image, [bos, *tokens, eos]

    def batches():
        documents, captioned = document_tokens(), captioned_pictures()
        while True:
            rows, images = [], []
            for number in range(batch_size):
                image, row = next(captioned) if number % 2 else (None, [])
                missing = length - len(row)
                rows.append([*row, *itertools.islice(documents, missing)])
                images.append([] if image is None else [image])
            yield _next_token_batch(np.array(rows), images, preprocessor)

    first = next(batches())
    signature = keras.tree.map_structure(
        lambda a: tf.TensorSpec(a.shape, a.dtype), first
    )
    return tf.data.Dataset.from_generator(
        batches, output_signature=signature
    ).prefetch(4)


def _next_token_batch(rows, images, preprocessor):
    """Return `(x, y, sample_weight)` of rows of one token more."""
    x = {
        "token_ids": rows[:, :-1].astype("int32"),
        "padding_mask": np.ones_like(rows[:, :-1], "bool"),
        **vision_inputs(rows[:, :-1], images, preprocessor, num_images=1),
    }
    y = rows[:, 1:].astype("int32")
    # Nobody needs to guess where a picture's tokens are.
    weight = y != preprocessor.tokenizer.image_placeholder_id
    return x, y, weight.astype("float32")
