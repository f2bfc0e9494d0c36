"""What people look at is text, whatever a student writes."""

import html.parser
import re

import pytest

from kerasllm import homework
from kerasllm.homework.shown import (
    as_cell,
    clean_count,
    clean_output,
    clean_page,
    visible,
)

pytest.importorskip("nh3", reason='pages need `pip install -e ".[instructor]"`')
# With what grading needs, which the suites on three backends lack.
pytestmark = [pytest.mark.once, pytest.mark.any_backend]

# Published: OWASP's "XSS Filter Evasion Cheat Sheet", PortSwigger's
# "Cross-site scripting cheat sheet", cure53's "HTML5 Security Cheatsheet", and
# bypasses of sanitizers that parse otherwise than browsers do.
PAYLOADS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=https://xss.example/a.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<<SCRIPT>alert(1);//\\<</SCRIPT>",
    "<script/src=data:,alert(1)></script>",
    "</script><script>alert(1)</script>",
    '<IMG """><SCRIPT>alert(1)</SCRIPT>"\\>',
    "<img src=x onerror=alert(1)>",
    "<IMG SRC=/ ONERROR='alert(1)'></img>",
    "<img src=`x` onerror=alert(1)>",
    '<img src="x"onerror=alert(1)//">',
    "<img/src/onerror=alert(1)>",
    '<img src="jav&#x09;ascript:alert(1);">',
    '<img src="javascript:alert(1)">',
    '<img width=\'1" onload="alert(1)\' src="data:image/png;base64,AA==">',
    '<img src="data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+">',
    '<img src="https://tracker.example/who.png">',
    '<img srcset="https://tracker.example/who.png 2x">',
    '<a href="javascript:alert(1)">a</a>',
    '<a href="jAvAsCrIpT&colon;alert(1)">a</a>',
    '<a href=" &#14; javascript:alert(1)">a</a>',
    '<a href="java\nscript:alert(1)">a</a>',
    '<a href="vbscript:msgbox(1)">a</a>',
    '<a href="data:text/html,<script>alert(1)</script>">a</a>',
    '<a href="//xss.example">a</a>',
    '<a onmouseover="alert(1)">a</a>',
    "<a onmouseover=alert(1)//>a</a>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s></svg>",
    '<svg><a xlink:href="javascript:alert(1)"><text>a</text></a></svg>',
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    '<svg><use href="data:image/svg+xml;base64,AAAA#x"></use></svg>',
    '<math><a xlink:href="javascript:alert(1)">a</a></math>',
    "<math><mtext><table><mglyph><style><!--</style>"
    "<img title='--><img src=1 onerror=alert(1)>'>",
    "<form><math><mtext></form><form><mglyph><style></math>"
    "<img src onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<xmp><p title='</xmp><svg/onload=alert(1)>'>",
    "<textarea><img title='</textarea><svg/onload=alert(1)>'>",
    "<title><img title='</title><svg/onload=alert(1)>'>",
    "<template><script>alert(1)</script></template>",
    "<!--<img src='--><img src=x onerror=alert(1)//'>",
    "<!--[if gte IE 4]><script>alert(1)</script><![endif]-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<iframe src=javascript:alert(1)></iframe>",
    '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
    "<object data=javascript:alert(1)></object>",
    "<embed src=javascript:alert(1)>",
    "<base href='javascript:/a/-alert(1)///'><a href=..>a</a>",
    "<link rel=stylesheet href=https://xss.example/a.css>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<style>@import'https://xss.example/a.css';</style>",
    "<style>body{background:url(javascript:alert(1))}</style>",
    '<div style="background:url(javascript:alert(1))">a</div>',
    '<div style="width: expression(alert(1))">a</div>',
    "<form action=javascript:alert(1)><input type=submit></form>",
    "<form id=f></form><button form=f formaction=javascript:alert(1)>b",
    "<input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>a</details>",
    "<video><source onerror=alert(1)></video>",
    "<audio src=x onerror=alert(1)>",
    "<body onload=alert(1)>",
    "<table background=javascript:alert(1)><tr><td>a</table>",
    "<marquee onstart=alert(1)>a</marquee>",
    "<frameset onload=alert(1)>",
    "<isindex action=javascript:alert(1) type=image>",
    "<keygen autofocus onfocus=alert(1)>",
    "<xss id=x tabindex=1 onfocus=alert(1)></xss>",
    "<?xml version='1.0'?><x:script xmlns:x='http://www.w3.org/1999/xhtml'>"
    "alert(1)</x:script>",
    "\x00<scr\x00ipt>alert(1)</script>",
    "</body></html><script>alert(1)</script>",
]


class Page(html.parser.HTMLParser):
    """What a browser would find: tags and attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += [(tag, *pair) for pair in attributes]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_on_a_page_runs(payload):
    page = clean_page(
        f"<html><body><p>before</p>{payload}<p>after</p></body></html>", "t"
    )
    assert "before" in page
    _, _, body = page.partition("<body>")
    found = Page(body)
    assert not found.tags & {
        "script", "style", "svg", "math", "iframe", "object", "embed", "base",
        "link", "meta", "form", "input", "button", "video", "audio", "template",
    }  # fmt: skip
    for tag, name, value in found.attributes:
        assert name in {"href", "src", "class", "alt", "rel", "width"}
        if name == "href":
            assert re.match("#|https?://|mailto:", value), value
        if name == "src":
            assert value.startswith("data:image/png;base64,")
        if name == "width":
            assert value.isdigit(), (tag, value)
    assert page.index("Content-Security-Policy") < page.index("<title>")
    assert "default-src 'none'" in page and "script-src" not in page


def test_a_page_keeps_what_a_notebook_shows():
    """And nothing but the titles and texts that it should."""
    kept = (
        '<a name="top"></a><div class="output_png"><img src="data:image/png;'
        'base64,iVBORw0KGgo=" width="20"></div><table><tbody><tr>'
        '<td>1</td></tr></tbody></table><a href="#test_double">t</a>'
        "<pre>a\n  b</pre>"
    )
    page = clean_page(f"<body>{kept}</body>", "<hw>\x1b[2J")
    body = page.partition("<body>")[2]
    found, expected = Page(body), Page(kept)
    assert found.tags == expected.tags
    assert set(expected.attributes) <= set(found.attributes)
    assert "<pre>a\n  b</pre>" in page
    assert r"<title>&lt;hw&gt;\x1b[2J</title>" in page


def test_a_table_of_numbers_keeps_its_rows_and_its_head(nbgrader):
    """As pandas shows it, with a style that is no text."""
    nbformat = pytest.importorskip("nbformat")
    from kerasllm.homework.shown._exporter import PageExporter

    table = (
        "<table><thead><tr><th>a</th></tr></thead>"
        "<tbody><tr><td>1</td></tr></tbody></table>"
    )
    data = {"text/html": f"<style scoped>.x {{}}</style>{table}"}
    cell = nbformat.v4.new_code_cell("df")
    cell.outputs = [nbformat.v4.new_output("display_data", data=data)]
    exporter = PageExporter(sanitize_html=True)
    page, _ = exporter.from_notebook_node(
        nbformat.v4.new_notebook(cells=[cell])
    )
    assert table in page and "scoped" not in page


def test_a_page_shows_pasted_pictures_and_misses_none(nbgrader):
    """nbconvert makes no page at all if one is missing."""
    nbformat = pytest.importorskip("nbformat")
    from kerasllm.homework.shown._exporter import PageExporter

    cell = nbformat.v4.new_markdown_cell(
        "![](attachment:a.png) ![](attachment:b.png) words"
    )
    for kept in ({"a.png": {"image/png": "AA=="}}, {}):
        cell.attachments = kept
        page, _ = PageExporter(sanitize_html=True).from_notebook_node(
            nbformat.v4.new_notebook(cells=[cell])
        )
        assert "words" in page
        assert page.count("data:image/png;base64,AA==") == len(kept)


def test_a_page_is_made_whatever_delimiters_a_student_writes(nbgrader):
    """Hidden tests are taken out of tests alone."""
    from kerasllm.homework.shown._exporter import ClearTests
    from tests.homework.tiny_course import cell

    hidden = "### BEGIN HIDDEN TESTS\nassert 1\n### END HIDDEN TESTS"
    cells = [
        cell(hidden, "a_test", "test"),
        cell(hidden, "double", "solution"),
        cell("### BEGIN HIDDEN TESTS", "picture", "hand"),
        cell(f"{hidden}\n### BEGIN HIDDEN TESTS"),
    ]
    before = [each.source for each in cells]
    for number, each in enumerate(cells):
        ClearTests().preprocess_cell(each, {}, number)
    assert [each.source for each in cells] == ["", *before[1:]]


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain \u00e9 \u0939\u093f", None),
        ("two\nlines", None),
        ("\x1b[2A\x1b[2Kforged", r"\x1b[2A\x1b[2Kforged"),
        ("\x9b2J", r"\x9b2J"),  # the same in one character
        ("a\rb\bc\x07", r"a\rb\x08c\x07"),
        ("\u202eevil", r"\u202eevil"),
        ("half \ud800", r"half \ud800"),
        ("\u2028", r"\u2028"),
    ],
)
def test_control_characters_are_shown_and_not_sent(text, shown):
    assert visible(text) == (text if shown is None else shown)
    visible(text).encode()


def test_everything_that_is_said_of_a_student_is_visible(tmp_path):
    hostile = "\x1b]0;title\x07"
    result = homework.Result("ann", {"a": 0}, {"a": hostile}, [hostile])
    said = [*result.visible().failures.values(), *result.visible().notes]
    said += homework.summarize([result])
    assert all(each.isprintable() for each in said)


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\uff1d", "\uff0b"])
@pytest.mark.parametrize(
    "before",
    ["", " ", "\t", "\r", "\n", "\r\n", "\u00a0", "\u3000", "\ufeff", "\x0b",
     "\u200b ", "\u200c", "\x00", " \t\r"],
)  # fmt: skip
def test_a_cell_is_text_after_any_white_space(sign, before):
    assert as_cell(f"{before}{sign}cmd()") == f"'{before}{sign}cmd()"


def test_other_cells_stay_as_they_are():
    for text in ("", "ann", "a=b", "O'Brien", " ann", "5 - 3", "\u00e9"):
        assert as_cell(text) == text


def test_a_cell_is_text_where_a_semicolon_ends_a_cell():
    assert as_cell("ann; =1+1;@x; ok") == "ann; '=1+1;'@x; ok"


@pytest.mark.parametrize(
    "kind, content",
    [
        ("stream", {"name": "stdout", "text": "a\n"}),
        ("error", {"ename": "A", "evalue": "b", "traceback": ["c", "d"]}),
        ("display_data", {"data": {"text/plain": "1"}, "metadata": {}}),
        ("update_display_data",
         {"data": {"image/png": "AA=="},
          "metadata": {"image/png": {"width": 3, "height": 4}},
          "transient": {"display_id": "x"}}),
        ("execute_result",
         {"data": {"text/html": "<b>"}, "metadata": {}, "execution_count": 2}),
    ],
)  # fmt: skip
def test_what_a_cell_shows_is_kept(kind, content):
    assert clean_output(kind, content) == content


@pytest.mark.parametrize(
    "kind, content",
    [
        ("stream", {"name": "stdin", "text": "a"}),
        ("stream", {"name": "stdout", "text": 3}),
        ("stream", {"name": "stdout"}),
        ("stream", []),
        ("error", {"ename": 1, "evalue": "b", "traceback": []}),
        ("error", {"ename": "A", "evalue": "b", "traceback": 5}),
        ("error", {"ename": "A", "evalue": "b", "traceback": [["c"]]}),
        ("display_data", {"data": "x", "metadata": {}}),
        ("display_data", {"data": {"text/plain": ["a", 1]}}),
        ("display_data", {"data": {"text/html": {"a": "b"}}}),
        ("display_data", {"data": {}, "metadata": [1]}),
        ("display_data", {"data": {"image/png": "A"},
                          "metadata": {"image/png": 5}}),
        ("display_data", {"data": {"image/png": "A"},
                          "metadata": {"image/png": {"width": "wide"}}}),
        ("display_data", {"data": {}, "transient": {"display_id": [1]}}),
    ],
)  # fmt: skip
def test_what_no_notebook_can_hold_is_not_kept(kind, content):
    assert clean_output(kind, content) is None


def test_of_what_a_cell_shows_only_what_is_seen_is_kept():
    widget = "application/vnd.jupyter.widget-view+json"
    content = {
        "data": {"text/plain": "a\ud800", widget: {"model_id": 1}},
        "metadata": {widget: {}, "image/png": {"width": 3, "onload": 1}},
        "transient": None,
        "execution_count": "3",
    }
    assert clean_output("execute_result", content) == {
        "data": {"text/plain": "a\ufffd"},
        "metadata": {},
        "execution_count": None,
    }
    assert clean_count({"execution_count": True}) == {"execution_count": None}
