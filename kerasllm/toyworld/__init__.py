"""A small world whose ground truth is known, to measure what models know.

Nobody has written about its towns, people, creatures and dishes. What a model
says about them comes from the documents below, and whether it is right can be
looked up. One seed makes the world, and the world provides

- documents in several genres, for pretraining: they state every fact in many
  phrasings, and ask questions without answering them, as people do in forums;
- requests with answers about one half of the facts, for instruction tuning;
- questions about the other half, and about names that belong to nothing.

Pictures of colored shapes, with captions and questions, are made apart from
it. All names and texts stay the same to the byte: the models in `assets/`
learned them, and their cards record a hash.
"""

from kerasllm.toyworld._attributes import KINDS, Attribute
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
from kerasllm.toyworld._world import World

__all__ = [
    "BACKGROUND",
    "COLORS",
    "KINDS",
    "NUMBERS",
    "PICTURE_SIZE",
    "REFUSAL",
    "SHAPES",
    "Attribute",
    "Entity",
    "Picture",
    "Question",
    "World",
    "picture_instructions",
    "pictures",
    "word_problem",
]
