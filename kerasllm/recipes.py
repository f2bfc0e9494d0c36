"""Recipes: the model sizes and training settings of a pretraining run.

`"laptop"` takes minutes on two cores, and `"short"`, for the tour, two thirds
of that. `"book"` is the run of the chapter.
"""

import dataclasses

from kerasllm.checks import (
    UserError,
    check_int,
    check_positive_ints,
    check_real,
    is_int,
    is_real,
    shown,
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
        warmup_steps: int. Number of weight updates before the rate is reached.
            An update takes one training step, or
            `gradient_accumulation_steps` of them.
        epochs: int. Number of epochs. Each one ends with a validation.
        steps_per_epoch: int, or `None` to divide one pass over the corpus
            equally among the epochs.
        validation_fraction: float. Fraction of the documents that is held out.
        validation_steps: int. Largest number of batches in a validation.
        loss_chunks: int. See `kerasllm.pretrain`.
        remat: bool. Gradient checkpointing; see `TransformerDecoder`.
        gradient_accumulation_steps: int, at least 2, or `None`. See
            `kerasllm.pretrain`.
        decay: bool. Whether the rate falls to zero after the warmup, along
            half a cosine that ends with the run (Loshchilov and Hutter, 2017,
            arXiv:1608.03983). The chapter's stays where it is.
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
    loss_chunks: int = 1
    remat: bool = False
    gradient_accumulation_steps: int | None = None
    decay: bool = False

    def checked(self):
        """Return the recipe with plain Python numbers, which JSON can write.

        Errors that would otherwise appear only after minutes of work are
        raised here.

        Raises:
            UserError: a setting is out of range, or a size of the model.
        """
        counts = {
            name: getattr(self, name)
            for name in (
                "vocabulary_size",
                "sequence_length",
                "num_layers",
                "batch_size",
                "epochs",
                "steps_per_epoch",
                "validation_steps",
                "loss_chunks",
            )
        }
        if self.steps_per_epoch is None:
            del counts["steps_per_epoch"]
        check_positive_ints(**counts)
        # Only this and `build` need a backend, so that a wrong name is told
        # before one starts.
        from kerasllm.layers import check_block
        from kerasllm.schedules import WarmupSchedule

        check_block(
            self.hidden_dim, self.intermediate_dim, self.num_heads, self.dropout
        )
        WarmupSchedule(self.learning_rate, self.warmup_steps)
        check_real(
            "validation_fraction",
            self.validation_fraction,
            lambda fraction: 0 < fraction < 1,
            "between 0 and 1",
        )
        if self.gradient_accumulation_steps is not None:
            check_int(
                "gradient_accumulation_steps",
                self.gradient_accumulation_steps,
                2,
                cure="`None` updates the weights after each batch.",
            )
        values = vars(self)
        ints = {k: int(v) for k, v in values.items() if is_int(v)}
        reals = {k: float(v) for k, v in values.items() if is_real(v)}
        return dataclasses.replace(self, **reals | ints)

    def identity(self):
        """Return the numbers that determine the result of a run: a dict.

        A user who runs out of memory may change the others and resume.
        """
        left_out = ("loss_chunks", "remat")
        if not self.decay:  # as runs were recorded that did not know it
            left_out += ("decay",)
        return {k: v for k, v in vars(self).items() if k not in left_out}

    def schedule(self, num_updates):
        """Return the learning rate of a run as a function of the update.

        Args:
            num_updates: int. Number of weight updates in the run.
        """
        import keras

        from kerasllm.schedules import WarmupSchedule

        if not self.decay:
            return WarmupSchedule(self.learning_rate, self.warmup_steps)
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            warmup_target=self.learning_rate,
            warmup_steps=self.warmup_steps,
            decay_steps=max(1, num_updates - self.warmup_steps),
        )

    def build(self, vocabulary_size=None):
        """Return the untrained `mini_gpt` of this recipe.

        Args:
            vocabulary_size: int. Size of the actual vocabulary, if it differs
                from the recipe's.
        """
        from kerasllm.models import mini_gpt

        return mini_gpt(
            vocabulary_size or self.vocabulary_size,
            self.sequence_length,
            self.hidden_dim,
            self.intermediate_dim,
            self.num_heads,
            self.num_layers,
            self.dropout,
            self.remat,
        )


# This takes a few minutes on two cores. Two wide layers learn more from a
# million tokens than four narrow ones, which spend the first half of them on
# learning how often each word occurs.
_LAPTOP = Recipe(
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
)

RECIPES = {
    "laptop": _LAPTOP,
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
        loss_chunks=8,
    ),
    # The laptop's model in two thirds of the steps. A rate that falls and no
    # dropout make up for some of those that are left out.
    "short": dataclasses.replace(
        _LAPTOP, dropout=0.0, epochs=4, steps_per_epoch=100, decay=True
    ),
}


def get_recipe(recipe):
    """Return the recipe with a given name, or a `Recipe` unchanged.

    Args:
        recipe: `"laptop"`, `"book"`, `"short"` or a `Recipe`.

    Raises:
        UserError: there is no recipe with that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if not isinstance(recipe, str) or recipe not in RECIPES:
        raise UserError(
            f"`recipe` must be one of {', '.join(map(repr, RECIPES))} or a "
            f"`Recipe`. Received: recipe={shown(recipe)}. For other sizes use "
            '`dataclasses.replace(RECIPES["laptop"], num_layers=2)`.'
        )
    return RECIPES[recipe]
