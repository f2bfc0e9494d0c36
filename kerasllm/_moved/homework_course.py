"""Moved: see `kerasllm.homework`."""

from kerasllm.homework import (  # noqa: F401
    find_submissions,
    grade,
    rebuild,
    release,
    summarize,
    write_csv,
)
