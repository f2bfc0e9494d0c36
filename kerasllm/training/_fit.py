"""A `fit` that can be killed at any moment and called again."""

import contextlib

from kerasllm import distribution as devices
from kerasllm.checks import RunError, check_int
from kerasllm.pipeline import without_autotune
from kerasllm.training._checkpoints import Checkpoint
from kerasllm.training._epochs import EpochLogs, PrintSample
from kerasllm.training._progress import EpochProgress
from kerasllm.training._run_folder import check_run, claim_for_model


def resumable_fit(
    model,
    train_dataset,
    validation_dataset=None,
    *,
    directory,
    epochs,
    steps_per_epoch,
    tokens_in_a_batch,
    identity=None,
    checkpoint_steps=200,
    sample=None,
    first_batch=None,
    variables=None,
    perplexity=True,
    callbacks=(),
    verbose="auto",
):  # over sixty lines because of its docstring
    """Call `fit` on a compiled model so that it can be killed and resumed.

    Args:
        model: compiled Keras model.
        train_dataset: `tf.data.Dataset` that gives the same batches in the
            same order each time it is read.
        validation_dataset: the same, or `None`.
        directory: str or path, as for `kerasllm.pretrain`, which also explains
            the other arguments. `None` saves nothing.
        epochs: int.
        steps_per_epoch: int.
        tokens_in_a_batch: number, the mean, for `tokens_per_second`.
        identity: dict for JSON, the arguments that determine the run. The
            folder is claimed for it. `None` if the caller has already claimed
            the folder, or does not need to.
        checkpoint_steps: int.
        sample: callable `() -> str`.
        first_batch: see `Checkpoint`.
        variables: callable from `model` to the list of its variables that a
            checkpoint must contain, such as
            `kerasllm.lora.changing_variables`. Defaults to all of them. The
            optimizer's variables are always saved.
        perplexity: bool. Whether the loss is one of tokens, in nats, so that
            the history may have the perplexity.
        callbacks: more Keras callbacks.
        verbose: `"auto"`, 0, 1 or 2.

    Returns:
        A list of dicts, one per epoch; see `kerasllm.pretrain`.

    Raises:
        UserError, RunError, EnvironmentFailure, DivergedError,
        TrainingInterrupted: as for `kerasllm.pretrain`.
    """
    epochs = check_int("epochs", epochs, 1)
    directory, callbacks = check_run(directory, callbacks, verbose)
    model.optimizer.build(model.trainable_variables)
    with devices.only_run_in(directory):
        if identity is not None and directory is not None:
            claim_for_model(directory, identity)
        run = Checkpoint(
            directory, steps_per_epoch, checkpoint_steps, first_batch, variables
        )
        run.restore(model)
        _check_epochs(run, epochs, directory)
        # Keras passes one dict of logs through the callbacks in order. What
        # the first one adds reaches the checkpoint, progress bar and history.
        logs = EpochLogs(tokens_in_a_batch, perplexity)
        callbacks = [logs, run, *callbacks]
        if validation_dataset is not None:
            validation_dataset = without_autotune(validation_dataset)
        if sample is not None:
            callbacks.append(PrintSample(run, sample))
        with contextlib.ExitStack() as stack:
            if verbose != 0 and devices.process_index() == 0:
                progress = stack.enter_context(EpochProgress(run))
                callbacks.append(progress)
            stack.enter_context(run.interrupts)
            _fit_the_rest(
                model,
                run,
                train_dataset,
                epochs,
                validation_data=validation_dataset,
                callbacks=callbacks,
                shuffle=False,  # Keras warns when asked to shuffle a dataset
                verbose=verbose if devices.process_index() == 0 else 0,
            )
        run.raise_if_stopped()
        return run.history


def _check_epochs(run, epochs, directory):
    """Check that the run has not already had more epochs than requested."""
    if run.step > epochs * run.steps_per_epoch:
        raise RunError(
            "`epochs` must be at least the number that the run has begun, "
            f"{-(-run.step // run.steps_per_epoch)}. Received: "
            f"epochs={epochs} for the run in {directory}. Pass at least that "
            "many, or use another directory for a shorter run."
        )


def _fit_the_rest(model, run, train_dataset, epochs, **options):
    """Train from the batch after the checkpoint to the end of `epochs`."""
    steps = run.steps_per_epoch
    epoch, done = divmod(run.step, steps)
    if done and epoch < epochs:
        # `fit` starts with a whole epoch, so the rest of an interrupted epoch
        # needs a `fit` of its own.
        _fit_epochs(
            model, run, train_dataset, epoch, epoch + 1, steps - done, **options
        )
        epoch += 1
        # A callback may have stopped it, and another `fit` would ignore that.
        if model.stop_training:
            return
    if epoch < epochs:
        _fit_epochs(model, run, train_dataset, epoch, epochs, steps, **options)


def _fit_epochs(
    model, run, train_dataset, first_epoch, last_epoch, steps, **options
):
    """Call `fit` for some epochs of the same number of steps."""
    model.fit(
        # `skip` reads and tokenizes what it skips, at about a million tokens
        # per second. In exchange, no position needs to be stored.
        without_autotune(train_dataset.repeat().skip(run.step)),
        initial_epoch=first_epoch,
        epochs=last_epoch,
        steps_per_epoch=steps,
        **options,
    )
