"""Training runs and measurements as lines and bars."""

import itertools
import math

import numpy as np
from keras import ops
from matplotlib.ticker import MaxNLocator

from kerasllm.checks import (
    UserError,
    check_callable,
    check_list,
    check_numbers,
    check_positive_ints,
    check_text,
    shown,
)
from kerasllm.plots._drawing import (
    FILL,
    LINE_STYLES,
    OUTLINE,
    axes_or_new,
    check_not_empty,
    finish,
    name_bars,
    write_beside,
)

_UNITS = {
    "loss": "loss (nats per token)",
    "accuracy": "accuracy (share of tokens predicted)",
    "perplexity": "perplexity (equally likely tokens)",
    "tokens_per_second": "speed (tokens per second)",
}


def plot_schedule(schedule, steps, ax=None):
    """Draw the learning rate over the training steps.

    Args:
        schedule: callable from a step to a learning rate, such as a
            `WarmupSchedule` or any of Keras's.
        steps: int. The last step to draw.
        ax: Matplotlib `Axes`. Defaults to those of a new figure.

    Returns:
        The `Axes`.

    Raises:
        UserError: `steps` is not a positive int.

    Source: chapter 16, "Pretraining the model", listing 16.7.
    """
    check_positive_ints(steps=steps)
    check_callable("schedule", schedule, "`WarmupSchedule()` is one.")
    # Most schedules take one step at a time; 201 points give a smooth line.
    x = np.unique(np.linspace(0, steps, 201).round().astype(int))
    y = [float(ops.convert_to_numpy(schedule(int(step)))) for step in x]
    ax = axes_or_new(ax)
    ax.plot(x, y, **LINE_STYLES[0] | {"marker": ""})
    ax.set(xlabel="training step", ylabel="learning rate (per step)")
    ax.set_ylim(bottom=0)
    # Write each tick in full, instead of 2.0 with a factor in the corner.
    ax.yaxis.set_major_formatter(
        lambda rate, position: f"{rate:.2e}" if rate else "0"
    )
    return finish(ax)


def plot_history(history, metric="loss", ax=None):
    """Draw how a metric changed over the epochs of a training run.

    Args:
        history: list of dicts, one per epoch, with `epoch` and named numbers,
            as returned by `pretrain`.
        metric: str. A name in the entries. The validation metric, whose name
            starts with `"val_"`, is also drawn if it is there.
        ax: Matplotlib `Axes`. Defaults to those of a new figure.

    Returns:
        The `Axes`.

    Raises:
        UserError: `history` is empty or has no such `metric`.

    Source: chapter 16, "Pretraining the model".
    """
    history = check_list("history", history)
    check_text("metric", metric)
    if not all(isinstance(entry, dict) for entry in history):
        raise UserError(
            "`history` must have a dict for each epoch, as returned by "
            f"`pretrain`. Received: {shown(history)}. Pass what it returned."
        )
    if not history:
        raise UserError(
            "`history` must have an entry for each epoch, as returned by "
            "`pretrain`. Received: none. Train for an epoch first."
        )
    names = {"training": metric, "validation": f"val_{metric}"}
    names = {key: name for key, name in names.items() if name in history[0]}
    if not names:
        raise UserError(
            "`metric` must be a name in the entries of `history`. Received: "
            f"metric={shown(metric)}. Choose one of "
            f"{', '.join(key for key in history[0] if key != 'epoch')}."
        )
    epochs = [entry["epoch"] for entry in history]
    curves = {
        key: (epochs, [entry.get(name, math.nan) for entry in history])
        for key, name in names.items()
    }
    ax = plot_curves(curves, "epoch", _UNITS.get(metric, metric), ax)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def plot_curves(curves, x_label, y_label, ax=None):
    """Draw several named series of measurements as lines.

    Args:
        curves: dict from a name to a pair of sequences of numbers, x and y.
        x_label: str. What x is, with its unit.
        y_label: str. What y is, with its unit.
        ax: Matplotlib `Axes`. Defaults to those of a new figure.

    Returns:
        The `Axes`.

    Raises:
        UserError: `curves` is empty.
    """
    check_not_empty("curves", curves, dict)
    ax = axes_or_new(ax)
    styles = itertools.cycle(LINE_STYLES)
    for (name, (x, y)), style in zip(curves.items(), styles, strict=False):
        ax.plot(x, y, label=name, markersize=5, **style)
    ax.set(xlabel=x_label, ylabel=y_label)
    if len(curves) > 1:
        ax.legend(frameon=False)
    return finish(ax)


def plot_comparison(measurements, label, ax=None):
    """Draw named measurements of one quantity as bars.

    Args:
        measurements: dict from a name to a number or to a sequence of
            repeated measurements. A bar ends at their mean, which is written
            beside it. Repeated measurements are also drawn as dots.
        label: str. What was measured, with its unit.
        ax: Matplotlib `Axes`. Defaults to those of a new figure.

    Returns:
        The `Axes`, the first name on top.

    Raises:
        UserError: there are no measurements, or a name has none.
    """
    check_not_empty("measurements", measurements, dict)
    repeats = {
        name: check_numbers(f"measurements[{name!r}]", values).ravel().tolist()
        for name, values in measurements.items()
    }
    for name, values in repeats.items():
        check_not_empty(f"measurements[{name!r}]", values)
    ax = axes_or_new(ax)
    for y, values in enumerate(repeats.values()):
        mean = float(np.mean(values))
        ax.barh(y, mean, color=FILL, edgecolor=OUTLINE, height=0.7)
        if len(values) > 1:
            ax.plot(values, [y] * len(values), "o", mfc="white", mec="black")
        end = max(mean, *values) if len(values) > 1 else mean
        write_beside(ax, max(end, 0), y, f"{mean:.3g}")
    name_bars(ax, list(repeats))
    ax.set_xlabel(label)
    ax.margins(x=0.15)  # room for the numbers
    return finish(ax, grid="x")
