"""Samplers: from logits to the id of the next token.

A sampler is any callable of logits. It maps `(vocabulary_size,)` to one id, or
`(batch_size, vocabulary_size)` to one id for each sequence. Set its parameters
with `functools.partial(top_k, k=5)`, or combine several steps with `chain`.

`seed` is an int, a `keras.random.SeedGenerator` or `None` (Keras's global
generator). An int gives the same draw at every call. That is right for a
single draw. Inside a loop, use a `SeedGenerator`, which gives a new draw each
time.
"""

from kerasllm.logit_filters import (
    apply_penalties,
    min_p_filter,
    top_k_filter,
    top_p_filter,
)
from kerasllm.samplers._chain import (
    Chain,
    calling,
    chain,
    filter_logits,
    likeliest,
    parameters_of,
)
from kerasllm.samplers._drawing import draw_at, draw_filtered
from kerasllm.samplers._functions import (
    as_chain,
    check_sampler,
    greedy_search,
    min_p,
    random_sample,
    top_k,
    top_p,
)
from kerasllm.samplers._keras_hub import KerasHubSampler, to_keras_hub

__all__ = [
    "Chain",
    "KerasHubSampler",
    "apply_penalties",
    "as_chain",
    "calling",
    "chain",
    "check_sampler",
    "draw_at",
    "draw_filtered",
    "filter_logits",
    "greedy_search",
    "likeliest",
    "min_p",
    "min_p_filter",
    "parameters_of",
    "random_sample",
    "to_keras_hub",
    "top_k",
    "top_k_filter",
    "top_p",
    "top_p_filter",
]

# A saved object names the public module, whichever file defines its class.
Chain.__module__ = KerasHubSampler.__module__ = "kerasllm.samplers"
