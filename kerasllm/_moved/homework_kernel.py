"""Moved: see `kerasllm.homework`."""

from kerasllm.homework import (  # noqa: F401
    Forbidden,
    library_folders,
    module_files,
)
from kerasllm.homework import run_kernel as main  # noqa: F401
