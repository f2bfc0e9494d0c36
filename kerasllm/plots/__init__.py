"""Figures: each function draws on Matplotlib `Axes` and returns them.

Every function takes the `Axes` or the figure to draw on. Without one it makes
a figure with `matplotlib.pyplot`, as a notebook expects. None of them shows a
figure or changes Matplotlib's settings. What a color says, a marker, a line
style or a label says too, so that the figures survive a grayscale printer.
"""

from kerasllm.plots._pictures import plot_pictures, plot_soft_tokens
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
    "plot_pictures",
    "plot_sampling_strategies",
    "plot_schedule",
    "plot_soft_tokens",
]
