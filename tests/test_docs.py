"""The site: it builds without a warning, its links lead somewhere, and it
reads offline.
"""

import collections
import doctest
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

import kerasllm

ROOT = pathlib.Path(__file__).parent.parent
MISSING = [
    name
    for name in ("sphinx", "furo", "myst_nb", "sphinx_copybutton")
    if importlib.util.find_spec(name) is None
]

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(
        bool(MISSING),
        reason=f'no {", ".join(MISSING)}: `pip install -e ".[docs]"`',
    ),
]


class Page(HTMLParser):
    """What a page defines, links to, and fetches while it is viewed."""

    FETCHED = {
        ("script", "src"),
        ("link", "href"),
        ("img", "src"),
        ("iframe", "src"),
        ("source", "src"),
        ("video", "src"),
        ("object", "data"),
    }
    # These tell a search engine something; no browser follows them.
    NOT_FETCHED = {"canonical", "index", "search", "next", "prev", "author"}

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.ids, self.links, self.fetched = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        self.ids.add(attributes.get("id"))
        if tag == "a":
            self.ids.add(attributes.get("name"))
        for name, value in attributes.items():
            if (tag, name) in self.FETCHED:
                if attributes.get("rel") in self.NOT_FETCHED:
                    self.links.append(value)
                else:
                    self.fetched.append(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value)

    handle_startendtag = handle_starttag


def is_external(link):
    """A link with a scheme or a host: `data:` is neither, it is content."""
    parts = urlsplit(link)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def broken_links(pages):
    """Return what leads nowhere, as `page: link`."""
    broken = []
    for path, page in pages.items():
        for link in page.links + page.fetched:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path
            if parts.path:
                target = (path.parent / unquote(parts.path)).resolve()
            anchor = unquote(parts.fragment)
            known = pages[target].ids if target in pages else set()
            if not target.is_file() or (anchor and anchor not in known):
                broken.append(f"{path.name}: {link}")
    return broken


def read_pages(folder):
    paths = sorted(folder.resolve().rglob("*.html"))
    return {path: Page(path) for path in paths if "_static" not in path.parts}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of a fresh build.

    It is made in a folder of its own, since the build copies the notebooks
    into its source.
    """
    root = tmp_path_factory.mktemp("site")
    for path in ROOT.iterdir():
        if path.name != "docs" and not path.name.startswith("."):
            (root / path.name).symlink_to(path)
    shutil.copytree(
        ROOT / "docs",
        root / "docs",
        ignore=shutil.ignore_patterns("_build", "chapters", "drawn"),
    )
    result = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q"),
            *("-b", "html", "docs", "build"),
        ],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return read_pages(root / "build")


def test_every_chapter_has_a_page_with_its_outputs(site):
    pages = {path.stem: path for path in site if path.parent.name == "chapters"}
    notebooks = {path.stem for path in (ROOT / "chapters").glob("0*.ipynb")}
    assert notebooks == set(pages)
    for path in pages.values():
        text = path.read_text(encoding="utf-8")
        assert 'class="output' in text
        assert any("_images/" in source for source in site[path].fetched)


def test_solutions_have_pages(site):
    pages = [path for path in site if path.parent.name == "solutions"]
    notebooks = (ROOT / "chapters" / "solutions").glob("0*.ipynb")
    assert {path.stem for path in pages} == {
        "index",
        *(path.stem for path in notebooks),
    }


def test_every_link_leads_somewhere(site):
    assert broken_links(site) == []


def test_nothing_is_fetched_from_elsewhere(site):
    fetched = {link for page in site.values() for link in page.fetched}
    assert fetched, "a page without style sheets was not read right"
    assert [link for link in fetched if is_external(link)] == []
    folder = next(path.parent for path in site if path.name == "search.html")
    for path in folder.rglob("*.css"):
        style = path.read_text(encoding="utf-8")
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style), (
            path
        )


def test_every_public_name_is_documented(site):
    ids = set().union(*(page.ids for page in site.values()))
    names = {
        f"kerasllm.{room}.{name}" for name, room in kerasllm._ROOM_OF.items()
    }
    # What the design promises beside them.
    for owner, members in {
        "chat.ChatModel": "from_preset generate ask chat",
        "evaluation": "Share ask_all exact_share repeated_ngrams",
        "gemma.Gemma": "from_preset generate ask chat enable_lora finetune "
        "save_lora load_lora merge_lora",
        "generation.TextGenerator": "generate stream beam_search",
        "layers": "Linear LoraLinear",
        "logit_filters": "top_k_filter top_p_filter min_p_filter "
        "apply_penalties",
        "prompts": "BOOK ALPACA VICUNA CHATML GEMMA",
        "training": "resumable_fit",
        "tuning": "finetune",
    }.items():
        names |= {f"kerasllm.{owner}.{name}" for name in members.split()}
    assert names - ids == set()


def chapter_pages(site):
    """Return the paths of the chapters' pages."""
    return [path for path in site if path.parent.name == "chapters"]


def test_chapters_and_reference_link_to_each_other(site, cross_references):
    for path in chapter_pages(site):
        notebook = ROOT / "chapters" / f"{path.stem}.ipynb"
        names = cross_references.Chapter(notebook).names
        assert len(names) >= 10
        there = collections.defaultdict(list)  # names by page of the reference
        for link in site[path].links:
            address, _, name = link.partition("#")
            if name in names:
                there[(path.parent / address).resolve()].append(name)
        linked = sorted(sum(there.values(), []))
        assert linked == names  # each is documented, and linked once
        for page, found in there.items():
            entries = re.findall(
                "<p>In the chapters: (.*?)</p>", page.read_text("utf-8")
            )
            back = f'href="../chapters/{path.name}"'
            # Constants are entered by hand, and have no such line.
            found = [n for n in found if not n.split(".")[-1].isupper()]
            assert sum(back in entry for entry in entries) == len(found)


def test_each_chapter_can_be_downloaded_as_it_is(site):
    for path in chapter_pages(site):
        (link,) = (
            link
            for link in site[path].links
            if link.endswith(".ipynb") and not is_external(link)
        )
        downloaded = (path.parent / link).read_bytes()
        original = ROOT / "chapters" / f"{path.stem}.ipynb"
        assert downloaded == original.read_bytes()


def test_the_reference_shows_its_source(site):
    pages = {p: page for p, page in site.items() if p.parent.name == "api"}
    for path, page in pages.items():
        if path.stem != "index":
            assert any("_modules/" in link for link in page.links), path


def test_no_line_is_cut(site):
    """Code fits its column; what is printed is wrapped."""
    for path in site:
        if path.parent.name in ("chapters", "api"):
            html = path.read_text(encoding="utf-8")
            for block in re.findall(
                r'<div class="highlight-i?python3?.*?<pre>(.*?)</pre>',
                html,
                re.DOTALL,
            ):
                lines = re.sub("<.*?>", "", block).splitlines()
                assert max(map(len, map(unescape, lines)), default=0) <= 80


PAGES = sorted(path.stem for path in (ROOT / "docs" / "api").glob("*.rst"))


@pytest.mark.parametrize("page", [page for page in PAGES if page != "index"])
def test_each_page_of_the_reference_has_an_example(page, tmp_path, monkeypatch):
    """They are run, and print what stands there."""
    monkeypatch.chdir(tmp_path)
    path = ROOT / "docs" / "api" / f"{page}.rst"
    if ".. code-block:: console" in path.read_text("utf-8"):
        return  # commands, which the tests of the command line know
    flags = doctest.NORMALIZE_WHITESPACE
    result = doctest.testfile(
        str(path), module_relative=False, optionflags=flags
    )
    assert result.attempted >= 4 and result.failed == 0


def test_docstrings_are_rendered(site):
    """Fields as fields and code as code: nothing of the markup is left."""
    for path in site:
        if path.parent.name == "api":
            text = Text(path).text
            assert "Args:" not in text, path
            assert "`" not in text, (path, text[text.index("`") - 60 :][:120])


class Text(HTMLParser):
    """The text of a page, without its scripts and its code blocks."""

    def __init__(self, path):
        super().__init__()
        self.text = ""
        self.open = collections.Counter()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.open[tag] += 1

    def handle_endtag(self, tag):
        self.open[tag] -= 1

    def handle_data(self, data):
        if not any(self.open[tag] for tag in ("script", "style", "pre")):
            self.text += data


@pytest.fixture
def cross_references(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("cross_references")


def test_the_checker_finds_what_is_broken(tmp_path):
    good = '<h1 id="here">x</h1><a href="#here">x</a><a href="b.html#b">x</a>'
    (tmp_path / "a.html").write_text(
        good + '<a href="#gone">x</a><a href="gone.html">x</a>'
        '<img src="https://host/x.png"><img src="gone.png">'
    )
    (tmp_path / "b.html").write_text('<a href="a.html#b">x</a><p id="b">')
    pages = read_pages(tmp_path)
    assert broken_links(pages) == [
        "a.html: #gone",
        "a.html: gone.html",
        "a.html: gone.png",
        "b.html: a.html#b",
    ]
    fetched = pages[(tmp_path / "a.html").resolve()].fetched
    assert [is_external(link) for link in fetched] == [True, False]
