"""What each test of pretraining starts from."""

from tests.training.conftest import (  # noqa: F401
    no_iterators_left,
    unbroken,
    unbroken_run,
)
