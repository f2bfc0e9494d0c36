"""Where backends differ: the only room that asks which one runs.

Keras hides most differences between JAX, TensorFlow and PyTorch. What it
leaves (which precision a device is good at, what a random mask costs) is
settled here, so that the other rooms read the same on all three.
"""

from kerasllm.backend._arithmetic import (
    dropout,
    hide_value,
    is_scalar,
    multiply_few_rows,
    scalars,
    score_few_rows,
    write_cache,
)
from kerasllm.backend._compiled import Compiled, compiled
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
    to_numpy,
)
from kerasllm.backend._random import random_state, set_random_state
from kerasllm.backend._remat import remat, remat_in_turn
from kerasllm.backend._set_up import (
    keep_freed_memory,
    keep_tensorflow_off_gpus,
    make_devices_of_cores,
    set_up,
)

__all__ = [
    "TRY_SEVERAL_DEVICES",
    "Compiled",
    "best_dtype_policy",
    "check_several",
    "compiled",
    "device_name",
    "devices",
    "devices_of",
    "dropout",
    "gpu",
    "has_several_devices",
    "hide_value",
    "is_scalar",
    "keep_freed_memory",
    "keep_tensorflow_off_gpus",
    "make_devices_of_cores",
    "multiply_few_rows",
    "name",
    "num_cores",
    "of_all_processes",
    "process",
    "random_state",
    "remat",
    "remat_in_turn",
    "scalars",
    "score_few_rows",
    "set_random_state",
    "set_up",
    "to_numpy",
    "write_cache",
]
