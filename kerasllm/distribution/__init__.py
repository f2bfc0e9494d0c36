"""Training on several devices and in several processes.

Keras can divide the work among several devices, on the backends that support
it: `data_parallel` gives every device the whole model and a part of each batch,
and `model_parallel` also divides the weights. This package builds Keras's
distributions and raises errors early that would otherwise appear late.

Several processes, on one machine or on many, call `initialize` and then run the
same code as a single one. Each reads its own text, and the first one writes.

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
