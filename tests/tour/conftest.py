import pytest

from kerasllm import tour
from tests.tour import numbers


@pytest.fixture(scope="package")
def measured(tmp_path_factory):
    """Run a tour whose stages have measured numbers; return its folder."""
    directory = tmp_path_factory.mktemp("tour") / "the tour"
    with pytest.MonkeyPatch.context() as patch:
        for name, stage in numbers.stages(directory).items():
            patch.setattr(tour, name, stage)
        path = tour.run(directory)
    assert path == directory / "report.html"
    return directory
