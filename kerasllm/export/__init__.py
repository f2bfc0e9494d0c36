"""Exporting models and adapters to Transformers, PEFT, and llama.cpp.

The functions here write a model for other programs: as a folder that
Transformers loads, as a GGUF file that llama.cpp and similar programs run, or
as adapters that PEFT loads. `to_keras_hub` writes a preset for this package and
KerasHub, such as a model with its adapters merged.
"""

from kerasllm.export._adapters import to_peft
from kerasllm.export._gguf import WEIGHT_TYPES, to_gguf
from kerasllm.export._hugging_face import to_hugging_face
from kerasllm.export._keras_hub import to_keras_hub

__all__ = [
    "WEIGHT_TYPES",
    "to_gguf",
    "to_hugging_face",
    "to_keras_hub",
    "to_peft",
]
