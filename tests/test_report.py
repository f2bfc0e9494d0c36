import re
from html.parser import HTMLParser

import numpy as np
import pytest

from kerasllm.evaluation import Share
from kerasllm.report import Report, _style

pytestmark = pytest.mark.any_backend


class Page(HTMLParser):
    """The open tags and the text of a page."""

    VOID = {"meta", "img", "source"}

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        """Return the attributes of each tag of a name."""
        return [attributes for name, attributes in self.tags if name == tag]


def full_report():
    """Return a report with a part of every sort, in two sections."""
    report = Report("<b>", "<lead>")
    report.byline("<byline>")
    report.heading("<h>")
    report.note("<note>")
    report.highlight("<value>", "<label>")
    report.text("1 < 2 & 3")
    report.code("echo '<c>'")
    report.table(["<k>", "n"], [("<v>", 1)], "<caption>")
    report.sample("<s>", "</blockquote>", "run <r>", "<how>")
    report.sample("second", "text", "run")
    report.shares("<counted>", {"<share>": Share(3, 4)})
    report.links([("<link>", 'a"b.html', "<what>"), ("<no link>", None, "")])
    report.heading("Images")
    report.subheading("<sub>")
    figure, axes = report.new_figure(width=2, height=1, columns=2)
    assert len(axes) == 2
    report.figure(figure, 'A "caption"', narrow=report.empty_figure(1, 1))
    report.pictures([np.zeros((4, 4, 3), "uint8")], ["<text>"], ['a "dot"'])
    return report


@pytest.fixture(scope="module")
def page():
    return Page(full_report().page())


def test_what_is_in_a_report_is_text_and_no_markup(page):
    assert page.open == []
    for text in (
        *("<b>", "<lead>", "<byline>", "<h>", "<note>", "<value>"),
        *("<label>", "1 < 2 & 3", "echo '<c>'", "<k>", "<v>", "<caption>"),
        *("<s>", "</blockquote>", "run <r>", "<how>", "<counted>", "<share>"),
        *("<link>", ": <what>", "<no link>", "<sub>", "<text>"),
    ):
        assert text in page.texts, text


def test_images_are_in_the_page_itself(page):
    chart, picture = page.all("img")
    assert chart["alt"] == 'A "caption"' and picture["alt"] == 'a "dot"'
    (narrow,) = page.all("source")
    for source in (chart["src"], picture["src"], narrow["srcset"]):
        assert source.startswith("data:image/png;base64,iVBOR")


def test_nothing_is_fetched(page):
    fetched = {"link", "script", "iframe", "video", "object"}
    assert fetched.isdisjoint(tag for tag, _ in page.tags)
    assert not re.search(r"url\(|@import", _style.STYLE)


def test_every_section_is_in_the_contents(page):
    ids = [attributes["id"] for attributes in page.all("h2")]
    links = [attributes.get("href") for attributes in page.all("a")]
    assert ids[0] == "contents" and len(ids) == len(set(ids)) == 3
    # The highlight leads to its section, too.
    assert links[:3] == [f"#{ids[1]}", f"#{ids[1]}", f"#{ids[2]}"]
    assert 'a"b.html' in links


def test_equal_headings_have_anchors_of_their_own():
    report = Report("Twice")
    for _ in range(3):
        report.heading("Again")
    ids = [a["id"] for a in Page(report.page()).all("h2")]
    assert len(ids) == len(set(ids)) == 4


def test_a_page_can_be_read_aloud(page):
    """Its language, the levels of its headings, the headings of its tables."""
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.tags if re.match("h[1-6]$", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))
    assert [a["scope"] for a in page.all("th")] == ["col", "col", "row"]
    assert all("alt" in attributes for attributes in page.all("img"))


def test_a_column_of_numbers_is_aligned():
    report = Report("Numbers")
    report.table(["a", "b", "c"], [("x", "1,200", "7%"), ("y", "3", "none")])
    page = Page(report.page())
    styles = [a.get("class") for tag, a in page.tags if tag in ("th", "td")]
    assert styles == 3 * [None, "number", None]


def test_a_table_may_be_empty():
    report = Report("Nothing")
    report.table(["a", "b"], [])
    assert Page(report.page()).open == []


def test_a_share_has_its_interval_and_its_size():
    share = Share(30, 40)
    low, high = share.interval()
    report = Report("Shares")
    report.shares("Right answers", {"model": share})
    html = report.page()
    bounds = f"{low:.1%} to {high:.1%}, n = 40"
    assert f'75.0%</strong> <span class="quiet">{bounds}</span>' in html
    assert 'style="width: 75.00%"' in html
    assert f'style="left: {low:.2%}; width: {high - low:.2%}"' in html


def test_samples_that_follow_one_another_are_cards_in_one_frame(page):
    frames = [a for a in page.all("div") if a.get("class") == "cards"]
    assert len(frames) == 1 and len(page.all("article")) == 2


def test_an_empty_figure_has_room_for_axes_of_ones_own():
    figure = Report.empty_figure(width=3, height=2)
    assert figure.axes == []
    assert tuple(figure.get_size_inches()) == (3, 2)


@pytest.mark.parametrize("colors", [_style.LIGHT, _style.DARK])
def test_text_can_be_told_from_its_ground(colors):
    """By the ratios of WCAG 2: 4.5 for text, 3 for parts of a chart."""
    for text in _style.TEXT_COLORS:
        for ground in _style.BACKGROUNDS:
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
    for part, ground in [("fill", "track"), ("range", "fill")]:
        assert contrast(colors[part], colors[ground]) >= 3, (part, ground)


def contrast(one, other):
    lighter, darker = sorted(map(luminance, (one, other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color):
    parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(
        parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4
    )
    return linear @ [0.2126, 0.7152, 0.0722]


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_every_color_of_the_style_is_defined():
    used = set(re.findall(r"var\(--(\w+)\)", _style.STYLE))
    assert used == _style.LIGHT.keys() == _style.DARK.keys()
