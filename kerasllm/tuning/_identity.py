"""What makes a run of tuning the same run when it goes on."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import weakref

import keras
import numpy as np

from kerasllm import backend, lora
from kerasllm import distribution as devices
from kerasllm.images import digest_of_image
from kerasllm.training import CHECKPOINT_FILE, RUN_FILE, read_run

# Of each model, by resolved directory, the digest that its weights had when
# the run there began. Under `None`, the digest when the last run ended.
_STARTS = weakref.WeakKeyDictionary()


def describe_examples(examples, validation_examples, directory):
    """Return hashes of the examples of a run: a dict.

    Args:
        examples: list of `Instruction`.
        validation_examples: the same, or `None`.
        directory: str or path of the run. Where the first version of this
            package began it, examples have the name of that time, rows.

    Raises:
        RunError: the record of the run cannot be read.
    """
    name = "examples"
    directory = pathlib.Path(directory)
    begun = (directory / RUN_FILE).is_file()
    if begun and "validation_rows" in read_run(directory):
        name = "rows"
    return {
        name: _digest_of_examples(examples),
        f"validation_{name}": _digest_of_examples(validation_examples or ()),
    }


def describe_preferences(preferences, validation_preferences):
    """Return hashes of the comparisons of a run: a dict.

    Args:
        preferences: list of `Preference`.
        validation_preferences: the same, or `None`.
    """
    return {
        "preferences": _digest_of_preferences(preferences),
        "validation_preferences": _digest_of_preferences(
            validation_preferences or ()
        ),
    }


def describe_model(model, directory):
    """Return what a run of tuning depends on in a `CausalLM`: a dict.

    Args:
        model: the `CausalLM`.
        directory: str or path of the run.
    """
    return {
        "model": _digest_at_the_start(model, directory),
        "dtype": [model.variable_dtype, model.compute_dtype],
        "adapters": {
            key: [layer.lora_rank, float(layer.lora_alpha)]
            for key, layer in lora.adapted_layers(model)
        },
        "loaded_adapters": lora.loaded_digest(model),
        "trainable": [
            number
            for number, variable in enumerate(model.weights)
            if variable.trainable
        ],
    }


@contextlib.contextmanager
def noting_the_end(model):
    """Remember the weights with which the training in this block ends.

    A call that goes on finds them, and not those that the run began with.
    """
    try:
        yield
    except BaseException:
        # Of several processes the others may not come this far.
        if devices.num_processes() == 1:
            with contextlib.suppress(RuntimeError):  # JAX has deleted them
                _note_end(model)
        raise
    _note_end(model)


def _note_end(model):
    if model in _STARTS and not lora.adapted_layers(model):
        _STARTS[model][None] = _digest_of_weights(model)


def _digest_at_the_start(model, directory):
    """Return the digest of the weights that a run begins with: a str.

    A call that goes on in the same session finds weights that were trained.
    They stand for those of the start, unless somebody has changed them since.
    What adapters leave frozen is what it was.
    """
    digest = _digest_of_weights(model)
    if lora.adapted_layers(model):
        return digest
    starts = _STARTS.setdefault(model, {})
    path = pathlib.Path(directory).resolve()
    goes_on = path in starts and (path / CHECKPOINT_FILE).is_file()
    if not goes_on or digest != starts.get(None):
        starts[path] = digest
    return starts[path]


def _digest_of_weights(model):
    """Return a hash of what a run begins with: a str.

    Of a model with adapters, only what is frozen: adapters begin at random,
    and what is trained beside them may have been trained already.
    """
    has_adapters = bool(lora.adapted_layers(model))
    digest = hashlib.sha256()
    for variable in model.weights:
        is_float = keras.backend.is_float_dtype(variable.dtype)
        if is_float and not (has_adapters and variable.trainable):
            # NumPy gets bfloat16 from some backends only.
            array = backend.to_numpy(variable).astype("float32")
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _digest_of_examples(examples):
    """Return a hash of examples in their order, images included: a str."""
    digest = hashlib.sha256()
    for example in examples:
        images = [digest_of_image(image) for image in example.images]
        parts = [example.instruction, example.response, example.context, images]
        parts += [example.messages] if example.messages else []
        digest.update(json.dumps(parts).encode())
    return digest.hexdigest()


def _digest_of_preferences(preferences):
    """Return a hash of comparisons in their order: a str."""
    digest = hashlib.sha256()
    for preference in preferences:
        digest.update(json.dumps(dataclasses.astuple(preference)).encode())
    return digest.hexdigest()
