"""Adapters: fine-tuning a model by a few weights beside it (section 16.3.3).

Keras's `Dense` and `EinsumDense` have LoRA built in, one layer at a time.
What a whole model needs is here: which layers get an adapter, what stays
frozen, and how adapters are saved, loaded, merged and counted.
"""

from kerasllm.lora._adapters import (
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
    "changing_variables",
    "check_lora_alpha",
    "check_rank",
    "enable_lora",
    "load_lora",
    "loaded_digest",
    "merge_lora",
    "save_lora",
]
