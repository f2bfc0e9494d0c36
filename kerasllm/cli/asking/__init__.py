"""The commands of asking: `generate`, `chat`, and `index`."""

from kerasllm.cli.asking import chat, generate, index

__all__ = ["chat", "generate", "index"]
