"""Moved: see `kerasllm.generation`."""

from kerasllm.generation import TextStream  # noqa: F401
from kerasllm.generation.texts._text_stream import (  # noqa: F401
    LONGEST_WINDOW,
    UNDECODED,
)
