"""Small embedders with random weights that read letters."""

import types

import keras
import numpy as np

from kerasllm.models import MiniGPTBackbone
from kerasllm.retrieval import Embedder
from tests.instructions.test_tokenized import Bytes

PREPROCESSOR = types.SimpleNamespace(tokenizer=Bytes())


def small_embedder(pooling="mean", length=48, seed=0, **options):
    """Return an embedder of random weights that reads bytes."""
    keras.utils.set_random_seed(seed)
    backbone = MiniGPTBackbone(
        260, length, 16, 32, 2, num_layers=1, dropout=0.0
    )
    return Embedder(backbone, PREPROCESSOR, pooling, **options)


def copy_of(embedder):
    """Return an embedder with the same weights."""
    other = small_embedder(embedder.pooling, embedder.sequence_length)
    other.set_weights([np.array(w) for w in embedder.get_weights()])
    return other
