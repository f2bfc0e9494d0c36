"""Sphinx configuration: chapters with their outputs, and the API.

    python -m sphinx -W --keep-going -b html docs docs/_build/html

Nothing is executed and nothing is downloaded.
"""

import html
import importlib
import inspect
import os
import pathlib
import re
import shutil
import sys
import textwrap

# Autodoc imports the package; which backend then runs makes no difference.
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

DOCS = pathlib.Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]

import cross_references  # noqa: E402
import history_figure  # noqa: E402
import student_notebooks  # noqa: E402
from docutils import nodes  # noqa: E402
from docutils.utils.math import MathError  # noqa: E402
from docutils.utils.math.latex2mathml import tex2mathml  # noqa: E402
from sphinx.util import logging  # noqa: E402
from sphinx.util.docutils import SphinxDirective  # noqa: E402

import kerasllm  # noqa: E402

logger = logging.getLogger(__name__)

project = "kerasllm"
author = "the kerasllm authors"
version = release = kerasllm.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = [
    "_build",
    "**/.ipynb_checkpoints",
    f"chapters/{cross_references.DOWNLOADS}",
    f"chapters/solutions/{cross_references.DOWNLOADS}",
]

html_theme = "furo"
html_title = "kerasllm"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
# Formulas are part of the page; MathJax would be fetched from its host.
html_math_renderer = "mathml"
html_show_sphinx = False
html_show_copyright = False

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Links from Markdown to entries of the reference work, and are warned about.
# tests/test_docs.py follows every link of the pages.
suppress_warnings = ["myst.xref_missing"]

# `name` in a docstring is code, as in Keras.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
copybutton_exclude = ".linenos, .gp, .go"


CHAPTERS = [
    cross_references.Chapter(path)
    for path in sorted((ROOT / "chapters").glob("0*.ipynb"))
]


def copy_chapters():
    """Copy the notebooks below the source folder, where Sphinx wants them."""
    chapters = DOCS / "chapters"
    shutil.rmtree(chapters, ignore_errors=True)
    chapters.mkdir()
    for chapter in CHAPTERS:
        chapter.write(chapters)
    copy_solutions(chapters / "solutions")
    student_notebooks.copy(
        ROOT / "chapters" / "homework", chapters / "homework"
    )


def copy_solutions(folder):
    """Copy the solutions to the chapters' exercises, and write their list."""
    folder.mkdir()
    paths = sorted((ROOT / "chapters").glob("solutions/0*.ipynb"))
    for path in paths:
        cross_references.Chapter(path, "notebook").write(folder)
    names = "\n".join(path.stem for path in paths)
    (folder / "index.md").write_text(
        "# Solutions\n\nOne way to solve the exercises of each chapter.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{names}\n```\n",
        encoding="utf-8",
    )


def import_lazy_names():
    """Import what some rooms import at its first use; autodoc looks before."""
    for page in sorted((DOCS / "api").glob("*.rst")):
        for name in re.findall(
            r"automodule:: (\S+)", page.read_text(encoding="utf-8")
        ):
            module = importlib.import_module(name)
            for public in getattr(module, "__all__", ()):
                setattr(module, public, getattr(module, public))


def to_restructured_text(text):
    """Translate the Markdown of a docstring: fences and `code`."""
    fence = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
    prose, *rest = fence.split(text)
    result = mark_code_and_papers(prose)
    while rest:
        indent, language, code, prose, *rest = rest
        result += f"\n{indent}.. code-block:: {language or 'text'}\n\n"
        result += textwrap.indent(code, "    ") + "\n"
        result += mark_code_and_papers(prose)
    return result


def mark_code_and_papers(prose):
    """Translate `code`, and link papers to arXiv."""
    # A letter may follow at once, as in `Generation`s.
    prose = re.sub(
        r"(?<!`)`([^`]+)`(?!`)(?=(\w?))",
        lambda match: f"``{match[1]}``" + ("\\ " if match[2] else ""),
        prose,
    )
    return re.sub(
        r"\barXiv:(\d{4}\.\d{4,5})",
        r"`arXiv:\1 <https://arxiv.org/abs/\1>`__",
        prose,
    )


def read_keras_docstring(app, what, name, obj, options, lines):
    """Prepare a docstring for napoleon, which reads `Args:` and the like."""
    lines[:] = to_restructured_text("\n".join(lines)).split("\n")


def name_chapters(app, what, name, obj, options, lines):
    """End the entry of a name with links to the chapters that use it."""
    links = cross_references.links_to_chapters(name, CHAPTERS)
    if links:
        lines += ["", links, ""]


def read_constructor(app, what, name, obj, options, signature, returns):
    """Show the arguments of a layer, which Keras hides behind `*args`."""
    if signature == "(*args, **kwargs)" and "__init__" in vars(obj):
        parameters = list(inspect.signature(obj.__init__).parameters.values())
        signature = str(inspect.Signature(parameters[1:]))
    return signature, returns


def write_math(translator, node):
    """Write a formula as MathML, which browsers draw by themselves."""
    text, is_block = node.astext(), isinstance(node, nodes.math_block)
    try:
        formula = tex2mathml(text, as_block=is_block)
    except MathError as error:
        logger.warning("formula %r: %s", text, error, location=node)
        formula = f"<code>{html.escape(text)}</code>"
    tag = "div" if is_block else "span"
    translator.body.append(f'<{tag} class="math">{formula}</{tag}>')
    raise nodes.SkipNode


class PublicNames(SphinxDirective):
    """A table of what `kerasllm` exports, each with its first sentence."""

    def run(self):
        """Return the nodes of the table."""
        rows = []
        for name, room in sorted(
            kerasllm._ROOM_OF.items(), key=lambda item: item[0].lower()
        ):
            summary = inspect.getdoc(getattr(kerasllm, name)).splitlines()[0]
            target = f"kerasllm.{room}.{name}"
            rows += [f"   * - :py:obj:`{name} <{target}>`", f"     - {summary}"]
        table = [".. list-table::", "   :widths: 30 70", "", *rows]
        return self.parse_text_to_nodes("\n".join(table))


def setup(app):
    """Register the hooks, and fetch the chapters before files are listed."""
    copy_chapters()
    history_figure.draw(DOCS / "history.md", DOCS / "drawn" / "history.svg")
    import_lazy_names()
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
    app.add_directive("public-names", PublicNames)
    # Napoleon comes at 500 and would take fences for paragraphs.
    app.connect("autodoc-process-docstring", read_keras_docstring, priority=400)
    app.connect("autodoc-process-docstring", name_chapters, priority=600)
    app.connect("autodoc-process-signature", read_constructor)
