"""Our samplers in KerasHub's own generation loop."""

import threading

import keras
import keras_hub
from keras import ops

from kerasllm.checks import (
    LARGEST_SEED,
    UserError,
    check_callable,
    check_int,
    shown,
)
from kerasllm.samplers._chain import parameters_of
from kerasllm.samplers._functions import as_chain


def to_keras_hub(sampler, seed=None):
    """Wrap a sampler for KerasHub's `causal_lm.compile(sampler=...)`.

    Args:
        sampler: callable from float32 logits `(batch_size, vocabulary_size)`
            to int32 `(batch_size,)`, written with `keras.ops`, such as
            `chain(top_k=5)`. It gets `seed` and `token_ids` if it takes them.
        seed: int or `None`, for the seed generator of the new sampler. The
            default is the seed bound to `sampler`, if there is one.

    Returns:
        A `keras_hub.samplers.Sampler`.

    Raises:
        UserError: `sampler` is not callable.
    """
    return KerasHubSampler(sampler, seed)


@keras.saving.register_keras_serializable(package="kerasllm")
class KerasHubSampler(keras_hub.samplers.Sampler):
    """A KerasHub sampler around a callable; see `to_keras_hub`."""

    def __init__(self, sampler, seed=None):
        super().__init__()
        check_callable("sampler", sampler, "`chain(top_k=5)` makes one.")
        self.sampler = sampler
        self.parameters = parameters_of(sampler)
        if seed is None and "seed" in self.parameters:
            seed = self.parameters["seed"]
        if seed is not None:
            seed = check_int("seed", seed, 0, LARGEST_SEED)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        # This is stored per thread, because two threads may share one sampler.
        self._call = threading.local()

    def __call__(self, next, *args, **kwargs):
        def remember(prompt, cache, index):
            # KerasHub does not pass the text to `get_next_token`.
            positions = ops.arange(ops.shape(prompt)[-1], dtype="int32")
            self._call.token_ids = ops.where(positions < index, prompt, -1)
            return next(prompt, cache, index)

        try:
            return super().__call__(remember, *args, **kwargs)
        finally:
            self._call.token_ids = (
                None  # a traced tensor must not outlive its trace
            )

    def compute_probabilities(self, logits):
        """Return the logits themselves, because our samplers take logits."""
        return ops.cast(logits, "float32")

    def get_next_token(self, probabilities):
        """Sample from what `compute_probabilities` returned."""
        keywords = {
            "seed": self.seed_generator,
            "token_ids": getattr(self._call, "token_ids", None),
        }
        token_ids = self.sampler(
            probabilities,
            **{k: v for k, v in keywords.items() if k in self.parameters},
        )
        if tuple(token_ids.shape) != tuple(probabilities.shape[:1]):
            raise UserError(
                "A sampler must return one token id for each row of logits, "
                f"here {tuple(probabilities.shape)}. Received: shape "
                f"{tuple(token_ids.shape)}. Reduce over the last axis."
            )
        return ops.cast(token_ids, "int32")

    def get_config(self):
        """Return the configuration of the sampler, for Keras's serialization.

        Raises:
            UserError: the sampler is a function that Keras cannot save.
        """
        ours = as_chain(self.sampler)
        if ours is None:
            raise UserError(
                "A sampler that is saved must be one of kerasllm. Received: "
                f"{shown(self.sampler)}. `chain(top_k=5)` makes one."
            )
        return {
            "sampler": keras.saving.serialize_keras_object(ours),
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        """Return the sampler with a given configuration."""
        sampler = keras.saving.deserialize_keras_object(config["sampler"])
        return cls(sampler, config["seed"])
