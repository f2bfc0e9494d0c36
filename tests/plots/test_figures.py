"""What holds for all figures, whether pyplot makes them or the caller."""

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from kerasllm import plots
from kerasllm.schedules import WarmupSchedule

pytestmark = pytest.mark.any_backend

# Probabilities 0.5, 0.25, 0.125, 0.125 of tokens in no order.
LOGITS = np.log([0.125, 0.5, 0.125, 0.25])
HISTORY = [
    {"epoch": 1, "loss": 3.0, "val_loss": 3.5, "accuracy": 0.1},
    {"epoch": 2, "loss": 2.0, "val_loss": 3.0, "accuracy": 0.2},
]


def test_without_axes_each_call_makes_a_figure_and_changes_no_setting():
    before = pyplot.rcParams.copy()
    first = plots.plot_history(HISTORY)
    second = plots.plot_history(HISTORY)
    axes = plots.plot_sampling_strategies(LOGITS, k=2)
    assert len({first.figure, second.figure, axes[0, 0].figure}) == 3
    assert pyplot.rcParams == before


def test_with_axes_pyplot_stays_as_it_was(ax):
    plots.plot_history(HISTORY, ax=ax)
    plots.plot_comparison({"a": 1}, "time (s)", ax)
    plots.plot_schedule(WarmupSchedule(), 10, ax)
    plots.plot_sampling_strategies(LOGITS, k=2, figure=Figure())
    assert pyplot.get_fignums() == []
