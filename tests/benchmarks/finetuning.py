"""Fine-tuning speed: ours and KerasHub's own `fit` on strings, in one run.

    python -m tests.benchmarks.finetuning [--turns 3] [--batch-size 16]

The same tiny Gemma, the same rows of the small world and the same optimizer.
KerasHub's task tokenizes and pads every row to `sequence_length`; ours pads to
the next of 32, 64 or 128 tokens. A text-only copy of the model is used, for
KerasHub's preprocessor gives a multimodal one images that are not there.
What counts is real tokens a second, padding left out, in epochs after the
first, which compiles.
"""

import argparse
import statistics
import time

import keras
import keras_hub
import tensorflow as tf

from kerasllm.gemma import Gemma
from kerasllm.instructions import TokenizedInstructions
from kerasllm.prompts import GEMMA
from kerasllm.tiny_gemma import SEQUENCE_LENGTH, TinyRecipe, build
from kerasllm.tiny_gemma import train_tokenizer as train


def text_only_model(tokenizer):
    """Return a `Gemma3CausalLM` of the tiny sizes without a vision encoder."""
    config = build(tokenizer).backbone.get_config() | {"vision_encoder": None}
    return keras_hub.models.Gemma3CausalLM(
        backbone=keras_hub.models.Gemma3Backbone.from_config(config),
        preprocessor=keras_hub.models.Gemma3CausalLMPreprocessor(
            keras_hub.tokenizers.Gemma3Tokenizer(
                tokenizer.proto, has_vision_tokens=False
            ),
            sequence_length=SEQUENCE_LENGTH,
        ),
    )


class EpochSeconds(keras.callbacks.Callback):
    """Collects how long each epoch took but the first."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if epoch:
            self.seconds.append(time.perf_counter() - self.start)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args()
    tokenizer = train()
    rows = TinyRecipe().world().instructions()
    size = options.batch_size
    rows = rows[: len(rows) // size * size]

    ours = Gemma(text_only_model(tokenizer))
    plain = Gemma(text_only_model(tokenizer))
    theirs = text_only_model(tokenizer)
    for model in (ours.causal_lm, plain.causal_lm, theirs):
        model.backbone.enable_lora(8)
    theirs.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
        sampler="greedy",
    )
    strings = tf.data.Dataset.from_tensor_slices(
        {
            "prompts": [GEMMA.prompt(row.instruction) for row in rows],
            "responses": [GEMMA.response(row.response) for row in rows],
        }
    ).batch(size)
    tokens = TokenizedInstructions.of(
        rows, ours.causal_lm.preprocessor, GEMMA, SEQUENCE_LENGTH
    ).num_tokens

    def run_ours(gemma, buckets, **kwargs):
        gemma.finetune(
            rows, batch_size=size, sequence_length=SEQUENCE_LENGTH,
            buckets=buckets, **kwargs,
        )  # fmt: skip

    runs = {
        "ours": lambda **kwargs: run_ours(ours, True, **kwargs),
        "ours without buckets": lambda **kwargs: run_ours(
            plain, False, **kwargs
        ),
        "KerasHub": lambda **kwargs: theirs.fit(strings, **kwargs),
    }
    speeds = {name: [] for name in runs}
    for _ in range(options.turns):
        for name, function in runs.items():
            clock = EpochSeconds()
            function(epochs=3, callbacks=[clock], verbose=0)
            speeds[name].append(tokens / statistics.median(clock.seconds))
    print(f"{keras.backend.backend()}, {len(rows)} rows, {tokens} tokens")
    for name, values in speeds.items():
        ratio = statistics.median(
            a / b for a, b in zip(values, speeds["KerasHub"], strict=True)
        )
        speed = statistics.median(values)
        print(f"{name:22}{speed:10,.0f} tokens/s{ratio:8.2f}")


if __name__ == "__main__":
    main()
