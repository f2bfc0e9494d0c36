"""Prompt templates: how a question is told from its answer (section 16.3.2).

A base model continues text. An instruction model has learned that the text
between certain delimiters is a request, and that the text after others is its
answer. Training and inference must use the same delimiters, to the last
space, so both take them from one `PromptTemplate`.
"""

from kerasllm.prompts._encoding import (
    encode,
    encode_all,
    special_tokens,
    start_tokens,
)
from kerasllm.prompts._jinja import template_from_jinja
from kerasllm.prompts._templates import (
    ALPACA,
    BOOK,
    CHATML,
    GEMMA,
    MODEL,
    SYSTEM,
    TEMPLATES,
    USER,
    VICUNA,
    PromptTemplate,
    check_messages,
    get_template,
    template_for,
)

__all__ = [
    "ALPACA",
    "BOOK",
    "CHATML",
    "GEMMA",
    "MODEL",
    "SYSTEM",
    "TEMPLATES",
    "USER",
    "VICUNA",
    "PromptTemplate",
    "check_messages",
    "encode",
    "encode_all",
    "get_template",
    "special_tokens",
    "start_tokens",
    "template_for",
    "template_from_jinja",
]
