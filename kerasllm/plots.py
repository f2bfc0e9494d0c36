"""Figures: each is a function that draws on Matplotlib `Axes` and returns them.

Every function takes the `Axes` to draw on; without them it makes a figure with
`matplotlib.pyplot.subplots`, as a notebook expects. None of them shows a
figure or changes Matplotlib's settings. What a colour says, a marker, a line
style or a label says too, so that the figures survive a greyscale printer.
"""

import itertools
import math
import numbers

import numpy as np
from keras import ops
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from kerasllm import samplers
from kerasllm.layers import check_positive_ints

# Colours whose greys differ; the line styles and markers differ as well.
_LINE_STYLES = (
    {"color": "#1b4f8a", "linestyle": "-", "marker": "o"},
    {"color": "#d1731a", "linestyle": "--", "marker": "s"},
    {"color": "#222222", "linestyle": ":", "marker": "^"},
    {"color": "#5a9e8f", "linestyle": "-.", "marker": "D"},
)
_FILL = "#4a7ab0"
_OUTLINE = "#444444"
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
        ValueError: `steps` is not a positive int.

    Source: chapter 16, "Pretraining the model", listing 16.7.
    """
    check_positive_ints(steps=steps)
    # Most schedules take one step at a time; 201 of them look smooth.
    x = np.unique(np.linspace(0, steps, 201).round().astype(int))
    y = [float(ops.convert_to_numpy(schedule(int(step)))) for step in x]
    ax = _axes(ax)
    ax.plot(x, y, **_LINE_STYLES[0] | {"marker": ""})
    ax.set(xlabel="training step", ylabel="learning rate (per step)")
    ax.set_ylim(bottom=0)
    # Each tick in full, not 2.0 with a factor in the corner.
    ax.yaxis.set_major_formatter(
        lambda rate, position: f"{rate:.2e}" if rate else "0"
    )
    return _finish(ax)


def plot_history(history, metric="loss", ax=None):
    """Draw how a metric changed over the epochs of a training run.

    Args:
        history: list of dicts, one an epoch, with `epoch` and numbers by
            name, as `pretrain` returns it.
        metric: str. A name in the rows; that of the validation, with
            `"val_"` before it, is drawn beside it where it is there.
        ax: Matplotlib `Axes`. Defaults to those of a new figure.

    Returns:
        The `Axes`.

    Raises:
        ValueError: `history` is empty or has no such `metric`.

    Source: chapter 16, "Pretraining the model".
    """
    history = list(history)
    if not history:
        raise ValueError(
            "`history` must have a row for each epoch, as `pretrain` returns "
            "it. Received: no rows. Train for an epoch first."
        )
    names = {"training": metric, "validation": f"val_{metric}"}
    names = {key: name for key, name in names.items() if name in history[0]}
    if not names:
        raise ValueError(
            "`metric` must be a name in the rows of `history`. Received: "
            f"metric={metric!r}. Choose one of "
            f"{', '.join(key for key in history[0] if key != 'epoch')}."
        )
    epochs = [row["epoch"] for row in history]
    curves = {
        key: (epochs, [row.get(name, math.nan) for row in history])
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
        ValueError: `curves` is empty.
    """
    _check_not_empty("curves", curves)
    ax = _axes(ax)
    styles = itertools.cycle(_LINE_STYLES)
    for (name, (x, y)), style in zip(curves.items(), styles, strict=False):
        ax.plot(x, y, label=name, markersize=5, **style)
    ax.set(xlabel=x_label, ylabel=y_label)
    if len(curves) > 1:
        ax.legend(frameon=False)
    return _finish(ax)


def plot_comparison(measurements, label, ax=None):
    """Draw named measurements of one quantity as bars.

    Args:
        measurements: dict from a name to a number or to a sequence of
            repeated measurements. The bar ends at their mean, which is
            written beside it; each of several has a dot.
        label: str. What was measured, with its unit.
        ax: Matplotlib `Axes`. Defaults to those of a new figure.

    Returns:
        The `Axes`, the first name on top.

    Raises:
        ValueError: there are no measurements, or none of one name.
    """
    _check_not_empty("measurements", measurements)
    repeats = {
        name: [values] if isinstance(values, numbers.Real) else list(values)
        for name, values in measurements.items()
    }
    for name, values in repeats.items():
        _check_not_empty(f"measurements[{name!r}]", values)
    ax = _axes(ax)
    for row, values in enumerate(repeats.values()):
        mean = float(np.mean(values))
        ax.barh(row, mean, color=_FILL, edgecolor=_OUTLINE, height=0.7)
        if len(values) > 1:
            ax.plot(values, [row] * len(values), "o", mfc="white", mec="black")
        end = max(mean, *values) if len(values) > 1 else mean
        _write_beside(ax, max(end, 0), row, f"{mean:.3g}")
    _name_rows(ax, list(repeats))
    ax.set_xlabel(label)
    ax.margins(x=0.15)  # room for the numbers
    return _finish(ax, grid="x")


def plot_sampling_strategies(
    logits,
    tokens=None,
    k=5,
    p=0.9,
    min_p=0.1,
    temperature=0.5,
    num_tokens=12,
    figure=None,
):
    """Show what each sampling strategy makes of one distribution.

    Greedy search, top-k and random sampling as in the chapter, and below them
    temperature, top-p and min-p. A filled bar is the probability with which
    the strategy takes a token; an outline is the probability that the model
    gives it, and a cross marks a token that the strategy never takes.

    Args:
        logits: float tensor or array `(vocabulary_size,)`.
        tokens: sequence of `vocabulary_size` str, the text of each token.
            Defaults to the ids.
        k: int; see `samplers.top_k_filter`.
        p: float; see `samplers.top_p_filter`.
        min_p: float; see `samplers.min_p_filter`.
        temperature: float, at least 0; see `samplers.random_sample`.
        num_tokens: int. Tokens that get a row of their own, the most likely
            ones; the others share one hatched bar.
        figure: Matplotlib `Figure` or `SubFigure`. Defaults to a new figure.

    Returns:
        NumPy array `(2, 3)` of `Axes`, in the order named above.

    Raises:
        ValueError: the logits are not one row of numbers, `tokens` does not
            fit them, or another argument is out of range.

    Source: chapter 16, section "Sampling strategies"; for the second row
    Holtzman et al., 2020, arXiv:1904.09751 and Nguyen et al., 2024,
    arXiv:2407.01082.
    """
    check_positive_ints(num_tokens=num_tokens)
    logits = ops.convert_to_numpy(logits).astype("float32")
    _check_logits(logits, tokens)
    panels = {
        "greedy": samplers.top_k_filter(logits, 1),
        f"top-k, k = {k}": samplers.top_k_filter(logits, k),
        "random": logits,
        f"temperature {temperature:g}": _divide(logits, temperature),
        f"top-p, p = {p:g}": samplers.top_p_filter(logits, p),
        f"min-p, p = {min_p:g}": samplers.min_p_filter(logits, min_p),
    }
    if figure is None:
        figure = _pyplot().figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True, sharey=True)
    # Stable, as the filters are: of equals the first one leads.
    order = np.argsort(-logits, kind="stable")
    shown, others = order[:num_tokens], order[num_tokens:]
    model = _probabilities(logits)
    for ax, (title, filtered) in zip(axes.flat, panels.items(), strict=True):
        strategy = _probabilities(filtered)
        _draw_tokens(ax, model[shown], strategy[shown])
        if len(others):
            _draw_others(ax, len(shown), model[others], strategy[others])
        kept = np.count_nonzero(strategy)
        ax.set_title(f"{title}: {kept:,} of {len(logits):,} tokens", size=10)
        _finish(ax, grid="x")
    names = [_token_name(i, tokens) for i in shown]
    names += [f"{len(others):,} others"] if len(others) else []
    for ax in axes[:, 0]:
        _name_rows(ax, names)
        ax.set_ylabel("next token")
    for ax in axes[1]:
        ax.set_xlabel("probability")
    _explain_bars(axes[0, 0])
    axes[0, 0].set_xlim(0, 1.2)  # room for the numbers
    axes[0, 0].set_xticks([0, 0.25, 0.5, 0.75, 1])
    return axes


def plot_soft_tokens(image, pieces, embeddings, is_soft, figure=None):
    """Draw how an image lies among the tokens of a prompt.

    On the left the image, cut into as many fields as it has soft tokens; on
    the right the first numbers of each vector that enters the decoder, a
    column a position, with the soft tokens in a frame.

    Args:
        image: uint8 array `(height, width, 3)`.
        pieces: list of str, the token at each position.
        embeddings: float array `(length, hidden_dim)`.
        is_soft: bool array `(length,)`, true where a vector comes from the
            image; `kerasllm.images.embed` returns these three.
        figure: Matplotlib `Figure`. Defaults to a new one.

    Returns:
        The two `Axes`.

    Raises:
        ValueError: no position is soft, or lengths differ.

    Source: chapter 16, "Extending an LLM with image input".
    """
    is_soft = np.asarray(is_soft, "bool")
    embeddings = np.asarray(embeddings, "float32")
    if not len(pieces) == len(embeddings) == len(is_soft) or not is_soft.any():
        raise ValueError(
            "`plot_soft_tokens` needs one vector and one flag for each piece, "
            f"and some of the flags true. Received: {len(pieces)} pieces, "
            f"{len(embeddings)} vectors, {len(is_soft)} flags, "
            f"{is_soft.sum()} true."
        )
    if figure is None:
        figure = _pyplot().figure(figsize=(12, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, width_ratios=[1, 3])
    places = np.flatnonzero(is_soft)
    side = math.isqrt(len(places))
    height, width = image.shape[:2]
    axes[0].imshow(image, extent=(0, width, height, 0))
    for i in range(1, side):
        axes[0].axvline(i * width / side, color=_OUTLINE, linewidth=0.8)
        axes[0].axhline(i * height / side, color=_OUTLINE, linewidth=0.8)
    axes[0].set(
        title=f"image: {side} x {side} soft tokens", xticks=[], yticks=[]
    )
    rows = min(32, embeddings.shape[-1])
    values = embeddings[:, :rows].T
    # Soft tokens and text have other scales; compare shapes, not sizes.
    values = values / np.maximum(abs(values).max(axis=0), 1e-9)
    axes[1].imshow(values, aspect="auto", cmap="gray", vmin=-1, vmax=1)
    first, last = places[0] - 0.5, places[-1] + 0.5
    axes[1].plot(
        [first, last, last, first, first],
        [-0.5, -0.5, rows - 0.5, rows - 0.5, -0.5],
        color=_LINE_STYLES[1]["color"],
        linewidth=3,
    )
    axes[1].set_xticks(
        range(len(pieces)),
        [_token_name(0, [piece]) for piece in pieces],
        rotation=90,
        fontsize=8,
    )
    axes[1].set(
        title="what enters the decoder, the image's tokens in the frame",
        xlabel="position",
        ylabel=f"first {rows} of {embeddings.shape[-1]} numbers",
    )
    return axes


def plot_pictures(shown, titles, figure=None):
    """Draw pictures side by side, each with a title.

    Args:
        shown: list of uint8 arrays `(height, width, 3)`.
        titles: list of str.
        figure: Matplotlib `Figure`. Defaults to a new one.

    Returns:
        An array of `Axes`.
    """
    _check_not_empty("shown", shown)
    if figure is None:
        figure = _pyplot().figure(
            figsize=(2 * len(shown), 2.5), layout="constrained"
        )
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for ax, image, title in zip(axes, shown, titles, strict=True):
        ax.imshow(image)
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, fontsize=9)
    return axes


def _divide(logits, temperature):
    # `chain` knows which temperatures are good, and what 0 means.
    samplers.chain(temperature=temperature)
    if temperature == 0:
        return samplers.top_k_filter(logits, 1)
    return (logits - logits.max()) / temperature


def _probabilities(logits):
    logits = ops.convert_to_tensor(logits, dtype="float32")
    return ops.convert_to_numpy(ops.softmax(logits))


def _draw_tokens(ax, model, strategy):
    """Draw a row for each token: what the model and the strategy give it."""
    rows = np.arange(len(model))
    ax.barh(rows, strategy, color=_FILL, height=0.75)
    ax.barh(rows, model, fill=False, edgecolor=_OUTLINE, height=0.75)
    for row in rows:
        end = max(model[row], strategy[row])
        _write_beside(ax, end, row, _number(strategy[row]))


def _draw_others(ax, row, model, strategy):
    """Draw one row for all tokens that have none of their own."""
    total = strategy.sum()
    hatched = {"hatch": "////", "facecolor": "white", "edgecolor": _FILL}
    ax.barh(row, total, height=0.75, **hatched)
    ax.barh(row, model.sum(), fill=False, edgecolor=_OUTLINE, height=0.75)
    _write_beside(ax, max(total, model.sum()), row, _number(total))


def _explain_bars(ax):
    bars = [
        Patch(facecolor=_FILL, label="with this strategy"),
        Patch(fill=False, edgecolor=_OUTLINE, label="of the model"),
        Line2D([], [], color="black", marker="x", ls="", label="never taken"),
    ]
    # Greedy search leaves this place empty.
    ax.legend(handles=bars, loc="center right", frameon=False, fontsize=9)


def _number(probability):
    if probability == 0:
        return "×"
    return "<0.01" if probability < 0.01 else f"{probability:.2f}"


def _token_name(token_id, tokens):
    if tokens is None:
        return f"id {token_id}"
    name = str(tokens[token_id])
    # Quotes show what cannot be seen: blanks, line ends, nothing at all.
    if name != name.strip() or not name.isprintable() or not name:
        name = repr(name)
    return name if len(name) <= 16 else f"{name[:15]}…"


def _write_beside(ax, x, row, text):
    ax.annotate(
        text,
        (x, row),
        xytext=(5, 0),
        textcoords="offset points",
        verticalalignment="center",
        fontsize=8,
    )


def _name_rows(ax, names):
    """Write a name beside each row, the first row on top."""
    ax.set_yticks(range(len(names)), names)
    for label in ax.get_yticklabels():
        label.set_parse_math(False)  # a token may be a dollar sign
    ax.set_ylim(len(names) - 0.4, -0.6)


def _axes(ax):
    if ax is not None:
        return ax
    return _pyplot().subplots(figsize=(6.4, 4), layout="constrained")[1]


def _pyplot():
    # Here, not above: importing it chooses a window system.
    from matplotlib import pyplot

    return pyplot


def _finish(ax, grid="both"):
    ax.grid(axis=grid, color="0.88", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _check_not_empty(name, values):
    if not values:
        raise ValueError(
            f"`{name}` must hold something to draw. Received: {values!r}."
        )


def _check_logits(logits, tokens):
    if logits.ndim != 1 or not np.isfinite(logits.max(initial=-math.inf)):
        raise ValueError(
            "`logits` must be one row of numbers, (vocabulary_size,), at "
            f"least one of them above -inf. Received: shape {logits.shape}, "
            f"largest {logits.max(initial=-math.inf)}. Pass the logits of one "
            "position, such as `logits[0, -1]`."
        )
    if tokens is not None and len(tokens) != len(logits):
        raise ValueError(
            "`tokens` must have a text for each logit. Received: "
            f"{len(tokens)} texts for {len(logits)} logits. Use "
            "`[tokenizer.id_to_token(i) for i in range(len(logits))]`."
        )
