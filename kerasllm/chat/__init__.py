"""Ask and tune any model (sections 16.3 and 16.4).

`ChatModel` combines a KerasHub `CausalLM`, a prompt template, and a generator.
It is a thin wrapper that hides nothing: `chat_model.causal_lm` is KerasHub's
own model, which you can use directly. `Chat` is a conversation that remembers
its turns.
"""

from kerasllm.chat._chat_model import ChatModel
from kerasllm.chat._conversation import Chat

__all__ = ["Chat", "ChatModel"]
