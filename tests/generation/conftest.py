import pytest


@pytest.fixture(autouse=True)
def _at_once(recorded_at_once):
    """The texts of these tests are too short to be recorded otherwise."""
