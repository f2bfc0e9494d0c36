"""Differences between the backends, all in one package.

Keras hides most differences between JAX, TensorFlow and PyTorch. The rest,
such as the precision that suits a device or the cost of a random mask, is
handled here, so that all other modules read the same on all three backends.
"""

from kerasllm.backend._arithmetic import (
    arrange_kernel,
    dropout,
    hide_value,
    is_scalar,
    join_kernels,
    joined_kernel,
    multiply_few_rows,
    multiply_pairs,
    read_cache,
    scalars,
    score_few_rows,
    token_logprobs,
    write_cache,
)
from kerasllm.backend._compiled import Compiled, compiled, shares_compiled
from kerasllm.backend._devices import (
    TRY_SEVERAL_DEVICES,
    best_dtype_policy,
    check_several,
    device_name,
    devices,
    devices_of,
    gpu,
    has_several_devices,
    name,
    num_cores,
    of_all_processes,
    process,
    tf,
    to_numpy,
)
from kerasllm.backend._remat import remat, remat_in_turn
from kerasllm.backend._set_up import (
    keep_compiled_functions,
    keep_freed_memory,
    keep_tensorflow_off_gpus,
    make_devices_of_cores,
    set_up,
)
from kerasllm.backend._variables import (
    LoadedValues,
    companion_of,
    random_state,
    set_random_state,
    state_of,
)

__all__ = [
    "TRY_SEVERAL_DEVICES",
    "Compiled",
    "LoadedValues",
    "arrange_kernel",
    "best_dtype_policy",
    "check_several",
    "companion_of",
    "compiled",
    "device_name",
    "devices",
    "devices_of",
    "dropout",
    "gpu",
    "has_several_devices",
    "hide_value",
    "is_scalar",
    "join_kernels",
    "joined_kernel",
    "keep_compiled_functions",
    "keep_freed_memory",
    "keep_tensorflow_off_gpus",
    "make_devices_of_cores",
    "multiply_few_rows",
    "multiply_pairs",
    "name",
    "num_cores",
    "of_all_processes",
    "process",
    "random_state",
    "read_cache",
    "remat",
    "remat_in_turn",
    "scalars",
    "score_few_rows",
    "set_random_state",
    "set_up",
    "shares_compiled",
    "state_of",
    "tf",
    "to_numpy",
    "token_logprobs",
    "write_cache",
]
