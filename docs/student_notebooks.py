"""Which homework may be shown: notebooks without solutions."""

import json
import pathlib
import shutil

from sphinx.util import logging

from kerasllm.homework import DELIMITERS

STUBS = ("NotImplementedError", "YOUR CODE HERE", "YOUR ANSWER HERE")

INTRODUCTION = """# Homework

Assignments for the chapters, as students get them: without solutions and
without hidden tests.
"""
LIST = """
```{toctree}
:maxdepth: 1
:glob:

*
```
"""
NO_LIST = """
This version has no assignments yet.
"""

logger = logging.getLogger(__name__)


def may_be_shown(notebook):
    """Tell whether a notebook is the student's version of an assignment.

    Args:
        notebook: dict, what a notebook file holds.

    Returns:
        bool. `False` if any marker of nbgrader is left in it, or if a cell
        that students fill in is filled in already.
    """
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if any(secret in source for secret in DELIMITERS):
            return False
        answers = cell["metadata"].get("nbgrader", {}).get("solution", False)
        if answers and not any(stub in source for stub in STUBS):
            return False
    return True


def copy(source, target):
    """Copy the notebooks of `source` that may be shown, its pages, its images.

    An `index.md` that lists them is written, too.

    Args:
        source: path of a folder, which may be missing.
        target: path of a folder. What was in it is removed.
    """
    source, target = pathlib.Path(source), pathlib.Path(target)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    pages = 0
    for path in sorted(source.glob("*")):
        if path.suffix not in (".ipynb", ".md", ".png", ".svg"):
            continue
        if path.suffix == ".ipynb" and not may_be_shown(read(path)):
            logger.info("homework with solutions left out: %s", path)
            continue
        shutil.copyfile(path, target / path.name)
        pages += path.suffix in (".ipynb", ".md")
    index = INTRODUCTION + (LIST if pages else NO_LIST)
    for path in sorted(target.glob("*.ipynb")):
        index += f"\n{{download}}`{path.name} <{path.name}>`\n"
    (target / "index.md").write_text(index, encoding="utf-8")


def read(path):
    """Return what a notebook file holds, a dict."""
    return json.loads(path.read_text(encoding="utf-8"))
