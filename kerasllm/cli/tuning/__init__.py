"""The commands of tuning: `finetune`, `dpo`, `grpo`, and `compare`."""

from kerasllm.cli.tuning import compare, dpo, finetune, grpo

__all__ = ["compare", "dpo", "finetune", "grpo"]
