"""Moved: see `kerasllm.generation`."""

from kerasllm.generation import Beam  # noqa: F401
from kerasllm.generation._beam_search import search_beams  # noqa: F401
