"""Adapters: fine-tuning a few new weights of a frozen model (section 16.3.3).

Keras's `Dense` and `EinsumDense` have LoRA built in, one layer at a time. This
module does the same for a whole model: it chooses the layers that get an
adapter, freezes the rest, and saves, loads, merges, and counts adapters.
"""

from kerasllm.lora._adapters import (
    adapters_off,
    check_lora_alpha,
    check_rank,
    enable_lora,
    merge_lora,
)
from kerasllm.lora._layers import (
    TARGETS,
    adapted_layers,
    changing_variables,
)
from kerasllm.lora._provenance import loaded_digest
from kerasllm.lora._report import LoraReport
from kerasllm.lora._saving import SUFFIX, load_lora, save_lora

__all__ = [
    "SUFFIX",
    "TARGETS",
    "LoraReport",
    "adapted_layers",
    "adapters_off",
    "changing_variables",
    "check_lora_alpha",
    "check_rank",
    "enable_lora",
    "load_lora",
    "loaded_digest",
    "merge_lora",
    "save_lora",
]
