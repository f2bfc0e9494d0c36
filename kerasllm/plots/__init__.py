"""Figures: each function draws on Matplotlib `Axes` and returns them.

Every function takes the `Axes` or the figure to draw on. Without one, it makes
a figure with `matplotlib.pyplot`, as expected in a notebook. None of them shows
a figure or changes Matplotlib's settings. Colors always come with a marker, a
line style or a label, so the figures also work in grayscale.
"""

from kerasllm.plots._adapters import plot_low_rank, plot_memory
from kerasllm.plots._pictures import plot_pictures, plot_soft_tokens
from kerasllm.plots._reliability import plot_reliability
from kerasllm.plots._strategies import plot_sampling_strategies
from kerasllm.plots._training import (
    plot_comparison,
    plot_curves,
    plot_history,
    plot_schedule,
)

__all__ = [
    "plot_comparison",
    "plot_curves",
    "plot_history",
    "plot_low_rank",
    "plot_memory",
    "plot_pictures",
    "plot_reliability",
    "plot_sampling_strategies",
    "plot_schedule",
    "plot_soft_tokens",
]
