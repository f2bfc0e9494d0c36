"""Embedders: models that turn a text into one vector, and their training.

`Embedder` makes one of any backbone of KerasHub, and `train_embedder` teaches
it which passage answers a question, with `contrastive_loss`.
"""

from kerasllm.retrieval.embedders._embedder import Embedder
from kerasllm.retrieval.embedders._losses import contrastive_loss
from kerasllm.retrieval.embedders._training import train_embedder

__all__ = ["Embedder", "contrastive_loss", "train_embedder"]
