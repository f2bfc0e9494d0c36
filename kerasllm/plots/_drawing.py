"""Shared parts of the figures: colors, axes, and text beside bars."""

from kerasllm.checks import UserError, shown

# These colors also differ in grayscale, as do the line styles and markers.
LINE_STYLES = (
    {"color": "#1b4f8a", "linestyle": "-", "marker": "o"},
    {"color": "#d1731a", "linestyle": "--", "marker": "s"},
    {"color": "#222222", "linestyle": ":", "marker": "^"},
    {"color": "#5a9e8f", "linestyle": "-.", "marker": "D"},
)
FILL = "#4a7ab0"
OUTLINE = "#444444"


def new_figure(width, height):
    """Return a new pyplot figure of a given size in inches."""
    # Import it here, because importing it chooses a window system.
    from matplotlib import pyplot

    return pyplot.figure(figsize=(width, height), layout="constrained")


def axes_or_new(ax, width=6.4, height=4):
    """Return the given `Axes`, or those of a new figure."""
    if ax is None:
        return new_figure(width, height).subplots()
    _check_can("ax", ax, "plot", "Matplotlib `Axes`")
    return ax


def figure_or_new(figure, width, height):
    """Return a figure to draw on, a new one of a size in inches if `None`."""
    if figure is None:
        return new_figure(width, height)
    _check_can("figure", figure, "subplots", "a Matplotlib `Figure`")
    return figure


def _check_can(name, value, method, rule):
    """Refuse what cannot be drawn on."""
    if not hasattr(value, method):
        raise UserError(
            f"`{name}` must be {rule}. Received: {name}={shown(value)}. Leave "
            "it out for a new one."
        )


def finish(ax, grid="both"):
    """Add a grid behind everything, remove the frame, and return the `Axes`."""
    ax.grid(axis=grid, color="0.88", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def write_beside(ax, x, y, text):
    """Write small text to the right of a point, such as a bar's end."""
    ax.annotate(
        text,
        (x, y),
        xytext=(5, 0),
        textcoords="offset points",
        verticalalignment="center",
        fontsize=8,
    )


def name_bars(ax, names):
    """Write a name beside each horizontal bar, the first bar on top."""
    ax.set_yticks(range(len(names)), names)
    for label in ax.get_yticklabels():
        label.set_parse_math(False)  # a token may be a dollar sign
    ax.set_ylim(len(names) - 0.4, -0.6)


def readable(token):
    """Return the text of a token as a short label."""
    name = str(token)
    # Quotes reveal what cannot be seen: blanks, line ends, an empty string.
    if name != name.strip() or not name.isprintable() or not name:
        name = repr(name)
    return name if len(name) <= 16 else f"{name[:15]}…"


def check_not_empty(name, values, kind=object):
    """Check that there is something to draw.

    Args:
        name: str. Name of the argument, for the message.
        values: anything.
        kind: type that the values must have, such as `dict`.

    Raises:
        UserError: it is of another type, has no length, or is empty.
    """
    can_be = isinstance(values, kind) and hasattr(values, "__len__")
    if not can_be or isinstance(values, str) or not len(values):
        of_kind = ", as a dict" if kind is dict else ""
        raise UserError(
            f"`{name}` must hold something to draw{of_kind}. Received: "
            f"{shown(values)}."
        )
