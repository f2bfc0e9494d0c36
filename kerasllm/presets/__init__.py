"""Presets: find a pretrained model, tell its size, load it.

A preset is a folder with a model's configuration, weights and vocabulary, or
the name of one that KerasHub downloads. Three come with this package and need
no network. Whatever goes wrong on the way is explained with its cure.
"""

from kerasllm import lazy
from kerasllm.presets._names import (
    DOCS_PRESET,
    GEMMA_PRESETS,
    OFFLINE_PRESETS,
    causal_lm_names,
    check_name,
    is_run,
)

# Names can be checked without a backend. The rest is imported when it is used.
_FILE_OF = {
    "explain_failure": "_failures",
    "check_dtype": "_finding",
    "load_causal_lm": "_finding",
    "preset_source": "_finding",
    "MemoryEstimate": "_memory",
    "estimate_memory": "_memory",
    "ARCHITECTURES": "_sizes",
    "HUGGING_FACE_NAMES": "_sizes",
    "KERAS_HUB_NAMES": "_sizes",
    "VISION_ARCHITECTURE": "_sizes",
    "VISION_NAMES": "_sizes",
    "UnknownSizeError": "_sizes",
}

__all__ = [  # noqa: PLE0604
    *_FILE_OF,
    "DOCS_PRESET",
    "GEMMA_PRESETS",
    "OFFLINE_PRESETS",
    "causal_lm_names",
    "check_name",
    "is_run",
]

__getattr__, __dir__ = lazy.names_of(__name__, _FILE_OF, __all__)
