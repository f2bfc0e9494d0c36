"""Comparisons of responses, to learn preferences from (section 16.4.1).

They are read from a file, or made by people on a page of `LabellingServer`, or
by a `BradleyTerry` labeller, whose true preferences are known, and who errs as
often as people do.
"""

from kerasllm.preferences._annotator import BradleyTerry
from kerasllm.preferences._labelling import LabellingServer
from kerasllm.preferences._labels import (
    TIE,
    Comparison,
    read_comparisons,
    read_labels,
)
from kerasllm.preferences._preference import Preference
from kerasllm.preferences._ranking import pairs_from_ranking
from kerasllm.preferences._reading import read_preferences, write_preferences
from kerasllm.preferences._splitting import split_preferences

__all__ = [
    "TIE",
    "BradleyTerry",
    "Comparison",
    "LabellingServer",
    "Preference",
    "pairs_from_ranking",
    "read_comparisons",
    "read_labels",
    "read_preferences",
    "split_preferences",
    "write_preferences",
]
