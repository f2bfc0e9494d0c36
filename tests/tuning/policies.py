"""Small policies with an alphabet for a vocabulary, and rewards for them."""

import keras
import numpy as np
from keras import ops

from kerasllm.models import MiniGPTBackbone, MiniGPTCausalLM
from kerasllm.tuning.reinforcement._settings import Settings
from tests.alphabet import VOCABULARY_SIZE, AlphabetPreprocessor

PROMPTS = ["abc", "x", "hello", "zz"]
# Prompts are complete, and completions have at most four letters.
OPTIONS = {
    "template": None, "max_completion_length": 4, "num_generations": 4,
    "batch_size": 4, "verbose": 0,
}  # fmt: skip
SETTINGS = {
    "num_generations": 2, "beta": 0.0, "epsilon": 0.2, "epsilon_high": None,
    "scale_rewards": "group", "loss_type": "grpo", "num_iterations": 1,
    "temperature": 0.8, "mask_truncated_completions": True,
    "max_completion_length": 4, "batch_size": 2, "minibatch_size": None,
    "seed": 0,
}  # fmt: skip


def settings(**changed):
    return Settings(**SETTINGS | changed)


def make_policy(dropout=0.0):
    """Return a Mini-GPT that nearly does not care what comes next."""
    keras.utils.set_random_seed(0)
    backbone = MiniGPTBackbone(
        VOCABULARY_SIZE, 16, 16, 32, 2, num_layers=1, dropout=dropout
    )
    model = MiniGPTCausalLM(backbone)
    model.preprocessor = AlphabetPreprocessor()
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(rng.normal(0, 0.15, weight.shape))
    return model


def has_a(prompts, responses):
    """Reward a response with an `a` in it."""
    return [float("a" in response) for response in responses]


def share_of_a(prompts, responses):
    """Reward responses by how many of their letters are before `n`."""
    return [
        sum(letter < "n" for letter in response) / (len(response) + 1)
        for response in responses
    ]


def values(model):
    """Return the weights of a model, a list of arrays."""
    return [np.array(ops.convert_to_numpy(w)) for w in model.weights]


def without_seconds(history):
    return [
        {name: value for name, value in logs.items() if "seconds" not in name}
        for logs in history
    ]
