"""The logs and samples at the end of an epoch."""

import math
import time

import keras

from kerasllm import distribution as devices


class EpochLogs(keras.callbacks.Callback):
    """Adds perplexity and tokens per second to the logs of an epoch.

    Args:
        tokens_in_a_batch: number, the mean number of tokens in a batch.
        perplexity: bool. Whether the loss is one of tokens.
    """

    def __init__(self, tokens_in_a_batch, perplexity=True):
        super().__init__()
        self.tokens_in_a_batch = tokens_in_a_batch
        self.perplexity = perplexity
        self.batches = self.start = self.end = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.end = time.perf_counter()
        if self.batches == 0:  # the first batch includes compilation
            self.start = self.end
        self.batches += 1

    def on_epoch_end(self, epoch, logs=None):
        for name in ("loss", "val_loss"):
            if self.perplexity and name in logs:
                perplexity = name.replace("loss", "perplexity")
                logs[perplexity] = math.exp(min(logs[name], 700.0))
        tokens = (self.batches - 1) * self.tokens_in_a_batch
        seconds = self.end - self.start
        logs["tokens_per_second"] = tokens / seconds if tokens else 0.0


class PrintSample(keras.callbacks.Callback):
    """Prints generated text after each epoch.

    Args:
        run: the `Checkpoint` of the run.
        sample: callable `() -> str`.
    """

    def __init__(self, run, sample):
        super().__init__()
        self.run, self.sample = run, sample

    def on_epoch_end(self, epoch, logs=None):
        if self.run.stopped:
            return  # the epoch is not complete, or the model is broken
        text = self.sample()  # all processes must call this
        if devices.process_index() == 0:
            print(f"\nEpoch {epoch + 1}: {text}")
