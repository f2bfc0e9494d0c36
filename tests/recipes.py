"""What tests of training share: the smallest recipe, and a vocabulary."""

import keras_hub

from kerasllm.files import assets_dir
from kerasllm.recipes import Recipe

TINY = Recipe(
    vocabulary_size=300,
    sequence_length=16,
    hidden_dim=32,
    intermediate_dim=64,
    num_heads=4,
    num_layers=1,
    dropout=0.1,
    batch_size=4,
    learning_rate=1e-2,
    warmup_steps=2,
    epochs=2,
    steps_per_epoch=4,
    validation_fraction=0.2,
    validation_steps=2,
)


def gemma_tokenizer():
    """Return the vocabulary that comes with the package."""
    return keras_hub.tokenizers.Gemma3Tokenizer.from_preset(
        str(assets_dir() / "tiny")
    )
