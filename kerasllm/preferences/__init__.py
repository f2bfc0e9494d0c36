"""Comparisons of responses, to learn preferences from (section 16.4.1).

They are read from a file, or made by a labeller whose true preferences are
known, and who errs as often as people do.
"""

from kerasllm.preferences._annotator import BradleyTerry
from kerasllm.preferences._preference import Preference
from kerasllm.preferences._ranking import pairs_from_ranking
from kerasllm.preferences._reading import read_preferences, write_preferences
from kerasllm.preferences._splitting import split_preferences

__all__ = [
    "BradleyTerry",
    "Preference",
    "pairs_from_ranking",
    "read_preferences",
    "split_preferences",
    "write_preferences",
]
