"""The commands of tuning: `finetune`, `dpo`, and `compare` for its labels."""

from kerasllm.cli.tuning import compare, dpo, finetune

__all__ = ["compare", "dpo", "finetune"]
