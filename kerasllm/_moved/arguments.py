"""Moved: see `kerasllm.generation`."""

from kerasllm.checks import check_text, is_int  # noqa: F401
from kerasllm.generation import (  # noqa: F401
    check_prompt,
    end_token_ids,
    find_stop_tokens,
    position_tables,
)
