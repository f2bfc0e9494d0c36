"""A self-contained HTML page for reports."""

import base64
import html
import io

from matplotlib.figure import Figure

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem;
       margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
h1, h2 { line-height: 1.2; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; padding: .25rem 1rem .25rem 0;
         border-bottom: 1px solid #ccc; vertical-align: top; }
pre { background: #f3f3f3; padding: .5rem .75rem; overflow-x: auto; }
blockquote { margin: .5rem 0; padding: .25rem 1rem; white-space: pre-wrap;
             overflow-wrap: anywhere; border-left: 4px solid #888; }
figure { margin: 1rem 0; }
img { max-width: 100%; }
.wide { overflow-x: auto; }
"""


class Report:
    """Collects parts and returns them as a self-contained page.

    Args:
        title: str. Plain text, like everything that the methods take.
    """

    def __init__(self, title):
        self._title = html.escape(title)
        self._parts = [f"<h1>{self._title}</h1>"]

    def heading(self, text):
        """Begin a section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text):
        """Add a paragraph."""
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def code(self, text):
        """Add a command."""
        self._parts.append(f"<pre><code>{html.escape(text)}</code></pre>")

    def table(self, columns, rows):
        """Add a table.

        Args:
            columns: list of str, the column headings.
            rows: list of sequences, each as long as `columns`.
        """

        def row(tag, cells):
            cells = (f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells)
            return f"<tr>{''.join(cells)}</tr>"

        body = "".join(row("td", cells) for cells in rows)
        self._parts.append(
            f'<div class="wide"><table>{row("th", columns)}{body}</table></div>'
        )

    def sample(self, title, text, command):
        """Add a generated text and the command that reproduces it."""
        self._parts.append(f"<h3>{html.escape(title)}</h3>")
        self._parts.append(f"<blockquote>{html.escape(text)}</blockquote>")
        self.code(command)

    @staticmethod
    def empty_figure(width=6.0, height=4.0):
        """Return a Matplotlib figure without axes, outside pyplot.

        Args:
            width: float, inches.
            height: float, inches.
        """
        return Figure(figsize=(width, height), layout="constrained")

    @classmethod
    def new_figure(cls, width=6.0, height=4.0, columns=1):
        """Return a Matplotlib figure and its row of axes, outside pyplot.

        Args:
            width: float, inches.
            height: float, inches.
            columns: int. Number of axes.
        """
        figure = cls.empty_figure(width, height)
        return figure, figure.subplots(1, columns)

    def figure(self, figure, caption):
        """Add a Matplotlib figure as an embedded PNG."""
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=110)
        data = base64.b64encode(png.getvalue()).decode("ascii")
        caption = html.escape(caption)
        self._parts.append(
            f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )

    def page(self):
        """Return the whole page as a str."""
        body = "\n".join(self._parts)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
            '\n<meta name="viewport" content="width=device-width">\n'
            f"<title>{self._title}</title>\n<style>{_STYLE}</style>\n</head>\n"
            f"<body>\n{body}\n</body>\n</html>\n"
        )
