"""The mini-GPT of the chapter and the sizes that it comes in."""

import dataclasses

import keras
from keras import layers

from kerasllm.layers import (
    PositionalEmbedding,
    TransformerDecoder,
    check_dropout,
    check_positive_ints,
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides what a pretraining run computes.

    Attributes:
        vocabulary_size: int. Number of tokens.
        sequence_length: int. Tokens in a training window.
        hidden_dim: int. See `mini_gpt`, as for the next four.
        intermediate_dim: int.
        num_heads: int.
        num_layers: int.
        dropout: float in `[0, 1)`.
        batch_size: int. Windows in a training step.
        learning_rate: float. The rate after the warmup.
        warmup_steps: int. Steps in which it is reached.
        epochs: int. Times that training stops to validate.
        steps_per_epoch: int, or `None` for an equal share of one pass over
            the corpus.
        validation_fraction: float. Share of the documents that is held out.
        validation_steps: int. Batches in a validation, at most.
    """

    vocabulary_size: int
    sequence_length: int
    hidden_dim: int
    intermediate_dim: int
    num_heads: int
    num_layers: int
    dropout: float
    batch_size: int
    learning_rate: float
    warmup_steps: int
    epochs: int
    steps_per_epoch: int | None
    validation_fraction: float
    validation_steps: int

    def build(self, vocabulary_size=None):
        """Return the untrained `mini_gpt` of this recipe.

        Args:
            vocabulary_size: int. Size of the vocabulary at hand, where it
                differs from the recipe's.
        """
        return mini_gpt(
            vocabulary_size or self.vocabulary_size,
            self.sequence_length,
            self.hidden_dim,
            self.intermediate_dim,
            self.num_heads,
            self.num_layers,
            self.dropout,
        )


RECIPES = {
    # A few minutes on two cores. Two wide layers learn more from a million
    # tokens than four narrow ones, which first spend half of them on finding
    # out how often each word occurs.
    "laptop": Recipe(
        vocabulary_size=2048,
        sequence_length=128,
        hidden_dim=192,
        intermediate_dim=768,
        num_heads=4,
        num_layers=2,
        dropout=0.1,
        batch_size=16,
        learning_rate=2e-3,
        warmup_steps=100,
        epochs=5,
        steps_per_epoch=120,
        validation_fraction=0.02,
        validation_steps=20,
    ),
    # The chapter's run: about an hour on an A100, six on a T4.
    "book": Recipe(
        vocabulary_size=32_000,
        sequence_length=256,
        hidden_dim=512,
        intermediate_dim=2056,
        num_heads=8,
        num_layers=8,
        dropout=0.1,
        batch_size=128,
        learning_rate=2e-4,
        warmup_steps=1000,
        epochs=8,
        steps_per_epoch=None,
        validation_fraction=0.017,
        validation_steps=500,
    ),
}


def get_recipe(recipe):
    """Return the `Recipe` of that name; a `Recipe` is returned as it is.

    Raises:
        ValueError: there is no recipe of that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise ValueError(
            f"`recipe` must be one of {', '.join(map(repr, RECIPES))} or a "
            f"`Recipe`. Received: recipe={recipe!r}. For other sizes use "
            '`dataclasses.replace(RECIPES["laptop"], num_layers=2)`.'
        )
    return RECIPES[recipe]


def mini_gpt(
    vocabulary_size,
    sequence_length=256,
    hidden_dim=512,
    intermediate_dim=2056,
    num_heads=8,
    num_layers=8,
    dropout=0.1,
):
    """Build the chapter's GPT as a functional Keras model.

    With the default sizes and a vocabulary of 32,000 it has 41,800,768
    parameters.

    Args:
        vocabulary_size: int. Number of tokens.
        sequence_length: int. Longest input, in tokens.
        hidden_dim: int. Size of the vector at each position. A multiple of
            `num_heads`.
        intermediate_dim: int. Width of the feed-forward layers.
        num_heads: int. Attention heads in a block.
        num_layers: int. Number of `TransformerDecoder` blocks.
        dropout: float in `[0, 1)`.

    Returns:
        A `keras.Model` from int32 token ids `(batch_size, length)`, `length`
        at most `sequence_length`, to float32 logits
        `(batch_size, length, vocabulary_size)`. The logits at a position
        score the token that comes next.

    Raises:
        ValueError: a size is not a positive int, `hidden_dim` is no multiple
            of `num_heads`, or `dropout` is out of range.

    Source: chapter 16, "Building the model", listing 16.6.
    """
    # Before the first layer: the embedding alone can be gigabytes.
    check_positive_ints(
        vocabulary_size=vocabulary_size,
        sequence_length=sequence_length,
        hidden_dim=hidden_dim,
        intermediate_dim=intermediate_dim,
        num_heads=num_heads,
        num_layers=num_layers,
    )
    check_dropout(dropout)
    inputs = keras.Input(shape=(None,), dtype="int32", name="token_ids")
    embedding = PositionalEmbedding(
        sequence_length, vocabulary_size, hidden_dim, name="embedding"
    )
    x = embedding(inputs)
    x = layers.LayerNormalization(name="embedding_layernorm")(x)
    for i in range(num_layers):
        x = TransformerDecoder(
            hidden_dim,
            intermediate_dim,
            num_heads,
            dropout,
            name=f"decoder_{i}",
        )(x)
    outputs = embedding(x, reverse=True)
    return keras.Model(inputs, outputs, name="mini_gpt")
