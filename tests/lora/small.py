"""Small models of three kinds, and what the tests do to them."""

import keras_hub
import numpy as np
import pytest
from keras import ops

from kerasllm import lora
from kerasllm.models import MiniGPTBackbone, MiniGPTCausalLM, mini_gpt

VOCABULARY_SIZE = 20
IDS = np.arange(10).reshape(2, 5)


def make_mini_gpt():
    return mini_gpt(VOCABULARY_SIZE, 8, 16, 24, 2, num_layers=2, dropout=0.0)


def make_task(dtype=None):
    backbone = MiniGPTBackbone(
        VOCABULARY_SIZE, 8, 16, 24, 2, num_layers=2, dropout=0, dtype=dtype
    )
    return MiniGPTCausalLM(backbone)


def make_gemma():
    backbone = keras_hub.models.Gemma3Backbone(
        vocabulary_size=VOCABULARY_SIZE,
        image_size=16,
        num_layers=2,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        head_dim=8,
        vision_encoder=None,
        dtype="float32",
    )
    return keras_hub.models.Gemma3CausalLM(preprocessor=None, backbone=backbone)


MAKERS = {"mini_gpt": make_mini_gpt, "task": make_task, "gemma": make_gemma}
every_model = pytest.mark.parametrize("name", MAKERS)


def logits(model):
    if model.name == "mini_gpt" or not isinstance(
        model, keras_hub.models.CausalLM
    ):
        return ops.convert_to_numpy(model(IDS))
    mask = np.ones_like(IDS)
    return ops.convert_to_numpy(model({"token_ids": IDS, "padding_mask": mask}))


def disturb(model, seed=0):
    """Give every adapter a `B` that is not zero."""
    rng = np.random.default_rng(seed)
    for _, layer in lora.adapted_layers(model):
        b = layer.lora_kernel_b
        b.assign(rng.normal(0, 0.5, b.shape).astype("float32"))
