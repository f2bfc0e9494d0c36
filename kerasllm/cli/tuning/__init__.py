"""The commands of tuning, and of labels to tune on: `compare`."""

from kerasllm.cli.tuning import compare

__all__ = ["compare"]
