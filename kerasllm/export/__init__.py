"""Exporting models and adapters to Transformers, PEFT, and llama.cpp.

`save_to_preset` saves a model for KerasHub. The functions here write it for
other programs: as a folder that Transformers loads, as a GGUF file that
llama.cpp and similar programs run, or as adapters that PEFT loads.
"""

from kerasllm.export._adapters import to_peft
from kerasllm.export._gguf import WEIGHT_TYPES, to_gguf
from kerasllm.export._hugging_face import to_hugging_face

__all__ = ["WEIGHT_TYPES", "to_gguf", "to_hugging_face", "to_peft"]
