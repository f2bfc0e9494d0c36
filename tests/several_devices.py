"""Programs for the tests of `distribution`: many devices, or many processes.

The number of devices of a process is fixed when JAX starts, so none of this
can run in the process of a test. `forked` starts a process for each program.
"""

import collections
import contextlib
import dataclasses
import errno
import functools
import json
import os
import pathlib
import re
import shutil
import signal

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

BATCH_SIZE, LENGTH, VOCABULARY = 8, 16, 64
EPOCHS, STEPS = 2, 5
MINI_GPT = (VOCABULARY, LENGTH, 32, 64, 4)  # but for the layers


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
        model = mini_gpt(*MINI_GPT, num_layers=1, dropout=0.1)
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
    # The folders of half a run go on elsewhere.
    result["one"], one = train(
        out / "one", callbacks=[copy_half(out / "one", out / "back")]
    )
    result["both"], model = train(
        out / "both", both, callbacks=[copy_half(out / "both", out / "moved")]
    )
    result["moved"], _ = train(out / "moved")
    result["back"], _ = train(out / "back", data)
    result["data"], _ = train(out / "data", data)
    result["parts"] = {
        variable.path: [
            variable.shape,
            variable.value.addressable_shards[0].data.shape,
        ]
        for variable in model.variables
    }
    result["sent"] = sent_in_a_step(data)
    result["sent_in_chunks"] = sent_in_a_step(data, loss_chunks=4)
    result["sent_by_groups"] = sent_in_a_step(
        distribution.model_parallel(4, devices=4), num_layers=2
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


def copy_half(folder, copy):
    """Return a callback that copies the folder of a run after an epoch."""

    def copy_it(epoch, logs):
        if epoch == 1:
            shutil.copytree(folder, copy)

    return keras.callbacks.LambdaCallback(on_epoch_begin=copy_it)


def sent_in_a_step(how, loss_chunks=1, num_layers=1):
    """Count the numbers that a compiled training step sums over devices.

    What stands in a loop is counted once, and for itself.
    """
    import jax

    with distribution.use(how):
        model, objective, prepare = next_token_objective(
            mini_gpt(*MINI_GPT, num_layers=num_layers, dropout=0.1), loss_chunks
        )
        model.compile("adam", **objective)
        x = np.zeros((BATCH_SIZE, LENGTH), "int32")
        model.optimizer.build(model.trainable_variables)
        model._symbolic_build(data_batch=prepare(x, x))
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


def one_of_several(out, how, steps=STEPS, kill_after=None):
    """Train as one of the processes that the environment describes.

    Args:
        out: path of a folder.
        how: `"data"` or `"model"`.
        steps: int. In each epoch.
        kill_after: `(batches, seconds)`. How many batches this process trains
            on, which may be none, before it is killed, and how long after it.
            By default it is not killed.
    """
    callbacks = []
    if kill_after is not None:
        batches, seconds = kill_after
        # Nothing handles this signal: it ends the process wherever that is.
        kill = functools.partial(signal.setitimer, signal.ITIMER_REAL, seconds)
        callbacks = [AfterBatches(batches, kill)]
    distribution.initialize()
    index = distribution.process_index()
    make = {
        "data": distribution.data_parallel,
        "model": lambda: distribution.model_parallel(2),
    }
    history, model = train(
        f"{out}/run",
        make[how](),
        steps_per_epoch=steps,
        callbacks=callbacks,
    )
    pathlib.Path(out, f"history{index}.json").write_text(json.dumps(history))
    weights = [backend.to_numpy(variable) for variable in model.weights]
    np.savez(pathlib.Path(out, f"weights{index}.npz"), *weights)


class AfterBatches(keras.callbacks.Callback):
    """Calls a function after a number of batches: at once, if that is 0."""

    def __init__(self, batches, function):
        super().__init__()
        self.batches = batches
        self.function = function
        self._count()

    def on_train_batch_end(self, batch, logs=None):
        self.batches -= 1
        self._count()

    def _count(self):
        if self.batches == 0:
            self.function()


def interrupted(out):
    """Be one of two processes of which the second gets a Ctrl-C."""
    distribution.initialize()
    index = distribution.process_index()
    interrupt = functools.partial(os.kill, os.getpid(), signal.SIGINT)
    callbacks = [AfterBatches(3, interrupt)] if index == 1 else []
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
    cli.main([str(argument) for argument in arguments])


def failing(index):
    """Get ready in turns, which process `index` does not manage."""
    distribution.initialize()
    with (
        contextlib.suppress(KeyError),
        distribution.first_process_first(),
    ):
        if distribution.process_index() == int(index):
            raise KeyError


def cores(devices, number, batch_size, started):
    """Print how many devices a command makes of a number of cores."""
    import jax

    from kerasllm import corpora, gemma, pretraining  # noqa: F401

    backend.num_cores = lambda: number
    if started:
        jax.devices()
    how = distribution.from_options(devices, batch_size)
    print(1 if how is None else how.device_mesh.devices.size)
