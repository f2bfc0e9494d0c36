import pytest

from tests.gguf.small_files import write


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A file, and the weights in it by Transformers' names."""
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    return path, write(path)
