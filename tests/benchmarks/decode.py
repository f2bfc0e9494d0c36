"""Decoding speed: ours, KerasHub's, Hugging Face's and the chapter's.

    KERAS_BACKEND=jax python -m tests.benchmarks.decode [--batch-size 1 8 32]

All models have random weights and the sizes of the book recipe (and read a
prompt of 8 tokens and write 248 more by greedy search) or, with `--shape
smollm2` or `gemma3_1b`, of that model (68 more). They run in turns in one
process; the table has the median of their runs and, for ours, the median of
the ratios within a turn. The floor is the time to read all weights once for
each token, at the bandwidth that a matrix-vector product of this machine
reaches.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import torch

from kerasllm import backend
from kerasllm.generation import TextGenerator, compiled_generate
from tests.benchmarks.shapes import SHAPES, Numbers

PROMPT_LENGTH = 8
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}  # of a weight


def make_ours(shape, dtype):
    model = shape.ours("float32" if dtype == "int8" else dtype)
    if dtype == "int8":
        model.quantize("int8")
    model.preprocessor = Numbers(shape.vocabulary_size, shape.length)
    return model


def run_ours(model, shape):
    generator = TextGenerator(model)

    def run(prompts):
        generator.generate(prompts, shape.length, stop_token_ids=None)
        return len(prompts) * (shape.length - PROMPT_LENGTH)

    return run


def run_keras_hub(shape, dtype):
    model = shape.keras_hub("float32" if dtype == "int8" else dtype)
    if dtype == "int8":
        model.quantize("int8")
    model.preprocessor = None
    model.compile(sampler="greedy")
    numbers = Numbers(shape.vocabulary_size, shape.length)

    def run(prompts):
        inputs = numbers.generate_preprocess(prompts, shape.length)
        inputs["padding_mask"] = inputs["padding_mask"].astype("bool")
        model.generate(inputs, stop_token_ids=None)
        return len(prompts) * (shape.length - PROMPT_LENGTH)

    return run


def run_hugging_face(shape, dtype, **settings):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = shape.hugging_face().eval().to(device, getattr(torch, dtype))
    numbers = Numbers(shape.vocabulary_size, shape.length)
    new_tokens = shape.length - PROMPT_LENGTH

    def run(prompts):
        token_ids = np.stack([numbers(p) for p in prompts])
        token_ids = torch.tensor(token_ids, device=device).long()
        with torch.no_grad():
            model.generate(
                token_ids,
                attention_mask=torch.ones_like(token_ids),
                min_new_tokens=new_tokens,
                max_new_tokens=new_tokens,
                do_sample=False,
                **settings,
            )
        return len(prompts) * new_tokens

    return run


def run_chapter(model, shape):
    """The padded `predict`; each of its tokens costs the same."""
    plain = model.to_mini_gpt()

    def run(prompts):
        compiled_generate(
            plain,
            model.preprocessor.tokenizer,
            prompts[0] + " 1" * (shape.length - PROMPT_LENGTH - 8),
            max_length=shape.length,
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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--precision", nargs="+", default=["float32"], choices=BYTES
    )
    parser.add_argument("--shape", default="book", choices=SHAPES)
    parser.add_argument("--only", nargs="+", default=None)
    parser.add_argument(
        "--static",
        action="store_true",
        help="also Hugging Face's static cache, which it compiles on a GPU",
    )
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]()
    bandwidth = measure_bandwidth()
    rng = np.random.default_rng(0)
    print(
        f"{backend.name()}, {backend.device_name()}, reads "
        f"{bandwidth / 1e9:.0f} GB/s"
    )
    print("| model | batch | precision | tokens/s | ours over it |")
    print("|---|---|---|---|---|")
    for dtype in arguments.precision:
        model = make_ours(shape, dtype)
        runs = {
            "kerasllm": run_ours(model, shape),
            shape.keras_hubs: run_keras_hub(shape, dtype),
        }
        if dtype != "int8":
            runs[shape.hugging_faces] = run_hugging_face(shape, dtype)
            if arguments.static:
                runs[f"{shape.hugging_faces}, static"] = run_hugging_face(
                    shape, dtype, cache_implementation="static"
                )
        if dtype != "int8" and arguments.shape == "book":
            runs["compiled_generate"] = run_chapter(model, shape)
        floor = bandwidth / (model.count_params() * BYTES[dtype])
        for batch_size in arguments.batch_size:
            prompts = [
                " ".join(map(str, row))
                for row in rng.integers(
                    1, shape.vocabulary_size, (batch_size, PROMPT_LENGTH)
                )
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


if __name__ == "__main__":
    main()
