"""Moved: see `kerasllm.generation`."""

from kerasllm.generation import (  # noqa: F401
    CachedDecoder,
    batch_bucket,
    length_bucket,
)
