"""What all tests share: quiet backends and a cache of their own."""

import os

# Before keras is imported anywhere.
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest

_KERAS_HOME = os.environ.get("KERAS_HOME")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    """A cache for what takes minutes: `$KERAS_HOME`, or one for this run."""
    return _KERAS_HOME or str(tmp_path_factory.mktemp("shared"))
