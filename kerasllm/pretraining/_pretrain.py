"""`pretrain`: trains any next-token model on any batches of windows."""

import functools
import math

import keras

from kerasllm import distribution as devices
from kerasllm.checks import (
    UserError,
    check_int,
    check_positive_ints,
    is_real,
    shown,
)
from kerasllm.schedules import (
    UpdateSchedule,
    check_learning_rate,
    warmup_for,
    warn_of_long_warmup,
)
from kerasllm.training import (
    check_run,
    describe_batch,
    next_token_objective,
    resumable_fit,
)


@devices.distributed
def pretrain(
    model,
    train_dataset,
    validation_dataset=None,
    *,
    directory,
    epochs=8,
    steps_per_epoch=None,
    validation_steps=None,
    learning_rate=None,
    checkpoint_steps=200,
    loss_chunks=1,
    gradient_accumulation_steps=None,
    sample=None,
    variables=None,
    callbacks=(),
    verbose="auto",
    distribution=None,
):  # over sixty lines because of its docstring
    """Train a model to predict the next token, and survive interruption.

    On CPUs, call `kerasllm.backend.set_up()` first, when the program starts. A
    training step takes and frees hundreds of megabytes. The C library returns
    them to the system, which must clear them each time they are taken again.
    `set_up` keeps this memory, which saves up to a third of a step. It changes
    how the whole process uses memory, so it is left to the caller.

    Args:
        model: Keras model from token ids to float logits, such as a
            `mini_gpt`. It starts from its current weights, unless `directory`
            holds a checkpoint.
        train_dataset: `tf.data.Dataset` of `(x, y)`, int32
            `(batch_size, sequence_length)` each. It must give the same
            batches in the same order each time it is read, as
            `pretraining_dataset` does. A run that is longer than the data
            reads them again. A resumed run must have the first batch that it
            began with, so shuffled data need a `seed` and
            `reshuffle_each_iteration=False`.
        validation_dataset: the same, or `None` for no validation.
        directory: str or path. Folder for the checkpoint and the log,
            `history.csv`. If it holds a run, that run is resumed. `None`
            saves nothing.
        epochs: int. Number of epochs. Each one ends with a validation.
        steps_per_epoch: int. Batches in an epoch. By default, an epoch is one
            pass over the data, as in every `fit`. (The chapter divides one
            pass among its epochs; so does the recipe `"book"`.)
        validation_steps: int. Batches in a validation, or `None` for all.
        learning_rate: float or schedule. Defaults to
            `schedules.warmup_for`, whose rate suits the size of the model,
            and whose warmup the length of the run. A resumed run uses the
            value of the new call.
        checkpoint_steps: int. Batches between checkpoints. There is always
            one after each epoch.
        loss_chunks: int. Number of chunks of the sequence whose logits are
            computed one after another. More chunks take less memory; see
            `training`. With more than one, the callbacks' `model` is a
            `training.training_model`.
        gradient_accumulation_steps: int, at least 2. Number of batches whose
            gradients are averaged for one update, as for every Keras
            optimizer. A schedule then counts updates instead of batches, so
            it behaves as with batches that are this many times larger. All
            other steps are batches.
        sample: callable `model -> str`, called and printed after each epoch.
        variables: callable from the model to the list of its variables that
            a checkpoint must contain; see `training.resumable_fit`. For a
            model with adapters, `kerasllm.lora.changing_variables` leaves out
            the frozen weights.
        callbacks: more Keras callbacks.
        verbose: `"auto"`, 0, 1 or 2, as for `fit`.
        distribution: a `keras.distribution.Distribution`, as made by
            `kerasllm.distribution`, in whose scope `model` was built. Defaults
            to the current one. If there are several processes, the datasets
            of each hold its own part of all batches. The first process writes
            to `directory`, which all must see.

    Returns:
        A list of dicts, one per epoch: `epoch`, `step` (batches so far),
        `loss` (nats per token), `accuracy`, `perplexity`, `tokens_per_second`
        and, with validation, `val_loss`, `val_accuracy`, `val_perplexity`.

    Raises:
        UserError: an argument is out of range, there are too few data, or
            the model or the batches do not fit `distribution`.
        RunError: the checkpoint in `directory` is from another model or other
            data, has another number of steps per epoch, or has more epochs
            than `epochs`; or another run is using the folder.
        OSError: `directory` is not writable, or the disk is full. The last
            checkpoint is kept.
        RuntimeError: one of several processes does not see `directory`, or
            had an error.
        DivergedError: the loss, the validation loss or a weight became NaN
            or infinite. The last checkpoint is from before that.
        TrainingInterrupted: Ctrl-C was pressed; the state was saved first.

    Source: chapter 16, "Pretraining the model", listing 16.8.
    """
    # 1. Check everything that can be checked before the first step.
    directory, callbacks = check_run(directory, callbacks, verbose)
    check_positive_ints(
        epochs=epochs,
        checkpoint_steps=checkpoint_steps,
        loss_chunks=loss_chunks,
    )
    if learning_rate is not None:
        check_learning_rate(learning_rate)
    if is_real(learning_rate):
        learning_rate = float(learning_rate)  # Keras refuses NumPy's
    _check_callable(sample=sample, variables=variables)
    _check_data(model, train_dataset, validation_dataset)
    if steps_per_epoch is None:
        steps_per_epoch = num_batches_of(train_dataset)
    first_batch = _first_batch(train_dataset)
    check_positive_ints(steps_per_epoch=steps_per_epoch)
    devices.check_model(model)
    devices.check_batches(train_dataset)
    devices.check_batches(validation_dataset)

    # 2. Compile: Adam, and a loss that computes logits in `loss_chunks` chunks.
    trained, objective, prepare = next_token_objective(model, loss_chunks)
    optimizer = _adam(
        model,
        learning_rate,
        gradient_accumulation_steps,
        epochs * steps_per_epoch,
    )
    trained.compile(optimizer, **objective)

    # 3. Convert the batches to the form that the loss needs.
    train_dataset = train_dataset.map(prepare)
    if validation_dataset is not None:
        if validation_steps is not None:
            check_positive_ints(validation_steps=validation_steps)
            validation_dataset = validation_dataset.take(validation_steps)
        validation_dataset = validation_dataset.map(prepare)

    # 4. Train, resuming from the checkpoint if there is one.
    return resumable_fit(
        trained,
        train_dataset,
        validation_dataset,
        directory=directory,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        tokens_in_a_batch=math.prod(first_batch["shape"]),
        checkpoint_steps=checkpoint_steps,
        sample=None if sample is None else functools.partial(sample, model),
        first_batch=first_batch,
        variables=variables,
        callbacks=callbacks,
        verbose=verbose,
    )


def _check_callable(**functions):
    """Check what is called after an epoch before the first one begins."""
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise UserError(
                f"`{name}` must be a function of the model. Received: "
                f"{name}={shown(function)}. Leave it out, or pass a function."
            )


def _check_data(model, train_dataset, validation_dataset):
    """Refuse what is no model, and data that are no dataset."""
    if not isinstance(model, keras.Model):
        raise UserError(
            "`model` must be a Keras model, such as a `mini_gpt`. Received: "
            f"{shown(model)}. Build one first."
        )
    for name, dataset in (
        ("train_dataset", train_dataset),
        ("validation_dataset", validation_dataset),
    ):
        is_left_out = dataset is None and name == "validation_dataset"
        if not (is_left_out or hasattr(dataset, "element_spec")):
            raise UserError(
                f"`{name}` must be a `tf.data.Dataset` of batches. Received: "
                f"{shown(dataset)}. `pretraining_dataset` makes one, and "
                "`tf.data.Dataset.from_tensor_slices((x, y)).batch(8)` of "
                "arrays."
            )


def num_batches_of(dataset):
    """Return the number of batches in a dataset of known length: an int."""
    batches = int(dataset.cardinality())
    if batches < 0:
        raise UserError(
            "`steps_per_epoch` must be given for a dataset without a known "
            f"length. Received: cardinality {batches}. Datasets from "
            "`pretraining_dataset` have a known length."
        )
    return batches


def _first_batch(dataset):
    """Describe the first batch, and raise an error early if there is none."""
    for batch in dataset.take(1):
        return describe_batch(batch, devices.data_share()[1])
    raise UserError(
        "The training data must hold at least one batch. Received: an empty "
        "dataset. Give more text or a smaller batch."
    )


def _adam(model, rate, gradient_accumulation_steps, num_steps):
    """Return the optimizer; its schedule counts updates of the weights."""
    if gradient_accumulation_steps is not None:
        check_int("gradient_accumulation_steps", gradient_accumulation_steps, 2)
    num_updates = num_steps // (gradient_accumulation_steps or 1)
    if rate is None:
        rate = warmup_for(model.count_params(), num_updates)
    warn_of_long_warmup(rate, num_updates)
    is_schedule = isinstance(
        rate, keras.optimizers.schedules.LearningRateSchedule
    )
    if is_schedule and gradient_accumulation_steps is not None:
        rate = UpdateSchedule(rate, gradient_accumulation_steps)
    return keras.optimizers.Adam(
        rate, gradient_accumulation_steps=gradient_accumulation_steps
    )
