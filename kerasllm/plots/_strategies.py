"""One next-token distribution under each sampling strategy."""

import math

import numpy as np
from keras import ops
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from kerasllm import samplers
from kerasllm.checks import (
    UserError,
    check_list,
    check_numbers,
    check_positive_ints,
    is_int,
)
from kerasllm.plots._drawing import (
    FILL,
    OUTLINE,
    figure_or_new,
    finish,
    name_bars,
    readable,
    write_beside,
)


def plot_sampling_strategies(
    logits,
    tokens=None,
    k=5,
    p=0.9,
    min_p=0.1,
    temperature=0.5,
    num_tokens=12,
    figure=None,
    columns=3,
):
    """Show what each sampling strategy does to one distribution.

    The first row shows greedy search, top-k and random sampling, as in the
    chapter. The second shows temperature, top-p (nucleus sampling) and min-p. A
    filled bar is the probability that the strategy chooses a token. An outline
    is the model's own probability, and a cross marks a token that the strategy
    never chooses.

    Args:
        logits: float tensor or array `(vocabulary_size,)`.
        tokens: sequence of `vocabulary_size` str, the text of each token.
            Defaults to the ids.
        k: int; see `samplers.top_k_filter`.
        p: float; see `samplers.top_p_filter`.
        min_p: float; see `samplers.min_p_filter`.
        temperature: float, at least 0; see `samplers.random_sample`.
        num_tokens: int. Number of the most likely tokens that get a bar of
            their own. The other tokens share a hatched bar.
        figure: Matplotlib `Figure` or `SubFigure`. Defaults to a new figure.
        columns: 1, 2, 3 or 6. How many panels stand side by side.

    Returns:
        NumPy array `(6 / columns, columns)` of `Axes`, in the order named
        above.

    Raises:
        UserError: the logits are not one vector of numbers, `tokens` does not
            fit them, or another argument is out of range.

    Source: chapter 16, section "Sampling strategies". For the second row,
    Holtzman et al., 2020, arXiv:1904.09751 and Nguyen et al., 2024,
    arXiv:2407.01082.
    """
    check_positive_ints(num_tokens=num_tokens)
    if not is_int(columns) or columns not in (1, 2, 3, 6):
        raise UserError(
            f"`columns` must be 1, 2, 3 or 6. Received: columns={columns!r}. "
            "There are six panels."
        )
    logits = check_numbers("logits", logits).astype("float32")
    _check_logits(logits, tokens)
    # They check the numbers, which then stand in titles.
    samplers.top_p_filter(logits, p)
    samplers.min_p_filter(logits, min_p)
    samplers.chain(temperature)
    panels = _filtered(logits, k, p, min_p, temperature)
    figure = figure_or_new(figure, 11, 7)
    axes = figure.subplots(
        6 // columns, columns, sharex=True, sharey=True, squeeze=False
    )
    # The sort is stable, as in the filters: of ties, the first comes first.
    order = np.argsort(-logits, kind="stable")
    for ax, (title, filtered) in zip(axes.flat, panels.items(), strict=True):
        _draw_panel(ax, title, logits, filtered, order, num_tokens)
    _label(axes, _names(order, num_tokens, tokens))
    return axes


def _filtered(logits, k, p, min_p, temperature):
    """Return the logits that each strategy draws from, by its title."""
    return {
        "greedy": samplers.top_k_filter(logits, 1),
        f"top-k, k = {k}": samplers.top_k_filter(logits, k),
        "random": logits,
        f"temperature {temperature:g}": _divide(logits, temperature),
        f"top-p, p = {p:g}": samplers.top_p_filter(logits, p),
        f"min-p, p = {min_p:g}": samplers.min_p_filter(logits, min_p),
    }


def _draw_panel(ax, title, logits, filtered, order, num_tokens):
    """Draw the effect of one strategy on the model's distribution."""
    model, strategy = _probabilities(logits), _probabilities(filtered)
    shown, others = order[:num_tokens], order[num_tokens:]
    _draw_tokens(ax, model[shown], strategy[shown])
    if len(others):
        _draw_others(ax, len(shown), model[others], strategy[others])
    kept = np.count_nonzero(strategy)
    ax.set_title(f"{title}: {kept:,} of {len(logits):,} tokens", size=10)
    finish(ax, grid="x")


def _names(order, num_tokens, tokens):
    """Return the name of each bar, the most likely token first."""
    shown, others = order[:num_tokens], order[num_tokens:]
    if tokens is None:
        names = [f"id {token_id}" for token_id in shown]
    else:
        names = [readable(tokens[token_id]) for token_id in shown]
    return names + ([f"{len(others):,} others"] if len(others) else [])


def _label(axes, names):
    for ax in axes[:, 0]:
        name_bars(ax, names)
        ax.set_ylabel("next token")
    for ax in axes[-1]:
        ax.set_xlabel("probability")
    _explain_bars(axes[0, 0])
    axes[0, 0].set_xlim(0, 1.2)  # room for the numbers
    axes[0, 0].set_xticks([0, 0.25, 0.5, 0.75, 1])


def _divide(logits, temperature):
    # `chain` checks the temperature and defines what 0 means.
    samplers.chain(temperature=temperature)
    if temperature == 0:
        return samplers.top_k_filter(logits, 1)
    return (logits - logits.max()) / temperature


def _probabilities(logits):
    logits = ops.convert_to_tensor(logits, dtype="float32")
    return ops.convert_to_numpy(ops.softmax(logits))


def _draw_tokens(ax, model, strategy):
    """Draw bars for each token: the model's and the strategy's probability."""
    y = np.arange(len(model))
    ax.barh(y, strategy, color=FILL, height=0.75)
    ax.barh(y, model, fill=False, edgecolor=OUTLINE, height=0.75)
    for i in y:
        end = max(model[i], strategy[i])
        write_beside(ax, end, i, _number(strategy[i]))


def _draw_others(ax, y, model, strategy):
    """Draw one bar for all tokens without a bar of their own."""
    total = strategy.sum()
    hatched = {"hatch": "////", "facecolor": "white", "edgecolor": FILL}
    ax.barh(y, total, height=0.75, **hatched)
    ax.barh(y, model.sum(), fill=False, edgecolor=OUTLINE, height=0.75)
    write_beside(ax, max(total, model.sum()), y, _number(total))


def _explain_bars(ax):
    bars = [
        Patch(facecolor=FILL, label="with this strategy"),
        Patch(fill=False, edgecolor=OUTLINE, label="of the model"),
        Line2D([], [], color="black", marker="x", ls="", label="never taken"),
    ]
    # Greedy search leaves this part of its panel empty.
    ax.legend(handles=bars, loc="center right", frameon=False, fontsize=9)


def _number(probability):
    if probability == 0:
        return "×"
    return "<0.01" if probability < 0.01 else f"{probability:.2f}"


def _check_logits(logits, tokens):
    if logits.ndim != 1 or not np.isfinite(logits.max(initial=-math.inf)):
        raise UserError(
            "`logits` must be one vector of numbers, (vocabulary_size,), at "
            f"least one of them above -inf. Received: shape {logits.shape}, "
            f"largest {logits.max(initial=-math.inf)}. Pass the logits of one "
            "position, such as `logits[0, -1]`."
        )
    if tokens is not None and len(check_list("tokens", tokens)) != len(logits):
        raise UserError(
            "`tokens` must have a text for each logit. Received: "
            f"{len(tokens)} texts for {len(logits)} logits. Use "
            "`[tokenizer.id_to_token(i) for i in range(len(logits))]`."
        )
