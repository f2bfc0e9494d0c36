"""What a token costs besides the weights, each in a table of its own.

    KERAS_BACKEND=jax python -m tests.benchmarks.decode_details [--only windows]

- `first`: the first token of a text, against a pass over the whole prompt.
- `prefix`: prompts of a batch that share a prefix, against prompts that do not.
- `long`: a token at 256 and at 2,048 positions.
- `windows`: the same where layers see the last 256 positions, or all.
- `filters`: a sampler with all filters, against greedy search, at two
  vocabulary sizes.
- `shapes`: the first text after a longer prompt, of a second length and of a
  second batch size, against the very first text.
- `memory`: what XLA plans for one step (JAX only).

All models have random weights. `--shape` names their sizes.
"""

import argparse
import dataclasses
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from kerasllm import backend
from kerasllm.generation import CachedDecoder, TextGenerator
from kerasllm.samplers import chain, greedy_search
from tests.benchmarks.shapes import SHAPES, Gemma, Llama, Numbers

VOCABULARIES = (49_152, 262_144)
WINDOW = 256
TURNS = 5


def generator_of(shape, sampler=greedy_search):
    """Return a generator for a model with random weights."""
    model = shape.ours("float32")
    model.preprocessor = Numbers(shape.vocabulary_size, shape.length)
    return TextGenerator(model, sampler=sampler)


def prompt_of(length, first=5):
    return " ".join(str(first + i) for i in range(length))


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def median_seconds(function, count=TURNS):
    """Return the median time of calls after the first, which compiles."""
    function()
    return statistics.median(seconds(function) for _ in range(count))


def seconds_a_token(generator, length, new_tokens=40):
    """Return the median time of a token at the end of a text of a length."""
    prompt, times = prompt_of(length - new_tokens), []
    for _ in range(TURNS + 1):
        generator.generate(prompt, length, stop_token_ids=None)
        times.append(1 / generator.tokens_per_second)
    return statistics.median(times[1:])


def table(*heads):
    print("\n| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))


def row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def first(shape):
    generator = generator_of(shape)
    model = generator.causal_lm
    read = backend.compiled(
        lambda inputs: model(inputs, training=False),
        model.variables,
        record=False,
    )
    table("prompt", "pass over all, ms", "first token, ms", "ratio")
    for length in (8, 32, 64):
        inputs = {
            "token_ids": np.arange(length, dtype="int32")[None] + 5,
            "padding_mask": np.ones((1, length), bool),
        }
        forward = median_seconds(lambda inputs=inputs: np.asarray(read(inputs)))
        token = median_seconds(
            lambda length=length: next(
                generator.stream(
                    prompt_of(length), shape.length, stop_token_ids=None
                )
            )
        )
        row(
            length,
            f"{forward * 1e3:.1f}",
            f"{token * 1e3:.1f}",
            f"{token / forward:.2f}",
        )


def prefix(shape, length=192, size=8):
    shape.length = 256
    generator = generator_of(shape)
    table(f"{size} prompts of {length} tokens", "first tokens, ms")
    for name, shared in (("that share nothing", 0), ("all but 4", length - 4)):
        prompts = [
            f"{prompt_of(shared)} {prompt_of(length - shared, 100 * i + 99)}"
            for i in range(size)
        ]
        time_taken = median_seconds(
            lambda prompts=prompts: generator.generate(
                prompts, length + 1, stop_token_ids=None
            )
        )
        row(name, f"{time_taken * 1e3:.0f}")


def long(shape):
    shape.length = 2048
    generator = generator_of(shape)
    table("positions", "ms a token")
    times = [seconds_a_token(generator, length) for length in (256, 2048)]
    for length, time_taken in zip((256, 2048), times, strict=True):
        row(length, f"{time_taken * 1e3:.2f}")
    print(f"\nratio {times[1] / times[0]:.2f}")


def windows(shape):
    table("layers see", "ms a token at 256", "at 2,048", "ratio")
    for name, window in ((f"the last {WINDOW}", WINDOW), ("all", 2048)):
        gemma = Gemma(
            length=2048,
            vocabulary_size=shape.vocabulary_size,
            num_layers=5,  # the sixth would see all
            hidden_dim=640,
            intermediate_dim=2048,
            window=window,
        )
        generator = generator_of(gemma)
        times = [seconds_a_token(generator, length) for length in (256, 2048)]
        row(
            name,
            *[f"{time_taken * 1e3:.2f}" for time_taken in times],
            f"{times[1] / times[0]:.2f}",
        )


def filters(shape):
    everything = chain(temperature=0.8, top_k=50, top_p=0.9, min_p=0.05)
    table("vocabulary", "greedy, ms a token", "all filters", "more")
    for size in VOCABULARIES:
        larger = dataclasses.replace(Llama(), vocabulary_size=size)
        plain, filtered = [], []
        generators = (
            (generator_of(larger), plain),
            (generator_of(larger, everything), filtered),
        )
        for _ in range(TURNS + 1):
            for generator, times in generators:
                generator.generate(prompt_of(8), 76, stop_token_ids=None)
                times.append(1 / generator.tokens_per_second)
        plain, filtered = (
            statistics.median(times[1:]) for times in (plain, filtered)
        )
        row(
            f"{size:,}",
            f"{plain * 1e3:.1f}",
            f"{filtered * 1e3:.1f}",
            f"{filtered / plain - 1:.1%}",
        )


def shapes(shape):
    generator = generator_of(shape)
    table("text", "first time, s", "again, s", "compiling, s", "of the first")
    first_one = None
    for name, prompts, length in (
        # Of more than fifty tokens, so that PyTorch records each of them.
        ("the very first", prompt_of(8), 76),
        ("another prompt", prompt_of(20), 76),
        ("another length", prompt_of(20), 120),
        ("8 prompts", [prompt_of(8, i + 5) for i in range(8)], 76),
    ):

        def generate(prompts=prompts, length=length):
            generator.generate(prompts, length, stop_token_ids=None)

        once = seconds(generate)
        again = statistics.median(seconds(generate) for _ in range(3))
        first_one = first_one or once - again
        row(
            name,
            f"{once:.2f}",
            f"{again:.2f}",
            f"{once - again:.2f}",
            f"{(once - again) / first_one:.2f}",
        )


def memory(shape):
    if backend.name() != "jax":
        print("\nmemory: measured on JAX, whose compiler tells its plan")
        return
    model = shape.ours("float32")
    decoder = CachedDecoder.of(model)
    table("batch", "weights, MB", "cache", "logits", "all else in a step")
    for batch_size in (1, 8, 32):
        token_ids = np.ones((batch_size, 8), "int32")
        _, cache = decoder.prefill(token_ids, 8, 256)
        # Takes the same arguments, and only compiles.
        step = decoder._step._jit.lower(
            [variable.value for variable in model.variables],
            token_ids[:, :1],
            cache,
            np.int32(8),
        )
        plan = step.compile().memory_analysis()
        cache_bytes = sum(array.nbytes for pair in cache for array in pair)
        sizes = (
            4 * model.count_params(),
            cache_bytes,
            plan.output_size_in_bytes - cache_bytes,
            plan.temp_size_in_bytes,
        )
        row(batch_size, *[f"{size / 1e6:.2f}" for size in sizes])


TABLES = (first, prefix, long, windows, filters, shapes, memory)


def main():
    names = [function.__name__ for function in TABLES]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="smollm2", choices=SHAPES)
    parser.add_argument("--only", nargs="+", default=names, choices=names)
    arguments = parser.parse_args()
    print(f"{backend.name()}, {backend.device_name()}, {arguments.shape}")
    for function in TABLES:
        if function.__name__ in arguments.only:
            print(f"\n**{function.__name__}**")
            function(SHAPES[arguments.shape]())


if __name__ == "__main__":
    main()
