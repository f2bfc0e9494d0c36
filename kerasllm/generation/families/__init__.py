"""How each family of models reads tokens with a cache.

KerasHub's models read a token in `call_with_cache`, with a cache in the layout
of their training. Here the families that people load most (Llama, Gemma 3 and
GPT-2) are written again over KerasHub's own weights, in the layout that suits a
single token, and so that PyTorch can record a step. `Family` has what they
share. Any other model is read with its own `call_with_cache` by `Plain`, which
has the same methods.
"""

import warnings

from kerasllm.generation.families._blockwise import Blockwise
from kerasllm.generation.families._family import Family
from kerasllm.generation.families._gemma3 import Gemma3
from kerasllm.generation.families._gpt2 import GPT2
from kerasllm.generation.families._llama import Llama
from kerasllm.generation.families._plain import Plain

__all__ = [
    "GPT2",
    "Blockwise",
    "Family",
    "Gemma3",
    "Llama",
    "Plain",
    "family_of",
]

_FAMILIES = (Llama, Gemma3, GPT2)


def family_of(causal_lm):
    """Return how a model reads tokens: an instance of one of these classes.

    A model whose class has a `call_with_cache` of its own keeps it, and if
    that is not fast, a warning says so.

    Args:
        causal_lm: a `keras_hub.models.CausalLM` with `call_with_cache`.
    """
    for family in _FAMILIES:
        if family.reads(causal_lm):
            return family(causal_lm)
    plain = Plain(causal_lm)
    if not plain.records:
        # Python shows a warning once for each text.
        warnings.warn(
            f"{type(causal_lm).__name__} reads tokens with its own "
            "`call_with_cache`, in the layout of its training, so it generates "
            "text at KerasHub's speed. Llama, Gemma 3, GPT-2 and mini-GPT are "
            "faster.",
            stacklevel=2,
        )
    return plain
