"""Low-rank adapters: how they are made, and what they save in memory."""

from kerasllm.checks import check_positive_ints
from kerasllm.plots._drawing import (
    OUTLINE,
    axes_or_new,
    check_not_empty,
    finish,
    name_bars,
    write_beside,
)

# Colors with hatches, so that the parts of a bar differ in grayscale.
_PART_STYLES = (
    {"facecolor": "#c9d6e6", "hatch": ""},
    {"facecolor": "#4a7ab0", "hatch": "//"},
    {"facecolor": "#d1731a", "hatch": ".."},
    {"facecolor": "#5a9e8f", "hatch": "xx"},
)
_FROZEN, _TRAINED = _PART_STYLES[0], _PART_STYLES[2]
_THINNEST = 0.06  # of the longest side: eight of 2,048 would be invisible
_GAP = 0.28


def plot_low_rank(num_inputs, num_outputs, rank, ax=None):
    """Draw a frozen kernel beside the two factors of its low-rank update.

    Sides are drawn to scale, except that a rank is never too thin to see.

    Args:
        num_inputs: int. Rows of the kernel.
        num_outputs: int. Columns of the kernel.
        rank: int. Columns of the first factor and rows of the second.
        ax: Matplotlib `Axes`. Defaults to those of a new figure.

    Returns:
        The `Axes`.

    Raises:
        UserError: a size is not a positive int.

    Source: chapter 16, "Low-Rank Adaptation (LoRA)"; Hu et al., 2021,
    arXiv:2106.09685.
    """
    check_positive_ints(
        num_inputs=num_inputs, num_outputs=num_outputs, rank=rank
    )
    ax = axes_or_new(ax, 8, 3.4)
    longest = max(num_inputs, num_outputs)
    height, width = num_inputs / longest, num_outputs / longest
    thin = max(rank / longest, _THINNEST)
    left = 0.0
    for name, sizes, box, style in (
        ("kernel, frozen", (num_inputs, num_outputs), (width, height), _FROZEN),
        ("alpha", (num_inputs, rank), (thin, height), _TRAINED),
        ("beta", (rank, num_outputs), (width, thin), _TRAINED),
    ):
        _draw_matrix(ax, left, name, sizes, box, style)
        left += box[0] + _GAP
    for x, sign in ((width, "+"), (width + _GAP + thin, "×")):
        ax.text(x + _GAP / 2, 0, sign, ha="center", va="center", fontsize=18)
    ax.set(xlim=(-0.1, left), ylim=(-0.62, 0.72), aspect="equal")
    ax.set_axis_off()
    return ax


def _draw_matrix(ax, left, name, sizes, box, style):
    """Draw a matrix, centered at a height of zero, with its name and sizes."""
    from matplotlib.patches import Rectangle

    width, height = box
    ax.add_patch(
        Rectangle((left, -height / 2), *box, edgecolor=OUTLINE, **style)
    )
    rows, columns = sizes
    ax.text(
        left + width / 2,
        height / 2 + 0.04,
        f"{name}\n{rows:,} × {columns:,} = {rows * columns:,}",
        ha="center",
        va="bottom",
        fontsize=9,
    )


def plot_memory(memory, ax=None):
    """Draw what memory is taken by, as stacked bars.

    Args:
        memory: dict from the name of a bar to a dict from the name of a part
            to a number of bytes. All bars have the same parts.
        ax: Matplotlib `Axes`. Defaults to those of a new figure.

    Returns:
        The `Axes`, the first bar on top. The sum, in GiB, stands beside each.

    Raises:
        UserError: there are no bars.

    Source: chapter 16, "Low-Rank Adaptation (LoRA)".
    """
    check_not_empty("memory", memory, dict)
    ax = axes_or_new(ax)
    for y, parts in enumerate(memory.values()):
        left = 0.0
        for (name, size), style in zip(
            parts.items(), _PART_STYLES, strict=False
        ):
            gib = size / 2**30
            label = name if y == 0 else None
            ax.barh(
                y, gib, left=left, height=0.6, label=label,
                edgecolor=OUTLINE, **style,
            )  # fmt: skip
            left += gib
        write_beside(ax, left, y, f"{left:.2f} GiB")
    name_bars(ax, list(memory))
    ax.set_xlabel("memory (GiB)")
    ax.margins(x=0.15)  # room for the numbers
    ax.legend(frameon=False)
    return finish(ax, grid="x")
