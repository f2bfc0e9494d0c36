"""The sizes of the tiny Gemma, and the numbers of its training."""

import dataclasses

from kerasllm.toyworld import World

SEED = 0
SEQUENCE_LENGTH = 128


@dataclasses.dataclass(frozen=True)
class TinyRecipe:
    """The sizes of the tiny Gemma, and the numbers of its pretraining.

    Attributes:
        hidden_dim: int. A feed-forward layer has three times as many units.
        num_layers: int. As in Gemma 3, the last of six layers attends to the
            whole text, and the others to a window.
        vision_dim: int. Width of the vision encoder.
        entities_per_kind: int. Size of the world, see `World`.
        vision_steps: int. Batches of 64 pictures that the vision encoder is
            trained on before anything else.
        steps: int. Batches of texts and pictures.
        batch_size: int. Sequences of `SEQUENCE_LENGTH` tokens in such a batch.
        learning_rate: float. The peak. The rate rises to it during the first
            twentieth of the steps and then falls along a cosine to zero.
        seed: int. It determines all random choices.
    """

    hidden_dim: int = 128
    num_layers: int = 6
    vision_dim: int = 96
    entities_per_kind: int = 75
    vision_steps: int = 400
    steps: int = 2400
    batch_size: int = 16
    learning_rate: float = 2e-3
    seed: int = SEED

    def world(self):
        """Return the `World` that the model reads about."""
        return World(self.seed, self.entities_per_kind)
