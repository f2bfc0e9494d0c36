"""The current distribution: how to set it, and checks against it."""

import contextlib
import functools

import keras

from kerasllm import backend
from kerasllm.checks import UserError, accept_former_names, shown
from kerasllm.distribution._processes import process_index


def data_share():
    """Return this process's share of each batch, as its index and a count.

    Processes that hold parts of the same copy of the model read the same data.

    Returns:
        Two ints for `pretraining_dataset(host_index=..., num_hosts=...)`,
        under the current distribution.
    """
    distribution = keras.distribution.distribution()
    # When Keras divides a dataset, every process must have all of it.
    if distribution is None or distribution.auto_shard_dataset:
        return 0, 1
    shares = min(distribution.num_processes, distribution.num_model_replicas)
    return distribution.data_shard_id, shares


def distributed(function):
    """Decorate a function to run under its argument `distribution`.

    Without the argument, the current distribution stays, if there is one.
    Afterward the previous distribution is restored.
    """

    @functools.wraps(function)
    def run(*arguments, distribution=None, **options):
        is_one = hasattr(distribution, "auto_shard_dataset")
        if distribution is not None and not is_one:
            raise UserError(
                "`distribution` must be a `keras.distribution.Distribution`. "
                f"Received: {shown(distribution)}. `data_parallel()` makes one."
            )
        with use(distribution or keras.distribution.distribution()):
            return function(*arguments, distribution=distribution, **options)

    return run


@contextlib.contextmanager
def use(distribution):
    """Set the current distribution in a block; `None` means no distribution."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(distribution)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def check_model(model):
    """Check that a model's variables are on the devices that get the batches.

    Raises:
        UserError: the model was built for other devices.
    """
    distribution = keras.distribution.distribution()
    expected = set(backend.devices()[process_index()][:1])
    if distribution is not None:
        expected = set(distribution.device_mesh.devices.flat)
    found = set().union(*map(backend.devices_of, model.variables))
    if distribution is None and len(found) == 1:  # any single device will do
        return
    if found != expected:
        raise UserError(
            "A model must be built on the devices that train it. Received: "
            f"variables on {_list(found)}, to be trained on {_list(expected)}. "
            "Build the model in `with distribution.scope():`, and train it "
            "with `pretrain(..., distribution=distribution)`."
        )


@accept_former_names(rows="batch_size")
def check_batch_size(batch_size):
    """Check that a batch divides evenly among the current devices.

    Args:
        batch_size: int, the number of sequences in the batches of all
            processes together; `None` if batches may differ in size.

    Raises:
        UserError: it does not divide evenly.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return
    parts = distribution.num_model_replicas
    if batch_size is None or batch_size % parts:
        received = (
            "different sizes"
            if batch_size is None
            else f"{batch_size} sequences"
        )
        raise UserError(
            "With several devices, all batches must have the same size, a "
            f"multiple of {parts}. Received: batches of {received}. Use such "
            "a `batch_size` with `drop_remainder=True`."
        )


def check_batches(dataset):
    """Check that a dataset's batches divide evenly among the devices.

    Args:
        dataset: `tf.data.Dataset` that this process reads, or `None`.

    Raises:
        UserError: as for `check_batch_size`.
    """
    if dataset is not None:
        sequences = keras.tree.flatten(dataset.element_spec)[0].shape[0]
        check_batch_size(sequences and sequences * data_share()[1])


def _list(names):
    return ", ".join(sorted(names))
