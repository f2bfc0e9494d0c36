"""Moved: see `kerasllm.homework`."""

from kerasllm.homework import (  # noqa: F401
    LONGEST_MESSAGE,
    SERVANT,
    RemoteObject,
    Student,
    decode,
    encode,
    serve,
)
