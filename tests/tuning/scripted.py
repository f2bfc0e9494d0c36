"""Rounds without sampling and training: what a model does, in one weight."""

import numpy as np
from keras import ops

from kerasllm.tuning.rounds import _prefer, _run, _sampling

PROMPTS = [f"Say number {i}." for i in range(6)]
HELD_OUT = [f"Say number {i}." for i in range(100, 130)]


class Interruption(Exception):
    """Stands for a Ctrl-C or a kill."""


class Stages:
    """Notes which stages run, and may interrupt one of them.

    Attributes:
        calls: list of str, the stages in order.
        interrupt_at: int. The call that is interrupted, after it has worked
            but before it returns; or `None`.
    """

    def __init__(self):
        self.calls, self.interrupt_at = [], None

    def note(self, name):
        self.calls.append(name)
        if len(self.calls) - 1 == self.interrupt_at:
            raise Interruption(name)


def level_of(model):
    """Return what the model knows: one number, in its first weight."""
    weight = ops.convert_to_numpy(model.trainable_variables[0])
    return float(weight.ravel()[0])


def install(monkeypatch):
    """Replace the sampler, the training and the scoring by a model.

    A response is a number from 0 to 99 that depends on the prompt, its seed,
    and what the model knows. Training adds to what it knows.

    Returns:
        `Stages`.
    """
    stages = Stages()

    def sample(self, prompts, num_generations, seeds, temperature=None):
        level = round(1000 * level_of(self.generator.causal_lm))
        numbers = [
            (seed + 31 * i + level) % 100
            for seed in seeds
            for i in range(num_generations)
        ]
        asked = [p for p in prompts for _ in range(num_generations)]
        stages.note("sample")
        return _sampling.Samples(
            asked,
            [str(number) for number in numbers],
            [number % 10 != 0 for number in numbers],
            [number % 7 + 1 for number in numbers],
            [-1.0 - number for number in numbers],
            num_generations,
        )

    def finetune(causal_lm, examples, **options):
        for variable in causal_lm.trainable_variables:
            value = np.array(ops.convert_to_numpy(variable))
            variable.assign(value + len(examples) / 100)
        stages.note("tune")
        return [{"loss": float(len(examples))}]

    def log_ratios(causal_lm, samples, start):
        before = level_of(causal_lm) if start is None else start[0].ravel()[0]
        return np.full(len(samples), level_of(causal_lm) - float(before))

    monkeypatch.setattr(_sampling.ResponseSampler, "sample", sample)
    monkeypatch.setattr(_run, "finetune", finetune)
    monkeypatch.setattr(_prefer, "log_ratios", log_ratios)
    return stages


def number(prompts, responses):
    """Return the reward of the scripted model's responses."""
    assert len(prompts) == len(responses)
    return np.array([float(response) for response in responses])


def without_seconds(history):
    """Return a history without what differs from run to run."""
    return [
        {key: x for key, x in logs.items() if not key.endswith("seconds")}
        for logs in history
    ]
