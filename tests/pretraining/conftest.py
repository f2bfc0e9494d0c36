"""What each test of pretraining starts from."""

from tests.training.conftest import no_iterators_left, unbroken  # noqa: F401
