"""The layers of the chapter, written for reuse.

`TransformerDecoder` and `PositionalEmbedding` are all that a GPT needs
(section 16.2.1). `Linear` and `LoraLinear` show how an adapter is added to a
frozen kernel (section 16.3.3). Attribute names are the chapter's, so its
weights map one to one.
"""

from kerasllm.checks import check_positive_ints
from kerasllm.layers._attention import Dropout, SelfAttention
from kerasllm.layers._cached import (
    apply_dense,
    apply_together,
    are_few,
    arrange_kernels,
    attend,
    split_heads,
)
from kerasllm.layers._decoder import (
    TransformerDecoder,
    check_block,
    check_dropout,
)
from kerasllm.layers._embedding import PositionalEmbedding
from kerasllm.layers._linear import Linear, LoraLinear

__all__ = [
    "Dropout",
    "Linear",
    "LoraLinear",
    "PositionalEmbedding",
    "SelfAttention",
    "TransformerDecoder",
    "apply_dense",
    "apply_together",
    "are_few",
    "arrange_kernels",
    "attend",
    "check_block",
    "check_dropout",
    "check_positive_ints",
    "split_heads",
]

# A saved model names the public module, whichever file defines a class.
for _layer in (
    Dropout,
    Linear,
    LoraLinear,
    PositionalEmbedding,
    SelfAttention,
    TransformerDecoder,
):
    _layer.__module__ = "kerasllm.layers"
