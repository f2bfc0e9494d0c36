"""The offline Gemma: Gemma 3's architecture, small enough for a laptop.

There are two models: the base model `tiny`, which was pretrained only on texts
and pictures of the small world, and the instruction model `tiny_instruct`,
which was tuned from it. Both are KerasHub presets in `assets/`. They were
trained by

    python -m kerasllm.tiny_gemma --out assets

in about half an hour on two cores. Measure them again by

    python -m kerasllm.tiny_gemma --measure
"""

# The helpers for measuring stood here in the first version.
from kerasllm.evaluation import ask_all, exact_share, in_batches
from kerasllm.tiny_gemma._data import (
    NUM_PICTURES,
    NUM_REFUSALS,
    PICTURES_AT_ONCE,
    PICTURES_PER_SEQUENCE,
    caption,
    fingerprint,
    picture_texts,
    pretraining_dataset,
    unseen_pictures,
)
from kerasllm.tiny_gemma._model import (
    CONTROL_TOKENS,
    SPECIAL_TOKENS,
    VOCABULARY_SIZE,
    build,
    train_tokenizer,
)
from kerasllm.tiny_gemma._recipe import SEED, SEQUENCE_LENGTH, TinyRecipe
from kerasllm.tiny_gemma._shipping import (
    CARD_FILE,
    TEST_SEED,
    main,
    measure,
    save_preset,
)
from kerasllm.tiny_gemma._training import (
    pretrain_base,
    pretrain_vision,
    tune_instruct,
)

PICTURES_IN_A_ROW = PICTURES_PER_SEQUENCE  # the name in the first version

__all__ = [
    "CARD_FILE",
    "CONTROL_TOKENS",
    "NUM_PICTURES",
    "NUM_REFUSALS",
    "PICTURES_AT_ONCE",
    "PICTURES_IN_A_ROW",
    "PICTURES_PER_SEQUENCE",
    "SEED",
    "SEQUENCE_LENGTH",
    "SPECIAL_TOKENS",
    "TEST_SEED",
    "VOCABULARY_SIZE",
    "TinyRecipe",
    "ask_all",
    "build",
    "caption",
    "exact_share",
    "fingerprint",
    "in_batches",
    "main",
    "measure",
    "picture_texts",
    "pretrain_base",
    "pretrain_vision",
    "pretraining_dataset",
    "save_preset",
    "train_tokenizer",
    "tune_instruct",
    "unseen_pictures",
]
