"""Comparisons of responses, to learn preferences from (section 16.4.1).

They are read from a file, or made by people on a page of `LabellingServer`, or
by a `BradleyTerry` labeller, whose true preferences are known, and who errs as
often as people do. `TokenizedPairs` are what training reads.
"""

from kerasllm import lazy
from kerasllm.preferences._annotator import BradleyTerry
from kerasllm.preferences._labelling import LabellingServer
from kerasllm.preferences._labels import (
    TIE,
    Comparison,
    read_comparisons,
    read_labels,
)
from kerasllm.preferences._preference import Preference, check_preferences
from kerasllm.preferences._ranking import pairs_from_ranking
from kerasllm.preferences._reading import read_preferences, write_preferences
from kerasllm.preferences._splitting import split_preferences

# A comparison needs no backend. Its tokens do, and are imported when used.
_FILE_OF = {"TokenizedPairs": "_pairs"}

__all__ = [
    "TIE",
    "BradleyTerry",
    "Comparison",
    "LabellingServer",
    "Preference",
    "TokenizedPairs",
    "check_preferences",
    "pairs_from_ranking",
    "read_comparisons",
    "read_labels",
    "read_preferences",
    "split_preferences",
    "write_preferences",
]

__getattr__, __dir__ = lazy.names_of(__name__, _FILE_OF, __all__)
