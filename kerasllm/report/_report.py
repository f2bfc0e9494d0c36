"""`Report`: collects parts, and returns them as a page."""

import base64
import dataclasses
import html
import io
import re

from matplotlib.figure import Figure
from PIL import Image

from kerasllm.report._style import STYLE

_NUMBER = re.compile(r"[<≈−-]?[\d.,]+ ?(%|s|MB|×)?")


@dataclasses.dataclass
class _Section:
    title: str
    anchor: str
    note: str = ""
    parts: list = dataclasses.field(default_factory=list)


class Report:
    """Collects parts and returns them as a self-contained page.

    Above the sections, the page shows its title, the figures that were given
    to `highlight`, and a table of contents.

    Args:
        title: str. Plain text, like everything that the methods take.
        lead: str. What the page is about, in a sentence or two.

    Example:
    ```python
    report = Report("Two samplers", "Which one repeats itself?")
    report.heading("Results")
    report.table(["sampler", "repeated"], [("greedy", "31%"), ("top-k", "2%")])
    pathlib.Path("report.html").write_text(report.page(), "utf-8")
    ```
    """

    def __init__(self, title, lead=""):
        self._title = title
        self._lead = lead
        self._byline = ""
        self._highlights = []
        self._sections = [_Section("", "")]

    def lead(self, text):
        """Set what the page is about, below the title."""
        self._lead = text

    def byline(self, text):
        """Set the line below the lead: when and where it was measured."""
        self._byline = text

    def heading(self, text):
        """Begin a section. It is listed in the contents."""
        anchor = re.sub(r"\W+", "-", text.lower()).strip("-") or "section"
        taken = {section.anchor for section in self._sections}
        if anchor in taken:
            anchor = f"{anchor}-{len(self._sections)}"
        self._sections.append(_Section(text, anchor))

    def note(self, text):
        """Set what stands beside this section in the contents."""
        self._sections[-1].note = text

    def highlight(self, value, label):
        """Show a figure of this section at the top of the page.

        Args:
            value: str, such as `"95%"`.
            label: str. What it is, in a few words.
        """
        anchor = self._sections[-1].anchor
        self._highlights.append(
            f'<li><a href="#{anchor}"><strong>{_text(value)}</strong>'
            f"<span>{_text(label)}</span></a></li>"
        )

    def subheading(self, text):
        """Begin a part of a section."""
        self._add(f"<h3>{_text(text)}</h3>")

    def text(self, text):
        """Add a paragraph."""
        self._add(f"<p>{_text(text)}</p>")

    def code(self, text):
        """Add a command."""
        self._add(f"<pre><code>{_command(text)}</code></pre>")

    def links(self, entries):
        """Add a list of links.

        Args:
            entries: list of `(text, address, description)`, each a str. An
                address may be `None`: then the text is no link. It may be
                relative to the page. A description may be empty.
        """
        items = []
        for text, address, description in entries:
            item = _text(text)
            if address is not None:
                item = f'<a href="{_text(address)}">{item}</a>'
            if description:
                item += f": {_text(description)}"
            items.append(f"<li>{item}</li>")
        self._add(f'<ul class="links">{"".join(items)}</ul>')

    def table(self, columns, rows, caption=""):
        """Add a table. Columns of numbers are aligned to the right.

        Args:
            columns: list of str, the column headings.
            rows: list of sequences, each as long as `columns`. The first cell
                of each is the heading of its row.
            caption: str. What the table shows.
        """
        rows = [[str(cell) for cell in row] for row in rows]
        numeric = [
            all(_NUMBER.fullmatch(cell) for cell in column)
            for column in zip(*rows, strict=True)
        ] or [False] * len(columns)

        head = _row(['th scope="col"'] * len(columns), columns, numeric)
        tags = ['th scope="row"', *["td"] * (len(columns) - 1)]
        body = "".join(_row(tags, row, numeric) for row in rows)
        caption = (
            f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
        )
        self._add(
            f'<figure><div class="wide"><table><thead>{head}</thead>'
            f"<tbody>{body}</tbody></table></div>{caption}</figure>"
        )

    def shares(self, caption, shares):
        """Add a bar chart of shares, each with its 95% interval.

        Args:
            caption: str. What is counted.
            shares: dict from a name to an `evaluation.Share`.
        """
        items = "".join(_bar(name, s) for name, s in shares.items())
        self._add(
            f'<figure class="shares"><figcaption>{_text(caption)}</figcaption>'
            f"<ul>{items}</ul></figure>"
        )

    def sample(self, title, text, command, note=""):
        """Add a generated text and the command that reproduces it.

        Samples that follow one another are cards, side by side where there is
        room.

        Args:
            title: str.
            text: str.
            command: str.
            note: str. What else there is to say about it.
        """
        note = f'<p class="quiet">{_text(note)}</p>' if note else ""
        self._add(
            f'<article class="card"><h3>{_text(title)}</h3>{note}<blockquote '
            f'tabindex="0">{_text(text)}</blockquote>'
            f"<pre><code>{_command(command)}</code></pre></article>"
        )

    def pictures(self, images, texts, alts):
        """Add pictures side by side, with a text below each.

        Args:
            images: list of uint8 arrays `(height, width, 3)`.
            texts: list of str.
            alts: list of str. What is in each picture, for those who cannot
                see it.
        """
        items = []
        for image, text, alt in zip(images, texts, alts, strict=True):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "png")
            items.append(
                f'<li><img alt="{_text(alt)}" src="{_data(png)}">'
                f"<p>{_text(text)}</p></li>"
            )
        self._add(f'<ul class="pictures">{"".join(items)}</ul>')

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

    def figure(self, figure, caption, narrow=None, alt=None):
        """Add a Matplotlib figure as an embedded PNG.

        In the dark look its lightness is turned around.

        Args:
            figure: Matplotlib `Figure`.
            caption: str.
            narrow: Matplotlib `Figure` of the same content for a phone, about
                4 inches wide.
            alt: str. The content in words, for those who cannot see it.
                Defaults to the caption.
        """
        source = ""
        if narrow is not None:
            source = (
                '<source media="(max-width: 40rem)" '
                f'srcset="{_data(_png(narrow, 200))}">'
            )
        alt = caption if alt is None else alt
        self._add(
            f'<figure class="chart"><picture>{source}<img alt="{_text(alt)}" '
            f'src="{_data(_png(figure, 130))}"></picture>'
            f"<figcaption>{_text(caption)}</figcaption></figure>"
        )

    def page(self):
        """Return the whole page as a str."""
        first, *sections = self._sections
        main = "\n".join(
            [*_in_cards(first.parts), *map(_section_html, sections)]
        )
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
            '\n<meta name="viewport" content="width=device-width, '
            'initial-scale=1">\n'
            f"<title>{_text(self._title)}</title>\n<style>{STYLE}</style>\n"
            f"</head>\n<body>\n<header>\n{self._header(sections)}\n</header>\n"
            f"<main>\n{main}\n</main>\n</body>\n</html>\n"
        )

    def _header(self, sections):
        parts = [f"<h1>{_text(self._title)}</h1>"]
        if self._lead:
            parts.append(f'<p class="lead">{_text(self._lead)}</p>')
        if self._byline:
            parts.append(f'<p class="quiet">{_text(self._byline)}</p>')
        if self._highlights:
            items = "".join(self._highlights)
            parts.append(f'<ul class="highlights">{items}</ul>')
        if len(sections) > 1:
            parts.append(_contents(sections))
        return "\n".join(parts)

    def _add(self, part):
        self._sections[-1].parts.append(part)


def _text(text):
    return html.escape(str(text))


def _command(text):
    """Return a command in which no line breaks within an option."""
    return re.sub(
        r"(?<!\S)--[\w-]+", r'<span class="word">\g<0></span>', _text(text)
    )


def _row(tags, texts, numeric):
    """Return a row of a table; each tag may have attributes."""
    cells = []
    for tag, text, is_number in zip(tags, texts, numeric, strict=True):
        style = ' class="number"' if is_number else ""
        cells.append(f"<{tag}{style}>{_text(text)}</{tag.split()[0]}>")
    return f"<tr>{''.join(cells)}</tr>"


def _png(figure, dpi):
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=dpi)
    return png


def _data(png):
    data = base64.b64encode(png.getvalue()).decode("ascii")
    return f"data:image/png;base64,{data}"


def _contents(sections):
    items = "".join(
        f'<li><a href="#{section.anchor}">{_text(section.title)}</a>'
        f"<span>{_text(section.note)}</span></li>"
        for section in sections
    )
    return (
        '<nav aria-labelledby="contents"><h2 id="contents">Contents</h2>'
        f"<ul>{items}</ul></nav>"
    )


def _section_html(section):
    parts = "\n".join(_in_cards(section.parts))
    return (
        f'<section aria-labelledby="{section.anchor}">\n'
        f'<h2 id="{section.anchor}">{_text(section.title)}</h2>\n{parts}\n'
        "</section>"
    )


def _in_cards(parts):
    """Yield the parts, with a frame around samples that follow each other."""
    is_open = False
    for part in parts:
        is_card = part.startswith("<article")
        if is_card != is_open:
            yield '<div class="cards">' if is_card else "</div>"
            is_open = is_card
        yield part
    if is_open:
        yield "</div>"


def _bar(name, share):
    """Return the line of a share in a chart: name, bar, number."""
    low, high = share.interval()
    fill = f"width: {share:.2%}"
    bounds = f"left: {low:.2%}; width: {high - low:.2%}"
    return (
        f"<li><span>{_text(name)}</span>"
        f'<span class="track" aria-hidden="true">'
        f'<span class="fill" style="{fill}"></span>'
        f'<span class="range" style="{bounds}"></span></span>'
        f'<span class="value"><strong>{share:.1%}</strong> '
        f'<span class="quiet">{low:.1%} to {high:.1%}, n = {share.size}</span>'
        "</span></li>"
    )
