"""Ask and tune any model (sections 16.3 and 16.4).

`ChatModel` puts together what asking takes: a KerasHub `CausalLM`, a prompt
template and a generator. It is a thin wrapper that hides nothing:
`chat_model.causal_lm` is KerasHub's own model, and all that is done with it
here can be done without. `Chat` is a conversation, which remembers.
"""

from kerasllm.chat._chat_model import ChatModel
from kerasllm.chat._conversation import Chat

__all__ = ["Chat", "ChatModel"]
