"""What makes a run of tuning the same run when it goes on."""

import hashlib
import json
import pathlib
import weakref

import keras
import numpy as np

from kerasllm import backend, lora
from kerasllm.images import digest_of_image
from kerasllm.training import RUN_FILE

# Of each model the number of merges of adapters, and the digest that its
# weights had when tuning first looked at them after the last one.
_STARTS = weakref.WeakKeyDictionary()


def describe_examples(examples, validation_examples, directory):
    """Return hashes of the examples of a run: a dict.

    Args:
        examples: list of `Instruction`.
        validation_examples: the same, or `None`.
        directory: str or path of the run. Where the first version of this
            package began it, examples have the name of that time, rows.
    """
    name = "examples"
    path = pathlib.Path(directory, RUN_FILE)
    if path.is_file() and "validation_rows" in json.loads(path.read_text()):
        name = "rows"
    return {
        name: _digest_of_examples(examples),
        f"validation_{name}": _digest_of_examples(validation_examples or ()),
    }


def describe_model(model):
    """Return what a run of tuning depends on in a `CausalLM`: a dict."""
    return {
        "model": _digest_at_the_start(model),
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


def _digest_at_the_start(model):
    """Return the digest of the weights that a run begins with: a str.

    What adapters leave frozen is what it was, unless somebody has changed it,
    so it is looked at each time. All weights are looked at only once: a call
    that goes on may find some that were trained.
    """
    merges = lora.num_merges(model)
    start = _STARTS.get(model)
    if lora.adapted_layers(model) or start is None or start[0] != merges:
        start = _STARTS[model] = merges, _digest_of_weights(model)
    return start[1]


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
        digest.update(json.dumps(parts).encode())
    return digest.hexdigest()
