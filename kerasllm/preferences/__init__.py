"""Comparisons of responses, to learn preferences from (section 16.4.1)."""

from kerasllm.preferences._preference import Preference
from kerasllm.preferences._ranking import pairs_from_ranking
from kerasllm.preferences._reading import read_preferences, write_preferences

__all__ = [
    "Preference",
    "pairs_from_ranking",
    "read_preferences",
    "write_preferences",
]
