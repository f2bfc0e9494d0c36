"""Small Gemmas with random weights, and what the tests ask of them."""

import keras
import keras_hub
import numpy as np

from kerasllm.gemma import Gemma
from kerasllm.images import vision_inputs
from kerasllm.instructions import Instruction
from kerasllm.samplers import chain
from kerasllm.toyworld import pictures

IMAGES = [picture.image for picture in pictures(4, seed=5)]
HOT = chain(temperature=20.0)  # random weights are too sure of themselves
EVERY_TOKEN = {"stop_token_ids": None, "stop_strings": ()}
COLORS = ("red", "blue")
EXAMPLES = [
    Instruction(
        "<start_of_image>Colour?",
        color,
        images=(np.full((48, 48, 3), rgb, "uint8"),),
    )
    for color, rgb in zip(COLORS, ((220, 40, 40), (50, 80, 220)), strict=True)
] + [Instruction("Say red.", "red"), Instruction("Say blue.", "blue")]


def restless(model):
    """Return a Gemma whose random weights make it say different things."""
    backbone = model.backbone
    other = keras_hub.models.Gemma3CausalLM(
        backbone=backbone.from_config(backbone.get_config()),
        preprocessor=model.preprocessor,
    )
    rng = np.random.default_rng(0)
    for weight in other.weights:
        if len(weight.shape) > 1:
            weight.assign(rng.normal(0, 0.4, weight.shape))
    return Gemma(other)


def copy_of(model):
    """Return a Gemma with the weights of `model`."""
    backbone = model.backbone
    copy = keras_hub.models.Gemma3CausalLM(
        backbone=backbone.from_config(backbone.get_config()),
        preprocessor=model.preprocessor,
    )
    for new, old in zip(copy.weights, model.weights, strict=True):
        new.assign(keras.ops.convert_to_numpy(old))
    return Gemma(copy)


def logits_of(gemma, token_ids, images):
    """Logits of a full pass, without a cache: `(length, vocabulary)`."""
    token_ids = np.array([token_ids], "int32")
    x = {"token_ids": token_ids, "padding_mask": np.ones_like(token_ids)}
    # Without compiling, TensorFlow fails on no image at all; one more is
    # seen by no token.
    x |= vision_inputs(
        token_ids, [images], gemma.causal_lm.preprocessor, len(images) + 1
    )
    return keras.ops.convert_to_numpy(gemma.causal_lm(x))[0]


def fail_with(error):
    def fail(*args, **kwargs):
        raise error

    return fail
