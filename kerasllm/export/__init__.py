"""Models and adapters for other programs: Transformers, PEFT and llama.cpp.

A model of this package is one of KerasHub, and `save_to_preset` keeps it as
such. Here it leaves: as a folder that Transformers loads, as a GGUF file that
llama.cpp and its relatives run, and adapters as PEFT has them.
"""

from kerasllm.export._adapters import to_peft
from kerasllm.export._gguf import WEIGHT_TYPES, to_gguf
from kerasllm.export._hugging_face import to_hugging_face

__all__ = ["WEIGHT_TYPES", "to_gguf", "to_hugging_face", "to_peft"]
