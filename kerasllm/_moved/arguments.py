"""Moved: see `kerasllm.checks` and `kerasllm.generation`."""

from kerasllm.checks import check_text, is_int  # noqa: F401
from kerasllm.generation._arguments import (  # noqa: F401
    END_OF_TURN,
    LARGEST_SEED,
    check_logits,
    check_max_length,
    check_prompt,
    check_prompt_tokens,
    check_token_id,
    end_token_ids,
    find_stop_tokens,
    get_vocabulary_size,
    make_seed_generator,
    position_tables,
    tokenize_prompt,
)
