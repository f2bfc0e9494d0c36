"""Moved: see `kerasllm.homework`."""

import sys

from kerasllm.homework import (  # noqa: F401
    Forbidden,
    library_folders,
    module_files,
)
from kerasllm.homework import run_kernel as main  # noqa: F401

if __name__ == "__main__":
    main(*sys.argv[1:])
