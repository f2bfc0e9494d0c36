"""Sampling many completions, and what a step of `grpo` is spent on.

    KERAS_BACKEND=torch python -m tests.benchmarks.grpo [--problems 64]

First, all write the same number of completions of the same prompts, by random
sampling at the temperature 1, with random weights of equal sizes:
`TextGenerator`, KerasHub's GPT-2 in one call and in a loop with a call for each
prompt, and that of Hugging Face (on PyTorch, whatever the backend is). They run
in turns in one process. The table has the median of their speeds, and the
median of the ratios within a turn with their range.

All completions have one length, unless `--ends` gives the chance that a token
ends one. The table has how many tokens a completion then has, to show that all
write the same. With `--shared`, all prompts begin with the same tokens, as
worked examples do.

Then `grpo` takes some steps, with completions that a stop token may end. What
is neither sampling nor training is the share outside: rewards, arrays,
advantages, logs. The first step also compiles, so it is told apart.
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
from keras import ops

from kerasllm import backend, tuning
from kerasllm.generation import TextGenerator
from kerasllm.models import MiniGPTBackbone, MiniGPTCausalLM, get_recipe
from kerasllm.samplers import random_sample
from tests.benchmarks.gpt2 import make_gpt2
from tests.benchmarks.shapes import Numbers

STOP = 0
# Small enough to learn to reason in minutes on two cores, and ten times that.
SIZES = {
    "small": {"hidden_dim": 64, "num_heads": 4, "num_layers": 2},
    "medium": {"hidden_dim": 256, "num_heads": 4, "num_layers": 4},
}


def recipe_of(size, vocabulary_size, length):
    sizes = SIZES[size]
    return dataclasses.replace(
        get_recipe("laptop"),
        vocabulary_size=vocabulary_size,
        sequence_length=length,
        intermediate_dim=4 * sizes["hidden_dim"],
        **sizes,
    )


def make_ours(recipe):
    model = MiniGPTCausalLM(
        MiniGPTBackbone(
            recipe.vocabulary_size,
            recipe.sequence_length,
            recipe.hidden_dim,
            recipe.intermediate_dim,
            recipe.num_heads,
            recipe.num_layers,
            dropout=0.0,
        )
    )
    model.preprocessor = Numbers(recipe.vocabulary_size, recipe.sequence_length)
    model.preprocessor.end_token_id = STOP
    return model


def stop_tokens(recipe, options):
    """Return the tokens that end a text, or `None`.

    With random weights, each token is about as likely as any other. Token 0 is
    not among them: KerasHub's loop finds it in the padding behind a prompt, and
    ends at once.
    """
    count = round(options.ends * recipe.vocabulary_size)
    return list(range(1, count + 1)) or None


def num_new_tokens(rows, stops):
    """Return the mean number of tokens before the first stop token.

    Args:
        rows: int array `(completions, new_tokens)`.
        stops: list of ints, or `None`.
    """
    ended = np.isin(rows, stops or [])
    return np.where(
        ended.any(axis=1), ended.argmax(axis=1), len(rows[0])
    ).mean()


def run_ours(recipe, options):
    generator = TextGenerator(make_ours(recipe), random_sample)

    def run(prompts):
        groups = generator.generate(
            prompts,
            recipe.sequence_length,
            stop_token_ids=stop_tokens(recipe, options),
            seed=list(range(len(prompts))),
            return_logprobs=True,
            num_samples=options.generations,
        )
        return np.mean([len(t.token_ids) for group in groups for t in group])

    return run


def run_keras_hub(recipe, options, loop=False):
    model = keras_hub.models.GPT2CausalLM(
        keras_hub.models.GPT2Backbone(
            recipe.vocabulary_size,
            recipe.num_layers,
            recipe.num_heads,
            recipe.hidden_dim,
            recipe.intermediate_dim,
            max_sequence_length=recipe.sequence_length,
        )
    )
    model.compile(sampler=keras_hub.samplers.RandomSampler())
    numbers = Numbers(recipe.vocabulary_size, recipe.sequence_length)

    def run(prompts):
        prompts = [p for p in prompts for _ in range(options.generations)]
        size = options.generations if loop else len(prompts)
        stops, rows = stop_tokens(recipe, options), []
        for first in range(0, len(prompts), size):
            inputs = numbers.generate_preprocess(
                prompts[first : first + size], recipe.sequence_length
            )
            inputs["padding_mask"] = inputs["padding_mask"].astype("bool")
            results = model.generate(inputs, stop_token_ids=stops)
            rows.append(results["token_ids"])
        rows = np.concatenate(list(map(ops.convert_to_numpy, rows)))
        return num_new_tokens(rows[:, options.prompt_length :], stops)

    return run


def run_hugging_face(recipe, options):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = make_gpt2(recipe, bos_token_id=0, eos_token_id=None, pad_token_id=0)
    model = model.eval().to(device)
    numbers = Numbers(recipe.vocabulary_size, recipe.sequence_length)

    def run(prompts):
        token_ids = np.stack([numbers(p) for p in prompts])
        token_ids = torch.tensor(token_ids, device=device).long()
        stops = stop_tokens(recipe, options)
        with torch.no_grad():
            rows = model.generate(
                token_ids,
                attention_mask=torch.ones_like(token_ids),
                min_new_tokens=None if stops else options.new_tokens,
                max_new_tokens=options.new_tokens,
                eos_token_id=stops,
                do_sample=True,
                top_k=0,
                num_return_sequences=options.generations,
            )
        return num_new_tokens(rows.cpu()[:, options.prompt_length :], stops)

    return run


def compare_sampling(recipe, prompts, options):
    """Print the speeds of all, in completions per second."""
    runs = {
        "kerasllm": run_ours(recipe, options),
        "KerasHub GPT-2": run_keras_hub(recipe, options),
        "KerasHub GPT-2, a call for each prompt": run_keras_hub(
            recipe, options, loop=True
        ),
        "Hugging Face GPT-2": run_hugging_face(recipe, options),
    }
    if options.only:
        runs = {name: runs[name] for name in ["kerasllm", *options.only]}
    num_texts = len(prompts) * options.generations
    speeds, lengths = {name: [] for name in runs}, {}
    for turn in range(options.turns + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            lengths[name] = run(prompts)
            seconds = time.perf_counter() - start
            if turn:  # the first one compiles
                speeds[name].append(num_texts / seconds)
            else:
                print(f"{name}: {seconds:.1f} s the first time", flush=True)
    print("| model | tokens each | completions/s | ours over it |")
    print("|---|---|---|---|")
    for name, values in speeds.items():
        ratios = [
            ours / theirs
            for ours, theirs in zip(speeds["kerasllm"], values, strict=True)
        ]
        print(
            f"| {name} | {lengths[name]:.1f} | "
            f"{statistics.median(values):,.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to "
            f"{max(ratios):.2f}) |",
            flush=True,
        )


def measure_steps(recipe, prompts, options):
    """Print what steps of `grpo` are spent on."""

    def reward(prompts, responses):
        return [len(set(response.split())) for response in responses]

    first, *history = tuning.grpo(
        make_ours(recipe),
        prompts,
        reward,
        steps=options.steps + 1,
        batch_size=len(prompts),
        num_generations=options.generations,
        max_completion_length=options.new_tokens,
        mask_truncated_completions=False,
        template=None,
        verbose=0,
    )

    def total(name):
        return sum(logs[name] for logs in history)

    seconds, tokens = total("seconds"), total("sampled_tokens")
    sampling, training = total("sampling_seconds"), total("training_seconds")
    print(
        f"{options.steps} steps of grpo: {seconds / options.steps:.2f} s each, "
        f"{sampling / seconds:.0%} sampling ({tokens / sampling:,.0f} "
        f"tokens/s), {training / seconds:.0%} training "
        f"({tokens / training:,.0f} tokens/s), "
        f"{1 - (sampling + training) / seconds:.1%} outside of both. The "
        f"first step took {first['seconds']:.1f} s, with compilation."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--problems", type=int, default=64)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--prompt-length", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--vocabulary-size", type=int, default=512)
    parser.add_argument("--shared", type=int, default=0)
    parser.add_argument("--ends", type=float, default=0.0)
    parser.add_argument("--only", nargs="+", help="others to compare with")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    length = options.prompt_length + options.new_tokens
    recipe = recipe_of(options.size, options.vocabulary_size, length)
    rng = np.random.default_rng(0)
    token_ids = rng.integers(
        1, options.vocabulary_size, (options.problems, options.prompt_length)
    )
    token_ids[:, : options.shared] = token_ids[0, : options.shared]
    prompts = [" ".join(map(str, row)) for row in token_ids]
    print(
        f"{backend.name()}, {backend.device_name()}, {options.size}: "
        f"{options.problems} problems x {options.generations} completions of "
        f"{options.new_tokens} tokens; {options.shared} of "
        f"{options.prompt_length} tokens of a prompt are shared, and a token "
        f"ends a text with the chance {options.ends}"
    )
    compare_sampling(recipe, prompts, options)
    if options.steps:
        measure_steps(recipe, prompts, options)


if __name__ == "__main__":
    main()
