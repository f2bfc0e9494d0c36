"""What tests of training share: a run of seconds, and a way to kill it."""

import json

import keras
import numpy as np
import tensorflow as tf

from kerasllm.models import mini_gpt
from kerasllm.pretraining import pretrain

EPOCHS, STEPS = 2, 5


def saved_progress(path):
    with np.load(path) as file:
        return json.loads(str(file["progress"]))


class Killed(BaseException):
    """Stands for a kill: nothing in the library catches it."""


class KillAt(keras.callbacks.Callback):
    def __init__(self, step, how):
        super().__init__()
        self.step = step
        self.how = how

    def on_train_batch_end(self, batch, logs=None):
        self.step -= 1
        if self.step == 0:
            self.how()


def kill():
    raise Killed


def dataset(batches=12):
    """Windows in which each token is its predecessor plus one."""
    starts = np.random.default_rng(0).integers(0, 20, (batches * 4, 1))
    tokens = (starts + np.arange(9)) % 20
    windows = tf.data.Dataset.from_tensor_slices(tokens.astype("int32"))
    windows = windows.map(lambda w: (w[:-1], w[1:]))
    return windows.batch(4, drop_remainder=True)


def model(seed=1):
    keras.utils.set_random_seed(seed)
    return mini_gpt(20, 8, 16, 16, 2, num_layers=1, dropout=0.2)


def in_dtype(policy, build):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return build()
    finally:
        keras.config.set_dtype_policy(before)


def train(directory, model_, **changes):
    arguments = {
        "train_dataset": dataset(),
        "validation_dataset": dataset(2),
        "directory": directory,
        "epochs": EPOCHS,
        "steps_per_epoch": STEPS,
        "learning_rate": 1e-2,
        "checkpoint_steps": 2,
        "verbose": 0,
    }
    return pretrain(model_, **arguments | changes)


def without_speed(history):
    return [
        [value for key, value in epoch.items() if key != "tokens_per_second"]
        for epoch in history
    ]
