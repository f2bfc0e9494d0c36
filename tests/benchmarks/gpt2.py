"""Hugging Face's GPT-2 in the sizes of a recipe, for comparison."""

import transformers


def make_gpt2(recipe, **config):
    """Return a `GPT2LMHeadModel` with random weights.

    Args:
        recipe: a `Recipe`.
        **config: more arguments of `GPT2Config`.
    """
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=recipe.vocabulary_size,
            n_positions=recipe.sequence_length,
            n_embd=recipe.hidden_dim,
            n_inner=recipe.intermediate_dim,
            n_layer=recipe.num_layers,
            n_head=recipe.num_heads,
            **config,
        )
    )
