"""Ask and tune any model (sections 16.3 and 16.4).

`ChatModel` combines a KerasHub `CausalLM`, a prompt template, and a generator.
It is a thin wrapper that hides nothing: `chat_model.causal_lm` is KerasHub's
own model, which you can use directly. `Chat` is a conversation that remembers
its turns. `Answer` is what `ask` returns when it is given a store of passages.
"""

from kerasllm.chat._chat_model import ChatModel
from kerasllm.chat._conversation import Chat
from kerasllm.chat._grounding import (
    CANNOT_TELL,
    UNSUPPORTED,
    Answer,
    context_prompt,
)
from kerasllm.chat._support import find_support

__all__ = [
    "CANNOT_TELL",
    "UNSUPPORTED",
    "Answer",
    "Chat",
    "ChatModel",
    "context_prompt",
    "find_support",
]
