"""A small invented world, to measure what models know.

Nobody else has written about its towns, people, creatures, and dishes. So a
model can know about them only from the documents below, and every answer can
be checked. One seed determines the world, which provides

- documents in several genres, for pretraining, which state every fact in many
  phrasings and ask questions without answering them, as people do in forums;
- requests with answers about one half of the facts, for instruction tuning;
- questions about the other half, the held-out facts, and about names that do
  not exist.

`TrueScore` says what an answer is worth, and `candidate_answers` writes good
and bad ones. With them, preferences can be learned whose truth is known.

Pictures of colored shapes, with captions and questions, are independent of the
world. All names and texts must stay the same to the byte, because the models
in `assets/` learned them, and their cards record a hash.
"""

from kerasllm.toyworld._attributes import KINDS, Attribute
from kerasllm.toyworld._candidates import candidate_answers
from kerasllm.toyworld._entities import REFUSAL, Entity, Question
from kerasllm.toyworld._pictures import (
    BACKGROUND,
    COLORS,
    NUMBERS,
    PICTURE_SIZE,
    SHAPES,
    Picture,
    picture_instructions,
    pictures,
)
from kerasllm.toyworld._texts import word_problem
from kerasllm.toyworld._true_score import (
    COURTESIES,
    POINTS,
    RUDENESS,
    Judgment,
    TrueScore,
)
from kerasllm.toyworld._world import World

__all__ = [
    "BACKGROUND",
    "COLORS",
    "COURTESIES",
    "KINDS",
    "NUMBERS",
    "PICTURE_SIZE",
    "POINTS",
    "REFUSAL",
    "RUDENESS",
    "SHAPES",
    "Attribute",
    "Entity",
    "Judgment",
    "Picture",
    "Question",
    "TrueScore",
    "World",
    "candidate_answers",
    "picture_instructions",
    "pictures",
    "word_problem",
]
