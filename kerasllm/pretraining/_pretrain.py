"""`pretrain`: any model of token ids to logits, on any batches of windows."""

import functools
import math

import keras

from kerasllm import distribution as devices
from kerasllm.checks import UserError, check_int, check_positive_ints
from kerasllm.schedules import UpdateSchedule, WarmupSchedule
from kerasllm.training import (
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
):  # over sixty lines by its docstring
    """Train a model to predict the next token, and survive interruption.

    On CPUs call `kerasllm.backend.set_up()` first, when the program starts. A
    training step takes and frees hundreds of megabytes, which the C library
    gives back to the system and has to have cleared each time; `set_up` makes
    it keep them, which saves up to a third of a step. It changes how the
    whole process uses memory, so it is left to the caller.

    Args:
        model: keras model from token ids to float logits, such as a
            `mini_gpt`. It starts from the weights that it has, unless
            `directory` holds a checkpoint.
        train_dataset: `tf.data.Dataset` of `(x, y)`, int32
            `(batch_size, sequence_length)` each, which gives the same batches
            in the same order whenever it is read, as `pretraining_dataset`
            does. A run longer than the data reads them again. A run goes on
            only with the first batch that it began with: data that are
            shuffled need a `seed` and `reshuffle_each_iteration=False`.
        validation_dataset: the same, or `None` for no validation.
        directory: str or path. Where the checkpoint and the log,
            `history.csv`, go. A run that lies there is continued. `None`
            keeps neither.
        epochs: int. Number of times that training stops to validate.
        steps_per_epoch: int. Batches in an epoch. Defaults to an equal share
            of one pass over the data, as in the chapter.
        validation_steps: int. Batches in a validation, or `None` for all.
        learning_rate: float or schedule. Defaults to `WarmupSchedule()`. A run
            that goes on takes the one that it is given then.
        checkpoint_steps: int. Batches between checkpoints; there is one
            after each epoch in any case.
        loss_chunks: int. Parts of the sequence for which the logits are
            computed in turns; more take less memory, see `training`. The
            callbacks' `model` is then a `training.training_model`.
        gradient_accumulation_steps: int, at least 2. Batches whose gradients
            are averaged for one update, as for every Keras optimizer. A
            schedule then counts updates, not batches, so that it does the
            same as with batches so many times as large. All other steps are
            batches.
        sample: callable `model -> str`, called and printed after each epoch.
        variables: callable from the model to the list of its variables that
            a checkpoint has to keep; see `training.resumable_fit`. For a model
            with adapters `kerasllm.lora.changing_variables` leaves out what
            is frozen.
        callbacks: more Keras callbacks.
        verbose: `"auto"`, 0, 1 or 2, as for `fit`.
        distribution: a `keras.distribution.Distribution`, as
            `kerasllm.distribution` makes them, in whose scope `model` was
            built. Defaults to the current one. Of several processes each has
            its own part of all batches in its data sets; the first one writes
            what goes to `directory`, which all must see.

    Returns:
        A list of dicts, one an epoch: `epoch`, `step` (batches so far),
        `loss` (nats a token), `accuracy`, `perplexity`, `tokens_per_second`
        and, with validation, `val_loss`, `val_accuracy`, `val_perplexity`.

    Raises:
        UserError: an argument is out of range, there are too few data, or
            model or batches do not fit `distribution`.
        RunError: the checkpoint in `directory` is of another model or of
            other data, has another number of steps in an epoch, or more
            epochs than `epochs`; or another run is at work there.
        OSError: nothing can be written to `directory`, or no more; the last
            checkpoint is still there.
        RuntimeError: one of several processes does not see `directory`, or
            had an error.
        DivergedError: the loss, the validation's or a weight became NaN
            or infinite. The last checkpoint is from before that.
        TrainingInterrupted: Ctrl-C was pressed; the state was saved first.

    Source: chapter 16, "Pretraining the model", listing 16.8.
    """
    # 1. Check what can be checked before the first step.
    check_positive_ints(
        epochs=epochs,
        checkpoint_steps=checkpoint_steps,
        loss_chunks=loss_chunks,
    )
    if steps_per_epoch is None:
        steps_per_epoch = _share_of_one_pass(train_dataset, epochs)
    check_positive_ints(steps_per_epoch=steps_per_epoch)
    devices.check_model(model)
    devices.check_batches(train_dataset)
    devices.check_batches(validation_dataset)
    first_batch = _first_batch(train_dataset)

    # 2. Compile: Adam, and a loss whose logits come in `loss_chunks` parts.
    trained, objective, prepare = next_token_objective(model, loss_chunks)
    optimizer = _adam(learning_rate, gradient_accumulation_steps)
    trained.compile(optimizer, **objective)

    # 3. Give the batches the form that the loss needs.
    train_dataset = train_dataset.map(prepare)
    if validation_dataset is not None:
        if validation_steps is not None:
            check_positive_ints(validation_steps=validation_steps)
            validation_dataset = validation_dataset.take(validation_steps)
        validation_dataset = validation_dataset.map(prepare)

    # 4. Train, from the checkpoint if there is one.
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


def _share_of_one_pass(dataset, epochs):
    """Return how many batches an epoch has, if all epochs are one pass."""
    batches = int(dataset.cardinality())
    if batches < 0:
        raise UserError(
            "`steps_per_epoch` must be given for a dataset that does not know "
            f"its own length. Received: cardinality {batches}. Datasets from "
            "`pretraining_dataset` know theirs."
        )
    if batches < epochs:
        raise UserError(
            "The data must hold at least a batch for each epoch. Received: "
            f"{batches} batches for epochs={epochs}. Give more text, a "
            "smaller batch, or `steps_per_epoch`."
        )
    return batches // epochs


def _first_batch(dataset):
    """Describe the first batch, which also shows early that there is one."""
    for batch in dataset.take(1):
        return describe_batch(batch, devices.data_share()[1])
    raise UserError(
        "The training data must hold at least one batch. Received: an empty "
        "dataset. Give more text or a smaller batch."
    )


def _adam(learning_rate, gradient_accumulation_steps):
    """Return the optimizer, whose schedule counts updates of the weights."""
    rate = WarmupSchedule() if learning_rate is None else learning_rate
    if gradient_accumulation_steps is not None:
        check_int("gradient_accumulation_steps", gradient_accumulation_steps, 2)
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            rate = UpdateSchedule(rate, gradient_accumulation_steps)
    return keras.optimizers.Adam(
        rate, gradient_accumulation_steps=gradient_accumulation_steps
    )
