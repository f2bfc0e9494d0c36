"""Links between the chapters and the reference, in both directions.

Which names of the package a chapter uses is read from its code. The page of a
chapter ends with links to them, and the entry of each name has links to the
chapters that use it.
"""

import ast
import importlib
import json
import pathlib
import re

import kerasllm

DOCS = pathlib.Path(__file__).parent
DOWNLOADS = "downloads"  # beside the pages, the notebooks as they are


def names_used(source):
    """Return the names of the package in a program.

    Args:
        source: str, Python.

    Returns:
        A sorted list of full names, such as `"kerasllm.samplers.top_k"` and
        `"kerasllm.gemma.Gemma.from_preset"`.
    """
    tree = ast.parse(source)
    full = {}  # what a name in the program stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                full[alias.asname or "kerasllm"] = alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    full = {k: v for k, v in full.items() if v.split(".")[0] == "kerasllm"}
    dotted = set(full.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root, *rest = ast.unparse(node).split(".")
            # After a call, as in `f(x).y`, comes an attribute of its result.
            if root in full and all(map(str.isidentifier, rest)):
                dotted.add(".".join([full[root], *rest]))
    names = set(filter(None, map(_with_its_room, dotted)))
    attributes = {
        n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)
    }
    for name in tuple(names):
        names |= {f"{name}.{m}" for m in _methods(name) & attributes}
    return sorted(names)


def _methods(name):
    """Return the names of a class's own methods; none for other names.

    What a program calls on an instance has no class in front of it. So an
    attribute with the name of a method is taken for that method.
    """
    package, room, *path = name.split(".")
    thing = importlib.import_module(f"{package}.{room}")
    for part in path:
        thing = getattr(thing, part)
    if not isinstance(thing, type):
        return set()
    return {
        name
        for name in dir(thing)
        if not name.startswith("_") and _is_own(getattr(thing, name))
    }


def _is_own(attribute):
    """Tell whether an attribute is a documented function of this package."""
    module = getattr(attribute, "__module__", None) or ""
    is_ours = callable(attribute) and module.startswith("kerasllm")
    return is_ours and bool(attribute.__doc__)


def _with_its_room(name):
    """Return a name with its room, or `None` for a room alone."""
    package, *parts = name.split(".")
    if parts and parts[0] in kerasllm._ROOM_OF:
        parts.insert(0, kerasllm._ROOM_OF[parts[0]])
    if len(parts) < 2:
        return None
    room, first, *rest = parts
    thing = getattr(importlib.import_module(f"{package}.{room}"), first)
    is_ours = type(thing).__module__.split(".")[0] == package
    if rest and is_ours:  # a method of a constant is its class's
        thing = type(thing)
        parts[1] = thing.__name__
    home = (getattr(thing, "__module__", None) or "").split(".")
    if home[0] == package and len(home) > 1:
        parts[0] = home[1]  # a room may have a name from another one
    return ".".join([package, *parts])


def terms_used(prose):
    """Return the terms of the glossary that occur in a text, sorted.

    Args:
        prose: str, Markdown.
    """
    glossary = (DOCS / "glossary.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\([^)]*\)", "]", prose)  # addresses are not text
    words = " ".join(text.split())
    return [
        term
        for term in re.findall("^## (.*)", glossary, flags=re.MULTILINE)
        if re.search(rf"\b{re.escape(term)}s?\b", words, flags=re.IGNORECASE)
    ]


def _anchor(heading):
    """Return the anchor that MyST and GitHub give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


class Chapter:
    """A notebook with a page of its own: a chapter, or its solutions.

    Args:
        path: path of the notebook.
        kind: str, what the page calls it.

    Attributes:
        path: the path.
        number: int.
        title: str.
        names: list of str, the full names that it uses.
        terms: list of str, the terms of the glossary in a chapter's text.
    """

    def __init__(self, path, kind="chapter"):
        self.path = path
        self.kind = kind
        self.notebook = json.loads(path.read_text(encoding="utf-8"))
        self.number = int(path.stem.partition("_")[0])
        cells = self.notebook["cells"]
        text = "".join(cells[0]["source"])
        self.title = text.splitlines()[0].removeprefix("# ")
        code, prose = (
            "\n".join(
                "".join(cell["source"])
                for cell in cells
                if cell["cell_type"] == kind
            )
            for kind in ("code", "markdown")
        )
        self.names = names_used(code)
        self.terms = terms_used(prose) if self.kind == "chapter" else []

    def page(self):
        """Return the notebook with a link to itself and to the reference."""
        first, *cells = map(_with_links_of_the_site, self.notebook["cells"])
        text = "".join(first["source"])
        colab = re.search(r"\[!\[.*?\]\(.*?\)\]\((.*?)\)\n*", text)
        download = f"{DOWNLOADS}/{self.path.name}"
        line = f"{{download}}`Download this notebook <{download}>`"
        if colab:  # its image would be fetched from another host
            text = text.replace(colab[0], "")
            line += f" or [open it in Colab]({colab[1]})"
        top = [first | {"source": text}, _markdown(line)]
        links = "\n".join(
            f"- {{py:obj}}`{name.removeprefix('kerasllm.')} <{name}>`"
            for name in self.names
        )
        end = f"## Names used in this {self.kind}\n\n{links}"
        if self.terms:
            terms = ", ".join(
                f"[{term}](../glossary.md#{_anchor(term)})"
                for term in self.terms
            )
            end += f"\n\n## Terms in the glossary\n\n{terms}"
        return self.notebook | {"cells": [*top, *cells, _markdown(end)]}

    def write(self, folder):
        """Write the page, and the notebook to download, below a folder."""
        downloads = folder / DOWNLOADS
        downloads.mkdir(parents=True, exist_ok=True)
        (downloads / self.path.name).write_bytes(self.path.read_bytes())
        (folder / self.path.name).write_text(
            json.dumps(self.page()), encoding="utf-8"
        )


def _with_links_of_the_site(cell):
    """Return a cell whose links to `docs/` lead where its pages are here."""
    if cell["cell_type"] != "markdown":
        return cell
    source = "".join(cell["source"])
    text = re.sub(r"\]\(\s*((\.\./)+)docs/", r"](\1", source)
    return cell | {"source": text}


def _markdown(text):
    return {
        "cell_type": "markdown",
        "id": f"link-{len(text)}",
        "metadata": {},
        "source": text,
    }


def links_to_chapters(name, chapters):
    """Return a line of reStructuredText with the chapters that use a name.

    Args:
        name: str, a full name.
        chapters: list of `Chapter`.

    Returns:
        str, empty if there is none.
    """
    links = [
        f":doc:`Chapter {chapter.number}, {chapter.title} "
        f"</chapters/{chapter.path.stem}>`"
        for chapter in chapters
        if name in chapter.names
    ]
    return f"In the chapters: {'; '.join(links)}." if links else ""
