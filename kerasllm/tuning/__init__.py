"""Tuning a pretrained model, any `CausalLM` (sections 16.3 and 16.4).

`finetune` is supervised fine-tuning on requests and answers: full fine-tuning,
or that of adapters after `kerasllm.lora.enable_lora`.
"""

from kerasllm.tuning._finetuning import check_tuning, finetune
from kerasllm.tuning._model import TokenModel, token_model

__all__ = ["TokenModel", "check_tuning", "finetune", "token_model"]
