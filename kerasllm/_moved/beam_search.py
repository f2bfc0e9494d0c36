"""Moved: see `kerasllm.generation`."""

from kerasllm.generation import (  # noqa: F401
    Beam,
)
