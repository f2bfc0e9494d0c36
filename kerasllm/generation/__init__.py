"""Text generation, from a prompt to text.

`generate` and `compiled_generate` are the chapter's two loops. `TextGenerator`
caches keys and values, and `ContinuousBatch` lets a server add requests to a
batch at any time. `best_of_n`, `majority_vote` and `weighted_vote` choose from
several samples.
"""

from kerasllm.generation._arguments import (
    check_generator,
    check_prompt,
    end_token_ids,
    find_stop_tokens,
    position_tables,
    tokenize_prompt,
)
from kerasllm.generation._batches import Past
from kerasllm.generation._beam_search import Beam
from kerasllm.generation._best_of_n import (
    best_of_n,
    majority_vote,
    scores_of,
    weighted_vote,
)
from kerasllm.generation._continuous_batch import ContinuousBatch
from kerasllm.generation._decoding import (
    CachedDecoder,
    batch_bucket,
    length_bucket,
)
from kerasllm.generation._loops import compiled_generate, generate
from kerasllm.generation._text_generator import TextGenerator
from kerasllm.generation.texts import (
    Generation,
    Sequence,
    Stream,
    TextStream,
    TokenizedPrompt,
)

__all__ = [
    "scores_of",
    "Beam",
    "CachedDecoder",
    "ContinuousBatch",
    "Generation",
    "Past",
    "Sequence",
    "Stream",
    "TextGenerator",
    "TextStream",
    "TokenizedPrompt",
    "batch_bucket",
    "best_of_n",
    "check_generator",
    "check_prompt",
    "compiled_generate",
    "end_token_ids",
    "find_stop_tokens",
    "generate",
    "length_bucket",
    "majority_vote",
    "position_tables",
    "tokenize_prompt",
    "weighted_vote",
]
