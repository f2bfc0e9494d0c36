"""Moved: see `kerasllm.homework`."""

from kerasllm.homework import (  # noqa: F401
    landlock_version,
    limit,
    restrict,
)
