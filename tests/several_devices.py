"""Programs for the tests of `distribution`: many devices, or many processes.

`python -m tests.several_devices NAME ARGUMENT...` runs one of them, maybe as
one of several processes.

How many devices a process has is settled when JAX starts, so none of this can
run in the process of a test.
"""

import collections
import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf

from kerasllm import backend, cli, distribution, models
from kerasllm.models import mini_gpt
from kerasllm.pretraining import pretrain
from kerasllm.training import (
    TrainingInterrupted,
    _checkpoints,
    next_token_objective,
)
from tests.recipes import TINY, gemma_tokenizer

ROOT = pathlib.Path(__file__).parent.parent
BATCH_SIZE, LENGTH, VOCABULARY = 8, 16, 64
EPOCHS, STEPS = 2, 5
MINI_GPT = (VOCABULARY, LENGTH, 32, 64, 4, 2)


def dataset(batches=12, share=0, shares=1, seed=0):
    """Batches of tokens that count on, or an equal part of each's sequences."""
    draw = np.random.default_rng(seed)
    starts = draw.integers(0, 20, (batches, BATCH_SIZE, 1), dtype="int32")
    windows = (starts + np.arange(LENGTH + 1, dtype="int32")) % 20
    size = BATCH_SIZE // shares
    windows = windows[:, share * size : (share + 1) * size]
    return (
        tf.data.Dataset.from_tensor_slices(windows.reshape(-1, LENGTH + 1))
        .map(lambda window: (window[:-1], window[1:]))
        .batch(size, drop_remainder=True)
    )


def train(directory, how=None, **changes):
    """Return the history of a run and what it has learned.

    With dropout: a mask must not depend on who draws it.
    """
    keras.utils.set_random_seed(1)
    with distribution.use(how):
        model = mini_gpt(*MINI_GPT, dropout=0.1)
        share = distribution.data_share()
    arguments = {
        "validation_dataset": dataset(2, *share, seed=7),
        "directory": directory,
        "epochs": EPOCHS,
        "steps_per_epoch": STEPS,
        # Sums in another order may put a ReLU on the other side of its kink;
        # Adam then takes a step of this size another way.
        "learning_rate": 2e-3,
        "checkpoint_steps": 2,
        "verbose": 0,
        "distribution": how,
    }
    arguments |= changes
    batches = EPOCHS * arguments["steps_per_epoch"]  # no batch comes twice
    return pretrain(model, dataset(batches, *share), **arguments), model


def message(error, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except error as raised:
        return str(raised)
    return None


def eight_devices(out):
    """Train on one, eight and two times four of eight devices."""
    out = pathlib.Path(out)
    data = distribution.data_parallel()
    both = distribution.model_parallel(4)
    result = {"devices": len(keras.distribution.list_devices())}
    result["one"], one = train(out / "one")
    result["data"], _ = train(out / "data", data)
    result["both"], model = train(out / "both", both)
    result["parts"] = {
        variable.path: [
            variable.shape,
            variable.value.addressable_shards[0].data.shape,
        ]
        for variable in model.variables
    }
    # Half of a run on eight devices, the rest on one; and the other way.
    train(out / "moved", both, epochs=1)
    result["moved"], _ = train(out / "moved")
    train(out / "back", epochs=1)
    result["back"], _ = train(out / "back", data)

    result["sent"] = sent_in_a_step(data)
    result["sent_in_chunks"] = sent_in_a_step(data, loss_chunks=4)
    result["sent_by_groups"] = sent_in_a_step(
        distribution.model_parallel(4, devices=4)
    )
    result["weights"] = one.count_params()
    result["current"] = str(keras.distribution.distribution())
    batch = {"train_dataset": dataset().unbatch().batch(6, True)}
    result["messages"] = [
        message(ValueError, pretrain, one, dataset(), directory=None,
                steps_per_epoch=1, distribution=data),
        message(ValueError, pretrain, model, dataset(), directory=None,
                steps_per_epoch=1),
        message(ValueError, pretrain, model, **batch, directory=None,
                steps_per_epoch=1, distribution=data),
        message(ValueError, pretrain, model, dataset(),
                dataset().unbatch().batch(8), directory=None,
                steps_per_epoch=1, distribution=both),
        message(ValueError, distribution.model_parallel, 3),
        message(ValueError, distribution.data_parallel, 9),
    ]  # fmt: skip
    (out / "result.json").write_text(json.dumps(result))


def sent_in_a_step(how, loss_chunks=1):
    """Count the numbers that a compiled training step sums over devices.

    What stands in a loop is counted once, and for itself.
    """
    import jax

    with distribution.use(how):
        model, objective, prepare = next_token_objective(
            mini_gpt(*MINI_GPT, dropout=0.1), loss_chunks
        )
        model.compile("adam", **objective)
        model.fit(dataset(1).map(prepare), verbose=0)
        x = np.zeros((BATCH_SIZE, LENGTH), "int32")
        x = jax.device_put(x, how.get_data_layout(x.shape).backend_layout)
        state = model._get_jax_state(True, True, True, True)
        shardings = tuple([a.sharding for a in part] for part in state)
        step = jax.jit(model.train_step, out_shardings=(None, shardings))
        batch = (*prepare(x, x), None)
        text = step.lower(state, batch).compile().as_text()
    sent = collections.Counter()
    loops, _, entry = text.partition("\nENTRY ")
    for part, where in ((loops, " in a loop"), (entry, "")):
        for types, operation in re.findall(
            r"= (.*?) (all-\w+|reduce-scatter|collective-permute)(?:-start)?\(",
            part,
        ):
            for sizes in re.findall(r"\[([\d,]*)\]", types):
                sizes = [int(size) for size in sizes.split(",") if size]
                sent[operation + where] += int(np.prod(sizes))
    return sent


def gemma(out):
    """Tune a small Gemma 3 on one device and divided among four."""
    import keras_hub

    from kerasllm import tiny_gemma, toyworld
    from kerasllm.gemma import Gemma

    examples = toyworld.World(entities_per_kind=2).instructions()[:16]
    tokenizer = gemma_tokenizer()
    result = {}
    for name, how in {
        "one": None,
        "divided": distribution.model_parallel(
            4, keras_hub.models.GemmaBackbone.get_layout_map, devices=4
        ),
    }.items():
        keras.utils.set_random_seed(0)
        with distribution.use(how):
            causal_lm = tiny_gemma.build(
                tokenizer, hidden_dim=32, num_layers=2, vision_dim=32
            )
            model = Gemma(causal_lm)
            result[name] = model.finetune(
                examples, epochs=1, batch_size=8, buckets=False, verbose=0
            )
    result["parts"] = {
        variable.path: [
            variable.shape,
            variable.value.addressable_shards[0].data.shape,
        ]
        for variable in causal_lm.backbone.variables
    }
    pathlib.Path(out).write_text(json.dumps(result))


def one_of_several(out, how, steps=STEPS):
    """Train as one of the processes that the environment describes.

    It says so after each batch.
    """
    distribution.initialize()
    index = distribution.process_index()
    make = {
        "data": distribution.data_parallel,
        "model": lambda: distribution.model_parallel(2),
    }
    history, model = train(
        f"{out}/run",
        make[how](),
        steps_per_epoch=int(steps),
        callbacks=[Tell()],
    )
    pathlib.Path(out, f"history{index}.json").write_text(json.dumps(history))
    weights = [backend.to_numpy(variable) for variable in model.weights]
    np.savez(pathlib.Path(out, f"weights{index}.npz"), *weights)


def start(name, *arguments, devices=1, process=None, port=None):
    """Start a program of this module, maybe as process 0 or 1 of two."""
    flags = os.environ.get("XLA_FLAGS", "")
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"{flags} "
        f"--xla_force_host_platform_device_count={devices}",
    }
    if process is not None:
        environment |= {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
            "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
            "KERAS_DISTRIBUTION_PROCESS_ID": str(process),
        }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.several_devices", name]
        + [str(argument) for argument in arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(name, *arguments):
    """Start a program as two processes; return both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        start(name, *arguments, process=index, port=port) for index in (0, 1)
    ]


def finish(process):
    """Return status, stdout and stderr of a process when it has ended."""
    out, err = process.communicate(timeout=280)
    return process.returncode, out, err


class Tell(keras.callbacks.Callback):
    """Prints a line after each batch."""

    def on_train_batch_end(self, batch, logs=None):
        print("a batch", flush=True)


class SignalAt(keras.callbacks.Callback):
    """Sends a signal to this process at a batch."""

    def __init__(self, step, number):
        super().__init__()
        self.step = step
        self.number = number

    def on_train_batch_end(self, batch, logs=None):
        self.step -= 1
        if self.step == 0:
            os.kill(os.getpid(), self.number)


def interrupted(out):
    """Be one of two processes of which the second gets a Ctrl-C."""
    distribution.initialize()
    index = distribution.process_index()
    callbacks = [SignalAt(3, signal.SIGINT)] if index == 1 else []
    how = distribution.data_parallel()
    print(
        message(
            TrainingInterrupted, train, f"{out}/run", how, callbacks=callbacks
        )
    )


def apart(out):
    """Be one of two processes that do not see the same folder, or file."""
    distribution.initialize()
    index = distribution.process_index()
    how = distribution.data_parallel()
    print(message(RuntimeError, train, f"{out}/{index}", how))
    train(f"{out}/shared", how, epochs=1)
    if index == 1:
        _checkpoints.CHECKPOINT_FILE = "unseen.npz"
    print(message(RuntimeError, train, f"{out}/shared", how))


def full(out, what):
    """Be one of two processes of which the first has no room for `what`."""

    def find_no_room(*arguments, **options):
        raise OSError(errno.ENOSPC, "No room")

    def fill(epoch, logs):
        if epoch == 1 and is_first:
            np.savez = find_no_room

    is_first = os.environ["KERAS_DISTRIBUTION_PROCESS_ID"] == "0"
    out = pathlib.Path(out)
    if what == "model":
        if is_first:
            keras.Model.save = find_no_room
        data = ["--data", str(out / "file"), "--out", str(out / "run")]
        command("pretrain", "--recipe", "tiny", *data)
        return
    distribution.initialize()
    how = distribution.data_parallel()
    if what == "folder":
        train(out / "file" if is_first else out, how)
    else:
        fill = keras.callbacks.LambdaCallback(on_epoch_begin=fill)
        train(out, how, callbacks=[fill])


def command(*arguments):
    """Run the command line with a recipe for tests."""
    models.RECIPES["tiny"] = TINY
    models.RECIPES["tiny8"] = dataclasses.replace(TINY, batch_size=8)
    cli.main(arguments)


def failing(index):
    """Get ready in turns, which process `index` does not manage."""
    distribution.initialize()
    with (
        contextlib.suppress(KeyError),
        distribution.first_process_first(),
    ):
        if distribution.process_index() == int(index):
            raise KeyError


if __name__ == "__main__":
    # Tests run on a core each; two processes on one wait for each other.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count()))
    globals()[sys.argv[1]](*sys.argv[2:])
