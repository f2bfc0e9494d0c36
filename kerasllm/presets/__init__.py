"""Presets: find a pretrained model, tell its size, load it.

A preset is a folder with a model's configuration, weights and vocabulary, or
the name of one that KerasHub downloads. Two come with this package and need no
network. Whatever goes wrong on the way is explained with its cure.
"""

from kerasllm.presets._failures import explain_failure
from kerasllm.presets._finding import (
    OFFLINE_PRESETS,
    check_dtype,
    load_causal_lm,
    preset_source,
)
from kerasllm.presets._memory import MemoryEstimate, estimate_memory
from kerasllm.presets._sizes import (
    ARCHITECTURES,
    HUGGING_FACE_NAMES,
    KERAS_HUB_NAMES,
    VISION_ARCHITECTURE,
    VISION_NAMES,
    UnknownSizeError,
)

__all__ = [
    "ARCHITECTURES",
    "HUGGING_FACE_NAMES",
    "KERAS_HUB_NAMES",
    "OFFLINE_PRESETS",
    "VISION_ARCHITECTURE",
    "VISION_NAMES",
    "MemoryEstimate",
    "UnknownSizeError",
    "check_dtype",
    "estimate_memory",
    "explain_failure",
    "load_causal_lm",
    "preset_source",
]
