"""Measuring what a model knows and how it writes.

- `ask_all` asks any chat model many questions in batches; `exact_share`
  returns the share of right answers, from which an interval can be computed.
- `measure_facts` and `measure_pictures` score a model on the small world of
  `kerasllm.toyworld`.
- `repeated_ngrams` and `known_ngrams` measure how repetitive and how familiar
  a text is.
- `reliability_table` compares predicted probabilities with what came true.
- `pass_at_k` estimates how often one of several attempts is right.
- `best_of_n_scores` estimates what the best of n responses scores, for many n
  from one pool of responses; `best_of_n_kl` bounds how far it is from the
  policy.
- `preferred_share` measures labels by a true score, or a reward model by true
  labels; `cohens_kappa` tells how far two labellers agree.
- `sample_agreement` tells how far several answers to one question agree, and
  `area_under_curve` whether that, or any other score, detects wrong ones.
"""

from kerasllm.evaluation._agreement import cohens_kappa, preferred_share
from kerasllm.evaluation._asking import ask_all, in_batches
from kerasllm.evaluation._best_of_n import best_of_n_kl, best_of_n_scores
from kerasllm.evaluation._calibration import (
    ReliabilityBin,
    reliability_table,
)
from kerasllm.evaluation._consistency import (
    area_under_curve,
    sample_agreement,
)
from kerasllm.evaluation._ngrams import (
    known_ngrams,
    ngram_set,
    repeated_ngrams,
)
from kerasllm.evaluation._pass_at_k import pass_at_k
from kerasllm.evaluation._shares import Share, exact_share, refused_share
from kerasllm.evaluation._small_world import (
    measure_facts,
    measure_pictures,
    pictures_except,
)

__all__ = [
    "ReliabilityBin",
    "Share",
    "area_under_curve",
    "ask_all",
    "best_of_n_kl",
    "best_of_n_scores",
    "cohens_kappa",
    "exact_share",
    "in_batches",
    "known_ngrams",
    "measure_facts",
    "measure_pictures",
    "ngram_set",
    "pass_at_k",
    "pictures_except",
    "preferred_share",
    "refused_share",
    "reliability_table",
    "repeated_ngrams",
    "sample_agreement",
]
