"""More than one device: which part of the work is whose.

Keras computes on several devices by itself, on the backends that can, once it
is told how: `data_parallel` gives every device the whole model and a part of
each batch, `model_parallel` also divides the weights. This room says so in the
terms of this package, and refuses early what would fail late.

Several processes, on one machine or on many, call `initialize` and then do the
same as one. Each reads text of its own; the first one writes.

Source: https://keras.io/guides/distribution; Shoeybi et al., 2019,
arXiv:1909.08053 (how to divide the weights of a Transformer).
"""

from kerasllm.distribution._current import (
    check_batch_size,
    check_batches,
    check_model,
    data_share,
    distributed,
    use,
)
from kerasllm.distribution._devices import (
    BATCH,
    MODEL,
    MOST_CORES,
    data_parallel,
    describe,
    from_options,
    mini_gpt_layout_map,
    model_parallel,
)
from kerasllm.distribution._processes import (
    check_directory,
    failing_together,
    first_process_first,
    initialize,
    num_processes,
    only_run_in,
    process_index,
    wait_for_all,
)

__all__ = [
    "BATCH",
    "MODEL",
    "MOST_CORES",
    "check_batch_size",
    "check_batches",
    "check_directory",
    "check_model",
    "data_parallel",
    "data_share",
    "describe",
    "distributed",
    "failing_together",
    "first_process_first",
    "from_options",
    "initialize",
    "mini_gpt_layout_map",
    "model_parallel",
    "num_processes",
    "only_run_in",
    "process_index",
    "use",
    "wait_for_all",
]
