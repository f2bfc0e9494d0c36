"""The figure of a reliability table."""

import pytest

from kerasllm import plots
from kerasllm.checks import UserError
from kerasllm.evaluation import reliability_table

pytestmark = pytest.mark.any_backend


def test_points_and_intervals_are_those_of_the_table(ax):
    table = reliability_table([0.6, 0.7, 0.7, 0.9], [1, 0, 1, 1], 5)
    assert plots.plot_reliability(table, ax) is ax
    (container,) = ax.containers
    points, _, (bars,) = container.lines
    assert points.get_xdata() == pytest.approx([0.6 + 0.2 / 3, 0.9])
    assert points.get_ydata() == pytest.approx([2 / 3, 1])
    for bar, bin_ in zip(bars.get_segments(), table, strict=True):
        assert bar[:, 1] == pytest.approx(bin_.share.interval())
    assert [text.get_text() for text in ax.texts] == ["3", "1"]
    assert ax.get_xlim() == (0.6, 1)
    with pytest.raises(UserError, match="`table` must hold something"):
        plots.plot_reliability([], ax)
