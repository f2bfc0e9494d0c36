"""A figure of how well probabilities come true."""

from kerasllm.plots._drawing import (
    FILL,
    LINE_STYLES,
    axes_or_new,
    check_not_empty,
    finish,
)


def plot_reliability(table, ax=None):
    """Plot predicted probabilities against the shares that came true.

    Where a model is calibrated, the points lie on the diagonal. Below it the
    model is too sure of itself. The bars are 95% intervals, and the numbers
    count the cases.

    Args:
        table: list of bins, what `kerasllm.evaluation.reliability_table`
            returns.
        ax: Matplotlib `Axes`; `None` for new ones.

    Returns:
        The `Axes`.

    Raises:
        UserError: the table is empty.
    """
    check_not_empty("table", table)
    ax = axes_or_new(ax)
    ax.plot([0, 1], [0, 1], color=FILL, linestyle="--", label="calibrated")
    x = [bin_.probability for bin_ in table]
    y = [float(bin_.share) for bin_ in table]
    lows, highs = zip(*(bin_.share.interval() for bin_ in table), strict=True)
    # Rounding may put the end of an interval on the wrong side of a share.
    lengths = [
        [max(0.0, share - low) for share, low in zip(y, lows, strict=True)],
        [max(0.0, high - share) for share, high in zip(y, highs, strict=True)],
    ]
    style = LINE_STYLES[0]
    ax.errorbar(x, y, lengths, capsize=3, label="observed", **style)
    for bin_ in table:
        ax.annotate(
            f"{bin_.share.size}",
            (bin_.probability, bin_.share),
            xytext=(6, -10),
            textcoords="offset points",
            fontsize=8,
        )
    ax.set_xlim(table[0].low, 1)
    ax.set_ylim(0, 1)
    ax.set_xlabel("predicted probability")
    ax.set_ylabel("observed share")
    ax.legend()
    return finish(ax)
