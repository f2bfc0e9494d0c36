"""Where the weights of a model come from, as far as adapters are concerned.

A tuning run that goes on must start from what it started from before.
`kerasllm.tuning` recognizes that by the file that adapters were loaded from.
"""

import weakref

from kerasllm.lora._layers import adaptable_layers

# By the first layer that can have an adapter, which a task, its backbone and
# any other model of the same layers share.
_LOADED = weakref.WeakKeyDictionary()


def loaded_digest(model):
    """Return the SHA-256 of the file that adapters were loaded from.

    Args:
        model: a keras model.

    Returns:
        str, or `None` for a model without adapters or with new ones.
    """
    return _LOADED.get(_first_layer(model))


def note_loaded(model, digest):
    """Remember where the adapters of a model are from; `None` if from none."""
    _LOADED[_first_layer(model)] = digest


def _first_layer(model):
    layers = adaptable_layers(model)
    return layers[0][1] if layers else model
