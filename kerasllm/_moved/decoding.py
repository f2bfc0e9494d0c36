"""Moved: see `kerasllm.generation`."""

from kerasllm.generation import (  # noqa: F401
    CachedDecoder,
    batch_bucket,
    length_bucket,
)
from kerasllm.generation._decoding import SMALLEST_BUCKET  # noqa: F401
