"""Pages on which nothing runs, whatever a student displays or writes.

nh3, a sanitizer that parses HTML as browsers do, takes nbgrader's page apart
and keeps only the tags and attributes that are listed here. A policy in the
page's head tells browsers to refuse what might be left.
"""

import html
import re

from kerasllm.homework.shown._text import visible

_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
_TAGS = set(
    "a abbr b blockquote br caption cite code col colgroup dd del details div "
    "dl dt em h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s samp "
    "small span strike strong sub summary sup table tbody td tfoot th thead "
    "tr tt u ul var".split()
)
_ATTRIBUTES = {
    "*": {"class"},
    "a": {"href", "name"},
    "img": {"src", "alt", "width", "height"},
    "ol": {"start"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
}
# A picture on a server would tell its owner who looks at the page, and when.
_PICTURE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[\w+/=\s]*")
_LINK = re.compile(r"#[\w.-]*|(https?://|mailto:)\S+", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,4}")
_FORMS = {
    "src": _PICTURE, "href": _LINK, "width": _NUMBER, "height": _NUMBER,
    "start": _NUMBER, "colspan": _NUMBER, "rowspan": _NUMBER,
}  # fmt: skip
_STYLE = """
body { font: 15px/1.5 sans-serif; max-width: 60rem; margin: 1rem auto;
  padding: 0 1rem; color: #222; background: #fff; overflow-wrap: anywhere; }
pre { font-size: 13px; line-height: 1.35; margin: 0; white-space: pre-wrap; }
img { max-width: 100%; }
table { border-collapse: collapse; }
td, th { border: 1px solid #ccc; padding: .2rem .5rem; }
.prompt { color: #777; font: 12px monospace; }
.input_area { background: #f6f6f6; border: 1px solid #ddd; padding: .5rem; }
.output_subarea { padding: .5rem; }
.output_stderr, .output_error { background: #fdecec; }
.cell { margin: .8rem 0; }
.panel-primary { border: 1px solid #4472a8; }
.panel-primary > .panel-heading { background: #e8eef6; padding: .3rem .6rem; }
.panel-primary > .panel-body { padding: .3rem .6rem; }
.panel-footer { background: #fff8dc; padding: .3rem .6rem; }
.pull-right { float: right; }
.ansi-bold { font-weight: bold; }
.ansi-red-fg, .ansi-red-intense-fg { color: #b22; }
.ansi-green-fg, .ansi-green-intense-fg { color: #060; }
.ansi-yellow-fg, .ansi-yellow-intense-fg { color: #850; }
.ansi-blue-fg, .ansi-blue-intense-fg { color: #24c; }
.ansi-magenta-fg, .ansi-magenta-intense-fg { color: #828; }
.ansi-cyan-fg, .ansi-cyan-intense-fg { color: #067; }
"""


def clean_page(page, title):
    """Return nbgrader's page without anything that could run.

    Args:
        page: str, HTML.
        title: str, the new page's title.
    """
    from pygments.formatters import HtmlFormatter

    # The first `<body>` is nbgrader's: nothing of a student comes before it.
    _, _, body = page.partition("<body>")
    body = clean_fragment(body)
    body = "\n".join(visible(line, "\t") for line in body.split("\n"))
    style = HtmlFormatter().get_style_defs(".highlight")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{html.escape(visible(title))}</title>\n"
        f"<style>{_STYLE}{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def clean_fragment(fragment):
    """Return HTML without anything that could run, with all tags closed.

    Args:
        fragment: str, or bytes in UTF-8.
    """
    import nh3

    if isinstance(fragment, bytes):
        fragment = fragment.decode("utf-8", "replace")
    return nh3.clean(
        fragment,
        tags=_TAGS,
        clean_content_tags={"script", "style", "title", "template"},
        attributes=_ATTRIBUTES,
        attribute_filter=_keep,
        url_schemes={"data", "http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )


def _keep(tag, attribute, value):
    """Return the value of an attribute if it has the right form, or `None`."""
    form = _FORMS.get(attribute)
    return value if form is None or form.fullmatch(value.strip()) else None
