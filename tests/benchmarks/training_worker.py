"""Trains one model in a process of its own, as many steps as it is asked to.

A backend is chosen once in a process; side by side they run in several. All
workers of a benchmark wait, and one at a time is told to go.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time

ANSWER = "seconds a step:"
MODULE = "tests.benchmarks.training_worker"
# What a step may do less, to see what it costs.
WITHOUT = (
    "training",
    "dropout masks",
    "scores, softmax, mixing",
    "logits and loss",
    "gradient of the lookup",
    "Adam (SGD instead)",
)


class Worker:
    """A process that trains, used as a context manager.

    Args:
        backend: `"jax"`, `"tensorflow"` or `"torch"`.
        recipe: a `Recipe`; its batch is trained on random tokens. `None` for
            a module that needs none.
        module: str. What the process runs: this module, or one that answers
            in the same way.
        **job: arguments of `make_ours`, or `peer=True` and those of
            `make_hugging_face`, or what the module takes.

    Raises:
        RuntimeError: the process ended; its messages are on stderr.
    """

    def __init__(self, backend, recipe=None, module=MODULE, **job):
        if recipe is not None:
            job["recipe"] = dataclasses.asdict(recipe)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self.seconds_a_step(2)  # that compiles

    def seconds_a_step(self, steps):
        """Train and return how long a step took."""
        with contextlib.suppress(BrokenPipeError):
            print(steps, file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return float(line.removeprefix(ANSWER))
        raise RuntimeError("The worker ended without an answer.")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.communicate()


def make_ours(recipe, dtype="float32", without=None, devices=1):
    """Return a function that trains, or evaluates, a batch again and again.

    Args:
        recipe: a `Recipe`.
        dtype: str, the dtype policy.
        without: `None` or one of `WITHOUT`: what to leave out.
        devices: int. Virtual devices on JAX's CPU that share each batch.
    """
    if devices > 1:
        import jax

        jax.config.update("jax_num_cpu_devices", devices)
    import keras
    import numpy as np

    from kerasllm import backend, distribution, training

    backend.keep_freed_memory()
    if devices > 1:
        keras.distribution.set_distribution(distribution.data_parallel())
    keras.config.set_dtype_policy(dtype)
    keras.utils.set_random_seed(0)
    if without == "dropout masks":
        recipe = dataclasses.replace(recipe, dropout=0.0)
    model = recipe.build()
    if without == "scores, softmax, mixing":
        _leave_attention_out(model)
    if without == "gradient of the lookup":
        _stop_at_the_lookup(model)
    chunks = 1 if without == "logits and loss" else recipe.loss_chunks
    model, objective, prepare = training.next_token_objective(model, chunks)
    if without == "logits and loss":
        model = keras.Model(model.input, _decoders(model)[-1].output)
        objective = {"loss": lambda y, hidden: keras.ops.mean(hidden, -1)}
    optimizer = keras.optimizers.Adam(1e-4)
    if without == "Adam (SGD instead)":
        optimizer = keras.optimizers.SGD(1e-4)
    model.compile(optimizer, **objective)
    fit = model.evaluate if without == "training" else model.fit

    def run(steps):
        shape = (2, steps * recipe.batch_size, recipe.sequence_length)
        x, y = np.random.default_rng(0).integers(
            0, recipe.vocabulary_size, shape, "int32"
        )
        x, y = prepare(x, y)
        fit(x, y, batch_size=recipe.batch_size, verbose=0)

    return run


def _leave_attention_out(model):
    for layer in _decoders(model):
        layer.self_attention._compute_attention = (
            lambda query, key, value, *args, **kwargs: (value, None)
        )


def _stop_at_the_lookup(model):
    from keras import ops

    tokens = model.get_layer("embedding").token_embeddings
    look_up = tokens.call
    tokens.call = lambda x: ops.stop_gradient(look_up(x))


def _decoders(model):
    from kerasllm.layers import TransformerDecoder

    return [x for x in model.layers if isinstance(x, TransformerDecoder)]


def make_hugging_face(recipe, dtype="float32", compiled=False):
    """Return a function that trains Hugging Face's GPT-2 of the same sizes.

    Args:
        recipe: a `Recipe`.
        dtype: `"float32"`, `"bfloat16"`, or `"mixed_bfloat16"` for autocast.
        compiled: bool. Whether `torch.compile` gets it.
    """
    import torch

    from tests.benchmarks.gpt2 import make_gpt2

    torch.manual_seed(0)
    model = make_gpt2(
        recipe,
        activation_function="relu",
        resid_pdrop=recipe.dropout,
        embd_pdrop=0.0,
        attn_pdrop=recipe.dropout,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
    ).train()
    if dtype == "bfloat16":
        model = model.to(torch.bfloat16)
    if compiled:
        model = torch.compile(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    mixed = torch.autocast(
        "cpu", torch.bfloat16, enabled=dtype == "mixed_bfloat16"
    )

    def run(steps):
        for _ in range(steps):
            x = torch.randint(
                0,
                recipe.vocabulary_size,
                (recipe.batch_size, recipe.sequence_length),
            )
            with mixed:
                loss = model(input_ids=x, labels=x).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def main():
    from kerasllm.models import Recipe

    job = json.loads(sys.argv[1])
    recipe = Recipe(**job.pop("recipe"))
    make = make_hugging_face if job.pop("peer", False) else make_ours
    run = make(recipe, **job)
    for line in sys.stdin:
        steps = int(line)
        start = time.perf_counter()
        run(steps)
        print(ANSWER, (time.perf_counter() - start) / steps, flush=True)


if __name__ == "__main__":
    main()
