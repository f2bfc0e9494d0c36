from html.parser import HTMLParser

import pytest

from kerasllm.report import Report

pytestmark = pytest.mark.any_backend


class Page(HTMLParser):
    """The open tags and the text of a page."""

    VOID = {"meta", "img"}

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


def test_what_is_in_a_report_is_text_and_no_markup():
    report = Report("<b>")
    report.heading("<h>")
    report.text("1 < 2 & 3")
    report.code("echo '<c>'")
    report.table(["<k>"], [("<v>",)])
    report.sample("<s>", "</blockquote>", "run <r>")
    page = Page(report.page())
    assert page.open == []
    for text in ("<b>", "<h>", "1 < 2 & 3", "echo '<c>'", "<k>", "<v>"):
        assert text in page.texts
    for text in ("<s>", "</blockquote>", "run <r>"):
        assert text in page.texts


def test_figures_are_in_the_page_itself():
    report = Report("Figures")
    figure, axes = report.new_figure(width=2, height=1, columns=2)
    assert len(axes) == 2
    report.figure(figure, 'A "caption"')
    (image,) = [a for tag, a in Page(report.page()).tags if tag == "img"]
    assert image["src"].startswith("data:image/png;base64,iVBOR")
    assert image["alt"] == 'A "caption"'


def test_an_empty_figure_has_room_for_axes_of_ones_own():
    figure = Report.empty_figure(width=3, height=2)
    assert figure.axes == []
    assert tuple(figure.get_size_inches()) == (3, 2)
