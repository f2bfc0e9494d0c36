"""The figure of the history page, drawn from the page's own table."""

import re

from matplotlib.figure import Figure

ROW = re.compile(
    r"^\| \[(?P<name>[^\]]+)\]\(\S+\) \| (?P<year>\d{4}) "
    r"\| (?P<millions>[\d,]+) \| [^|]+ \| (?P<weights>open|closed) \|$",
    re.MULTILINE,
)
COLORS = {"open": "tab:blue", "closed": "tab:orange"}
# Below the point where the label would cover another one.
BELOW = {"OPT", "Chinchilla"}


def read_table(text):
    """Return the models of the page.

    Args:
        text: str, the Markdown of the page.

    Returns:
        A list of `(name, year, parameters, weights)`: str, int, int, and
        `"open"` or `"closed"`.
    """
    return [
        (
            row["name"],
            int(row["year"]),
            int(row["millions"].replace(",", "")) * 10**6,
            row["weights"],
        )
        for row in ROW.finditer(text)
    ]


def draw(page, target):
    """Draw the parameters of the models by year.

    Args:
        page: path of the page with the table.
        target: path of the figure, an SVG file. Its folder is made.
    """
    figure = Figure(figsize=(7.5, 4), layout="constrained")
    axes = figure.subplots()
    for weights, color in COLORS.items():
        models = [
            model
            for model in read_table(page.read_text(encoding="utf-8"))
            if model[3] == weights
        ]
        _, years, parameters, _ = zip(*models, strict=True)
        axes.scatter(years, parameters, color=color, label=f"{weights} weights")
        for name, year, size, _ in models:
            offset = (6, -10) if name in BELOW else (6, 4)
            axes.annotate(
                name, (year, size), xytext=offset, textcoords="offset points"
            )
    axes.set_yscale("log")
    axes.set_xlim(2017.5, 2026)
    axes.set_ylabel("parameters")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower center", frameon=False)
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target)
