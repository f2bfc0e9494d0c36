"""The untrained tiny Gemma: its vocabulary and layers."""

import keras_hub

from kerasllm.backend import tf
from kerasllm.tiny_gemma._data import caption
from kerasllm.tiny_gemma._recipe import SEED, SEQUENCE_LENGTH
from kerasllm.tokenizers import train_sentence_piece
from kerasllm.toyworld import PICTURE_SIZE, World, pictures

VOCABULARY_SIZE = 2048
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
    """Train a vocabulary on other worlds of the same kind.

    So no name in the tiny Gemma's world becomes a single token, and the names
    of things that exist look like names that do not exist.

    Args:
        seed: int. The seed of the world that the tokenizer must not know.

    Returns:
        A `keras_hub.tokenizers.Gemma3Tokenizer`.
    """
    # All phrasings, about a few things ...
    world = World(seed + 1000, entities_per_kind=4)
    texts = []
    for i in range(100):
        texts += world.documents(i)
        for example in world.instructions(i) + world.refusals(seed=i):
            texts += [example.instruction, example.response]
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


def build(tokenizer, hidden_dim=128, num_layers=6, vision_dim=96):
    """Return an untrained model.

    Args:
        tokenizer: a `keras_hub.tokenizers.Gemma3Tokenizer`.
        hidden_dim: int. Width of the model, a multiple of 4.
        num_layers: int. Decoder blocks.
        vision_dim: int. Width of the vision encoder, a multiple of 4.

    Returns:
        A `keras_hub.models.Gemma3CausalLM` with its preprocessor.
    """
    vision_encoder = keras_hub.models.Gemma3VisionEncoder(
        image_size=PICTURE_SIZE,
        patch_size=16,
        num_heads=4,
        hidden_dim=vision_dim,
        num_layers=3,
        intermediate_dim=2 * vision_dim,
        output_dim=hidden_dim,
        pool_size=1,
    )
    backbone = keras_hub.models.Gemma3Backbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        image_size=PICTURE_SIZE,
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
            image_size=(PICTURE_SIZE, PICTURE_SIZE), scale=1 / 127.5, offset=-1
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
