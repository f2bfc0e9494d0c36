"""What a file of adapters records of the model that they were trained on."""

import dataclasses
import json

import numpy as np

from kerasllm import backend
from kerasllm.checks import UserError

NUM_SAMPLES = 64
# bfloat16 rounds numbers by up to 1/256.
_ROUNDING = 1 / 128


def sample_kernel(layer):
    """Return some weights of the kernel below a layer's adapter.

    Args:
        layer: a layer that has an adapter, or may get one.

    Returns:
        float32 array `(NUM_SAMPLES,)` or shorter, evenly spaced; empty for a
        quantized kernel, whose numbers are not comparable.
    """
    if layer.quantization_mode:
        return np.zeros(0, "float32")
    kernel = backend.to_numpy(layer._kernel).astype("float32").ravel()
    places = np.linspace(0, kernel.size - 1, min(NUM_SAMPLES, kernel.size))
    return kernel[places.astype(int)]


def check_base(saved, layers, path):
    """Check that adapters were trained on the weights that a model has.

    Adapters are corrections of certain weights. On others they are noise.

    Args:
        saved: dict of the adapters in a file, by the keys of their layers.
        layers: dict of the model's layers.
        path: str.

    Raises:
        UserError: the weights differ by more than a change of the dtype
            explains. A file without a record is not checked.
    """
    different = count = 0
    for key, adapter in saved.items():
        found = sample_kernel(layers[key])
        if found.size and len(adapter["base"]) == found.size:
            error = np.abs(found - adapter["base"])
            different += np.sum(error > _ROUNDING * np.abs(found) + 1e-6)
            count += found.size
    if different > count / 10:
        raise UserError(
            "Adapters must be loaded into the model that they were trained on. "
            f"Received: {path}, and a model of the same layers with other "
            f"weights: {different / count:.0%} of those compared differ. Load "
            "the preset that the adapters were trained on, and then these."
        )


def template_record(template):
    """Return a prompt template as the text that a file has for it."""
    return json.dumps(dataclasses.asdict(template), sort_keys=True)


def check_template(record, template, path):
    """Check that adapters were trained with the template of a chat.

    Args:
        record: str, what `template_record` returned; `None` if the file has
            none.
        template: a `PromptTemplate`, or `None` if no one is used.
        path: str.

    Raises:
        UserError: it is another template.
    """
    if record is None or template is None:
        return
    if record != template_record(template):
        name = json.loads(record)["name"]
        raise UserError(
            "Adapters must be used with the prompt template that they were "
            f"trained with. Received: {path}, trained with {name!r}, and a "
            f"`template` {template.name!r}. Choose the `template` {name!r}, or "
            "pass the same `PromptTemplate` if it is one of your own."
        )
