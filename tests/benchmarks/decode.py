"""Decoding speed: ours, KerasHub's, Hugging Face's and the chapter's.

    KERAS_BACKEND=jax python -m tests.benchmarks.decode [--batch-size 1 8 32]

All models have the book recipe's sizes and random weights, read a prompt of 8
tokens and write 248 more by greedy search. They run in turns in one process;
the table has the median of their runs and, for ours, the median of the ratios
within a turn. The floor is the time to read all weights once for each token,
at the bandwidth that a matrix-vector product of this machine reaches.
"""

import argparse
import dataclasses
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_hub
import numpy as np
import torch

from kerasllm import backend
from kerasllm.generation import CachedDecoder, TextGenerator, compiled_generate
from kerasllm.models import MiniGPTBackbone, MiniGPTCausalLM, get_recipe
from tests.benchmarks.gpt2 import make_gpt2

PROMPT_LENGTH = 8
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}  # of a weight


class Numbers:
    """Tokenizer and preprocessor of texts that are numbers: "3 14 15"."""

    def __init__(self, size, sequence_length):
        self.size, self.sequence_length = size, sequence_length
        self.tokenizer = self

    def __call__(self, text):
        return np.array(text.split(), "int32")

    def detokenize(self, token_ids):
        return " ".join(map(str, token_ids))

    def vocabulary_size(self):
        return self.size

    def generate_preprocess(self, prompts, sequence_length):
        token_ids = np.zeros((len(prompts), sequence_length), "int32")
        padding_mask = np.zeros_like(token_ids)
        for i, prompt in enumerate(prompts):
            row = self(prompt)
            token_ids[i, : len(row)] = row
            padding_mask[i, : len(row)] = 1
        return {"token_ids": token_ids, "padding_mask": padding_mask}


def make_ours(recipe, dtype):
    backbone = MiniGPTBackbone(
        recipe.vocabulary_size,
        recipe.sequence_length,
        recipe.hidden_dim,
        recipe.intermediate_dim,
        recipe.num_heads,
        recipe.num_layers,
        dtype="float32" if dtype == "int8" else dtype,
    )
    model = MiniGPTCausalLM(backbone)
    if dtype == "int8":
        model.quantize("int8")
    model.preprocessor = Numbers(recipe.vocabulary_size, recipe.sequence_length)
    return model


def run_ours(model, recipe):
    generator = TextGenerator(model)

    def run(prompts):
        generator.generate(prompts, recipe.sequence_length, stop_token_ids=None)
        return len(prompts) * (recipe.sequence_length - PROMPT_LENGTH)

    return run


def run_keras_hub(recipe, dtype):
    backbone = keras_hub.models.GPT2Backbone(
        recipe.vocabulary_size,
        recipe.num_layers,
        recipe.num_heads,
        recipe.hidden_dim,
        recipe.intermediate_dim,
        max_sequence_length=recipe.sequence_length,
        dtype="float32" if dtype == "int8" else dtype,
    )
    model = keras_hub.models.GPT2CausalLM(backbone)
    if dtype == "int8":
        model.quantize("int8")
    model.compile(sampler="greedy")
    numbers = Numbers(recipe.vocabulary_size, recipe.sequence_length)

    def run(prompts):
        inputs = numbers.generate_preprocess(prompts, recipe.sequence_length)
        inputs["padding_mask"] = inputs["padding_mask"].astype("bool")
        model.generate(inputs, stop_token_ids=None)
        return len(prompts) * (recipe.sequence_length - PROMPT_LENGTH)

    return run


def run_hugging_face(recipe, dtype):
    model = make_gpt2(
        recipe, bos_token_id=0, eos_token_id=None, pad_token_id=0
    ).eval()
    model = model.to(getattr(torch, dtype))
    numbers = Numbers(recipe.vocabulary_size, recipe.sequence_length)
    new_tokens = recipe.sequence_length - PROMPT_LENGTH

    def run(prompts):
        token_ids = torch.tensor(np.stack([numbers(p) for p in prompts])).long()
        with torch.no_grad():
            model.generate(
                token_ids,
                attention_mask=torch.ones_like(token_ids),
                min_new_tokens=new_tokens,
                max_new_tokens=new_tokens,
                do_sample=False,
            )
        return len(prompts) * new_tokens

    return run


def run_chapter(model, recipe):
    """The padded `predict`; each of its tokens costs the same."""
    plain = model.to_mini_gpt()

    def run(prompts):
        compiled_generate(
            plain,
            model.preprocessor.tokenizer,
            prompts[0] + " 1" * (recipe.sequence_length - PROMPT_LENGTH - 8),
            max_length=recipe.sequence_length,
            stop_token_ids=None,
        )
        return 8

    return run


def measure_bandwidth(size=2**26):
    """Return the bytes a second that a matrix-vector product reads."""
    matrix = np.ones((size // 2048, 2048), "float32")
    vector = np.ones(2048, "float32")
    matrix @ vector
    times = []
    for _ in range(10):
        start = time.perf_counter()
        matrix @ vector
        times.append(time.perf_counter() - start)
    return matrix.nbytes / min(times)


def median_seconds(function, count=7):
    """Return the median time of calls after the first, which compiles."""
    times = []
    for _ in range(count + 1):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def print_first_token(recipe):
    """Compare the first streamed token with one pass over the prompt."""
    model = make_ours(recipe, "float32")
    plain = model.to_mini_gpt()
    generator = TextGenerator(model)
    print("\n| prompt | forward pass, ms | first token, ms | ratio |")
    print("|---|---|---|---|")
    for length in (8, 32, 128):
        token_ids = np.arange(length, dtype="int32")[None] + 5
        prompt = " ".join(map(str, token_ids[0]))
        forward = median_seconds(
            lambda ids=token_ids: plain.predict_on_batch(ids)
        )
        first = median_seconds(
            lambda text=prompt: next(
                generator.stream(text, 256, stop_token_ids=None)
            )
        )
        print(
            f"| {length} | {forward * 1e3:.1f} | {first * 1e3:.1f} | "
            f"{first / forward:.2f} |",
            flush=True,
        )


def print_long_texts(recipe):
    """Compare the price of a token at 256 and at 2,048 positions."""
    recipe = dataclasses.replace(recipe, sequence_length=2048)
    generator = TextGenerator(make_ours(recipe, "float32"))
    print("\n| positions | ms a token |")
    print("|---|---|")
    times = {}
    for length in (256, 2048):
        prompt = " ".join(["7"] * (length - 40))
        speeds = []
        for _ in range(5):
            generator.generate(prompt, length, stop_token_ids=None)
            speeds.append(generator.tokens_per_second)
        times[length] = 1000 / statistics.median(speeds)
        print(f"| {length} | {times[length]:.2f} |", flush=True)
    print(f"\nratio {times[2048] / times[256]:.2f}")


def print_memory(recipe):
    """Print what XLA plans for one step beyond weights, cache and logits."""
    if backend.name() != "jax":
        print("\nmemory: measured on JAX, whose compiler tells its plan")
        return
    model = make_ours(recipe, "float32")
    decoder = CachedDecoder.of(model)
    print("\n| batch | weights, MB | cache | logits | all else in a step |")
    print("|---|---|---|---|---|")
    for batch_size in (1, 8, 32):
        token_ids = np.ones((batch_size, PROMPT_LENGTH), "int32")
        _, cache = decoder.prefill(token_ids, PROMPT_LENGTH, 256)
        # Takes the same arguments, and only compiles.
        step = decoder._step._call.lower(
            [variable.value for variable in model.variables],
            token_ids[:, :1],
            cache,
            np.int32(PROMPT_LENGTH),
        )
        plan = step.compile().memory_analysis()
        cache_bytes = sum(array.nbytes for pair in cache for array in pair)
        sizes = (
            4 * model.count_params(),
            cache_bytes,
            plan.output_size_in_bytes - cache_bytes,
            plan.temp_size_in_bytes,
        )
        row = " | ".join(f"{size / 1e6:.2f}" for size in sizes)
        print(f"| {batch_size} | {row} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--precision", nargs="+", default=["float32"], choices=BYTES
    )
    parser.add_argument("--only", nargs="+", default=None)
    parser.add_argument("--details", action="store_true")
    arguments = parser.parse_args()
    recipe = get_recipe("book")
    bandwidth = measure_bandwidth()
    rng = np.random.default_rng(0)
    print(
        f"{backend.name()}, {backend.device_name()}, reads "
        f"{bandwidth / 1e9:.0f} GB/s"
    )
    print("| model | batch | precision | tokens/s | ours over it |")
    print("|---|---|---|---|---|")
    for dtype in arguments.precision:
        model = make_ours(recipe, dtype)
        runs = {
            "kerasllm": run_ours(model, recipe),
            "KerasHub GPT-2": run_keras_hub(recipe, dtype),
        }
        if dtype != "int8":
            runs["Hugging Face GPT-2"] = run_hugging_face(recipe, dtype)
            runs["compiled_generate"] = run_chapter(model, recipe)
        floor = bandwidth / (model.count_params() * BYTES[dtype])
        for batch_size in arguments.batch_size:
            prompts = [
                " ".join(map(str, row))
                for row in rng.integers(1, 32_000, (batch_size, PROMPT_LENGTH))
            ]
            speeds = {}
            for turn in range(arguments.repeats + 1):
                for name, run in runs.items():
                    if arguments.only and name not in arguments.only:
                        continue
                    if name == "compiled_generate" and batch_size > 1:
                        continue
                    start = time.perf_counter()
                    tokens = run(prompts)
                    speed = tokens / (time.perf_counter() - start)
                    if turn:  # the first one compiles
                        speeds.setdefault(name, []).append(speed)
            for name, values in speeds.items():
                ratios = [
                    ours / theirs
                    for ours, theirs in zip(
                        speeds["kerasllm"], values, strict=True
                    )
                ]
                print(
                    f"| {name} | {batch_size} | {dtype} | "
                    f"{statistics.median(values):,.0f} | "
                    f"{statistics.median(ratios):.2f} |",
                    flush=True,
                )
            print(
                f"| floor: weights read once a token | {batch_size} | {dtype} "
                f"| {floor * batch_size:,.0f} | |",
                flush=True,
            )

    if arguments.details:
        print_first_token(recipe)
        print_long_texts(recipe)
        print_memory(recipe)


if __name__ == "__main__":
    main()
