"""Learning in rounds from the responses of the model itself."""

from kerasllm.tuning.rounds._keeping import BestOfEach, Cutoff, TopShare
from kerasllm.tuning.rounds._prefer import prefer
from kerasllm.tuning.rounds._self_train import self_train
from kerasllm.tuning.rounds._stopping import StopAtRewardHacking
from kerasllm.tuning.rounds._watching import (
    HackingEvidence,
    RewardWatch,
    compare_with_best,
)

__all__ = [
    "BestOfEach",
    "Cutoff",
    "HackingEvidence",
    "RewardWatch",
    "StopAtRewardHacking",
    "TopShare",
    "compare_with_best",
    "prefer",
    "self_train",
]
