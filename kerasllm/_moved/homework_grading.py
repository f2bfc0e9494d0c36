"""Moved: see `kerasllm.homework`."""

from kerasllm.homework import (  # noqa: F401
    Judge,
    JudgedExecute,
    StudentKernelManager,
)
